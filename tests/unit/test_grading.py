"""Answers against a reference: on the course's own questions, and on answers as students write them."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from iris import courses
from iris.courses import Course, Question
from iris.tools import grading, words

Score = Callable[[str, str], float]


@pytest.fixture(scope="module")
def course() -> Course:
    return courses.load(courses.folders()[1] / "id2223")


@pytest.fixture(scope="module")
def score(course: Course) -> Score:
    """The score of an answer to the course's question of an id."""
    rows = {row.id: row for row in course.questions}
    lexicon = words.lexicon(course)
    return lambda name, answer: grading.grade(answer, rows[name].answer, rows[name].question, lexicon).score


def test_the_courses_own_answers_score_high_and_everything_else_low(course: Course) -> None:
    """Every question of the course: its answer, another topic's, none, and the question itself."""
    lexicon, draw = words.lexicon(course), random.Random(1)

    def graded(row: Question, answer: str) -> float:
        return grading.grade(answer, row.answer, row.question, lexicon).score

    low, high = {}, {}
    for row in course.questions:
        other = draw.choice([other for other in course.questions if other.topic != row.topic])
        high[row.id] = graded(row, row.answer)
        low[row.id] = max(graded(row, answer) for answer in (other.answer, "", row.question))
    assert min(high.values()) >= 0.9
    assert max(low.values()) <= 0.2


GOOD = [
    (
        "adaptive-optimisers-q14",
        "Nesterov first moves along the velocity and computes the gradient at that look-ahead point, so it brakes "
        "earlier when it overshoots. Ordinary momentum takes the gradient at the current point.",
    ),
    (
        "model-registry-deployment-q02",
        "The new model gets a copy of live requests, predictions are logged, but users only see the answers of the old "
        "model.",
    ),
    (
        "automl-q08",
        "The models are already trained, so an ensemble is free. Different model families make different errors that "
        "cancel when averaged, and the winner may only be lucky on the validation set.",
    ),
    (
        "monitoring-q01",
        "Request id, timestamp, entity keys, model version, the feature values as the model saw them, the raw score "
        "and the decision with its threshold, latency and whether a fallback was used.",
    ),
]
WRONG = [
    ("lstm-q07", "So that the gates forget everything at the beginning and the network trains faster."),
    ("unsupervised-learning-q09", "k = 50 is fine since the lowest sum of squares is the best clustering."),
    ("pooling-q06", "Because max pooling is more accurate and needs no padding."),
    ("agents-q07", "An agent is a workflow with a larger language model. Start with the agent."),
]


@pytest.mark.parametrize(("name", "answer"), GOOD)
def test_a_right_answer_in_a_students_words_scores_well(score: Score, name: str, answer: str) -> None:
    assert score(name, answer) >= 0.6


@pytest.mark.parametrize(("name", "answer"), WRONG)
def test_a_wrong_answer_on_the_subject_scores_low(score: Score, name: str, answer: str) -> None:
    assert score(name, answer) <= 0.3


REFERENCE = (
    "A larger batch lowers the variance of the gradient estimate. It needs more memory for activations. "
    "Doubling it from 64 to 128 halves the number of steps in an epoch."
)
QUESTION = "What happens when I change the batch size?"


def grade(answer: str) -> grading.Grade:
    return grading.grade(answer, REFERENCE, QUESTION, words.lexicon(None))


def test_every_point_is_found_where_it_is_said() -> None:
    found = grade("The gradient estimate has a lower variance. Activations need more memory.")
    assert [finding.state for finding in found.findings] == ["covered", "covered", "missing"]
    assert found.findings[1].quote == "Activations need more memory."


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ("A larger batch raises the variance of the gradient estimate, so it needs more memory.", ""),
        ("It needs less memory for activations.", "“less” where the reference has “more”"),
        ("Doubling it from 64 to 128 doubles the number of steps in an epoch.", ""),
        ("Doubling it from 32 to 512 halves the number of steps in an epoch.", "where the reference has"),
        ("A larger batch does not lower the variance of the gradient estimate.", "negated"),
    ],
)
def test_a_contradiction_is_no_covered_point(answer: str, error: str) -> None:
    errors = [finding.error for finding in grade(answer).of("contradicted")]
    assert any(error in found for found in errors) if error else not errors


def test_a_list_of_keywords_is_no_answer() -> None:
    found = grade("variance gradient estimate memory activations steps epoch halves batch larger lower needs")
    assert found.remark == "keywords"
    assert found.score <= 0.5


@given(st.text(max_size=300), st.text(max_size=300), st.text(max_size=100))
@hypothesis_settings(max_examples=200, deadline=None)
def test_whatever_is_written_gets_a_score(answer: str, reference: str, question: str) -> None:
    found = grading.grade(answer, reference, question, words.lexicon(None))
    assert 0.0 <= found.score <= 1.0
    assert found == grading.grade(answer, reference, question, words.lexicon(None))
    if not answer.strip():
        assert found.score == 0
