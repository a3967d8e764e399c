#!/usr/bin/env python3
"""commands.py DIRECTORY - writes what the README says of the Debian packages into DIRECTORY, where they are:
first-call, its commands for C, and the programs."""
import re
import sys
from pathlib import Path

README = (Path(__file__).resolve().parents[2] / "README.md").read_text()


def block(language, must_have):
    """The only one of that language that has it."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", README, re.M | re.S)
    (found,) = (text for text in blocks if must_have in text)
    return found


directory = Path(sys.argv[1])
(directory / "program.c").write_text(block("c", "int main"))
(directory / "program.py").write_text(block("python", "import llmpool"))
(directory / "first-call").write_text(f"""\
set -eu
if command -v cc || command -v swift; then exit 1; fi
cd "$(dirname "$0")"
export DEBIAN_FRONTEND=noninteractive PIP_PROGRESS_BAR=off
{block("sh", "./libllmpool-dev_")}{block("sh", "llmpool.mock")}
for _ in $(seq 100); do
  ! python -c 'import socket; socket.create_connection(("127.0.0.1", 8080))' 2>/dev/null || break
  sleep 0.1
done
{block("sh", "pkg-config --cflags")}./program
deactivate
python3 program.py
kill %1
""")
