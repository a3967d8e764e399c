"""What values of options are, for argparse; and how a command says that it cannot go on."""

import argparse
import sys
from typing import Any, NoReturn

from .._http import secrets


class Parser(argparse.ArgumentParser):
    """One that repeats nothing of what it does not know: it may be a key, by curl's -H."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        is_ours = message.startswith(("argument ", "the following arguments are required"))
        if not is_ours or "ignored explicit argument" in message:
            message = "an argument it does not know; headers go by --header 'NAME: VALUE'"
        super().error(message)


_MOST = 1_000_000  # seconds, which are eleven days, or requests a second


def above_0(text: str) -> float:
    """A number above 0, and none that can only be a slip."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number <= _MOST:
        raise argparse.ArgumentTypeError(f"a number above 0, at most {_MOST}, not {text!r}")
    return number


def from_0(text: str) -> int:
    """A whole number from 0."""
    return _whole(text, 0)


def from_1(text: str) -> int:
    """A whole number from 1."""
    return _whole(text, 1)


def _whole(text: str, least: int) -> int:
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"a whole number from {least}, not {text!r}")
    return int(text)


def failed(command: str, error: Exception, status: int) -> int:
    """Says why a command ends, without credentials, and gives this exit status back."""
    print(f"llmpool {command}: {secrets.text(str(error))}", file=sys.stderr)
    return status
