"""A screen that is drawn again and again, and how it is left."""

import os
import select
import signal
import sys
from contextlib import suppress
from time import sleep
from types import TracebackType
from typing import Any, List, Optional, Type

from .terminal import Terminal, height, output

# The alternate screen, so that what was there before comes back; no cursor.
_ENTER, _LEAVE = "\033[?1049h\033[?25l", "\033[?25h\033[?1049l"


class Screen:
    """Takes a terminal over while its block lasts. Where there is none, or one that cannot, what is
    drawn follows each other, with an empty line between.
    """

    def __init__(self) -> None:
        self.is_live = output().can_move
        self._settings: Optional[List[Any]] = None
        self._terminated: Any = None
        self._drawn = False

    @property
    def terminal(self) -> Terminal:
        """As wide as it is now."""
        return output()

    @property
    def height(self) -> Optional[int]:
        """Of lines; None: any number."""
        return height() if self.is_live else None

    def __enter__(self) -> "Screen":
        if self.is_live:
            self._terminated = signal.signal(signal.SIGTERM, _terminate)
            self._settings = _keys_at_once()
            self._write(_ENTER)
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        if self.is_live:
            with suppress(OSError):  # it may be gone
                self._write(_LEAVE)
            _keys_as_before(self._settings)
            signal.signal(signal.SIGTERM, self._terminated)

    def draw(self, lines: List[str]) -> None:
        """Shows these lines, in place of those before."""
        terminal = self.terminal
        written = [terminal.writable(line) for line in lines]
        if self.is_live:
            # Over what is there, line by line: a screen that is wiped first flickers.
            self._write("\033[H" + "\n".join(f"{line}\033[K" for line in written) + "\033[J")
        else:
            self._write(("\n" if self._drawn else "") + "\n".join(written) + "\n")
        self._drawn = True

    def is_left(self, seconds: float) -> bool:
        """Waits so long, or for a key; whether it was "q", or the terminal is gone."""
        if self._settings is None:
            sleep(seconds)
            return False
        ready, _, _ = select.select([sys.stdin], [], [], seconds)
        return bool(ready) and os.read(sys.stdin.fileno(), 64)[:1] in (b"", b"q", b"Q")

    def _write(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()


def _terminate(*_: object) -> None:
    sys.exit(128 + signal.SIGTERM)


def _keys_at_once() -> Optional[List[Any]]:
    """Has keys read as they are pressed, and not shown; None: there are none."""
    if not sys.stdin.isatty():
        return None
    import termios

    before = termios.tcgetattr(sys.stdin)
    now = termios.tcgetattr(sys.stdin)
    now[3] &= ~(termios.ICANON | termios.ECHO)  # Ctrl-C is still a signal
    termios.tcsetattr(sys.stdin, termios.TCSADRAIN, now)
    return before


def _keys_as_before(settings: Optional[List[Any]]) -> None:
    if settings is not None:
        import termios

        with suppress(termios.error):
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, settings)
