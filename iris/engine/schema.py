"""JSON schema to a llama.cpp grammar, or a clear error.

Both are one walk, so nothing is left out in silence: a keyword that the grammar does not enforce is refused by name and
place. (The converter that ships with llama-cpp-python ignores what it does not know, lets raw line breaks into strings,
and spells keys with quotes, backslashes or emoji wrongly.)

Enforced: objects (described properties in the schema's order, or free ones), arrays, tuples, strings with length or
format, numbers, ``enum``, ``const``, ``anyOf``, lists of types, and references inside the schema, recursive ones too.
Grammars: https://github.com/ggml-org/llama.cpp/blob/master/grammars/README.md
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from reprlib import repr as shown
from typing import Any, NoReturn
from urllib.parse import unquote

from iris.errors import SchemaError

_NOTES = {"title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly"}
_NOTES |= {"$schema", "$id", "$comment", "$defs", "definitions"}
_BY_TYPE: dict[str, set[str]] = {
    "object": {"properties", "required", "additionalProperties"},
    "array": {"items", "prefixItems", "minItems", "maxItems"},
    "string": {"minLength", "maxLength", "format"},
    "number": set(),
    "integer": set(),
    "boolean": set(),
    "null": set(),
}
_MAX_REPEAT = 1000  # llama.cpp refuses a rule that is repeated 2000 times
_MAX_DEPTH = 100

_DATE = '[0-9]{4} "-" ("0" [1-9] | "1" [0-2]) "-" ("0" [1-9] | [12] [0-9] | "3" [01])'
_TIME = (
    '([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9] ":" [0-5] [0-9] ("." [0-9]{1,6})? '
    '("Z" | [+-] ([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9])'
)
_HEX = "[0-9a-fA-F]"
_FORMATS = {
    "date": _DATE,
    "time": _TIME,
    "date-time": f'{_DATE} "T" {_TIME}',
    "uuid": f'{_HEX}{{8}} "-" {_HEX}{{4}} "-" {_HEX}{{4}} "-" {_HEX}{{4}} "-" {_HEX}{{12}}',
}

# One space at most: with free white space a small model can go on for ever. A \u escape of half a character (a
# surrogate) would parse, and then fail wherever the text is encoded.
_FIXED = {
    "space": '" "?',
    "char": rf'[^"\\\x00-\x1F\x7F] | "\\" (["\\/bfnrt] | "u" ([0-9abcefABCEF] {_HEX} | [dD] [0-7]) {_HEX}{{2}})',
    "string": r'"\"" char* "\"" space',
    "whole": '"-"? ("0" | [1-9] [0-9]{0,15})',
    "integer": "whole space",
    "number": 'whole ("." [0-9]{1,15})? ([eE] [+-]? [0-9]{1,2})? space',
    "boolean": '("true" | "false") space',
    "null": '"null" space',
    "object": '"{" space (string ":" space value ("," space string ":" space value)*)? "}" space',
    "array": '"[" space (value ("," space value)*)? "]" space',
    "value": "object | array | string | number | boolean | null",
}
_IS = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
}


def grammar(schema: Mapping[str, Any]) -> str:
    """The GBNF grammar of ``schema``.

    Raises:
        SchemaError: a keyword or combination that the grammar would not enforce; the message names it and where it is.
    """
    return _Converter(schema).text()


def check(schema: Mapping[str, Any]) -> None:
    """Raise SchemaError, as ``grammar`` does."""
    grammar(schema)


class _Converter:
    """Walks a schema. A part becomes a GBNF expression; ``where`` is its place, for the messages."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._root = schema
        self._rules: dict[str, str] = {}
        self._references: dict[str, str] = {}  # "#/$defs/x" -> rule
        self._leads_to: dict[str, set[str]] = {}  # rule of a reference -> those it can begin with
        self._inside = ""  # the referenced rule being written, while nothing of it is written yet
        self._depth = 0

    def text(self) -> str:
        self._rules["root"] = self._part(self._root, "$")
        self._refuse_loops()
        return "\n".join(f"{name} ::= {body}" for name, body in {**self._rules, **_FIXED}.items())

    def _part(self, schema: Any, where: str) -> str:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            _fail(where, f"more than {_MAX_DEPTH} levels deep.")
        if not isinstance(schema, Mapping):
            _fail(where, f"expected an object, not {shown(schema)}.")
        keys = set(schema) - _NOTES
        if "$ref" in keys:
            _only(keys, {"$ref"}, where)
            expression = self._reference(schema["$ref"], where)
        elif "anyOf" in keys:
            _only(keys, {"anyOf"}, where)
            expression = _either(
                self._part(part, f"{where}.anyOf[{i}]")
                for i, part in enumerate(_filled_list(schema["anyOf"], f"{where}.anyOf"))
            )
        elif "const" in keys or "enum" in keys:
            expression = _constants(schema, keys, where)
        elif not keys:
            expression = "value"
        else:
            expression = self._typed(schema, keys, where)
        self._depth -= 1
        return expression

    def _typed(self, schema: Mapping[str, Any], keys: set[str], where: str) -> str:
        kinds = schema.get("type")
        for kind in _filled_list(kinds, f"{where}.type") if isinstance(kinds, list) else [kinds]:
            if kind is None:
                unknown = sorted(map(str, keys - set().union(*_BY_TYPE.values())))
                _fail(where, f"{unknown[0]!r} cannot be enforced." if unknown else "type is missing.")
            if not isinstance(kind, str) or kind not in _BY_TYPE:
                _fail(where, f"type {shown(kind)} is not one of {', '.join(sorted(_BY_TYPE))}.")
        if isinstance(kinds, list):
            _only(keys, {"type"}, where)
            return _either(kinds)
        _only(keys, {"type"} | _BY_TYPE[str(kinds)], where)
        special: dict[str, Callable[..., str]] = {"object": self._object, "array": self._array, "string": _string}
        if kinds not in special:
            return str(kinds)
        before, self._inside = self._inside, ""  # what follows comes after a bracket
        expression = special[str(kinds)](schema, keys, where)
        self._inside = before
        return expression

    def _object(self, schema: Mapping[str, Any], keys: set[str], where: str) -> str:
        properties, required = schema.get("properties", {}), schema.get("required", [])
        more = schema.get("additionalProperties")
        if not isinstance(properties, Mapping) or not all(isinstance(name, str) for name in properties):
            _fail(where, "properties must be an object.")
        if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
            _fail(where, "required must be a list of names.")
        missing = [name for name in required if name not in properties]
        if missing:
            _fail(where, f"required property {missing[0]!r} is not described.")
        if more is not None and not isinstance(more, bool | Mapping):
            _fail(where, "additionalProperties must be true, false or a schema.")
        if properties:
            if more not in (None, False):
                _fail(where, "free additionalProperties beside properties cannot be enforced.")
            return self._properties(properties, set(required), where)
        if isinstance(more, Mapping):
            value = self._rule(self._part(more, f"{where}.additionalProperties"))
            pair = f'string ":" space {value}'
            return f'"{{" space ({pair} ("," space {pair})*)? "}}" space'
        if more is False or "properties" in keys:
            return '"{" space "}" space'
        return "object"

    def _properties(self, properties: Mapping[str, Any], required: set[str], where: str) -> str:
        """Described properties in their order, optional ones or not.

        Built from the last to the first: what can follow when nothing was written yet, and what when a comma is needed.
        """
        first = rest = ""
        for name, part in reversed(list(properties.items())):
            pair = f'{_literal(name, where)} space ":" space {self._rule(self._part(part, f"{where}.{name}"))}'
            with_comma = f'"," space {pair} {rest}'.rstrip()
            alone = f"{pair} {rest}".rstrip()
            if name in required:
                first, rest = alone, self._rule(with_comma)
            else:
                first = self._rule(f"{alone} | {first}" if first else f"({alone})?")
                rest = self._rule(f"{with_comma} | {rest}" if rest else f"({with_comma})?")
        return f'"{{" space {first} "}}" space'

    def _array(self, schema: Mapping[str, Any], keys: set[str], where: str) -> str:
        if "prefixItems" in keys:
            if keys & {"items", "minItems", "maxItems"}:
                _fail(where, "prefixItems cannot be combined with items, minItems or maxItems.")
            parts = _filled_list(schema["prefixItems"], f"{where}.prefixItems")
            items = [self._rule(self._part(part, f"{where}[{i}]")) for i, part in enumerate(parts)]
            return '"[" space ' + ' "," space '.join(items) + ' "]" space'
        low, high = _bounds(schema, "minItems", "maxItems", where)
        item = self._rule(self._part(schema["items"], f"{where}[]")) if "items" in keys else "value"
        if high == 0:
            return '"[" space "]" space'
        more = f'("," space {item}){_times(max(low - 1, 0), None if high is None else high - 1)}'
        filled = f"{item} {more}"
        return f'"[" space {filled if low else f"({filled})?"} "]" space'

    def _reference(self, target: Any, where: str) -> str:
        if not isinstance(target, str) or not (target == "#" or target.startswith("#/")):
            _fail(where, "only references inside the schema (#/…) can be used.")
        name = self._references.get(target)
        if name is None:
            name = self._references[target] = f"ref-{len(self._references)}"
            before, self._inside = self._inside, name
            self._rules[name] = self._part(self._find(target, where), target)
            self._inside = before
        if self._inside:
            self._leads_to.setdefault(self._inside, set()).add(name)
        return name

    def _find(self, target: str, where: str) -> Any:
        part: Any = self._root
        for step in target.split("/")[1:]:
            key = unquote(step).replace("~1", "/").replace("~0", "~")
            if isinstance(part, Mapping) and key in part:
                part = part[key]
            elif isinstance(part, Sequence) and not isinstance(part, str) and key.isdecimal() and int(key) < len(part):
                part = part[int(key)]
            else:
                _fail(where, f"there is no {target}.")
        return part

    def _refuse_loops(self) -> None:
        """Refuse a reference that comes back to itself before anything is written: it describes nothing."""
        for start in self._leads_to:
            seen, ahead = set(), [start]
            while ahead:
                for name in self._leads_to.get(ahead.pop(), ()):
                    if name == start:
                        target = next(t for t, rule in self._references.items() if rule == start)
                        _fail(target, "this reference leads back to itself.")
                    if name not in seen:
                        seen.add(name)
                        ahead.append(name)

    def _rule(self, expression: str) -> str:
        """A name for an expression, so that it can be repeated or stand in a sequence."""
        if expression in _FIXED or expression in self._rules:
            return expression
        name = f"part-{len(self._rules)}"
        self._rules[name] = expression
        return name


def _string(schema: Mapping[str, Any], keys: set[str], where: str) -> str:
    low, high = _bounds(schema, "minLength", "maxLength", where)
    if "format" in keys:
        if keys & {"minLength", "maxLength"}:
            _fail(where, "format cannot be combined with minLength or maxLength.")
        form = schema["format"]
        if not isinstance(form, str) or form not in _FORMATS:
            _fail(where, f"format {shown(form)} cannot be enforced; possible are {', '.join(sorted(_FORMATS))}.")
        return rf'"\"" {_FORMATS[form]} "\"" space'
    if not keys & {"minLength", "maxLength"}:
        return "string"
    characters = f"char{_times(low, high)}" if high != 0 else ""
    return rf'"\"" {characters} "\"" space'


def _constants(schema: Mapping[str, Any], keys: set[str], where: str) -> str:
    _only(keys, {"const", "enum", "type"}, where)
    if {"const", "enum"} <= keys:
        _fail(where, "use one of const and enum.")
    kind = schema.get("type")
    if kind is not None and (not isinstance(kind, str) or kind not in _IS):
        _fail(where, f"type {shown(kind)} beside enum is not one of {', '.join(sorted(_IS))}.")
    values = [schema["const"]] if "const" in keys else _filled_list(schema["enum"], f"{where}.enum")
    for value in values:
        if kind is not None and not _IS[kind](value):
            _fail(where, f"the value {shown(value)} is not of type {kind!r}.")
    return _either(f"{_literal(value, where)} space" for value in values)


def _literal(value: Any, where: str) -> str:
    """A JSON value as it is to be written, in GBNF's quotes."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        text.encode("utf-8")
    except (ValueError, TypeError, RecursionError):
        _fail(where, f"the value {shown(value)} cannot be written in JSON.")
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _either(expressions: Any) -> str:
    choices = list(expressions)
    return choices[0] if len(choices) == 1 else f"({' | '.join(choices)})"


def _times(low: int, high: int | None) -> str:
    if high is None:
        return "*" if low == 0 else f"{{{low},}}"
    return f"{{{low},{high}}}"


def _bounds(schema: Mapping[str, Any], low: str, high: str, where: str) -> tuple[int, int | None]:
    for name in (low, high):
        value = schema.get(name, 0)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MAX_REPEAT:
            _fail(where, f"{name} must be a whole number from 0 to {_MAX_REPEAT}.")
    if schema.get(high, _MAX_REPEAT) < schema.get(low, 0):
        _fail(where, f"{high} is smaller than {low}.")
    return schema.get(low, 0), schema.get(high)


def _filled_list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list) or not value:
        _fail(where, "expected a list that is not empty.")
    return value


def _only(keys: set[str], known: set[str], where: str) -> None:
    unknown = sorted(map(str, keys - known))
    if unknown:
        _fail(where, f"{unknown[0]!r} cannot be enforced here. Remove it or check it after.")


def _fail(where: str, problem: str) -> NoReturn:
    raise SchemaError(f"JSON schema at {where}: {problem}")
