"""Where responses were made that are dropped unfinished."""

import os

_leaks = False


def debug(*, leaks: bool) -> None:
    """Turns help for finding mistakes on or off.

    Args:
        leaks: remember where each streamed response was made, which costs some 20 us each, and
            log a warning with the place when one is dropped unfinished and not closed. Without
            it there is a ResourceWarning, which Python shows only with -W default or in tests.
    """
    global _leaks
    _leaks = leaks


def place() -> str:
    """Where the application is now, if leaks are looked for."""
    if not _leaks:
        return ""
    import traceback

    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
    stack = traceback.extract_stack(limit=12)
    frames = [frame for frame in stack if not frame.filename.startswith(here)]
    return "".join(traceback.format_list(frames[-4:]))


def leaked(what: str, where: str) -> None:
    """A response was dropped unfinished."""
    import warnings

    message = f"{what} was dropped without being read to its end or closed"
    if where:
        import logging

        message += f"; it was made here:\n{where.rstrip()}"
        logging.getLogger("llmpool").warning("%s", message)
    else:
        message += "; llmpool.debug(leaks=True) says where it was made"
    warnings.warn(message, ResourceWarning, stacklevel=3)
