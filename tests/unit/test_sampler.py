"""How the next token is chosen: in C, the same as llama.cpp's own chain, only faster."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import llama_cpp as C
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iris.engine import Sampling, schema
from iris.engine.llama import Context, Model
from iris.engine.sampler import Sampler
from iris.errors import RequestError
from tests.conftest import THREADS

TEXT = "The loss fell quickly, and then the model began to overfit:\n1. It saw the data 3.5 times; {the test} did not"


@pytest.fixture(scope="module")
def model(gguf: Path) -> Iterator[Model]:
    opened = Model(gguf)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def context(model: Model) -> Iterator[Context]:
    """Real logits after every token of a text; ``context.batch`` has as many positions as there are."""
    opened = Context(model, cells=256, sequences=1, batch=64, threads=THREADS)
    for position, token in enumerate(model.tokenize(TEXT, special=False)):
        opened.batch.add([token], position, 0, output_last=True)
    assert opened.decode() == 0
    yield opened
    opened.close()


samplings = st.builds(
    Sampling,
    temperature=st.sampled_from([0.0, 0.3, 0.8, 1.5, 5.0]),
    top_p=st.sampled_from([0.0, 0.5, 0.9, 1.0]),
    top_k=st.sampled_from([0, 1, 2, 5, 40, 1000]),
    min_p=st.sampled_from([0.0, 0.05, 1.0]),
    repeat_penalty=st.sampled_from([0.5, 1.0, 1.15, 1.5, 10.0]),
    frequency_penalty=st.sampled_from([-1.0, 0.0, 0.7, 10.0]),
    presence_penalty=st.sampled_from([-1.0, 0.0, 0.7, 10.0]),
    penalty_window=st.sampled_from([0, 1, 3, 64]),
    seed=st.integers(0, 2**32 - 2),
)


def whole_chain(model: Model, s: Sampling) -> Any:
    """llama.cpp's samplers in llama.cpp's order, over the whole vocabulary, as its own programs build them."""
    chain = C.llama_sampler_chain_init(C.llama_sampler_chain_default_params())
    parts = [
        C.llama_sampler_init_penalties(
            model.n_vocab, s.penalty_window, s.repeat_penalty, s.frequency_penalty, s.presence_penalty
        )
    ]
    if s.temperature == 0.0:
        parts.append(C.llama_sampler_init_greedy())
    else:
        parts.append(C.llama_sampler_init_top_k(s.top_k))
        parts.append(C.llama_sampler_init_top_p(s.top_p, 1))
        parts.append(C.llama_sampler_init_min_p(s.min_p, 1))
        parts.append(C.llama_sampler_init_temp(s.temperature))
        parts.append(C.llama_sampler_init_dist(s.seed))
    for part in parts:
        C.llama_sampler_chain_add(chain, part)
    return chain


@settings(max_examples=60, deadline=None)
@given(s=samplings, path=st.lists(st.integers(0, 24), min_size=1, max_size=12))
def test_tokens_are_those_of_the_whole_chain(model: Model, context: Context, s: Sampling, path: list[int]) -> None:
    mine, theirs = Sampler(model, s), whole_chain(model, s)
    try:
        # The same places again and again, so that the penalties have something to say.
        for index in [*path, *path, *path]:
            assert mine.sample(context, index) == C.llama_sampler_sample(theirs, context.handle, index)
    finally:
        mine.close()
        C.llama_sampler_free(theirs)


@settings(max_examples=25, deadline=None)
@given(s=samplings, path=st.lists(st.integers(0, 24), min_size=1, max_size=12))
def test_a_grammar_that_allows_everything_changes_nothing(
    model: Model, context: Context, s: Sampling, path: list[int]
) -> None:
    free, bound = Sampler(model, s), Sampler(model, s, "root ::= [^\\x00]*")
    try:
        ends = model.end_tokens
        for index in [*path, *path]:
            token = free.sample(context, index)
            assert bound.sample(context, index) == token
            if token in ends:  # the grammar is over
                break
    finally:
        free.close()
        bound.close()


SCHEMA = {
    "type": "object",
    "properties": {"topic": {"type": "string"}, "level": {"enum": ["easy", "hard"]}, "steps": {"type": "integer"}},
    "required": ["topic", "level"],
}


@settings(max_examples=15, deadline=None)
@given(s=samplings, path=st.lists(st.integers(0, 24), min_size=6, max_size=30))
def test_under_a_grammar_every_token_is_one_it_allows(
    model: Model, context: Context, s: Sampling, path: list[int]
) -> None:
    grammar = schema.grammar(SCHEMA)
    judge = C.llama_sampler_init_grammar(model.vocab, grammar.encode(), b"root")
    sampler = Sampler(model, s, grammar)
    text = b""
    try:
        for index in path:
            token = sampler.sample(context, index)
            one = (C.llama_token_data * 1)(C.llama_token_data(id=token, logit=1.0, p=0.0))
            C.llama_sampler_apply(judge, C.byref(C.llama_token_data_array(data=one, size=1, selected=-1, sorted=False)))
            assert np.isfinite(one[0].logit), "a token that the grammar refuses"
            if token in model.end_tokens:
                json.loads(text)
                break
            C.llama_sampler_accept(judge, token)
            text += model.piece(token)
    finally:
        sampler.close()
        C.llama_sampler_free(judge)


def test_greedy_under_a_grammar_takes_the_likeliest_allowed_token(model: Model, context: Context) -> None:
    digits = Sampler(model, Sampling(temperature=0.0, repeat_penalty=1.0), "root ::= [0-9]* [a-z]")
    allowed = [t for t in range(model.n_vocab) if re.fullmatch(rb"[0-9]+|[0-9]*[a-z]", model.piece(t))]
    steps = 0
    for index in range(20):
        best = max(allowed, key=lambda t: float(context.logits(index)[t]))
        if model.piece(best).isdigit():
            assert digits.sample(context, index) == best
            steps += 1
    assert steps > 5
    digits.close()


def test_seeds(model: Model, context: Context) -> None:
    def drawn(seed: int | None) -> list[int]:
        sampler = Sampler(model, Sampling(temperature=2.0, top_k=0, top_p=1.0, seed=seed))
        tokens = [sampler.sample(context, index) for index in range(24)]
        sampler.close()
        return tokens

    assert drawn(7) == drawn(7)
    assert drawn(0) == drawn(0)
    assert drawn(7) != drawn(8)
    assert drawn(None) != drawn(None)


def test_closing_twice(model: Model) -> None:
    sampler = Sampler(model, Sampling(), "root ::= [a-z]")
    sampler.close()
    sampler.close()


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("temperature", float("inf")),
        ("top_p", 1.01),
        ("top_p", -0.01),
        ("min_p", 2.0),
        ("repeat_penalty", 0.0),
        ("repeat_penalty", float("nan")),
        ("frequency_penalty", -11.0),
        ("presence_penalty", 11.0),
        ("top_k", -1),
        ("penalty_window", -1),
        ("max_tokens", -1),
        ("seed", -1),
        ("seed", 2**32 - 1),  # llama.cpp's mark for a random seed
    ],
)
def test_impossible_settings_are_refused_by_name(name: str, bad: float) -> None:
    with pytest.raises(RequestError, match=rf"{name} must be between .* not {bad}"):
        Sampling(**{name: bad})  # type: ignore[arg-type]


def test_the_limits_themselves_are_possible(model: Model, context: Context) -> None:
    for low in ({"temperature": 0.0}, {"top_p": 0.0}, {"top_k": 0}, {"penalty_window": 0}, {"seed": 0}):
        for high in ({"repeat_penalty": 10.0}, {"min_p": 1.0}, {"seed": 2**32 - 2}, {"top_p": 1.0}):
            sampler = Sampler(model, Sampling(**{**low, **high}))  # type: ignore[arg-type]
            assert 0 <= sampler.sample(context, 3) < model.n_vocab
            sampler.close()


def test_empty_stop_strings_are_refused() -> None:
    with pytest.raises(RequestError, match="stop string must not be empty"):
        Sampling(stop=("END", ""))
