"""Quizzes of the bank: what is chosen, how it is marked, and how it is taken."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from iris import courses
from iris.courses import Course
from iris.errors import CourseError, RequestError
from iris.tools import numeric, quiz, quiz_bank, quiz_items, quiz_taking, words
from iris.tools.quiz import Past
from iris.tools.quiz_items import KINDS, Item
from tests.unit import tiny_course


@pytest.fixture(scope="module")
def course() -> Course:
    return courses.load(courses.folders()[1] / "id2223")


@pytest.fixture
def bread(tmp_path: Path) -> Course:
    return courses.load(tiny_course.write(tmp_path / "bread"))


def every(course: Course) -> list[Item]:
    return quiz_bank.items(course, [topic.id for topic in course.topics], KINDS, None)


def test_every_item_of_the_course_accepts_its_own_answer_and_no_wrong_one(course: Course) -> None:
    lexicon = words.lexicon(course)
    rows = {row.id: row for row in course.bank}
    for item in every(course):
        assert quiz_items.mark(item, item.answer, lexicon).right == 1.0, item.id
        row = rows.get(item.id.partition("/")[0])
        if row and item.kind in ("choice", "numeric"):
            for wrong in row.distractors:
                assert quiz_items.mark(item, wrong, lexicon).right == 0.0, (item.id, wrong)
        if item.kind == "numeric":
            assert numeric.key(item.answer)


def test_every_topic_has_every_kind_or_nearly(course: Course) -> None:
    found = {(item.topic, item.kind) for item in every(course)}
    for kind, topics in {"choice": 59, "short": 59, "true_false": 55, "numeric": 50}.items():
        assert sum((topic.id, kind) in found for topic in course.topics) >= topics


def test_a_quiz_is_spread_and_asks_no_row_twice(course: Course) -> None:
    topics = [topic.id for topic in course.topics[:4]]
    wanted = quiz.checked(course, topics, 12, KINDS, "any")
    made = quiz.prepare(course, wanted, seed=3)
    assert len(made.items) == 12
    assert {item.topic for item in made.items} == set(topics)
    assert {item.kind for item in made.items} == set(KINDS)
    assert len({item.id.partition("/")[0] for item in made.items}) == 12
    assert made == quiz.prepare(course, wanted, seed=3)
    assert made != quiz.prepare(course, wanted, seed=4)


def test_difficulty_and_kinds_are_kept(course: Course) -> None:
    wanted = quiz.checked(course, [topic.id for topic in course.topics], 20, ["numeric", "choice"], "hard")
    made = quiz.prepare(course, wanted, seed=1)
    assert {item.difficulty for item in made.items} == {"hard"}
    assert {item.kind for item in made.items} == {"numeric", "choice"}


def test_what_was_asked_before_comes_last_and_is_said(bread: Course) -> None:
    wanted = quiz.checked(bread, ["hydration"], 2, ["choice"], "any")
    past = Past(seen={"hydration-m01": 1})
    made = quiz.prepare(bread, wanted, past)
    assert [item.id for item in made.items] == ["hydration-m02"]
    full = quiz.complete(bread, made, past)
    assert [item.id for item in full.items] == ["hydration-m02", "hydration-m01"]
    assert full.again == 1
    assert full.missing == 0


def test_too_few_is_said_and_none_is_an_error(bread: Course) -> None:
    few = quiz.complete(bread, quiz.prepare(bread, quiz.checked(bread, ["hydration"], 9, ["choice"], "any")))
    assert (len(few.items), few.missing) == (2, 7)
    nothing = quiz.checked(bread, ["steam"], 3, ["choice"], "hard")
    with pytest.raises(RequestError, match="Choose more topics, another kind or another difficulty"):
        quiz.complete(bread, quiz.prepare(bread, nothing))


def test_the_wish_is_checked(bread: Course) -> None:
    with pytest.raises(RequestError, match="No topics are chosen"):
        quiz.checked(bread, [], 3, KINDS, None)
    with pytest.raises(RequestError, match="No kind of question"):
        quiz.checked(bread, ["steam"], 3, [], None)
    with pytest.raises(RequestError, match="whole number"):
        quiz.checked(bread, ["steam"], 2.5, KINDS, None)
    with pytest.raises(RequestError, match="whole number"):
        quiz.checked(bread, ["steam"], None, KINDS, None)
    with pytest.raises(RequestError, match="There is no course"):
        quiz.checked(None, ["steam"], 3, KINDS, None)
    with pytest.raises(CourseError, match="Did you mean 'steam'"):
        quiz.checked(bread, ["stem"], 3, KINDS, None)


def test_a_quiz_is_taken_to_its_end_and_the_wrong_ones_again(course: Course) -> None:
    wanted = quiz.checked(course, ["gradient-descent"], 4, ["choice", "numeric"], "any")
    taking = quiz_taking.begin(course, quiz.complete(course, quiz.prepare(course, wanted, seed=1)).items)
    with pytest.raises(RequestError, match="no answer yet"):
        quiz_taking.answer(taking, "  ", course)
    for place in range(4):
        right = taking.now.item.answer
        taking = quiz_taking.answer(taking, right if place % 2 else "nonsense", course)
        marked = taking
        assert quiz_taking.answer(taking, right, course) == marked, "a mark stays"
        taking = quiz_taking.forward(taking)
    assert taking.over
    assert taking.points == 2
    second = quiz_taking.again(taking)
    assert second.round == 2
    assert [row.item for row in second.taken] == list(taking.wrong)
    assert len(second.taken) == 2


def test_evidence_that_is_shown_stands_in_the_note(course: Course) -> None:
    shown = 0
    for item in every(course)[:400:4]:
        dressed = quiz_bank.dressed(item, course, random.Random(1))
        note = course.note(item.topic)
        assert note
        assert dressed.evidence in note.text
        assert dressed.source.startswith(note.title)
        assert sorted(dressed.options) == sorted(item.options)
        shown += bool(dressed.evidence)
    assert shown >= 30


def test_an_item_survives_json(course: Course) -> None:
    import json

    for item in every(course)[::50]:
        assert quiz_items.from_dict(json.loads(json.dumps(quiz_items.as_dict(item)))) == item
