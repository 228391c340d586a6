"""JSON schemas as grammars, parsed and enforced by llama.cpp itself."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import llama_cpp as C
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from iris.engine import sampler as sampling
from iris.engine import schema
from iris.errors import SchemaError
from tests.unit.vocabulary import Vocabulary

Accepts = Callable[[Any, str], bool]
"""(schema, text): whether llama.cpp, held to the schema's grammar, could write exactly this text and then stop."""


@pytest.fixture(scope="session")
def vocabulary(gguf: Path) -> Iterator[Vocabulary]:
    opened = Vocabulary(gguf)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def accepts(vocabulary: Vocabulary) -> Accepts:
    size = C.llama_vocab_n_tokens(vocabulary.handle)
    end = C.llama_vocab_eos(vocabulary.handle)

    def allowed(sampler: Any, token: int) -> bool:
        one = np.zeros(1, sampling._TOKEN_DATA)
        one["id"], one["logit"] = token, 1.0
        C.llama_sampler_apply(sampler, C.byref(array := sampling._token_array(one)))
        assert array.size == 1
        return bool(np.isfinite(one["logit"][0]))

    def run(given_schema: Any, text: str) -> bool:
        sampler = C.llama_sampler_init_grammar(vocabulary.handle, schema.grammar(given_schema).encode(), b"root")
        assert sampler, schema.grammar(given_schema)
        try:
            for token in vocabulary.tokenize(text, False):
                if not allowed(sampler, token):
                    return False
                C.llama_sampler_accept(sampler, token)
            return allowed(sampler, end)
        finally:
            C.llama_sampler_free(sampler)

    assert size
    return run


def valid(value: Any, given_schema: Any, root: Any = None) -> bool:
    """What JSON Schema says of a value, for the keywords that Iris enforces: from the standard, not the code."""
    root = given_schema if root is None else root
    if "$ref" in given_schema:
        part = root
        for step in given_schema["$ref"].split("/")[1:]:
            part = part[step.replace("~1", "/").replace("~0", "~")]
        return valid(value, part, root)
    if "anyOf" in given_schema:
        return any(valid(value, part, root) for part in given_schema["anyOf"])
    if "const" in given_schema or "enum" in given_schema:
        known = [given_schema["const"]] if "const" in given_schema else given_schema["enum"]
        return any(json.dumps(value, sort_keys=True) == json.dumps(one, sort_keys=True) for one in known)
    kinds = given_schema.get("type")
    if isinstance(kinds, list):
        return any(valid(value, {"type": kind}, root) for kind in kinds)
    match kinds:
        case None:
            return True
        case "null":
            return value is None
        case "boolean":
            return isinstance(value, bool)
        case "integer":
            return isinstance(value, int) and not isinstance(value, bool)
        case "number":
            return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        case "string":
            low, high = given_schema.get("minLength", 0), given_schema.get("maxLength", math.inf)
            return isinstance(value, str) and low <= len(value) <= high
        case "array":
            if not isinstance(value, list):
                return False
            if "prefixItems" in given_schema:
                return all(valid(v, part, root) for v, part in zip(value, given_schema["prefixItems"], strict=False))
            low, high = given_schema.get("minItems", 0), given_schema.get("maxItems", math.inf)
            item = given_schema.get("items", {})
            return low <= len(value) <= high and all(valid(part, item, root) for part in value)
        case "object":
            if not isinstance(value, dict):
                return False
            known = given_schema.get("properties", {})
            more = given_schema.get("additionalProperties", True)
            return (
                all(name in value for name in given_schema.get("required", []))
                and all(valid(value[name], part, root) for name, part in known.items() if name in value)
                and all(
                    name in known or (more is True) or (isinstance(more, dict) and valid(part, more, root))
                    for name, part in value.items()
                )
            )
    raise AssertionError(given_schema)


# Schemas, and documents that belong to them.

# The embedded model's vocabulary lacks the byte F1, with which the (unassigned) characters above these begin.
CHARACTERS = st.characters(codec="utf-8", max_codepoint=0x3FFFF)
ANY_TEXT = st.text(CHARACTERS, max_size=8)
NAMES = st.sampled_from(
    ["a", "b", "space", "root", "string", "ref-0", "part-1", "a b", 'say "hi"', "tab\there", "\\n", "é🙂"]
)
NUMBERS = st.integers(-(10**15), 10**15) | st.floats(-1e6, 1e6, allow_nan=False).map(lambda x: round(x, 6))
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | ANY_TEXT, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def bounds(draw: st.DrawFn, low: str, high: str) -> dict[str, int]:
    a, b = sorted(draw(st.tuples(st.integers(0, 5), st.integers(0, 5))))
    return draw(st.sampled_from([{}, {low: a}, {high: b}, {low: a, high: b}]))


@st.composite
def objects(draw: st.DrawFn, inner: st.SearchStrategy[dict[str, Any]]) -> dict[str, Any]:
    properties = draw(st.dictionaries(NAMES, inner, max_size=4))
    required = [name for name in properties if draw(st.booleans())]
    made: dict[str, Any] = {"type": "object", "properties": properties, "required": required}
    return made | draw(st.sampled_from([{}, {"additionalProperties": False}]))


@st.composite
def arrays(draw: st.DrawFn, inner: st.SearchStrategy[dict[str, Any]]) -> dict[str, Any]:
    if draw(st.booleans()):
        return {"type": "array", "prefixItems": draw(st.lists(inner, min_size=1, max_size=3))}
    return {"type": "array", "items": draw(inner), **draw(bounds("minItems", "maxItems"))}


SIMPLE: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.sampled_from(["null", "boolean", "integer", "number", "string", "object", "array"]).map(lambda k: {"type": k}),
    st.just({}),
    st.just({"type": ["string", "null"], "description": "or nothing"}),
    bounds("minLength", "maxLength").map(lambda limits: {"type": "string", **limits}),
    JSON.map(lambda value: {"const": value}),
    st.lists(JSON, min_size=1, max_size=3).map(lambda values: {"enum": values}),
    st.lists(ANY_TEXT, min_size=1, max_size=3).map(lambda values: {"type": "string", "enum": values}),
    st.just({"$ref": "#/$defs/tree"}),
    st.just({"$ref": "#/$defs/a~1b"}),
)
PARTS = st.recursive(
    SIMPLE,
    lambda inner: st.one_of(
        objects(inner),
        arrays(inner),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: {"anyOf": parts}),
        inner.map(lambda part: {"type": "object", "additionalProperties": part}),
    ),
    max_leaves=5,
)
DEFINITIONS: dict[str, dict[str, Any]] = {
    "tree": {
        "type": "object",
        "properties": {"v": {"type": "integer"}, "next": {"anyOf": [{"$ref": "#/$defs/tree"}, {"type": "null"}]}},
        "required": ["v"],
    },
    "a/b": {"type": "array", "items": {"$ref": "#/$defs/tree"}, "maxItems": 2},
}
SCHEMAS = PARTS.map(
    lambda part: {"$schema": "https://json-schema.org/draft/2020-12/schema", **part, "$defs": DEFINITIONS}
)


def document(draw: Callable[[Any], Any], part: dict[str, Any], depth: int = 0) -> Any:
    """A value of a schema, in the order of its properties."""
    if "$ref" in part:
        return document(draw, DEFINITIONS[part["$ref"].rsplit("/", 1)[1].replace("~1", "/")], depth + 1)
    if "anyOf" in part:
        return document(draw, draw(st.sampled_from(part["anyOf"])) if depth < 4 else part["anyOf"][-1], depth)
    if "const" in part or "enum" in part:
        return draw(st.sampled_from(part.get("enum") or [part["const"]]))
    kind = part.get("type")
    kind = draw(st.sampled_from(kind)) if isinstance(kind, list) else kind
    low, high = part.get("minLength", part.get("minItems", 0)), part.get("maxLength", part.get("maxItems"))
    count = st.integers(low, high if high is not None else low + 2)
    if kind == "object" and part.get("properties"):
        required = part["required"]
        kept = [name for name in part["properties"] if name in required or (depth < 4 and draw(st.booleans()))]
        return {name: document(draw, part["properties"][name], depth + 1) for name in kept}
    if kind == "object":
        free = isinstance(part.get("additionalProperties"), dict)
        names = draw(st.lists(ANY_TEXT, max_size=2, unique=True)) if free else []
        return {name: document(draw, part["additionalProperties"], depth + 1) for name in names}
    if kind == "array" and "prefixItems" in part:
        return [document(draw, item, depth + 1) for item in part["prefixItems"]]
    if kind == "array":
        return [document(draw, part.get("items", {"type": "null"}), depth + 1) for _ in range(draw(count))]
    if kind == "string":
        size = draw(count)
        return draw(st.text(CHARACTERS, min_size=size, max_size=size))
    simple = {"null": st.none(), "boolean": st.booleans(), "integer": st.integers(-(10**15), 10**15), "number": NUMBERS}
    return draw(simple[kind] if kind else JSON)


def written(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


SLOW = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@settings(SLOW, max_examples=120)
@given(given_schema=SCHEMAS, data=st.data())
def test_every_document_of_a_schema_can_be_written(accepts: Accepts, given_schema: Any, data: st.DataObject) -> None:
    value = document(data.draw, {key: part for key, part in given_schema.items() if key[0] != "$" or key == "$ref"})
    assert valid(value, given_schema), "the test's own documents are right"
    assert accepts(given_schema, written(value)), written(value)


@settings(SLOW, max_examples=150)
@given(given_schema=SCHEMAS, value=JSON)
def test_no_other_document_can_be_written(accepts: Accepts, given_schema: Any, value: Any) -> None:
    if accepts(given_schema, written(value)):
        assert valid(value, given_schema)


@settings(SLOW, max_examples=150)
@given(given_schema=SCHEMAS, data=st.data())
def test_a_document_changed_at_one_place_is_right_or_refused(
    accepts: Accepts, given_schema: Any, data: st.DataObject
) -> None:
    """Near misses: a character or a part too many, too few, or another."""
    value = document(data.draw, {key: part for key, part in given_schema.items() if key[0] != "$" or key == "$ref"})
    text = written(value)
    at = data.draw(st.integers(0, len(text)))
    text = (
        text[:at]
        + data.draw(st.sampled_from(["", *'0-.e"\\{}[],: \n\ta', "null,"]))
        + text[at + data.draw(st.integers(0, 3)) :]
    )
    if accepts(given_schema, text):
        assert valid(json.loads(text), given_schema), text


KEYWORDS = st.sampled_from(sorted({*schema._NOTES, *schema._BY_TYPE["object"], *schema._BY_TYPE["array"]}))
KEYWORDS |= st.sampled_from(["type", "minLength", "maxLength", "format", "enum", "const", "anyOf", "$ref", "pattern"])
TYPES = st.sampled_from(["object", "array", "string", "integer", "#", "#/$defs/a", "date"])
NONSENSE = st.recursive(
    JSON | TYPES | st.just(math.nan) | st.just("\ud800"),
    lambda inner: st.dictionaries(KEYWORDS | NAMES, inner, max_size=4) | st.lists(inner, max_size=3),
    max_leaves=12,
)


@settings(SLOW, max_examples=300)
@given(given_schema=NONSENSE)
def test_whatever_is_given_is_a_grammar_or_a_clear_error(vocabulary: Vocabulary, given_schema: Any) -> None:
    try:
        text = schema.grammar(given_schema)
    except SchemaError as error:
        named = str(error).startswith(("JSON schema at $", "JSON schema at #"))
        assert named, error  # noqa: PT017
        return
    sampler = C.llama_sampler_init_grammar(vocabulary.handle, text.encode(), b"root")
    assert sampler, text
    C.llama_sampler_free(sampler)


# By name.

UNSUPPORTED = {
    "object": ["patternProperties", "propertyNames", "minProperties", "maxProperties", "unevaluatedProperties"],
    "array": ["uniqueItems", "contains", "minContains", "unevaluatedItems"],
    "string": ["pattern", "contentEncoding"],
    "integer": ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"],
    "number": ["minimum", "multipleOf", "minLength"],
    "boolean": ["format"],
}


@pytest.mark.parametrize(("kind", "keyword"), [(kind, name) for kind, names in UNSUPPORTED.items() for name in names])
def test_a_keyword_that_cannot_be_enforced_is_refused_by_name(kind: str, keyword: str) -> None:
    inner = {"type": kind, keyword: 1}
    for given_schema, where in (
        (inner, r"\$"),
        ({"type": "object", "properties": {"a": {"type": "array", "items": inner}}}, r"\$\.a\[\]"),
        ({"$ref": "#/$defs/x", "$defs": {"x": inner}}, r"#/\$defs/x"),
        ({"anyOf": [{"type": "null"}, inner]}, r"\$\.anyOf\[1\]"),
        ({"type": "object", "additionalProperties": inner}, r"\$\.additionalProperties"),
        ({"type": "array", "prefixItems": [{"type": "null"}, inner]}, r"\$\[1\]"),
    ):
        with pytest.raises(SchemaError, match=f"^JSON schema at {where}: '{keyword}' cannot be enforced"):
            schema.check(given_schema)


@pytest.mark.parametrize("keyword", ["oneOf", "allOf", "not", "if", "$dynamicRef", "nullable", "discriminator"])
def test_a_keyword_without_a_type_is_refused_by_name(keyword: str) -> None:
    with pytest.raises(SchemaError, match=rf"'{keyword.replace('$', '[$]')}' cannot be enforced"):
        schema.grammar({keyword: [{"type": "string"}]})
    with pytest.raises(SchemaError, match=rf"'{keyword.replace('$', '[$]')}' cannot be enforced"):
        schema.grammar({"type": "string", keyword: [{"type": "string"}]})


@pytest.mark.parametrize(
    ("given_schema", "complaint"),
    [
        ([], r"\$: expected an object, not \[\]"),
        ({"type": "text"}, "type 'text' is not one of array, boolean, integer"),
        ({"type": []}, r"\$\.type: expected a list that is not empty"),
        ({"type": ["string", "wood"]}, "type 'wood' is not one of"),
        ({"type": ["array", "null"], "items": {}}, "'items' cannot be enforced here"),
        ({"minLength": 3}, "type is missing"),
        ({"type": "object", "properties": ["a"]}, "properties must be an object"),
        ({"type": "object", "properties": {}, "required": ["a"]}, "required property 'a' is not described"),
        ({"type": "object", "required": "a"}, "required must be a list of names"),
        ({"type": "object", "properties": {"a": True}}, r"\$\.a: expected an object, not True"),
        ({"type": "object", "properties": {"a": {}}, "additionalProperties": True}, "free additionalProperties beside"),
        ({"type": "object", "properties": {"a": {}}, "additionalProperties": {}}, "free additionalProperties beside"),
        ({"type": "object", "additionalProperties": "no"}, "additionalProperties must be true, false or a schema"),
        ({"type": "array", "prefixItems": [{}], "items": {}}, "prefixItems cannot be combined"),
        ({"type": "array", "prefixItems": []}, "expected a list that is not empty"),
        ({"type": "array", "items": {}, "minItems": 3, "maxItems": 2}, "maxItems is smaller than minItems"),
        ({"type": "array", "items": {}, "maxItems": 10_000}, "maxItems must be a whole number from 0 to 1000"),
        ({"type": "string", "minLength": -1}, "minLength must be a whole number"),
        ({"type": "string", "minLength": True}, "minLength must be a whole number"),
        ({"type": "string", "format": "email"}, "format 'email' cannot be enforced; possible are date, date-time"),
        ({"type": "string", "format": "date", "minLength": 2}, "format cannot be combined"),
        ({"enum": []}, "expected a list that is not empty"),
        ({"enum": "abc"}, "expected a list that is not empty"),
        ({"enum": [1], "const": 1}, "use one of const and enum"),
        ({"type": "string", "enum": ["a", 1]}, "the value 1 is not of type 'string'"),
        ({"const": math.nan}, "cannot be written in JSON"),
        ({"const": "\ud800"}, "cannot be written in JSON"),
        ({"const": {1, 2}}, "cannot be written in JSON"),
        ({"anyOf": []}, "expected a list that is not empty"),
        ({"anyOf": {"type": "string"}}, "expected a list that is not empty"),
        ({"$ref": "https://example.com/s.json"}, "only references inside the schema"),
        ({"$ref": 3}, "only references inside the schema"),
        ({"$ref": "#/$defs/x"}, r"there is no #/\$defs/x"),
        ({"$ref": "#/$defs/x", "type": "string", "$defs": {"x": {}}}, "'type' cannot be enforced here"),
        ({"$ref": "#"}, "leads back to itself"),
        ({"$ref": "#/$defs/x", "$defs": {"x": {"$ref": "#/$defs/x"}}}, "leads back to itself"),
        (
            {"$ref": "#/$defs/x", "$defs": {"x": {"anyOf": [{}, {"$ref": "#/$defs/y"}]}, "y": {"$ref": "#/$defs/x"}}},
            "leads",
        ),
        (
            {
                "$ref": "#/$defs/x",
                "$defs": {
                    "x": {"anyOf": [{"type": "array", "items": {"$ref": "#/$defs/y"}}, {"$ref": "#/$defs/y"}]},
                    "y": {"anyOf": [{"$ref": "#/$defs/x"}, {"type": "null"}]},
                },
            },
            "leads back to itself",
        ),
    ],
)
def test_a_schema_that_is_wrong_or_too_much(given_schema: Any, complaint: str) -> None:
    with pytest.raises(SchemaError, match=complaint):
        schema.grammar(given_schema)


def test_a_schema_that_is_too_deep() -> None:
    deep: dict[str, Any] = {"type": "null"}
    for _ in range(5000):
        deep = {"type": "array", "items": deep}
    with pytest.raises(SchemaError, match="more than 100 levels deep"):
        schema.grammar(deep)
    long: list[Any] = []
    for _ in range(5000):
        long = [long]
    with pytest.raises(SchemaError, match="cannot be written in JSON"):
        schema.grammar({"const": long})


def test_the_schema_is_not_changed() -> None:
    given_schema = {"$ref": "#/$defs/tree", "$defs": DEFINITIONS}
    before = json.dumps(given_schema)
    schema.grammar(given_schema)
    assert json.dumps(given_schema) == before


@pytest.mark.parametrize(
    ("given_schema", "good", "bad"),
    [
        ({"type": "integer"}, ["0", "-7", "123"], ["007", "1.0", "1e3", "", "+1", '"1"']),
        ({"type": "number"}, ["0.5", "-1e5", "1E-9", "3"], [".5", "1.", "1e999", "NaN", "0x1"]),
        ({"type": "string"}, ['""', r'"\n\"\\\u00e9"', '"é🙂"'], ['"a\nb"', '"\t"', r'"\x"', r'"\ud83d"', '"', "'a'"]),
        ({"type": "string", "minLength": 2, "maxLength": 3}, ['"ab"', '"é🙂a"'], ['"a"', '"abcd"']),
        ({"type": "string", "maxLength": 0}, ['""'], ['"a"']),
        ({"type": "string", "format": "date"}, ['"2026-01-31"'], ['"2026-13-01"', '"26-01-01"', '"soon"']),
        ({"type": "string", "format": "time"}, ['"23:59:00Z"', '"08:00:00.5+02:00"'], ['"24:00:00Z"', '"8:00"']),
        ({"type": "string", "format": "date-time"}, ['"2026-01-31T08:00:00Z"'], ['"2026-01-31"']),
        ({"type": "string", "format": "uuid"}, ['"01234567-89ab-cdef-0123-456789abcdef"'], ['"0123"']),
        ({"enum": ["a", 'b"c', "d\\e", 1, None]}, ['"a"', r'"b\"c"', r'"d\\e"', "1", "null"], ['"b"', "2", r'"d\e"']),
        ({"type": "array", "items": {"type": "integer"}, "minItems": 1}, ["[1]", "[1, 2]"], ["[]", "[1,]", '["a"]']),
        ({"type": "array", "maxItems": 0}, ["[]"], ["[1]"]),
        ({"type": "array", "items": {"type": "null"}, "maxItems": 1}, ["[]", "[null]"], ["[null, null]"]),
        ({"type": "object"}, ["{}", '{"a": [1, {}]}'], ["[]", "{1: 2}"]),
        ({"type": "object", "additionalProperties": False}, ["{}"], ['{"a": 1}']),
        ({}, ["null", "[]", '"a"', "{}", "-0.5"], ["", "nothing"]),
        (
            {
                "type": "object",
                "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}, "c": {"type": "integer"}},
                "required": ["b"],
            },
            ['{"b": 1}', '{"a": 1, "b": 2}', '{"b": 1, "c": 2}', '{"a": 1, "b": 2, "c": 3}'],
            ["{}", '{"a": 1}', '{"c": 1, "b": 2}', '{"b": 1,}', '{"b": 1, "d": 2}', '{"b": 1, "b": 2}', '{, "b": 1}'],
        ),
        (
            {"type": "object", "properties": {"a": {"type": "null"}, "b": {"type": "null"}}},
            ["{}", '{"a": null}', '{"b": null}', '{"a": null, "b": null}'],
            ['{"b": null, "a": null}', '{"a": null "b": null}'],
        ),
    ],
)
def test_by_example(accepts: Accepts, given_schema: Any, good: list[str], bad: list[str]) -> None:
    assert [text for text in good if not accepts(given_schema, text)] == []
    assert [text for text in bad if accepts(given_schema, text)] == []


def test_a_schema_of_pydantics_kind(accepts: Accepts) -> None:
    """Titles, definitions, optional fields, an enum: what a tool would write."""
    given_schema = {
        "title": "Quiz",
        "type": "object",
        "properties": {
            "title": {"title": "Title", "type": "string", "maxLength": 80},
            "items": {"type": "array", "items": {"$ref": "#/$defs/Item"}, "minItems": 1, "maxItems": 3},
            "note": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
        },
        "required": ["title", "items"],
        "$defs": {
            "Level": {"enum": ["easy", "hard"], "title": "Level", "type": "string"},
            "Item": {
                "type": "object",
                "properties": {
                    "question": {"type": "string"},
                    "options": {"type": "array", "items": {"type": "string"}, "minItems": 4, "maxItems": 4},
                    "level": {"$ref": "#/$defs/Level", "description": "how hard"},
                },
                "required": ["question", "options", "level"],
            },
        },
    }
    item = {"question": "What is $x^2$?", "options": ["a", "b", "c", "d"], "level": "easy"}
    assert accepts(given_schema, json.dumps({"title": "Quiz", "items": [item, item], "note": None}))
    assert not accepts(given_schema, json.dumps({"title": "Quiz", "items": [{**item, "level": "medium"}]}))
    assert not accepts(given_schema, json.dumps({"title": "Quiz", "items": [{**item, "options": ["a"]}]}))
    assert not accepts(given_schema, json.dumps({"title": "Quiz", "items": []}))


@settings(SLOW, max_examples=25)
@given(given_schema=SCHEMAS)
def test_check_and_grammar_agree(given_schema: Any) -> None:
    schema.check(given_schema)
    assert schema.grammar(given_schema) == schema.grammar(json.loads(json.dumps(given_schema)))
