"""A value that a JSON schema admits, for structured answers and the arguments of tools."""

import json
from typing import Any, Callable, Dict, List, Set

_DEPTH = 8  # a schema that refers to itself ends here
_FORMATS = {
    "date-time": "2025-01-01T00:00:00Z",
    "date": "2025-01-01",
    "time": "00:00:00Z",
    "duration": "PT1S",
    "email": "mock@example.com",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "uri": "https://example.com/",
    "ipv4": "127.0.0.1",
    "ipv6": "::1",
}

Schema = Dict[str, Any]
Maker = Callable[[Schema, Any, int], Any]


def value_of(schema: Any, root: Any = None, depth: int = 0) -> Any:
    """Every property, one element of each list, the first of several types and of an enum.

    It knows what the schemas of SDKs are made of, also Gemini's types in capitals. It knows no
    pattern, no "not", and no condition.
    """
    if not isinstance(schema, dict) or depth > 2 * _DEPTH:
        return "mock"
    root = schema if root is None else root
    if "$ref" in schema:
        return value_of(_referred(schema["$ref"], root), root, depth + 1)
    for name in ("const", "default"):
        if name in schema:
            return schema[name]
    if schema.get("enum"):
        return schema["enum"][0]
    for name in ("anyOf", "oneOf"):
        if schema.get(name):
            # Deep down what ends soonest: null, where a schema refers to itself.
            choices = sorted(schema[name], key=_is_long) if depth >= _DEPTH else schema[name]
            return value_of(choices[0], root, depth + 1)
    if schema.get("allOf"):
        return value_of(_merged(schema["allOf"], root), root, depth + 1)
    make: Maker = _MAKERS.get(_type_of(schema), _text)
    return make(schema, root, depth)


def json_of(schema: Any) -> str:
    return json.dumps(value_of(schema))


def _type_of(schema: Schema) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = kind[0] if kind else None
    if kind is None:
        kind = "object" if "properties" in schema else "array" if "items" in schema else "string"
    return str(kind).lower()


def _is_long(schema: Any) -> bool:
    return "$ref" in schema or _type_of(schema) in ("object", "array")


def _referred(reference: Any, root: Any) -> Any:
    found = root
    for part in str(reference).lstrip("#/").split("/"):
        if not isinstance(found, dict) or part not in found:
            return {}
        found = found[part]
    return found


def _merged(parts: List[Schema], root: Any) -> Schema:
    merged: Schema = {}
    for each in parts:
        part = _referred(each["$ref"], root) if "$ref" in each else each
        properties = {**merged.get("properties", {}), **part.get("properties", {})}
        merged = {**merged, **part, **({"properties": properties} if properties else {})}
    return merged


def _object(schema: Schema, root: Any, depth: int) -> Any:
    properties = schema.get("properties") or {}
    needed: Set[str] = set(schema.get("required") or ())
    return {
        name: value_of(part, root, depth + 1)
        for name, part in properties.items()
        if depth < _DEPTH or name in needed
    }


def _array(schema: Schema, root: Any, depth: int) -> List[Any]:
    least = int(schema.get("minItems") or 0)
    if depth >= _DEPTH and not least:
        return []
    return [value_of(schema.get("items"), root, depth + 1) for _ in range(max(1, least))]


def _text(schema: Schema, root: Any, depth: int) -> str:
    text = str(_FORMATS.get(str(schema.get("format")), "mock"))
    text += "k" * (int(schema.get("minLength") or 0) - len(text))
    return text[: int(schema["maxLength"])] if "maxLength" in schema else text


def _integer(schema: Schema, root: Any, depth: int) -> int:
    least = schema.get("minimum")
    if least is None and "exclusiveMinimum" in schema:
        least = schema["exclusiveMinimum"] + 1
    most = schema.get("maximum")
    if most is None and "exclusiveMaximum" in schema:
        most = schema["exclusiveMaximum"] - 1
    value = 1 if least is None else int(-(-least // 1))
    value = value if most is None else min(value, int(most // 1))
    step = int(schema.get("multipleOf") or 1)
    return -(-value // step) * step


def _number(schema: Schema, root: Any, depth: int) -> float:
    least = schema.get("minimum", schema.get("exclusiveMinimum"))
    most = schema.get("maximum", schema.get("exclusiveMaximum"))
    if least is not None and most is not None:
        return (float(least) + float(most)) / 2
    if least is not None:
        return float(least) + 0.5
    return 1.5 if most is None else min(1.5, float(most) - 0.5)


def _true(schema: Schema, root: Any, depth: int) -> bool:
    return True


def _none(schema: Schema, root: Any, depth: int) -> None:
    return None


_MAKERS: Dict[str, Maker] = {
    "object": _object,
    "array": _array,
    "string": _text,
    "integer": _integer,
    "number": _number,
    "boolean": _true,
    "null": _none,
}
