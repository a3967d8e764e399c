"""Times as pictures, for any terminal."""

import itertools
import os
import sys
from typing import Iterable, List, Sequence, Tuple

WIDTH = 56
CONNECTING, ASKING, TOKEN, NOTHING = 0, 1, 2, 3
# In blocks, and in letters where the terminal has none.
_BLOCKS, _LETTERS = "\u2591\u2588\u2022 ", "c=. "
_COLOURS = ("34", "32", "33", "0")


def _can_write_blocks() -> bool:
    try:
        _BLOCKS.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


_MARKS = _BLOCKS if _can_write_blocks() else _LETTERS
_HAS_COLOUR = sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def _paint(kind: int, width: int) -> str:
    text = _MARKS[kind] * width
    return f"\033[{_COLOURS[kind]}m{text}\033[0m" if _HAS_COLOUR and kind != NOTHING else text


def legend(*kinds: Tuple[int, str]) -> str:
    return "  ".join(f"{_paint(kind, 2)} {what}" for kind, what in kinds)


def row(
    parts: Iterable[Tuple[int, float, float]], scale: float, tokens: Sequence[float] = ()
) -> str:
    """A line of WIDTH columns.

    Args:
        parts: kind, from, to: in seconds.
        scale: seconds of the whole line.
        tokens: when each came.
    """
    columns: List[int] = [NOTHING] * WIDTH
    for kind, begin, end in parts:
        first, last = (round(at / scale * WIDTH) for at in (begin, end))
        columns[first:last] = [kind] * len(columns[first:last])
    for at in tokens:
        columns[min(WIDTH - 1, int(at / scale * WIDTH))] = TOKEN
    return "".join(_paint(kind, len(list(run))) for kind, run in itertools.groupby(columns))
