"""The measures of the gate, against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from export.measure import Comparison, Distance
from export.model_file import bfloat16


def compared(*windows: tuple[np.ndarray, np.ndarray, list[int]]) -> Distance:
    comparison = Comparison()
    for reference, logits, ids in windows:
        comparison.add(reference.astype(np.float32), logits.astype(np.float32), ids)
    return comparison.result()


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), tokens=st.integers(2, 150), shift=st.floats(-50, 50))
def test_a_constant_added_to_all_logits_changes_nothing(seed: int, tokens: int, shift: float) -> None:
    chance = np.random.default_rng(seed)
    logits, ids = chance.standard_normal((tokens, 11)), chance.integers(0, 11, tokens).tolist()
    found = compared((logits, logits + shift, ids))
    assert found.kl == pytest.approx(0.0, abs=1e-9)
    assert (found.tokens, found.top1) == (tokens, 1.0)
    assert found.logit_error < 1e-4
    assert found.perplexity == pytest.approx(found.reference_perplexity, rel=1e-4)


def test_the_divergence_and_perplexity_are_those_of_the_textbook() -> None:
    p, q = np.array([0.5, 0.25, 0.25]), np.array([0.25, 0.5, 0.25])
    found = compared((np.log([p, p]), np.log([q, q]), [0, 1]))
    assert found.kl == pytest.approx(0.25 * np.log(2), rel=1e-5)  # 0.5 ln 2 - 0.25 ln 2
    assert found.top1 == 0.0
    assert found.reference_perplexity == pytest.approx(4.0, rel=1e-5)  # the token after the first has probability 1/4
    assert found.perplexity == pytest.approx(2.0, rel=1e-5)


def test_perplexity_is_weighted_by_token_not_by_text() -> None:
    sure, even = np.log([0.999, 0.001]), np.log([0.5, 0.5])
    long, short = np.tile(even, (101, 1)), np.tile(sure, (2, 1))
    found = compared((long, long, [0] * 101), (short, short, [0, 0]))
    assert found.perplexity == pytest.approx(np.exp((100 * np.log(2) - np.log(0.999)) / 101), rel=1e-5)


def test_values_that_are_no_numbers_do_not_pass_for_equal() -> None:
    logits = np.eye(3, 4)
    assert not compared((logits, np.full((3, 4), np.nan), [0, 1, 2])).kl < 1e9


@settings(deadline=None)  # the first example imports torch
@given(st.lists(st.floats(width=32, allow_nan=False, min_value=-(2.0**126), max_value=2.0**126), min_size=1))
def test_bfloat16_is_the_nearest_with_ties_to_even(values: list[float]) -> None:
    import torch

    given_ = np.array(values, np.float32)
    wanted = torch.from_numpy(given_).to(torch.bfloat16).view(torch.uint16).numpy()
    assert np.array_equal(bfloat16(given_), wanted)
