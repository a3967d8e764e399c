"""The command llmpool-doctor: `python -m llmpool doctor`, also where that is another project's.

PyPI's distribution llmpool writes the same llmpool/__init__.py. So the package is entered without
that file here, and this module has a name that nobody else's has.
"""

import os
import sys
import types


def main() -> int:
    """The exit status."""
    package = types.ModuleType("llmpool")
    package.__path__ = [os.path.join(os.path.dirname(os.path.abspath(__file__)), "llmpool")]
    sys.modules["llmpool"] = package
    from llmpool._command.main import main as command

    return command(["doctor", *sys.argv[1:]])
