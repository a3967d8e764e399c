#!/usr/bin/env python3
"""scripts/abi refuses what would break a compiled program, and nothing else: LIBRARY SOURCES NODE."""
import re
import subprocess
import sys
import tempfile
from pathlib import Path

LIBRARY, SOURCES, NODE = sys.argv[1:]
HEADER = Path(SOURCES, "include/llmpool.h").read_text()
# What is done to the header (old text, new text), and what must be said of it; empty: nothing.
CHANGES = [
    ("uint64_t submitted;", "uint64_t more;\n  uint64_t submitted;", "llmpool_stats_t.submitted was 'uint64_t at 8, 8"),
    ("uint64_t hedges_won;", "", "llmpool_stats_t.hedges_won is gone"),
    ("int32_t priority;", "uint32_t priority;", "priority was 'int32_t at 12, 4 bytes', is 'uint32_t"),
    ("X(E_TLS, -43,", "X(E_TLS, -53,", "LLMPOOL_E_TLS was '-43', is '-53'"),
    ("LLMPOOL_EVENT_DONE = 4,", "LLMPOOL_EVENT_DONE = 7,", "LLMPOOL_EVENT_DONE was '4', is '7'"),
    ("X(E_REFUSED, -49, ", "X(E_RENAMED, -49, ", "LLMPOOL_E_REFUSED is gone"),
    ("int llmpool_queue_fd(llmpool_queue_t *queue);", "", f"llmpool_queue_fd@{NODE} is gone"),
    ("const char *url, uint32_t connections);", "const char *url, uint64_t connections);", f"llmpool_warm@{NODE} was"),
    ("uint64_t buckets[", "uint64_t more;\n  uint64_t buckets[", "llmpool_histogram_t was '1952', is '1960'"),
    ("const char *url, uint32_t connections);", "const char *where, uint32_t many);", ""),
    ("uint64_t hedges_won;", "uint64_t hedges_won;\n  uint64_t more;", ""),
    ("uint32_t reserved;          /* [0] */", "uint32_t more;", ""),
    ("X(E_REFUSED, -49, ", 'X(E_MORE, -50, "more") X(E_REFUSED, -49, ', ""),
    ("int llmpool_queue_fd(", "int llmpool_queue_more(llmpool_queue_t *queue);\nint llmpool_queue_fd(", ""),
]


def said(directory, header, library):
    file = Path(directory, "llmpool.h")
    file.write_text(header)
    command = [sys.executable, f"{SOURCES}/scripts/abi", "--header", file, library]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == (1 if done.stderr else 0) and "Traceback" not in done.stderr, done
    return done.stderr


def library_without(directory, name):
    """One that exports all functions of the header but that."""
    nodes = re.findall(r"\b(llmpool_\w+)\(", re.sub(r"/\*.*?\*/", "", HEADER, flags=re.S))
    source, script, library = (Path(directory, f"stub.{suffix}") for suffix in ("c", "map", "so"))
    source.write_text("".join(f"void {node}(void) {{}}\n" for node in nodes if node != name))
    script.write_text(f"{NODE} {{ global: llmpool_*; }};\n")
    subprocess.run(["cc", "-shared", "-fPIC", source, f"-Wl,--version-script={script}", "-o", library], check=True)
    return library


def main():
    problems = []
    with tempfile.TemporaryDirectory() as directory:
        for old, new, expected in CHANGES:
            assert HEADER.count(old) == 1, old
            text = said(directory, HEADER.replace(old, new), LIBRARY)
            if expected not in text or bool(expected) != bool(text):
                problems.append(f"{new!r} in the place of {old!r}: said {text!r}, expected {expected!r}")
        text = said(directory, HEADER, library_without(directory, "llmpool_warm"))
        if text.count(" is gone") != 1 or f"llmpool_warm@{NODE} is gone" not in text:
            problems.append(f"a library without llmpool_warm: said {text!r}")
    print("\n".join(problems) or f"{len(CHANGES) + 1} changes as expected")
    return 1 if problems else 0


sys.exit(main())
