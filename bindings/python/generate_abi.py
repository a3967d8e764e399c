#!/usr/bin/env python3
"""Writes what include/llmpool.h declares as Python.

Numbers and texts go to llmpool/_http/constants.py, where nothing needs the library; structs and
functions, which need ctypes, to llmpool/_native/abi.py; the counters of a pool to stats.py there.
Where fields lie, for the library's own tables of options and counters, goes to
Sources/LLMPoolC/Layout.swift.

The header is the contract; a second hand-written copy of it would drift. The header is regular
enough for a few regular expressions, and whatever they do not recognise is an error here rather
than a wrong call later.

    python3 generate_abi.py            writes the files
    python3 generate_abi.py --check    exits with 1 if one is not up to date
"""

import argparse
import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
HEADER = HERE.parent.parent / "include" / "llmpool.h"
CONSTANTS = Path("llmpool", "_http", "constants.py")
ABI = Path("llmpool", "_native", "abi.py")
STATS = Path("llmpool", "_native", "stats.py")
LAYOUT = Path("..", "..", "Sources", "LLMPoolC", "Layout.swift")
# Structs whose fields the library reads and writes by the tables in which it declares them.
LAID_OUT = ("llmpool_options", "llmpool_request", "llmpool_stats")

SCALARS = {
    "size_t": ("c_size_t", "N"),
    "int": ("c_int", "i"),
    "int32_t": ("c_int32", "i"),
    "uint32_t": ("c_uint32", "I"),
    "int64_t": ("c_int64", "q"),
    "uint64_t": ("c_uint64", "Q"),
    "double": ("c_double", "d"),
    "llmpool_status_t": ("c_int32", "i"),
}
# Structs that the application fills in: their pointers are set from bytes objects, which ctypes
# keeps alive for a c_char_p. What the library fills in is read with an explicit size.
INPUT_STRUCTS = {"llmpool_options", "llmpool_request", "llmpool_queue_options"}


class HeaderError(Exception):
    """The header has something that this script does not understand."""


def class_name(struct):
    return "".join(part.capitalize() for part in struct[len("llmpool_") :].split("_"))


def strip_comments(text):
    return re.sub(r"/\*.*?\*/", " ", text, flags=re.DOTALL)


def parse_statuses(text):
    block = re.search(r"#define LLMPOOL_STATUS_MAP\(X\)(.*?)\n\n", text, re.DOTALL)
    if not block:
        raise HeaderError("LLMPOOL_STATUS_MAP is missing")
    found = re.findall(r'X\((\w+), (-?\d+), "([^"]*)"\)', block.group(1))
    if len(found) != block.group(1).count("X("):
        raise HeaderError("an entry of LLMPOOL_STATUS_MAP is not understood")
    return [(name, int(value), message) for name, value, message in found]


def constant(expression):
    expression = expression.strip()
    if expression == "UINT32_MAX":
        return 0xFFFFFFFF
    shift = re.fullmatch(r"(\d+) << (\d+)", expression)
    if shift:
        return int(shift.group(1)) << int(shift.group(2))
    return int(expression, 0)


def parse_constants(code):
    constants = []
    for name, value in re.findall(r"^#define LLMPOOL_(\w+) (\w+)\s*$", code, re.MULTILINE):
        constants.append((name, constant(value)))
    for body in re.findall(r"\benum\s*\{(.*?)\}", code, re.DOTALL):
        if "#" in body:
            continue  # the statuses, which come from their table
        for entry in filter(None, (part.strip() for part in body.split(","))):
            match = re.fullmatch(r"LLMPOOL_(\w+) = (.+)", entry)
            if not match:
                raise HeaderError(f"enumerator not understood: {entry}")
            constants.append((match.group(1), constant(match.group(2))))
    return constants


def parse_structs(code):
    """Each with its fields: type, "*" or the name of an array's length or "", name."""
    structs = []
    for name, body in re.findall(r"typedef struct (\w+) \{(.*?)\} \1_t;", code, re.DOTALL):
        fields = []
        for line in filter(None, (part.strip() for part in body.split(";"))):
            match = re.fullmatch(r"((?:const )?\w+) (\*?)(\w+)(?:\[LLMPOOL_(\w+)\])?", line)
            if not match:
                raise HeaderError(f"field of {name} not understood: {line}")
            declared, pointer, field, count = match.groups()
            fields.append((declared, pointer or count or "", field))
        structs.append((name, fields))
    return structs


def field_type(struct, declared, pointer, name, names):
    if not pointer:
        return SCALARS[declared][0]
    if pointer != "*":
        return f"{'c_char' if declared == 'char' else SCALARS[declared][0]} * {pointer}"
    base = declared.replace("const ", "")
    if base.startswith("llmpool_"):
        return f"POINTER({class_name(base[:-2])})"
    if struct in INPUT_STRUCTS:
        return "c_char_p"
    if base == "char" and f"{name}_size" not in names:
        return "c_char_p"
    return "c_void_p"


def parse_functions(text):
    """Name, declared result, parameters and the comment that stands directly before."""
    text = text[text.index("uint32_t llmpool_version(void);") :]
    pattern = re.compile(
        r"(?P<comment>/\*(?:(?!\*/).)*\*/\n)?"
        r"^(?P<result>(?:const )?\w+ \*?)(?P<name>llmpool_\w+)\((?P<parameters>[^;{]*?)\);",
        re.DOTALL | re.MULTILINE,
    )
    functions = []
    for match in pattern.finditer(text):
        parameters = re.sub(r"\s+", " ", match.group("parameters")).split(", ")
        functions.append(
            (
                match.group("name"),
                match.group("result").strip(),
                [] if parameters == ["void"] else parameters,
                re.sub(r"\s+\*?\s*", " ", match.group("comment") or "")[2:].strip(),
            )
        )
    return functions


def result_type(declared):
    if declared == "void":
        return "None"
    if declared.endswith("*"):
        return "c_void_p" if "header" in declared else "c_char_p"
    return SCALARS[declared][0]


def parameter_type(parameter):
    match = re.fullmatch(r"((?:const )?)(\w+) (\**)(\w+)", parameter)
    if not match:
        raise HeaderError(f"parameter not understood: {parameter}")
    const, base, stars, _ = match.groups()
    if not stars:
        return SCALARS[base][0]
    if base in ("llmpool_t", "llmpool_queue_t"):
        return "c_void_p" if stars == "*" else "POINTER(c_void_p)"
    if base.startswith("llmpool_"):
        return f"POINTER({class_name(base[:-2])})"
    if base == "char" and const:
        return "c_char_p"
    if base in ("char", "void"):
        return "c_void_p"
    return f"POINTER({SCALARS[base][0]})"


def python_result(ctype):
    return {"None": "None", "c_char_p": "bytes", "c_void_p": "Optional[int]"}.get(ctype, "int")


def put_constants(put, constants, statuses):
    put('"""The constants of libllmpool. Generated by generate_abi.py from include/llmpool.h."""')
    put("")
    for name, value in constants:
        put(f"{name} = {value if value < 1 << 31 else hex(value).upper().replace('X', 'x')}")
    put("")
    for name, value, _ in statuses:
        put(f"{name} = {value}")
    put("")
    put("STATUS_NAMES = {")
    for name, _, _ in statuses:
        put(f'    {name}: "LLMPOOL_{name}",')
    put("}")
    put("STATUS_MESSAGES = {")
    for name, _, message in statuses:
        put(f'    {name}: "{message}",')
    put("}")


def put_timings(put, timings):
    put("# The nine times of a DONE record, for the struct module.")
    put(f'TIMINGS_FORMAT = "@{"".join(SCALARS[kind][1] for kind, _, _ in timings[1:])}"')


def put_imports(put):
    put('"""The C ABI of libllmpool. Generated by generate_abi.py from include/llmpool.h."""')
    put("")
    put("import ctypes")
    put("from ctypes import (")
    for name in (
        "POINTER",
        "c_char",
        "c_char_p",
        "c_double",
        "c_int",
        "c_int32",
        "c_int64",
        "c_size_t",
        "c_uint32",
        "c_uint64",
        "c_void_p",
    ):
        put(f"    {name},")
    put(")")
    put("from typing import Any, Callable, Optional")
    put("")
    put("from .._http.constants import *  # so that one module has all of the header")


def put_structs(put, structs):
    for struct, fields in structs:
        names = {name for _, _, name in fields}
        put("")
        put("")
        put(f"class {class_name(struct)}(ctypes.Structure):")
        put("    _fields_ = [")
        for declared_type, pointer, name in fields:
            ctype = field_type(struct, declared_type, pointer, name, names)
            put(f'        ("{name}", {ctype}),')
        put("    ]")
    put("")
    put("")


def put_record_format(put, record):
    put("# A record in native layout, for the struct module.")
    record_format = "".join(
        "4x" if name == "reserved" else SCALARS[scalar][1] for scalar, _, name in record
    )
    put(f'RECORD_FORMAT = "@{record_format}"')
    put("# Where each field is in what it unpacks.")
    for position, name in enumerate(name for _, _, name in record if name != "reserved"):
        put(f"RECORD_{name.upper()} = {position}")
    put("")
    put("")


def bindings_of(functions):
    """Name in Python, name in C, result, parameters and lock of each binding."""
    bindings = []
    for name, result, parameters, comment in functions:
        ctype = result_type(result if name != "llmpool_event_header" else "header *")
        types = [parameter_type(parameter) for parameter in parameters]
        short = name[len("llmpool_") :]
        fast = comment.startswith("[fast]")
        bindings.append((short, name, ctype, types, "fast" if fast else "blocking"))
        if not fast and "[fast]" in comment:
            bindings.append((f"{short}_fast", name, ctype, types, "fast"))
    return bindings


def put_functions(put, functions):
    bindings = bindings_of(functions)
    put("class Functions:")
    put('    """The functions of the library, without their prefix.')
    put("")
    put("    What the header marks [fast] is called with the GIL held: dropping it beside a busy")
    put("    thread costs up to 5 ms to get it back. Where only some uses are fast there is a")
    put('    second binding with the suffix "_fast".')
    put('    """')
    put("")
    for short, _, ctype, _, _ in bindings:
        put(f"    {short}: Callable[..., {python_result(ctype)}]")
    put("")
    put("    path: str  # of the library; set by whoever loads it")
    put("")
    put("    def __init__(self, blocking: ctypes.CDLL, fast: ctypes.PyDLL) -> None:")
    put('        """Binds every function; AttributeError names one that the library lacks."""')
    put("")
    put("        def bind(library: Any, name: str, result: Any, *arguments: Any) -> Any:")
    put("            function = library[name]  # not an attribute: those are shared and cached")
    put("            function.restype = result")
    put("            function.argtypes = arguments")
    put("            return function")
    put("")
    for short, name, ctype, types, kind in bindings:
        line = f"        self.{short} = bind({', '.join([kind, f'{name!a}', ctype, *types])})"
        line = line.replace("'", '"')
        if len(line) <= 100:
            put(line)
            continue
        put(f"        self.{short} = bind(")
        put(f'            {kind}, "{name}", {ctype},')
        for line in wrapped(types, 12):
            put(line)
        put("        )")


def wrapped(words, indent):
    """A list of arguments, in lines that are not too long."""
    lines = [" " * indent]
    for word in words:
        if len(lines[-1]) + len(word) + 1 > 100:
            lines[-1] = lines[-1].rstrip()
            lines.append(" " * indent)
        lines[-1] += f"{word}, "
    return [*lines[:-1], lines[-1].rstrip()]


def generate(text):
    """The text of each file."""
    code = strip_comments(text)
    statuses = parse_statuses(text)
    constants = parse_constants(code)
    structs = parse_structs(code)
    functions = parse_functions(text)
    declared = re.findall(r"\b(llmpool_\w+)\(", code)
    if [function[0] for function in functions] != declared:
        missing = sorted(set(declared) ^ {function[0] for function in functions})
        raise HeaderError(f"functions not understood: {missing}")

    fields = dict(structs)
    plain = []
    put_constants(plain.append, constants, statuses)
    put_timings(plain.append, fields["llmpool_timings"])

    native = []
    put_imports(native.append)
    put_structs(native.append, structs)
    put_record_format(native.append, fields["llmpool_record"])
    put_functions(native.append, functions)
    stats = stats_lines(text, fields["llmpool_stats"])
    layout = layout_lines(fields)
    files = {CONSTANTS: plain, ABI: native, STATS: stats, LAYOUT: layout}
    return {path: "\n".join([*lines, ""]) for path, lines in files.items()}


def stats_lines(text, fields):
    """The counters as Python's dataclass; what the header says of a field, the class says, too."""
    body = re.search(r"typedef struct llmpool_stats \{(.*?)\}", text, re.DOTALL).group(1)
    out = [
        '"""What a pool says of itself. Generated by generate_abi.py from include/llmpool.h.',
        "",
        "Imported by whoever asks: dataclasses cost a millisecond each time a process starts.",
        '"""',
        "",
        "from dataclasses import dataclass",
        "",
        "",
        "@dataclass(frozen=True)",
        "class Stats:",
        '    """A pool\'s counters at one moment, or those of one origin.',
        "",
    ]
    for title, identity in re.findall(r"^  /\* (\w+): (.*?) \*/$", body, re.MULTILINE):
        out.append(f"    {title.capitalize()}: {identity}.")
    out += ["", "    Attributes:"]
    for name, comment in re.findall(r"(\w+);[ ]*/\* (.*?) \*/", body):
        out.append(f"        {name}: {comment}.")
    out += ['    """', "", '    __module__ = "llmpool"  # where whoever imports it finds it', ""]
    for declared, _, name in fields[1:]:
        out.append(f"    {name}: {'float' if declared == 'double' else 'int'}")
    return out


def layout_lines(structs):
    """Where each field lies, by its name, which the library's tables have."""
    out = [
        "// Generated by bindings/python/generate_abi.py from include/llmpool.h.",
        "",
        "import CLLMPool",
        "",
        "/// Where the fields of the structs lie that are read and written by tables.",
        "enum Layout {",
        "  /// The field must be there: each name comes from a table of the library.",
        "  static func offset(_ field: String, in layout: [String: Int]) -> Int {",
        "    guard let offset = layout[field] else {",
        '      preconditionFailure("llmpool.h has no field \\(field)")',
        "    }",
        "    return offset",
        "  }",
    ]
    for name in LAID_OUT:
        out += ["", f"  static let {name[len('llmpool_') :]}: [String: Int] = ["]
        for _, _, field in structs[name]:
            out.append(f'    "{field}": MemoryLayout<{name}_t>.offset(of: \\.{field})!,')
        out.append("  ]")
    return [*out, "}"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only compare")
    parser.add_argument("--header", type=Path, default=HEADER)
    arguments = parser.parse_args()
    stale = 0
    for name, text in generate(arguments.header.read_text()).items():
        path = HERE / name
        if not arguments.check:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            stale += 1
            print(f"{path} does not match {arguments.header}: run {__file__}", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
