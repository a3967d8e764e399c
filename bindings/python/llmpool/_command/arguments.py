"""What values of options are, for argparse; and how a command says that it cannot go on."""

import argparse
import sys
from typing import Any, NoReturn

from .._http import secrets


class Parser(argparse.ArgumentParser):
    """One that repeats nothing of what it does not know: it may be a key, by curl's -H.

    Its description and its epilog are shown in the lines that they have.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(
            **settings,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        is_ours = message.startswith(("argument ", "the following arguments are required"))
        if not is_ours or "ignored explicit argument" in message:
            message = "an argument it does not know; headers go by --header 'NAME: VALUE'"
        super().error(message)


# What is beyond can only be a slip: seconds, so many are eleven days, or requests a second.
_LEAST, _MOST = 0.001, 1_000_000
_LONGEST = 9  # digits


def above_0(text: str) -> float:
    """A number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not _LEAST <= number <= _MOST:
        raise argparse.ArgumentTypeError(f"a number from {_LEAST} to {_MOST}, not {_said(text)}")
    return number


def from_0(text: str) -> int:
    """A whole number from 0."""
    return _whole(text, 0)


def from_1(text: str) -> int:
    """A whole number from 1."""
    return _whole(text, 1)


def _whole(text: str, least: int) -> int:
    if not text.isdecimal() or len(text) > _LONGEST or int(text) < least:
        most = "9" * _LONGEST
        raise argparse.ArgumentTypeError(
            f"a whole number from {least} to {most}, not {_said(text)}"
        )
    return int(text)


def _said(text: str) -> str:
    return repr(text) if len(text) <= 40 else f"{text[:40]!r}..."


def failed(command: str, error: Exception, status: int) -> int:
    """Says why a command ends, without credentials, and gives this exit status back."""
    print(f"llmpool {command}: {secrets.text(str(error))}", file=sys.stderr)
    return status
