"""Cards in the store: made once, due on the student's day, graded once a showing, and scheduled as FSRS says."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from fsrs import Card as FsrsCard
from fsrs import Rating, Scheduler, State
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from iris.errors import CardError
from iris.store import Store
from iris.study import cards, days, memory
from iris.study.days import DAY_MS
from iris.study.memory import AGAIN, EASY, GOOD, HARD, Memory, Review

STOCKHOLM = ZoneInfo("Europe/Stockholm")
NOW = days.milliseconds(datetime(2026, 11, 26, 9, 30, tzinfo=STOCKHOLM))
MINUTE = 60_000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "iris.db")
    opened.student("ada")
    opened.student("bo")
    yield opened
    opened.close()


def add(store: Store, *fronts: str, topic: str = "lora", at: int = NOW) -> list[cards.Card]:
    made = [cards.make("id2223", topic, front, f"answer to {front}", "hand", at) for front in fronts]
    cards.add(store, "ada", made)
    return made


def due(store: Store, at: int, where: ZoneInfo = STOCKHOLM) -> list[str]:
    return [card.front for card in cards.due(store, "ada", "id2223", at, where, limit=100)]


def grade(store: Store, card: cards.Card, rating: int, at: int) -> cards.Card:
    now = cards.get(store, "ada", card.id)
    return cards.grade(store, "ada", card.id, rating, at, seen=now.memory.reviewed, fuzz=False)


def test_the_same_card_made_twice_is_one(store: Store) -> None:
    (card,) = add(store, "What is LoRA?")
    grade(store, card, GOOD, NOW)
    again = cards.make("id2223", "lora", "What is LoRA? ", " answer to What is LoRA?", "quiz", NOW + DAY_MS)
    assert again.id == card.id
    assert cards.add(store, "ada", [again, again]) == 0
    assert cards.get(store, "ada", card.id).memory.reviewed == NOW
    assert cards.counts(store, "ada", "id2223", NOW, STOCKHOLM).total == 1


def test_cards_are_the_students_own(store: Store) -> None:
    (card,) = add(store, "Mine")
    cards.add(store, "bo", [card])
    cards.grade(store, "bo", card.id, GOOD, NOW, seen=None)
    assert cards.get(store, "ada", card.id).memory.reviewed is None
    cards.delete(store, "bo", card.id)
    assert due(store, NOW) == ["Mine"]
    with pytest.raises(CardError, match="not there any more"):
        cards.get(store, "bo", card.id)


@pytest.mark.parametrize(
    ("front", "back", "complaint"),
    [(" ", "x", "front of the card is empty"), ("x", "\n", "back of the card is empty"), ("x" * 20_001, "y", "20,001")],
)
def test_a_card_needs_two_sides_of_bearable_length(front: str, back: str, complaint: str) -> None:
    with pytest.raises(CardError, match=complaint):
        cards.make("id2223", "", front, back, "hand", NOW)


def test_the_schedule_is_that_of_fsrs(store: Store) -> None:
    (card,) = add(store, "Q")
    reference = FsrsCard(card_id=7, due=days.moment(NOW))
    fsrs = Scheduler(enable_fuzzing=False, maximum_interval=memory.LONGEST_DAYS)
    at = NOW
    for rating in (GOOD, GOOD, HARD, AGAIN, GOOD, EASY, GOOD):
        after = grade(store, card, rating, at)
        reference, _ = fsrs.review_card(reference, Rating(rating), days.moment(at))
        assert after.memory == cards.get(store, "ada", card.id).memory
        assert after.memory.due == days.milliseconds(reference.due)
        assert (after.memory.stability, after.memory.difficulty) == (reference.stability, reference.difficulty)
        at = after.memory.due + 5 * MINUTE
    assert memory.replay(NOW, cards.reviews(store, "ada", card.id)) == after.memory


@given(
    stability=st.floats(0.01, 3000),
    elapsed=st.integers(-3 * DAY_MS, 4000 * DAY_MS),
)
@hypothesis_settings(max_examples=200, deadline=None)
def test_predicted_recall_is_that_of_fsrs(stability: float, elapsed: int) -> None:
    card = FsrsCard(card_id=1, state=State.Review, stability=stability, difficulty=5.0, last_review=days.moment(NOW))
    expected = Scheduler().get_card_retrievability(card, days.moment(NOW + elapsed))
    assert memory.recall([stability], [NOW], NOW + elapsed) == pytest.approx([expected])


@given(ratings=st.lists(st.tuples(st.integers(1, 4), st.integers(-400 * DAY_MS, 400 * DAY_MS)), max_size=12))
@hypothesis_settings(max_examples=100, deadline=None)
def test_a_clock_that_jumps_does_no_harm(ratings: list[tuple[int, int]]) -> None:
    now, at = Memory(due=NOW), NOW
    for rating, jump in ratings:
        at += jump
        now = memory.after(now, rating, at, fuzz=False)
        assert now.due > at
        assert now.stability is not None
        assert now.stability > 0
        assert 0 < memory.recall([now.stability], [now.reviewed or 0], at + DAY_MS)[0] <= 1


def test_a_card_reviewed_in_the_future_is_due_when_the_clock_is_right_again(store: Store) -> None:
    (card,) = add(store, "Q")
    wrong = NOW + 5000 * DAY_MS
    for _ in range(3):
        grade(store, card, EASY, wrong)
    assert due(store, NOW) == ["Q"]
    after = grade(store, card, GOOD, NOW)
    assert due(store, NOW) == []
    assert NOW < after.memory.due < NOW + 400 * DAY_MS


def test_a_second_press_on_a_grade_changes_nothing(store: Store) -> None:
    (card,) = add(store, "Q")
    first = cards.grade(store, "ada", card.id, GOOD, NOW, seen=None, fuzz=False)
    second = cards.grade(store, "ada", card.id, GOOD, NOW + 100, seen=None, fuzz=False)
    assert second == first
    assert cards.reviews(store, "ada", card.id) == [Review(NOW, GOOD)]


def test_two_reviews_in_one_millisecond_are_both_kept(store: Store) -> None:
    (card,) = add(store, "Q")
    grade(store, card, GOOD, NOW)
    grade(store, card, HARD, NOW)
    assert [(review.at, review.rating) for review in cards.reviews(store, "ada", card.id)] == [
        (NOW, GOOD), (NOW + 1, HARD)
    ]  # fmt: skip


def test_an_unknown_grade_is_refused(store: Store) -> None:
    (card,) = add(store, "Q")
    with pytest.raises(CardError, match="no grade 5"):
        cards.grade(store, "ada", card.id, 5, NOW, seen=None)


def test_learning_is_due_to_the_minute_and_review_on_its_day(store: Store) -> None:
    learning, known = add(store, "learning", "known")
    grade(store, learning, GOOD, NOW)  # again in ten minutes
    evening = days.milliseconds(datetime(2026, 11, 26, 22, tzinfo=STOCKHOLM))
    after = grade(store, known, EASY, evening)
    due_day = days.day_of(after.memory.due, STOCKHOLM)
    assert after.memory.state == memory.REVIEW
    assert due(store, NOW + 11 * MINUTE) == ["learning"]
    grade(store, learning, EASY, NOW + 11 * MINUTE)
    # Known since ten in the evening, it is due on the morning of its day, not only in the evening.
    morning = days.start_of(due_day, STOCKHOLM)
    assert "known" not in due(store, morning - 1)
    assert "known" in due(store, morning)


def test_the_day_is_the_students(store: Store) -> None:
    (card,) = add(store, "Q")
    after = grade(store, card, EASY, NOW)
    midnight = days.start_of(days.day_of(after.memory.due, STOCKHOLM), STOCKHOLM)
    assert due(store, midnight, STOCKHOLM) == ["Q"]
    assert due(store, midnight, ZoneInfo("America/Los_Angeles")) == []


@pytest.mark.parametrize(
    ("day", "hours"), [((2027, 3, 28), 23), ((2026, 10, 25), 25), ((2026, 11, 26), 24), ((2024, 2, 29), 24)]
)
def test_a_day_is_as_long_as_it_is(day: tuple[int, int, int], hours: int) -> None:
    date = datetime(*day).date()
    begin, end = days.start_of(date, STOCKHOLM), days.end_of(date, STOCKHOLM)
    assert end - begin == hours * 60 * MINUTE
    assert days.day_of(begin, STOCKHOLM) == days.day_of(end - 1, STOCKHOLM) == date
    assert days.day_of(begin - 1, STOCKHOLM) < date < days.day_of(end, STOCKHOLM)


@pytest.mark.parametrize("name", ["Nowhere/Land", "", None, "../../etc/passwd", "a" * 300, "\0"])
def test_an_unknown_zone_is_utc(name: str | None) -> None:
    assert days.zone(name).key == "UTC"


def test_counts_and_order(store: Store) -> None:
    new, learning, soon = add(store, "new", "learning", "soon")
    grade(store, learning, AGAIN, NOW)  # in a minute
    grade(store, soon, GOOD, NOW)  # in ten minutes
    before = cards.counts(store, "ada", "id2223", NOW, STOCKHOLM)
    assert (before.total, before.new, before.due, before.next) == (3, 1, 1, NOW + MINUTE)
    at = NOW + 2 * MINUTE
    assert due(store, at) == ["learning", "new"], "what was begun comes first"
    grade(store, new, EASY, at)
    grade(store, learning, EASY, at)
    assert due(store, at) == ["soon"], "nothing else is due, so it comes a little early"
    grade(store, soon, EASY, at)
    assert due(store, at) == []


def test_editing_keeps_the_memory_and_the_id(store: Store) -> None:
    (card,) = add(store, "Q")
    grade(store, card, GOOD, NOW)
    after = cards.edit(store, "ada", card.id, front="Q!", back="A!", topic="qlora", at=NOW + 1)
    assert (after.id, after.front, after.back, after.topic) == (card.id, "Q!", "A!", "qlora")
    assert cards.get(store, "ada", card.id) == after
    assert after.memory.reviewed == NOW
    with pytest.raises(CardError, match="empty"):
        cards.edit(store, "ada", card.id, front="", back="A", topic="", at=NOW)


def test_recall_by_topic_is_the_mean_of_its_cards(store: Store) -> None:
    one, two = add(store, "one", "two", topic="lora")
    (other,) = add(store, "other", topic="qlora")
    add(store, "never reviewed", topic="drift")
    for card, rating in ((one, GOOD), (two, EASY), (other, HARD)):
        grade(store, card, rating, NOW)
    at = NOW + 10 * DAY_MS
    found = cards.recall_by_topic(store, "ada", "id2223", at)
    kept = [cards.get(store, "ada", card.id).memory for card in (one, two)]
    expected = np.mean(memory.recall([m.stability or 0 for m in kept], [m.reviewed or 0 for m in kept], at))
    assert set(found) == {"lora", "qlora"}
    assert found["lora"].recall == pytest.approx(expected)
    assert found["lora"].cards == 2
    assert found["qlora"].recall < found["lora"].recall


def test_fuzz_spreads_cards_of_one_day(store: Store) -> None:
    dues = set()
    for card in add(store, *(f"Q{n}" for n in range(30))):
        after = cards.grade(store, "ada", card.id, EASY, NOW, seen=None)
        dues.add(after.memory.due)
    assert len(dues) > 1
