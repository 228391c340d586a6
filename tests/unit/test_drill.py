"""The mixed drill without its page: set, saved, handed in once, graded by topic, and its wrong items made cards."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from iris import courses
from iris.courses import Course
from iris.errors import DrillError, IrisError
from iris.store import Store
from iris.study import answers, cards, drills, progress
from iris.study.drills import Drill
from iris.tools import drill, quiz_items
from iris.tools.quiz_items import KINDS, Item

NOW = 1_795_000_000_000
MINUTE = 60_000
TOPICS = ["lora", "qlora", "drift", "feature-stores"]
UTC = ZoneInfo("UTC")


@pytest.fixture(scope="module")
def course() -> Course:
    return courses.find("id2223")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "iris.db")
    opened.student("ada")
    yield opened
    opened.close()


def begin(store: Store, course: Course, count: int = 8, minutes: float = 10) -> Drill:
    return drill.begin(store, "ada", course, TOPICS, count, minutes, KINDS, NOW)


def items(taken: Drill) -> list[Item]:
    return [quiz_items.from_dict(row) for row in taken.items]


def wrong(item: Item) -> str:
    if item.kind == "true_false":
        return "false" if item.answer == "true" else "true"
    if item.kind == "choice":
        return next(option for option in item.options if option != item.answer)
    return "-987654321" if item.kind == "numeric" else "I would rather talk about the weather in Spain."


def test_right_answers_score_and_wrong_ones_become_cards(store: Store, course: Course) -> None:
    taken = begin(store, course)
    asked = items(taken)
    assert len(asked) == 8
    assert {item.topic for item in asked} == set(TOPICS)
    assert len({item.kind for item in asked}) >= 3
    given = {str(place): item.answer if place % 2 else wrong(item) for place, item in enumerate(asked)}
    drill.save(store, "ada", taken.id, given, NOW + MINUTE)
    report = drill.hand_in(store, "ada", course, taken.id, NOW + 2 * MINUTE)
    assert report.score == pytest.approx(0.5)
    assert report.used == 2 * MINUTE
    assert [line.mark.verdict for line in report.lines] == ["wrong", "right"] * 4
    for topic in report.topics:
        of_topic = [line for line in report.lines if line.item.topic == topic.topic]
        assert topic.count == len(of_topic)
        assert topic.right == pytest.approx(sum(line.mark.right for line in of_topic))
    shares = [topic.right / topic.count for topic in report.topics]
    assert shares == sorted(shares)
    made = cards.every(store, "ada", course.id)
    assert report.cards == len(made) == 4
    assert {card.topic for card in made} == {line.item.topic for line in report.lines if line.mark.verdict == "wrong"}
    assert all(card.source == "drill" for card in made)
    assert len(cards.due(store, "ada", course.id, NOW + 3 * MINUTE, UTC, limit=9)) == 4
    # A second hand-in gives the same report and doubles nothing.
    assert drill.hand_in(store, "ada", course, taken.id, NOW + 9 * MINUTE) == report
    assert len(cards.every(store, "ada", course.id)) == 4
    assert len(answers.listed(store, "ada", course.id)) == 8


def test_results_feed_mastery(store: Store, course: Course) -> None:
    taken = begin(store, course, 12)
    given = {
        str(place): item.answer if item.topic == "lora" else wrong(item) for place, item in enumerate(items(taken))
    }
    drill.save(store, "ada", taken.id, given, NOW + 1)
    drill.hand_in(store, "ada", course, taken.id, NOW + MINUTE)
    mastered = progress.by_topic(store, "ada", course.id, NOW + MINUTE)
    assert mastered["lora"].level > 0.7
    assert mastered["drift"].level < 0.4
    assert mastered["lora"].evidence == pytest.approx(3, abs=0.1)


def test_answers_are_kept_one_by_one_and_can_be_taken_back(store: Store, course: Course) -> None:
    taken = begin(store, course)
    drill.save(store, "ada", taken.id, {"0": "a"}, NOW + 1)
    drill.save(store, "ada", taken.id, {"1": "b", "99": "x", "y": "z"}, NOW + 2)
    drill.save(store, "ada", taken.id, {"0": ""}, NOW + 3)
    found = drill.under_way(store, "ada", course, NOW + 4)
    assert found is not None
    assert found.given == {"0": "", "1": "b"}


def test_a_long_answer_is_refused_and_the_others_are_kept(store: Store, course: Course) -> None:
    taken = begin(store, course)
    with pytest.raises(DrillError, match="question 2 has 30,000 characters"):
        drill.save(store, "ada", taken.id, {"0": "a", "1": "x" * 30_000}, NOW + 1)
    assert drills.find(store, "ada", taken.id).given == {"0": "a"}


def test_it_is_handed_in_by_itself_with_what_was_answered_in_time(store: Store, course: Course) -> None:
    taken = begin(store, course)
    first = items(taken)[0]
    drill.save(store, "ada", taken.id, {"0": first.answer}, NOW + MINUTE)
    drill.save(store, "ada", taken.id, {"1": "in time, but the network was slow"}, taken.ends + drills.GRACE_MS)
    drill.save(store, "ada", taken.id, {"0": "too late"}, taken.ends + drills.GRACE_MS + 1)
    assert drill.under_way(store, "ada", course, taken.ends - 1) is not None
    assert drill.under_way(store, "ada", course, taken.ends + 60 * MINUTE) is None
    last = drills.latest(store, "ada", course.id)
    assert last is not None
    assert last.handed_in == taken.ends
    report = drill.report(last)
    assert report.lines[0].mark.verdict == "right"
    assert report.lines[1].given.startswith("in time")
    assert report.used == 10 * MINUTE
    drill.save(store, "ada", taken.id, {"2": "much too late"}, NOW + 1)
    assert drills.find(store, "ada", taken.id).given == last.given


def test_only_one_drill_at_a_time(store: Store, course: Course) -> None:
    begin(store, course)
    with pytest.raises(DrillError, match="under way already"):
        begin(store, course)


def test_other_students_cannot_touch_it(store: Store, course: Course) -> None:
    taken = begin(store, course)
    store.student("bo")
    for attempt in (
        lambda: drill.save(store, "bo", taken.id, {"0": "x"}, NOW),
        lambda: drill.hand_in(store, "bo", course, taken.id, NOW),
        lambda: drills.find(store, "bo", taken.id),
    ):
        with pytest.raises(DrillError, match="not there any more"):
            attempt()
    assert drill.under_way(store, "bo", course, NOW) is None


def test_two_hand_ins_at_once_make_one_report(store: Store, course: Course) -> None:
    taken = begin(store, course)
    reports: list[object] = []
    threads = [
        threading.Thread(target=lambda: reports.append(drill.hand_in(store, "ada", course, taken.id, NOW + MINUTE)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(reports) == 4
    assert all(report == reports[0] for report in reports)
    assert len(cards.every(store, "ada", course.id)) == 8


@pytest.mark.parametrize("jump", [-3 * 3600, 3 * 3600])
def test_setting_the_computers_clock_changes_no_drill(monkeypatch: pytest.MonkeyPatch, jump: int) -> None:
    clock = drills.Clock()
    before = clock.now()
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + jump * 1_000_000_000)
    assert 0 <= clock.now() - before < 60_000


def test_a_clock_that_was_set_back_gives_no_more_time_than_there_was(store: Store, course: Course) -> None:
    taken = begin(store, course)
    assert taken.left(NOW - 60 * MINUTE) == 10 * MINUTE
    assert taken.left(NOW + 4 * MINUTE) == 6 * MINUTE
    assert taken.left(NOW + 60 * MINUTE) == 0


@cache
def some_items(seed: int) -> tuple[Item, ...]:
    return drill.items(courses.find("id2223"), TOPICS, 12, KINDS, seed)


@given(right=st.sets(st.integers(0, 11)), seed=st.integers(0, 2))
@hypothesis_settings(max_examples=40, deadline=None)
def test_the_score_is_the_share_of_what_is_right(course: Course, right: set[int], seed: int) -> None:
    asked = some_items(seed)
    given = {str(place): item.answer if place in right else wrong(item) for place, item in enumerate(asked)}
    report = drill.summed(drill.marked(course, asked, given))
    expected = [float(place in right) for place in range(len(asked))]
    assert [line.mark.right for line in report.lines] == pytest.approx(expected)
    assert report.score == pytest.approx(sum(expected) / len(asked))
    assert sum(topic.count for topic in report.topics) == len(asked)
    assert drill.summed(drill.marked(course, asked, {})).score == 0


@given(text=st.text(max_size=200))
@hypothesis_settings(max_examples=60, deadline=None)
def test_any_text_can_be_marked(course: Course, text: str) -> None:
    for line in drill.marked(course, some_items(1), {str(place): text for place in range(12)}):
        assert 0 <= line.mark.right <= 1


def test_the_same_seed_sets_the_same_items(course: Course) -> None:
    assert drill.items(course, TOPICS, 10, KINDS, 7) == drill.items(course, TOPICS, 10, KINDS, 7)
    assert drill.items(course, TOPICS, 10, KINDS, 7) != drill.items(course, TOPICS, 10, KINDS, 8)


def test_an_item_does_not_give_its_answer_away(course: Course) -> None:
    for item in drill.items(course, TOPICS, 20, KINDS, 3):
        shown = drill.shown(item)
        assert set(shown) <= {"topic", "kind", "question", "options", "unit"}


def test_an_item_makes_the_same_card_however_it_is_shuffled(course: Course) -> None:
    from iris.tools import item_cards

    item = next(item for item in drill.items(course, TOPICS, 20, ["choice"], 3))
    options = list(item.options)
    random.Random(1).shuffle(options)
    one, other = (
        item_cards.of_item(course, shown, "quiz", NOW) for shown in (item, replace(item, options=tuple(options)))
    )
    assert one.id == other.id
    assert item.answer in one.back
    assert all(option in one.front for option in item.options)


@pytest.mark.parametrize(
    ("topics", "count", "minutes", "kinds", "complaint"),
    [
        ([], 5, 10, KINDS, "No topics are chosen"),
        (["alchemy"], 5, 10, KINDS, "no topic 'alchemy'"),
        (TOPICS, 0, 10, KINDS, "1 to 30 questions, not 0"),
        (TOPICS, 31, 10, KINDS, "1 to 30 questions, not 31"),
        (TOPICS, 5, 0, KINDS, "1 to 180 minutes, not 0"),
        (TOPICS, 5, 1e9, KINDS, "1 to 180 minutes"),
        (TOPICS, 5, float("nan"), KINDS, "number of minutes"),
        (TOPICS, 5, 10, [], "No kind of question"),
        (TOPICS, 5, 10, ["essay"], "no kind of question 'essay'"),
    ],
)
def test_what_cannot_be_set_is_said(
    store: Store, course: Course, topics: list[str], count: int, minutes: float, kinds: list[str], complaint: str
) -> None:
    with pytest.raises(IrisError, match=complaint):
        drill.begin(store, "ada", course, topics, count, minutes, kinds, NOW)
    assert drill.under_way(store, "ada", course, NOW) is None
