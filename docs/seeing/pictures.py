"""Makes the pictures of docs/seeing.md: runs the commands in terminals of tmux, and keeps what they show as SVG."""

import contextlib
import io
import itertools
import os
import re
import shlex
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from rich import terminal_theme
from rich.console import Console
from rich.text import Text

import llmpool
from llmpool.mock import MockServer

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
COMMAND = [sys.executable, "-m", "llmpool"]
CHAT = '{"model": "gpt-mock", "stream": true, "messages": [{"role": "user", "content": "Say hello"}]}'
# Fonts of the reader's machine instead of such as are fetched.
SVG = """<svg viewBox="-14 -10 FULL_WIDTH FULL_HEIGHT" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: monospace; font-size: {char_height}px; line-height: {line_height}px; }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/></clipPath>{lines}</defs>
<rect x="-13" y="-9" width="98%" height="98%" rx="6" fill="#fbfbf8" stroke="#b0b0a8"/>
<g clip-path="url(#{unique_id}-clip-terminal)">{backgrounds}<g class="{unique_id}-matrix">{matrix}</g></g>
</svg>
"""


_numbers = itertools.count()


class Screen:
    """A terminal in which a command runs."""

    def __init__(self, command, environment, width=80, height=50):
        self._name = f"llmpool-pictures-{os.getpid()}-{next(_numbers)}"
        self._width = width
        variables = [f"{name}={value}" for name, value in environment.items()]
        line = shlex.join(["env", *variables, *command]) + "; printf '<ended>'; sleep 600"
        self._tmux("new-session", "-d", "-x", str(width), "-y", str(height), line)

    def _tmux(self, *arguments):
        done = subprocess.run(["tmux", "-L", self._name, *arguments], capture_output=True, text=True, check=True)
        return done.stdout

    def text(self):
        return self._tmux("capture-pane", "-p", "-e")

    def wait(self, seconds=120):
        """Until the command has ended."""
        end = time.monotonic() + seconds
        while "<ended>" not in self.text():
            if time.monotonic() > end:
                raise SystemExit(f"it did not end:\n{self.text()}")
            time.sleep(0.2)

    def close(self):
        self._tmux("kill-server")


def save(name, text, width):
    """As a picture."""
    text = text.replace("<ended>", "").replace(str(ROOT), "~/llmpool").rstrip() + "\n"
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(Text.from_ansi(text), soft_wrap=True, end="")
    drawn = console.export_svg(title="", theme=terminal_theme.DEFAULT_TERMINAL_THEME, code_format=SVG, unique_id=name)
    width, height = map(float, re.search(r'<rect x="0" y="0" width="([\d.]+)" height="([\d.]+)"', drawn).groups())
    drawn = drawn.replace("FULL_WIDTH", f"{width + 28:g}").replace("FULL_HEIGHT", f"{height + 34:g}")
    drawn = drawn.replace('width="98%" height="98%"', f'width="{width + 26:g}" height="{height + 32:g}"')
    drawn = drawn.replace(f'height="{height:g}"/>\n</clipPath>', f'height="{height + 20:g}"/>\n</clipPath>')
    (HERE / f"{name}.svg").write_text(drawn)
    print(f"{name}.svg: {len(drawn) // 1024} KiB", flush=True)


def shot(name, arguments, environment, after=None, width=80):
    """A picture of a command: once it has ended, or after so many seconds."""
    screen = Screen([*COMMAND, *arguments], environment, width)
    try:
        if after is None:
            screen.wait()
        else:
            time.sleep(after)
        save(name, screen.text(), width)
    finally:
        screen.close()


@contextlib.contextmanager
def too_small(server, directory):
    """A program whose pool has two connections for eight threads."""
    os.environ["LLMPOOL_STATS_DIR"] = directory
    pool = llmpool.Pool(limits=llmpool.Limits(max_connections=2), http2=False, ca_file=server.ca_file)
    pool.serve_stats(directory)
    ended = threading.Event()

    def work():
        headers = {"authorization": f"Bearer {server.api_key}"}
        client = llmpool.Client(base_url=server.url, headers=headers, pool=pool)
        while not ended.is_set():
            with client.stream("POST", "/v1/chat/completions", content=CHAT) as response:
                for _ in response.iter_sse(stop="[DONE]"):
                    pass

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join()
        pool.close()


def browser(page, picture):
    with tempfile.TemporaryDirectory() as profile:
        subprocess.run(
            ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
             "--window-size=1000,900", f"--user-data-dir={profile}", f"--screenshot={picture}",
             Path(page).as_uri()],
            check=True, capture_output=True, timeout=300,
        )  # fmt: skip
    print(f"{picture.name}: {picture.stat().st_size // 1024} KiB", flush=True)


def main():
    with MockServer(ttft=0.4, tokens_per_second=60) as server, tempfile.TemporaryDirectory() as scratch:
        passed_on = {name: os.environ[name] for name in ("PYTHONPATH", "LLMPOOL_LIBRARY")}
        environment = {"TERM": "xterm-256color", "MOCK_KEY": server.api_key, **passed_on}
        call = [
            f"{server.url}/v1/chat/completions", "--data", CHAT, "--ca-file", server.ca_file,
            "--header", "authorization: Bearer $MOCK_KEY",
        ]  # fmt: skip
        page = Path(scratch) / "page.html"
        shot("probe", ["probe", *call, "--html", str(page)], environment)
        browser(page, HERE / "waterfall.png")
        shot("bench", ["bench", *call, "--requests", "200", "--concurrency", "16"], environment)
        shot("doctor", ["doctor"], environment)
        directory = str(Path(scratch) / "stats")
        with too_small(server, directory):
            time.sleep(3)
            shot("top", ["top", "--dir", directory], environment, after=14, width=100)
            shot("advise", ["advise", "--dir", directory], environment)


if __name__ == "__main__":
    main()
