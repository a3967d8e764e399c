"""What the commands draw with: colours, bars and tables, in the width that there is."""

import os
import shutil
import sys
from itertools import accumulate
from typing import List, Sequence, TextIO, Tuple
from unicodedata import east_asian_width

_COLOURS = {
    "red": "31", "green": "32", "yellow": "33", "blue": "34", "magenta": "35", "cyan": "36",
    "grey": "90", "bold": "1", "bright blue": "94", "bright green": "92", "bright cyan": "96",
}  # fmt: skip
_NARROWEST, _WIDEST = 40, 120
# From nothing to a whole character, by eighths.
_EIGHTHS = " \u258f\u258e\u258d\u258c\u258b\u258a\u2589\u2588"
# From nothing to full, side by side.
_HEIGHTS = "\u2581\u2582\u2583\u2584\u2585\u2586\u2587\u2588"
_HEIGHTS_AS_LETTERS = "_.:-=+*#"


class Terminal:
    """A stream to draw on.

    Colour is for terminals alone, and not where the environment has NO_COLOR (no-color.org) or
    TERM=dumb. Where the stream's encoding lacks block characters there are letters.

    Attributes:
        width: in columns, 40 to 120; 80 where it is no terminal.
        is_terminal: whether somebody watches.
        can_move: whether what is there can be written over.
        has_colour: whether paint() does anything.
        has_blocks: whether bars are made of block characters.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.is_terminal = stream.isatty()
        self.can_move = self.is_terminal and os.environ.get("TERM", "") not in ("", "dumb")
        self.has_colour = self.can_move and not os.environ.get("NO_COLOR")
        self.has_blocks = _can_write(stream, _EIGHTHS + _HEIGHTS)
        width = shutil.get_terminal_size((80, 24)).columns if self.is_terminal else 80
        self.width = max(_NARROWEST, min(_WIDEST, width))

    def paint(self, text: str, colour: str) -> str:
        return f"\033[{_COLOURS[colour]}m{text}\033[0m" if self.has_colour and text else text

    def writable(self, text: str) -> str:
        """The text; what the stream's encoding lacks is escaped."""
        encoding = self.stream.encoding or "utf-8"
        return text.encode(encoding, "backslashreplace").decode(encoding)

    def line(self, text: str = "") -> None:
        """Writes a line; what the stream's encoding lacks is escaped."""
        self.stream.write(self.writable(text) + "\n")

    def paragraph(self, text: str, first: str = "", rest: str = "", colour: str = "") -> None:
        """Writes a text of any length in the width that there is.

        Args:
            first, rest: what its first line and the others begin with; both as wide as `rest`.
            colour: of the text, which itself has none.
        """
        for each in self.wrapped(text, first, rest, colour):
            self.line(each)

    def wrapped(self, text: str, first: str = "", rest: str = "", colour: str = "") -> List[str]:
        """What paragraph() writes."""
        lines = _wrapped(text, self.width - len(rest))
        painted = [self.paint(line, colour) if colour else line for line in lines]
        return [(rest if number else first) + each for number, each in enumerate(painted)]

    def bar(self, share: float, width: int) -> str:
        """A bar of a part, from 0 to 1, of this width."""
        eighths = round(max(0.0, min(1.0, share)) * width * 8)
        if share > 0:
            eighths = max(1, eighths)
        whole, part = divmod(eighths, 8)
        if not self.has_blocks:
            return "#" * (whole + (part >= 4 or (not whole and part > 0)))
        return _EIGHTHS[8] * whole + (_EIGHTHS[part] if part else "")

    def sparkline(self, shares: Sequence[float], width: int) -> str:
        """The last of these parts, from 0 to 1, one a column; from the right, in this width."""
        heights = _HEIGHTS if self.has_blocks else _HEIGHTS_AS_LETTERS
        last = [max(0.0, min(1.0, share)) for share in shares[-width:]]
        return "".join(heights[round(share * (len(heights) - 1))] for share in last).rjust(width)

    def shortened(self, text: str, width: int) -> str:
        """The text without its middle, where it is longer than this."""
        if len(text) <= width:
            return text
        kept = max(0, width - 1)
        middle = "\u2026" if self.has_blocks else "~"
        return text[: kept - kept // 3] + middle + text[len(text) - kept // 3 :]

    def table(self, rows: Sequence[Sequence[str]], left: int = 1) -> None:
        """Writes rows in columns.

        Args:
            left: so many columns are aligned to the left, the others to the right.
        """
        for line in columns(rows, left):
            self.line(line)


class Status:
    """A line that is written over as things go on: where somebody watches, and nowhere else."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._shown = False

    def show(self, text: str) -> None:
        if self._terminal.is_terminal:
            self._shown = True  # before it is: Ctrl-C may come in between
            # Not the last column, where some terminals break the line.
            self._write(f"\r\033[K{_cut(text, self._terminal.width - 1)[0]}")

    def clear(self) -> None:
        if self._shown:
            self._write("\r\033[K")
            self._shown = False

    def _write(self, text: str) -> None:
        self._terminal.stream.write(text)
        self._terminal.stream.flush()


def _wrapped(text: str, room: int) -> List[str]:
    """As textwrap does it, which counts characters of two columns, as Chinese ones, for one."""
    lines = [""]
    for word in text.split():
        if lines[-1] and _columns(f"{lines[-1]} {word}") <= room:
            lines[-1] += f" {word}"
            continue
        while word:
            piece, word = _cut(word, room)
            if lines[-1]:
                lines.append(piece)
            else:
                lines[-1] = piece
    return lines


def _columns(text: str) -> int:
    return sum(map(_width, text))


def _width(character: str) -> int:
    return 2 if east_asian_width(character) in "WF" else 1


def _cut(text: str, room: int) -> Tuple[str, str]:
    """What has room in so many columns, and the rest."""
    end = sum(total <= room for total in accumulate(map(_width, text)))
    return text[:end], text[end:]


def columns(rows: Sequence[Sequence[str]], left: int = 1) -> List[str]:
    """Rows as lines, each column as wide as its widest cell."""
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if index < left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines


def duration(seconds: float) -> str:
    """As "340 us", "12.3 ms" or "1.20 s"."""
    if seconds < 0.0009995:
        return f"{seconds * 1e6:.0f} us"
    if seconds < 0.09995:
        return f"{seconds * 1e3:.1f} ms"
    if seconds < 0.9995:
        return f"{seconds * 1e3:.0f} ms"
    return f"{seconds:.2f} s" if seconds < 99.995 else f"{seconds:.0f} s"


def milliseconds(seconds: float) -> float:
    """For programs."""
    return round(seconds * 1000, 3)


def height() -> int:
    """Of the terminal, in lines."""
    return shutil.get_terminal_size((80, 24)).lines


def output() -> Terminal:
    return Terminal(sys.stdout)


def messages() -> Terminal:
    return Terminal(sys.stderr)


def _can_write(stream: TextIO, text: str) -> bool:
    try:
        text.encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
