"""Intervals that hold what they promise, and tests that find differences where there are some and none where not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation import intervals


def column(values: object) -> list[list[float]]:
    return np.asarray(values, np.float64).reshape(-1, 1).tolist()


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    chance = np.random.default_rng(1)
    hits = 0
    for _ in range(100):
        found = intervals.estimate(column(chance.random(40) < 0.3), samples=400)
        hits += found.low <= 0.3 <= found.high
    assert 85 <= hits <= 100


def test_a_perplexity_is_that_of_all_tokens_and_its_interval_is_around_it() -> None:
    values = [[-20.0, 10.0, 40.0], [-5.0, 5.0, 20.0], [-90.0, 30.0, 100.0]]
    found = intervals.estimate(values, intervals.perplexity_of)
    assert found.value == pytest.approx(np.exp(115 / 45))
    assert found.low < found.value < found.high
    assert intervals.estimate(values, intervals.bits_of).value == pytest.approx(115 / 160 / np.log(2))


def test_a_single_item_claims_nothing_about_others_and_none_is_refused() -> None:
    assert intervals.estimate([[0.5]]).low == intervals.estimate([[0.5]]).high == 0.5
    with pytest.raises(ValueError, match="nothing"):
        intervals.estimate([])


def test_pairing_finds_what_the_noise_between_items_hides() -> None:
    chance = np.random.default_rng(2)
    hard = chance.normal(0, 1, 60)
    first, second = column(hard), column(hard + 0.1 + chance.normal(0, 0.05, 60))
    found = intervals.paired(first, second)
    assert found.p < 0.01
    assert found.low > 0
    assert intervals.estimate(first).high > found.value  # the single intervals overlap by far


def test_no_difference_is_found_where_there_is_none() -> None:
    chance = np.random.default_rng(3)
    p = [
        intervals.paired(column(chance.normal(0, 1, 30)), column(chance.normal(0, 1, 30)), samples=200).p
        for _ in range(60)
    ]
    assert 0 <= sum(value < 0.05 for value in p) <= 9
    same = column(chance.normal(0, 1, 30))
    assert intervals.paired(same, same).p == 1
    assert intervals.paired(same, same).value == 0


def test_yes_and_no_go_through_mcnemars_exact_test() -> None:
    first = column([1] * 10 + [0] * 30)
    second = column([0] * 9 + [1] + [0] * 29 + [1])
    assert intervals.paired(first, second).p == pytest.approx(2 * (1 + 10) / 2**10)
    assert intervals.mcnemar(0, 0) == 1
    assert intervals.mcnemar(5, 0) == pytest.approx(2 / 32)


def test_other_items_are_refused() -> None:
    with pytest.raises(ValueError, match="same items"):
        intervals.paired([[1.0]], [[1.0], [2.0]])


def test_holm() -> None:
    assert intervals.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert intervals.holm([]) == []


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20))
def test_the_value_is_inside_its_interval_and_holm_only_raises(values: list[float]) -> None:
    found = intervals.estimate(column(values), samples=100)
    spread = 1e-6 * (1 + max(map(abs, values)))
    assert min(values) - spread <= found.low <= found.high <= max(values) + spread
    p = [abs(value) / 1e6 for value in values]
    assert all(corrected >= one for corrected, one in zip(intervals.holm(p), p, strict=True))
