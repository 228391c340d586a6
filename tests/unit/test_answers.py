"""What is remembered of quizzes: answers for mastery, and what a student has been asked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from iris.errors import StoreError
from iris.store import Store
from iris.study import answers, quizzes
from iris.study.answers import Answered
from iris.study.quizzes import Given


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "iris.db")
    opened.student("a")
    opened.student("b")
    yield opened
    opened.close()


def test_answers_come_back_by_student_course_and_time(store: Store) -> None:
    first = Answered("bread", "hydration", "hydration-m01", "choice", 1.0, "quiz", at=1_000)
    second = Answered("bread", "steam", "steam-q02", "short", 0.4, "review", at=2_000)
    answers.record(store, "a", second)
    answers.record(store, "a", first)
    answers.record(store, "a", Answered("other", "x", "x-1", "numeric", 0.0, "drill", at=1_500))
    assert answers.listed(store, "a", "bread") == (first, second)
    assert answers.listed(store, "a", "bread", since=1_500) == (second,)
    assert answers.listed(store, "b", "bread") == ()


def test_an_answer_without_a_time_is_of_now_and_its_worth_stays_in_bounds(store: Store) -> None:
    answers.record(store, "a", Answered("bread", "t", "i", "choice", 7.0))
    (found,) = answers.listed(store, "a", "bread")
    assert found.at > 1_700_000_000_000
    assert found.right == 1.0


def test_what_goes_with_the_student(store: Store) -> None:
    answers.record(store, "a", Answered("bread", "t", "i", "choice", 1.0))
    quizzes.save(store, "a", "bread", [Given("i", "t", "choice", "Why?")])
    with store.write() as connection:
        connection.execute("DELETE FROM students WHERE id = 'a'")
    with store.read() as connection:
        for table in ("answers", "quizzes", "quiz_items"):
            assert connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] == 0


def test_a_source_that_is_none_is_refused_and_nothing_changes(store: Store) -> None:
    with pytest.raises((StoreError, Exception), match="CHECK"):
        answers.record(store, "a", Answered("bread", "t", "i", "choice", 1.0, "dream"))  # type: ignore[arg-type]
    assert answers.listed(store, "a", "bread") == ()


def test_what_was_asked_is_known_again(store: Store) -> None:
    quizzes.save(
        store, "a", "bread", [Given("m1/numeric", "t", "numeric", "How much?"), Given("q1", "t", "short", "?")]
    )
    quizzes.save(store, "a", "bread", [Given("m1", "t", "choice", "How much again?")])
    assert quizzes.seen(store, "a", "bread") == {"m1": 2, "q1": 1}
    assert quizzes.questions(store, "a", "bread") == ("How much again?", "How much?", "?")
    assert quizzes.seen(store, "b", "bread") == {}
