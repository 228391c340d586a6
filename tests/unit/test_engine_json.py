"""JSON answers parse and conform to their schema, or are an error."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iris.engine.batch import LocalEngine
from iris.errors import SchemaError
from tests.unit.engines import (
    ask,
    request,
    together,
)


def conforms(value: Any, part: Any) -> bool:
    """Whether a JSON value is of a schema, as far as the schemas below go."""
    if "enum" in part:
        return value in part["enum"]
    if "anyOf" in part:
        return any(conforms(value, choice) for choice in part["anyOf"])
    kind = part["type"]
    if kind == "object":
        names, needed = part.get("properties", {}), part.get("required", [])
        return (
            isinstance(value, dict)
            and set(needed) <= value.keys() <= names.keys()
            and all(conforms(value[name], names[name]) for name in value)
        )
    if kind == "array":
        size = isinstance(value, list) and part.get("minItems", 0) <= len(value) <= part.get("maxItems", 1000)
        return size and all(conforms(item, part["items"]) for item in value)
    if kind == "string":
        return isinstance(value, str) and part.get("minLength", 0) <= len(value) <= part.get("maxLength", 1000)
    if isinstance(value, bool) or kind == "boolean":
        return kind == "boolean" and isinstance(value, bool)
    if kind == "null":
        return value is None
    return isinstance(value, int) or (kind == "number" and isinstance(value, float))


names = st.text("abcé \"'\\-中", min_size=1, max_size=4)
leaves = st.one_of(
    st.sampled_from([{"type": kind} for kind in ("integer", "number", "boolean", "null", "string")]),
    st.builds(lambda n: {"type": "string", "maxLength": n}, st.integers(0, 8)),
    st.builds(lambda n: {"type": "string", "minLength": n, "maxLength": n + 3}, st.integers(0, 4)),
    st.builds(lambda v: {"enum": v}, st.lists(names | st.integers(-9, 99) | st.none(), min_size=1, max_size=3)),
)
schemas = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(
            lambda p, n: {"type": "object", "properties": p, "required": sorted(p)[:n]},
            st.dictionaries(names, inner, min_size=1, max_size=3),
            st.integers(0, 3),
        ),
        st.builds(
            lambda i, low, more: {"type": "array", "items": i, "minItems": low, "maxItems": low + more},
            inner,
            st.integers(0, 2),
            st.integers(0, 2),
        ),
        st.builds(lambda a, b: {"anyOf": [a, b]}, inner, inner),
    ),
    max_leaves=4,
)


@settings(max_examples=10, deadline=None)
@given(
    asked=st.lists(st.tuples(schemas, st.integers(0, 99), st.sampled_from([2, 12, 60])), min_size=1, max_size=3),
    temperature=st.sampled_from([0.0, 0.7, 2.0]),
)
def test_json_parses_and_conforms_or_is_an_error(
    engine: LocalEngine, asked: list[tuple[Any, int, int]], temperature: float
) -> None:
    streams = [
        engine.stream(request("Answer in JSON.", schema=part, temperature=temperature, seed=seed, max_tokens=limit))
        for part, seed, limit in asked
    ]
    neighbour = engine.stream(request("What is JSON?", max_tokens=8))
    *results, free = together([*streams, neighbour])
    assert free.usage.completion_tokens == 8
    for (part, _, limit), got in zip(asked, results, strict=True):
        if got.error is None:
            assert got.usage.finish_reason == "stop"
            assert conforms(json.loads(got.text), part)
        else:
            assert isinstance(got.error, SchemaError)
            assert f"cut at {limit} tokens" in str(got.error)


def test_a_schema_within_reach_is_answered(engine: LocalEngine) -> None:
    part = {
        "type": "object",
        "properties": {"question": {"type": "string", "maxLength": 60}, "right": {"enum": ["A", "B", "C"]}},
        "required": ["question", "right"],
    }
    for seed in range(4):
        got = ask(engine, "Write a quiz question.", schema=part, temperature=1.0, seed=seed, max_tokens=100)
        assert conforms(json.loads(got.text), part)


def test_a_stop_string_in_json_is_an_error(engine: LocalEngine) -> None:
    with pytest.raises(SchemaError, match="stop string"):
        ask(engine, "Give JSON.", schema={"enum": ["alpha beta"]}, stop=("beta",), max_tokens=30)


def test_a_schema_that_cannot_be_enforced_is_refused_at_once(engine: LocalEngine) -> None:
    bad: list[Any] = [
        {"type": "string", "pattern": "a+"},
        {"type": "object", "properties": 5},
        {"$ref": "#"},
        {"enum": []},
    ]
    for part in bad:
        with pytest.raises(SchemaError, match=r"JSON schema at"):
            engine.stream(request("Give JSON.", schema=part))
