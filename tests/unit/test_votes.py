"""Votes on two answers: counted once, told apart from the models' places, and exported without anybody's questions."""

from __future__ import annotations

import csv
import io
import random
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from iris.engine import EngineStatus
from iris.engine.batch import LocalEngine
from iris.errors import RequestError
from iris.prompts import STUDY_CHAT_SAMPLING
from iris.store import Store
from iris.study.votes import CHOICES, Votes
from iris.tools import compare
from iris.tools.compare import Sides


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "iris.db")
    for student in ("ann", "bo"):
        store.student(student)
    yield store
    store.close()


def duel(store: Store, student: str = "ann", left: str = "base", right: str = "tuned") -> str:
    return Votes(store).open(student, "Why?", (left, right), ("Because.", "=1+1"))


def test_the_first_vote_stays_and_says_who_was_who(store: Store) -> None:
    one = duel(store)
    assert Votes(store).scores() == []  # answers alone are no vote
    found = compare.vote(store, "ann", one, "right")
    assert (found.left_model, found.right_model, found.choice) == ("base", "tuned", "right")
    assert compare.vote(store, "ann", one, "left").choice == "right"
    (score,) = compare.scores(store)
    assert (score.first, score.second, score.first_wins, score.second_wins, score.votes) == ("base", "tuned", 0, 1, 1)


def test_nobody_votes_for_another_and_nonsense_is_refused(store: Store) -> None:
    one = duel(store)
    for student, number, choice in (("bo", one, "left"), ("ann", "unknown", "left"), ("ann", one, "best")):
        with pytest.raises(RequestError):
            compare.vote(store, student, number, choice)
    assert compare.scores(store) == []


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.booleans(), st.sampled_from(CHOICES)), max_size=12))
def test_the_places_do_not_change_the_counts(tmp_path: Path, votes: list[tuple[bool, str]]) -> None:
    path = tmp_path / f"{time.time_ns()}.db"
    store = Store(path)
    store.student("ann")
    for swapped, choice in votes:
        left, right = ("b", "a") if swapped else ("a", "b")
        compare.vote(store, "ann", duel(store, left=left, right=right), choice)
    for score in compare.scores(store):
        a = sum((choice == "left") != swapped for swapped, choice in votes if choice in ("left", "right"))
        b = sum((choice == "right") != swapped for swapped, choice in votes if choice in ("left", "right"))
        assert (score.first_wins, score.second_wins) == (a, b)
        assert score.both == sum(choice == "both" for _, choice in votes)
        assert score.votes == len(votes)
    assert bool(votes) == bool(compare.scores(store))
    store.close()


def test_the_export_has_all_counts_but_only_ones_own_questions(store: Store) -> None:
    compare.vote(store, "ann", duel(store), "left")
    compare.vote(store, "bo", duel(store, "bo"), "neither")
    files = {name: list(csv.DictReader(io.StringIO(text))) for name, text in compare.export(store, "ann").items()}
    assert files["votes.csv"] == [
        {"first": "base", "second": "tuned", "first_wins": "1", "second_wins": "0", "both": "0", "neither": "1"}
    ]
    (own,) = files["my-votes.csv"]
    assert (own["question"], own["choice"], own["left_answer"]) == ("Why?", "left", "Because.")
    assert own["right_answer"] == "'=1+1"  # no spreadsheet computes what a model wrote


def test_votes_go_with_the_student(store: Store) -> None:
    compare.vote(store, "ann", duel(store), "left")
    with store.write() as connection:
        connection.execute("DELETE FROM students WHERE id = 'ann'")
    assert compare.scores(store) == []


def test_the_places_are_drawn() -> None:
    chance = random.Random(1)
    drawn = [compare.placed(("a", "b"), chance) for _ in range(200)]
    assert 70 < sum(pair == ("a", "b") for pair in drawn) < 130
    assert set(drawn) == {("a", "b"), ("b", "a")}
    with pytest.raises(RequestError, match="two different models"):
        compare.placed(("a", "a"))


def test_both_are_asked_at_once_and_a_duel_is_kept(store: Store, engine: LocalEngine) -> None:
    seen: list[Sides] = []
    busiest: list[EngineStatus] = []
    for sides in compare.stream(
        store, "ann", "Say hello.", ("a", "b"), (engine, engine), sampling=replace(STUDY_CHAT_SAMPLING, max_tokens=12)
    ):
        busiest.append(engine.status())
        seen.append(sides)
    assert max(status.active for status in busiest) == 2
    assert all(not sides.duel for sides in seen[:-1])
    found = compare.vote(store, "ann", seen[-1].duel, "both")
    assert (found.left_answer, found.right_answer) == (seen[-1].left.text, seen[-1].right.text)
    assert found.left_answer
    assert found.right_answer


def test_leaving_stops_both(store: Store, engine: LocalEngine) -> None:
    sides = compare.stream(store, "ann", "Tell me a very long story.", ("a", "b"), (engine, engine))
    while not (one := next(sides)).left.text:
        assert not one.duel
    sides.close()
    end = time.monotonic() + 60
    while engine.status().active:
        assert time.monotonic() < end
        time.sleep(0.05)
    with store.read() as connection:
        assert connection.execute("SELECT count(*) FROM votes").fetchone()[0] == 0


def test_an_empty_question_is_refused(store: Store, engine: LocalEngine) -> None:
    with pytest.raises(RequestError, match="There is no question"):
        next(compare.stream(store, "ann", " \n", ("a", "b"), (engine, engine)))
