"""JSON schema to a llama.cpp grammar, or a clear error.

The converter that ships with llama-cpp-python ignores keywords it does not know, so that an answer could break the
schema in silence. Here the schema is walked first: what the grammar cannot enforce is refused by name and place.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from iris.errors import SchemaError

_NOTES = {"title", "description", "default", "examples", "$schema", "$id", "$comment", "$defs", "definitions"}
_BY_TYPE = {
    "object": {"properties", "required", "additionalProperties"},
    "array": {"items", "prefixItems", "minItems", "maxItems"},
    "string": {"minLength", "maxLength", "pattern", "format"},
    "number": set(),
    "integer": set(),
    "boolean": set(),
    "null": set(),
}
_FORMATS = {"date", "time", "date-time", "uuid", "uuid1", "uuid2", "uuid3", "uuid4", "uuid5"}
_MAX_REPEAT = 1000


def grammar(schema: Mapping[str, Any]) -> str:
    """The GBNF grammar of ``schema``.

    Raises:
        SchemaError: a keyword or combination that the grammar would not enforce; the message names it and where it is.
    """
    from llama_cpp.llama_grammar import json_schema_to_gbnf

    check(schema)
    try:
        text = json.dumps(schema)
        return str(json_schema_to_gbnf(text))
    except (ValueError, AssertionError, KeyError, TypeError, RecursionError, IndexError) as error:
        raise SchemaError(f"This JSON schema cannot be enforced: {error}") from error


def check(schema: Mapping[str, Any]) -> None:
    """Raise SchemaError, as ``grammar`` does, without building the grammar (and without llama.cpp)."""
    _check(schema, "$")


def _check(schema: Any, where: str) -> None:
    if not isinstance(schema, Mapping):
        raise SchemaError(f"JSON schema at {where}: expected an object, not {type(schema).__name__}.")
    keys = set(schema) - _NOTES
    for group in ("$defs", "definitions"):
        for name, part in schema.get(group, {}).items():
            _check(part, f"{where}.{group}.{name}")
    if "$ref" in keys:
        if not str(schema["$ref"]).startswith("#/"):
            raise SchemaError(f"JSON schema at {where}: only references inside the schema (#/…) can be used.")
        return _no_others(keys, {"$ref"}, where)
    for union in ("anyOf", "oneOf"):
        if union in keys:
            for i, part in enumerate(schema[union]):
                _check(part, f"{where}.{union}[{i}]")
            return _no_others(keys, {union}, where)
    if "const" in keys or "enum" in keys:
        return _no_others(keys, {"const", "enum", "type"}, where)
    kind = schema.get("type")
    if isinstance(kind, list):
        _no_others(keys, {"type"}, where)
        kinds = kind
    else:
        kinds = [kind]
    for name in kinds:
        if name not in _BY_TYPE:
            raise SchemaError(f"JSON schema at {where}: type {name!r} is not one of {', '.join(sorted(_BY_TYPE))}.")
    if len(kinds) == 1:
        _check_one(schema, keys, str(kinds[0]), where)


def _check_one(schema: Mapping[str, Any], keys: set[str], kind: str, where: str) -> None:
    _no_others(keys, {"type"} | _BY_TYPE[kind], where)
    if kind == "object":
        properties = schema.get("properties", {})
        missing = [name for name in schema.get("required", []) if name not in properties]
        if missing:
            raise SchemaError(f"JSON schema at {where}: required property {missing[0]!r} is not described.")
        if properties and schema.get("additionalProperties", False) is True:
            raise SchemaError(
                f"JSON schema at {where}: free additionalProperties beside properties cannot be enforced."
            )
        for name, part in properties.items():
            _check(part, f"{where}.{name}")
        if isinstance(schema.get("additionalProperties"), Mapping):
            _check(schema["additionalProperties"], f"{where}.additionalProperties")
    elif kind == "array":
        if "prefixItems" in keys and keys & {"items", "minItems", "maxItems"}:
            raise SchemaError(
                f"JSON schema at {where}: prefixItems cannot be combined with items, minItems or maxItems."
            )
        if "items" not in keys and "prefixItems" not in keys and keys & {"minItems", "maxItems"}:
            raise SchemaError(f"JSON schema at {where}: minItems and maxItems need items.")
        _bounds(schema, "minItems", "maxItems", where)
        for i, part in enumerate(schema.get("prefixItems", [])):
            _check(part, f"{where}[{i}]")
        if "items" in keys:
            _check(schema["items"], f"{where}[]")
    elif kind == "string":
        exclusive = [{"pattern"} & keys, {"format"} & keys, {"minLength", "maxLength"} & keys]
        if sum(bool(part) for part in exclusive) > 1:
            raise SchemaError(f"JSON schema at {where}: use one of pattern, format, or minLength/maxLength.")
        if "format" in keys and schema["format"] not in _FORMATS:
            raise SchemaError(
                f"JSON schema at {where}: format {schema['format']!r} cannot be enforced; "
                f"possible are {', '.join(sorted(_FORMATS))}."
            )
        _bounds(schema, "minLength", "maxLength", where)


def _bounds(schema: Mapping[str, Any], low: str, high: str, where: str) -> None:
    for name in (low, high):
        value = schema.get(name, 0)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MAX_REPEAT:
            raise SchemaError(f"JSON schema at {where}: {name} must be a whole number from 0 to {_MAX_REPEAT}.")
    if schema.get(high, _MAX_REPEAT) < schema.get(low, 0):
        raise SchemaError(f"JSON schema at {where}: {high} is smaller than {low}.")


def _no_others(keys: set[str], known: set[str], where: str) -> None:
    unknown = sorted(keys - known)
    if unknown:
        raise SchemaError(
            f"JSON schema at {where}: {unknown[0]!r} cannot be enforced here. Remove it or check it after."
        )
