"""The version of the binding; the library's must have the same major and minor number."""

__version__ = "0.1.0"
