"""The judge over a real connection: strict, in both orders, and never silent about what it could not judge."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation import judge, judging, targets
from evaluation.errors import JudgeError
from evaluation.judge import Judge, Pair
from iris.engine.remote import RemoteEngine
from tests.scripted_engine import Script, serve

PAIR = Pair("Why?", "Because it is so.", "Nobody knows.", "It is so.")


@contextmanager
def asking(script: Script, *, timeout_s: float = 30.0) -> Iterator[Judge]:
    with serve(script) as url:
        engine = RemoteEngine(url, timeout_s=timeout_s)
        try:
            yield Judge(engine, timeout_s=timeout_s)
        finally:
            engine.close()


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        ("VERDICT: 1", "first"),
        (" verdict: 2. \n", "second"),
        ("VERDICT: TIE", "tie"),
        ("VERDICT: 3", "unparsed"),
        ("VERDICT: 1 or 2", "unparsed"),
        ("I think VERDICT: 1", "unparsed"),
        ("VERDICT: 1\nVERDICT: 2", "unparsed"),
        ("1", "unparsed"),
        ("", "unparsed"),
    ],
)
def test_only_the_line_that_was_asked_for_is_a_verdict(said: str, verdict: str) -> None:
    assert judge.parse(said) == verdict


@given(st.text())
def test_any_other_text_is_none(said: str) -> None:
    assert judge.parse(f"x{said}") == "unparsed"


@pytest.mark.parametrize(
    ("said", "counts"),
    [
        # Who always takes the first place has no opinion: the orders disagree, which is a tie.
        ("VERDICT: 1", {"ties": 3, "inconsistent": 3}),
        ("VERDICT: TIE", {"ties": 3, "inconsistent": 0}),
        ("Both are fine answers to me", {"unparsed": 3}),
    ],
)
def test_what_a_stubborn_judge_says_is_counted(said: str, counts: dict[str, int]) -> None:
    script = Script([said])
    with asking(script) as asker:
        found = judge.tally(asker.judge([PAIR] * 3))
    assert {name: getattr(found, name) for name in counts} == counts
    assert found.pairs == found.first + found.second + found.ties + found.unparsed + found.failed == 3
    assert len(script.asked) == 6
    asked = [turns[-1]["content"] for turns in script.asked]
    assert sum(text.index("Nobody knows") < text.rindex("It is so.") for text in asked) == 3  # either order three times
    assert all("Because it is so." in text for text in asked)


class Seeing(Script):
    """Says what is right, whichever place it has: the answer that is the reference itself."""

    @property
    def verdict(self) -> str:
        text = self.asked[-1][-1]["content"]
        reference = text.split("Reference answer:\n")[1].split("\n\nAnswer 1:")[0]
        first = text.split("Answer 1:\n")[1].split("\n\nAnswer 2:")[0]
        return f"VERDICT: {1 if first == reference else 2}"


class Reading(list[str | None]):
    """Pieces that are decided when they are asked for."""

    def __init__(self, script: Seeing) -> None:
        super().__init__()
        self._script = script

    def __iter__(self) -> Iterator[str | None]:
        return iter([self._script.verdict])


def test_a_judge_that_sees_the_truth_wins_its_trial() -> None:
    rows = [(f"What is {n}?", f"It is the number {n}, which comes after {n - 1} and before {n + 1}.") for n in range(4)]
    planted = list(judge.planted(rows))
    assert len(planted) == 8
    assert all(pair.second == pair.reference != pair.first for pair in planted)
    script = Seeing()
    script.pieces = Reading(script)
    with asking(script) as asker:
        asker._together = 1  # so that the question that was asked last is the one to answer
        found = judge.tally(asker.judge(planted))
    assert (found.second, found.inconsistent, found.score) == (8, 0, 1.0)


def test_a_judge_that_takes_too_long_is_given_up_with_the_remedy() -> None:
    with asking(Script(["slow "] * 40, pause_s=0.2), timeout_s=0.3) as asker, pytest.raises(JudgeError) as caught:
        asker.judge([PAIR] * 8)
    assert "did not answer one of its first 4 questions within 0.3 s" in str(caught.value)
    assert "--judge-timeout" in str(caught.value)


def test_a_judge_that_breaks_off_later_is_counted_as_failed() -> None:
    script = Script(["VERDICT: 2"])
    with asking(script) as asker:
        assert asker.judge([PAIR])[0].outcome == "tie"
        script.pieces = ["VERD", None]
        found = judge.tally(asker.judge([PAIR] * 2))
    assert found.failed == 2
    assert found.score is None


def test_a_judge_that_cannot_be_reached_is_named() -> None:
    choice = judging.Choice("x", None, "http://127.0.0.1:9", 1.0)
    with pytest.raises(JudgeError, match=r"The judge at http://127\.0\.0\.1:9 cannot be asked"):
        judging._open(choice, 1)


def test_no_model_judges_itself(gguf: Path) -> None:
    under_test = targets.find_all(["base=smollm2-135m"])
    with pytest.raises(JudgeError, match="is the model base under test"):
        judging.choose(str(gguf), "", 10.0, under_test)  # by another name: the weights tell
    with pytest.raises(JudgeError, match="under test"):
        judging.choose("http://127.0.0.1:9", "smollm2-135m", 10.0, under_test)
    other = [replace(under_test[0], sha256="0" * 64, name="other", label="other")]
    assert judging.choose(str(gguf), "", 10.0, other).target is not None
    with pytest.raises(JudgeError, match="more than 0 seconds"):
        judging.choose(str(gguf), "", 0.0, other)
