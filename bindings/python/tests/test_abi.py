"""The generated declarations match the header, as the C compiler sees it."""

import ctypes
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from llmpool._http import constants
from llmpool._native import abi
from llmpool._native.library import lib

ROOT = Path(__file__).resolve().parents[1]
HEADER = ROOT.parent.parent / "include" / "llmpool.h"
STRUCTS = {
    "options": abi.Options,
    "request": abi.Request,
    "timings": abi.Timings,
    "event": abi.Event,
    "queue_options": abi.QueueOptions,
    "record": abi.Record,
    "stats": abi.Stats,
    "histogram": abi.Histogram,
    "reason": abi.Reason,
    "inflight": abi.Inflight,
}


@pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler")
def test_layout_is_the_compilers(tmp_path):
    lines = ["#include <stdio.h>", '#include "llmpool.h"', "int main(void) {"]
    for name, struct in STRUCTS.items():
        lines.append(f'printf("{name} %zu\\n", sizeof(llmpool_{name}_t));')
        for field, _ in struct._fields_:
            lines.append(f'printf("{name}.{field} %zu\\n", offsetof(llmpool_{name}_t, {field}));')
    lines.append("return 0; }")
    (tmp_path / "layout.c").write_text("\n".join(lines))
    program = tmp_path / "layout"
    subprocess.run(
        ["cc", f"-I{HEADER.parent}", "-o", str(program), str(tmp_path / "layout.c")], check=True
    )
    output = subprocess.run([str(program)], check=True, capture_output=True, text=True).stdout
    expected = dict(line.rsplit(" ", 1) for line in output.splitlines())
    found = {}
    for name, struct in STRUCTS.items():
        found[name] = str(ctypes.sizeof(struct))
        for field, _ in struct._fields_:
            found[f"{name}.{field}"] = str(getattr(struct, field).offset)
    assert found == expected


def test_record_and_timings_formats():
    import struct

    assert struct.calcsize(abi.RECORD_FORMAT) == ctypes.sizeof(abi.Record)
    size = struct.calcsize(abi.TIMINGS_FORMAT)
    assert size == ctypes.sizeof(abi.Timings) - abi.Timings.admitted.offset


def test_the_librarys_table_of_statuses_is_ours():
    for status, name in abi.STATUS_NAMES.items():
        assert lib.status_name(status).decode() == name
        assert lib.status_message(status).decode() == abi.STATUS_MESSAGES[status]


def test_version():
    assert lib.version() >> 8 == abi.VERSION_MAJOR << 8 | abi.VERSION_MINOR
    assert os.path.exists(lib.path)


def defaults_of_the_header():
    """What the comments of the options promise: `max_retries; /* [2] */`."""
    body = re.search(r"typedef struct llmpool_options \{(.*?)\}", HEADER.read_text(), re.DOTALL)
    found = {}
    for name, text in re.findall(r"uint32_t (\w+);\s*/\* \[(\w+)\]", body.group(1)):
        constant = re.fullmatch(r"LLMPOOL_(\w+)", text)
        found[name] = getattr(constants, constant.group(1)) if constant else int(text)
    return found


def test_the_headers_defaults_are_the_librarys():
    promised = defaults_of_the_header()
    numbers = {name for name, kind in abi.Options._fields_ if kind is ctypes.c_uint32}
    assert set(promised) == numbers, "each option that is a number says its default in brackets"
    options = abi.Options()
    assert lib.options_init(ctypes.byref(options), ctypes.sizeof(options)) == constants.OK
    assert {name: getattr(options, name) for name in promised} == promised
    texts = [name for name, kind in abi.Options._fields_ if kind is ctypes.c_char_p]
    assert [name for name in texts if getattr(options, name) is not None] == []


def test_fast_functions_keep_the_gil():
    keeps_gil = 4  # FUNCFLAG_PYTHONAPI
    for name in ("submit", "cancel", "queue_drain_fast", "events_release", "stats", "credit"):
        assert getattr(lib, name)._flags_ & keeps_gil, name
    for name in ("close", "open", "configure", "queue_drain", "perform", "queue_open"):
        assert not getattr(lib, name)._flags_ & keeps_gil, name
