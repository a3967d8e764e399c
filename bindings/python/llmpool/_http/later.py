"""Types that annotations name and that are imported when somebody asks for them."""

from typing import Any, ForwardRef


def later(module: str, name: str) -> Any:
    """Stands for a type where typing.get_type_hints() looks for it, and imports it then."""
    return ForwardRef(f"__import__({module!r}, fromlist=[{name!r}]).{name}")
