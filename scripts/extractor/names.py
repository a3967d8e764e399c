"""What the header's names are in the Python package and in Swift: from their own sources."""

import ast
import re

from . import PACKAGE, ROOT
from .header import HeaderError

SOURCES = ROOT / "Sources"
CORE, ENGINE = SOURCES / "LLMPoolCore", SOURCES / "LLMPoolEngine"
# What is one in C and several elsewhere, or the other way round.
SEVERAL = {
    "http_versions": ("http1", "http2"), "client_cert_file": ("client_cert",), "client_key_file": ("client_cert",),
}


def exceptions():
    """The exception of the Python package that stands for each status, by its name without the prefix."""
    found, name = {}, ""
    for line in (PACKAGE / "_http" / "exceptions.py").read_text().splitlines():
        begun = re.match(r"class (\w+)", line)
        name = begun[1] if begun else name
        if re.match(r"    _statuses\b", line):
            found.update(dict.fromkeys(re.findall(r'"(E_\w+)"', line), name))
    return found


class PythonNames:
    """What the fields of llmpool_options_t are called in Python."""

    def __init__(self):
        pool = (PACKAGE / "_pool" / "pool.py").read_text()
        config = (PACKAGE / "_http" / "config.py").read_text()
        self._same = {field: name for name, field in re.findall(r'"(\w+)": \("(\w+)", \w+\),', pool)}
        self._arguments = {**arguments(pool), **arguments(config)}

    def of(self, field):
        if field in self._same:
            return self._checked("Pool", self._same[field])
        for kind, name in (
            ("Limits", field.removesuffix("_ms")),
            ("Timeout", field.removesuffix("_timeout_ms")),
            ("Breaker", field.removeprefix("breaker_")),
        ):
            if name in self._arguments[kind] and (kind != "Breaker" or name != field):
                return f"`{kind}({name}=)`"
        if field not in SEVERAL:
            raise HeaderError(f"{field} has no name in Python")
        return ", ".join(self._checked("Pool", name) for name in SEVERAL[field])

    def _checked(self, kind, name):
        if name not in self._arguments[kind]:
            raise HeaderError(f"{kind} has no argument {name}")
        return f"`{name}=`"


def arguments(source):
    """The names of what each class takes."""
    found = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef):
            for method in node.body:
                if isinstance(method, ast.FunctionDef) and method.name == "__init__":
                    found[node.name] = {each.arg for each in (*method.args.args, *method.args.kwonlyargs)}
    return found


def swift_names():
    """The property of Pool.Options of each field, by what both read and write."""
    core, settings = (CORE / "PoolOptions.swift").read_text(), (ENGINE / "Settings" / "PoolSettings.swift").read_text()
    text = (SOURCES / "LLMPool" / "Options.swift").read_text()
    read = r"public var (\w+): [^{]*\{\s*get \{[^}]*?(?:\\\.|settings\.(?:core\.)?)(\w+)"
    properties = {stored: name for name, stored in re.findall(read, text)}
    paths = dict(re.findall(r'\("(\w+)", \\\.(\w+)', core + settings))
    missing = sorted(set(paths.values()) - set(properties))
    if missing:
        raise HeaderError(f"Options.swift has no {', '.join(missing)}")
    names = {field: properties[path] for field, path in paths.items()}
    timeouts = re.findall(r'\("(\w+)", \\\.(\w+)\)', (CORE / "Timeouts.swift").read_text())
    names.update((f"{name}_timeout_ms", f"timeouts.{path}") for name, path in timeouts)
    return names
