"""What the commands draw with: where colour is, and where not."""

import io
import re
from unicodedata import east_asian_width

import pytest

from llmpool._command.terminal import Status, Terminal, columns, duration


class Screen(io.TextIOWrapper):
    def __init__(self, encoding="utf-8", is_terminal=True):
        super().__init__(io.BytesIO(), encoding=encoding, newline="\n")
        self._is_terminal = is_terminal

    def isatty(self):
        return self._is_terminal

    @property
    def shown(self):
        self.flush()
        return self.buffer.getvalue().decode(self.encoding)


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("NO_COLOR", raising=False)


def test_colour_is_for_terminals(monkeypatch):
    assert Terminal(Screen()).paint("text", "red") == "\033[31mtext\033[0m"
    assert Terminal(Screen(is_terminal=False)).paint("text", "red") == "text"
    monkeypatch.setenv("NO_COLOR", "1")
    assert Terminal(Screen()).paint("text", "red") == "text"
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert Terminal(Screen()).paint("text", "red") == "text"


@pytest.mark.parametrize("given, width", [("100", 100), ("300", 120), ("20", 40)])
def test_width(monkeypatch, given, width):
    monkeypatch.setenv("COLUMNS", given)
    assert Terminal(Screen()).width == width
    assert Terminal(Screen(is_terminal=False)).width == 80


def test_bars():
    blocks, letters = Terminal(Screen()), Terminal(Screen("ascii"))
    assert blocks.bar(0.5, 10) == "\u2588" * 5 and letters.bar(0.5, 10) == "#" * 5
    assert blocks.bar(0, 10) == letters.bar(0, 10) == ""
    assert len(blocks.bar(0.0001, 10)) == len(letters.bar(0.0001, 10)) == 1  # what is there shows
    assert len(blocks.bar(2, 10)) == len(letters.bar(2, 10)) == 10


def test_lines():
    screen = Screen("ascii")
    terminal = Terminal(screen)
    terminal.line("caf\u00e9")
    terminal.paragraph("many words " * 20, "* ", "  ")
    assert screen.shown.startswith("caf\\xe9\n* many words")
    assert max(map(len, screen.shown.splitlines())) <= 100
    assert columns([("a", "1"), ("bcd", "23")]) == ["a     1", "bcd  23"]


def test_what_is_painted_is_wrapped_where_it_is_seen(monkeypatch):
    """No escape is cut or counted, and characters of two columns count twice."""
    terminal = Terminal(Screen())
    monkeypatch.setattr(terminal, "width", 40)
    monkeypatch.setattr(terminal, "has_colour", True)
    for text in ("word " * 30, "x" * 90, "\u6c34\u706b " * 20, "x" + "\u6c34" * 90):
        lines = terminal.wrapped(text, "> ", "  ", "bold")
        assert len(lines) > 2
        for line in lines:
            assert line[2:].startswith("\033[1m") and line.endswith("\033[0m")
            plain = line[2:].removeprefix("\033[1m").removesuffix("\033[0m")
            assert "\033" not in plain and columns_of(plain) + 2 <= 40
        words = "".join(re.sub("\033.*?m", "", line[2:]) for line in lines)
        assert words.replace(" ", "") == text.replace(" ", "")
    Status(terminal).show("\u6c34" * 90)
    assert columns_of(terminal.stream.shown.rpartition("\033[K")[2]) <= 39


def columns_of(text):
    return sum(2 if east_asian_width(c) in "WF" else 1 for c in text)


def test_status():
    screen = Screen()
    status = Status(Terminal(screen))
    status.show("x" * 200)
    status.clear()
    status.clear()
    assert re.fullmatch(r"\r\x1b\[Kx{99}\r\x1b\[K", screen.shown)
    silent = Screen(is_terminal=False)
    Status(Terminal(silent)).show("half")
    assert silent.shown == ""


@pytest.mark.parametrize(
    "seconds, text",
    [(0, "0 us"), (0.00034, "340 us"), (0.0123, "12.3 ms"), (0.25, "250 ms"), (1.2, "1.20 s")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text
