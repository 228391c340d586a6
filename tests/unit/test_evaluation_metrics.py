"""The measures on texts whose worth can be told by hand, and on any text."""

from __future__ import annotations

import math
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation import metrics
from evaluation.metrics import Likelihood

WORDS = st.lists(st.sampled_from(["loss", "drift", "cache", "a", "token"]), max_size=12).map(" ".join)


def test_perplexity_is_weighted_by_token() -> None:
    short, long = Likelihood(-8.0, 2, 10), Likelihood(-10.0, 10, 50)
    assert metrics.perplexity([short, long]) == pytest.approx(math.exp(18 / 12))
    mean_of_perplexities = (math.exp(4) + math.exp(1)) / 2
    assert abs(metrics.perplexity([short, long]) - mean_of_perplexities) > 1


def test_a_coin_toss_a_byte_is_one_bit_a_byte_however_it_is_cut() -> None:
    coarse = [Likelihood(-64 * math.log(2), 8, 64)]
    fine = [Likelihood(-32 * math.log(2), 32, 32), Likelihood(-32 * math.log(2), 16, 32)]
    assert metrics.bits_per_byte(coarse) == pytest.approx(1.0)
    assert metrics.bits_per_byte(fine) == pytest.approx(1.0)
    assert metrics.perplexity(coarse) != pytest.approx(metrics.perplexity(fine))


@pytest.mark.parametrize("measure", [metrics.perplexity, metrics.bits_per_byte])
def test_nothing_scored_is_no_number(measure: object) -> None:
    with pytest.raises(ValueError, match="scored"):
        measure([])  # type: ignore[operator]


def test_a_long_option_is_not_punished_for_its_length() -> None:
    logprobs, sizes = [-10.0, -18.0], [10, 40]
    assert metrics.best_option(logprobs) == 0
    assert metrics.best_option(logprobs, sizes) == 1


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("B", 1),
        ("b)", 1),
        (" (C) because", 2),
        ("**D.** It rises", 3),
        ("B. It falls by 5", 1),
        ("The answer is C.", 2),
        ("The correct answer is: B", 1),
        ("Answer: D", 3),
        ("Option A: the first", 0),
        ("A.", 0),
        ("A\nbecause", 0),
        ("A model learns", None),
        ("a model learns", None),
        ("Because B", None),
        ("It is D", None),
        ("I would say B", None),
        ("E", None),
        ("Batch", None),
        ("D's answer", None),
        ("", None),
    ],
)
def test_the_letter_that_an_answer_begins_with(text: str, place: int | None) -> None:
    assert metrics.letter(text) == place


@given(WORDS, WORDS)
def test_rouge_l_is_that_of_the_definition(a: str, b: str) -> None:
    x, y = tuple(a.split()), tuple(b.split())

    @cache
    def common(i: int, j: int) -> int:
        if not i or not j:
            return 0
        if x[i - 1] == y[j - 1]:
            return common(i - 1, j - 1) + 1
        return max(common(i - 1, j), common(i, j - 1))

    length = common(len(x), len(y))
    expected = 2 * length / (len(x) + len(y)) if length else 0.0
    assert metrics.rouge_l(a, b) == pytest.approx(expected)


@given(st.text())
def test_any_text_has_a_value_between_0_and_1(text: str) -> None:
    for value in (
        metrics.rouge_l(text, "the loss falls"),
        metrics.key_facts(text, [["loss"], ["falls", "(drops"]]),
        metrics.leaks(text),
        metrics.repetition(text),
    ):
        assert 0 <= value <= 1
    assert metrics.letter(text) in (None, 0, 1, 2, 3)


def test_facts_are_found_at_the_beginning_of_words() -> None:
    facts = [["loss", "cost"], ["learning rate"], ["generali"]]
    assert metrics.key_facts("It lowers the COST with a learning\nrate; then it generalises.", facts) == 1
    assert metrics.key_facts("A glossy costume", facts) == pytest.approx(1 / 3)
    assert metrics.key_facts("nothing", facts) == 0


def test_repetition_of_a_loop_and_of_prose() -> None:
    assert metrics.repetition("the loss falls and " * 20) > 0.9
    assert metrics.repetition("Each of these words stands here a single time only.") == 0
    assert metrics.repetition("short") == 0


def test_a_leaked_instruction_is_told_from_an_answer() -> None:
    assert metrics.leaks("Overfitting is memory. Include an example from industry.") == 1
    assert metrics.leaks("Overfitting is memory of noise. A larger data set helps.") == 0


def test_rescaling_puts_the_baseline_at_0_and_equality_at_1() -> None:
    assert metrics.rescaled(0.3, 0.3) == 0
    assert metrics.rescaled(1.0, 0.3) == 1
    assert metrics.rescaled(0.2, 0.3) < 0
