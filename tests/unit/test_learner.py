"""The learner file: nothing is lost on the way, nothing is doubled by merging, and a bad file changes nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date, timedelta
from itertools import permutations
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from iris import courses
from iris.errors import LearnerFileError
from iris.notes import Document, library, search
from iris.notes.library import Scope
from iris.store import Store
from iris.study import cards, chats, memory, plans, votes
from iris.study.chats import Message
from iris.study.days import DAY_MS
from iris.study.plans import Asked
from iris.tools import drill, planner, take_along

NOW = 1_795_000_000_000
UTC = ZoneInfo("UTC")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "iris.db")
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The learner file of a student with something in every table."""
    opened = Store(tmp_path_factory.mktemp("store") / "iris.db")
    live(opened, "ada")
    text = take_along.save(opened, "ada")
    opened.close()
    return text


def tables(text: str) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = json.loads(text)["tables"]
    return found


def live(store: Store, student: str) -> None:
    """A student with something in every table."""
    store.student(student)
    with store.write():
        _live(store, student)


def _live(store: Store, student: str) -> None:
    course = courses.find("id2223")
    made = [cards.make("id2223", "lora", f"Q{n}", f"A{n} – é \U0001f338 $x$", "hand", NOW + n) for n in range(5)]
    cards.add(store, student, made)
    for step, card in enumerate(made[:3]):
        seen = None
        for rating in (3, 2, 4):
            after = cards.grade(store, student, card.id, rating, NOW + step * 1000 + rating * DAY_MS, seen=seen)
            seen = after.memory.reviewed
    cards.edit(store, student, made[0].id, front="Q0, edited", back="A0", topic="qlora", at=NOW + DAY_MS)
    asked = Asked(date(2026, 12, 24), 2.0, {"lora": 0.5, "qlora": 0.2}, (date(2026, 12, 1),), (6,))
    kept = planner.make(store, student, course, asked, NOW, UTC)
    plans.tick(store, student, "id2223", {kept.plan.sessions[0].day: True}, NOW + 5)
    plans.keep_tips(store, student, "id2223", 0, "- rest")
    taken = drill.begin(store, student, course, ["lora", "drift"], 4, 10, ("choice", "numeric"), NOW)
    drill.save(store, student, taken.id, {"0": "x"}, NOW + 10)
    drill.hand_in(store, student, course, taken.id, NOW + 20)
    drill.begin(store, student, course, ["lora"], 2, 10, ("choice",), NOW + 30)
    chats.save(store, student, "", [Message("user", "What is LoRA?"), Message("assistant", "A low-rank update.")])
    ballot = votes.Votes(store)
    ballot.vote(student, ballot.open(student, "Which?", ("one", "two"), ("a", "b")), "left")
    library.add(store, student, "id2223", Document("My notes", "markdown", ("# LoRA\n\nThe zebra rank is small.",)))


def test_a_file_imports_elsewhere_without_loss(store: Store, tmp_path: Path) -> None:
    live(store, "ada")
    text = take_along.save(store, "ada")
    other = Store(tmp_path / "other.db")
    other.student("new")
    done = take_along.load(other, "new", text)
    theirs = tables(text)
    assert len(theirs.pop("votes")) == 1, "in the file, but not counted again elsewhere"
    assert tables(take_along.save(other, "new")) == theirs
    assert {*tables(text)} >= {"cards", "reviews", "answers", "plans", "drills", "chats", "student_notes"}
    assert done.new["cards"] == len(tables(text)["cards"])
    assert done.new["reviews"] == 9
    assert not done.same
    # What came along works there.
    assert cards.due(other, "new", "id2223", NOW + 400 * DAY_MS, UTC, limit=9)
    assert plans.load(other, "new", "id2223") is not None
    found = search.search(other, "zebra rank", Scope("id2223", "new", shared=False)).hits
    assert [hit.passage.title for hit in found] == ["My notes"]
    assert not search.search(other, "zebra rank", Scope("id2223", "ada", shared=False)).hits
    other.close()


def test_importing_twice_changes_nothing(store: Store, whole: str) -> None:
    store.student("ada")
    take_along.load(store, "ada", whole)
    text = take_along.save(store, "ada")
    done = take_along.load(store, "ada", text)
    assert not done.new
    assert not done.changed
    assert tables(take_along.save(store, "ada")) == tables(text)


def test_two_students_of_one_store_can_import_the_same_file(store: Store, whole: str) -> None:
    store.student("ada")
    store.student("bo")
    take_along.load(store, "ada", whole)
    text = take_along.save(store, "ada")
    take_along.load(store, "bo", text)
    take_along.load(store, "bo", text)
    ours, theirs = tables(text), tables(take_along.save(store, "bo"))
    assert "votes" not in theirs
    assert tables(take_along.save(store, "ada")) == ours
    assert {name: len(rows) for name, rows in ours.items()} == {name: len(rows) for name, rows in theirs.items()}
    assert ours["cards"] == theirs["cards"]
    assert [chat["chat_messages"] for chat in ours["chats"]] == [chat["chat_messages"] for chat in theirs["chats"]]


def test_the_newer_text_stays_and_finished_days_too(store: Store) -> None:
    live(store, "ada")
    old = take_along.save(store, "ada")
    card = cards.every(store, "ada")[0]
    cards.edit(store, "ada", card.id, front="newest", back="text", topic="", at=NOW + 9 * DAY_MS)
    kept = plans.load(store, "ada", "id2223")
    assert kept is not None
    second = kept.plan.sessions[-1].day
    plans.tick(store, "ada", "id2223", {second: True}, NOW + 9 * DAY_MS)
    new = take_along.save(store, "ada")
    take_along.load(store, "ada", old)
    assert tables(take_along.save(store, "ada")) == tables(new)
    store.student("bo")
    take_along.load(store, "bo", old)
    done = take_along.load(store, "bo", new)
    assert done.changed["cards"] == 1
    assert tables(take_along.save(store, "bo"))["cards"] == tables(new)["cards"]
    assert tables(take_along.save(store, "bo"))["plans"] == tables(new)["plans"]


# One device's history: which of a few cards it has, when each was made and edited, and how it was reviewed.
Device = dict[int, tuple[int, int, dict[int, int]]]
devices = st.dictionaries(
    st.integers(0, 3),
    st.tuples(st.integers(0, 5), st.integers(0, 5), st.dictionaries(st.integers(0, 40), st.integers(1, 4), max_size=6)),
    max_size=4,
)


def history(store: Store, student: str, device: Device) -> str:
    store.student(student)
    with store.write():
        for number, (created, edited, reviews) in device.items():
            card = cards.make("id2223", "lora", f"Q{number}", f"A{number}", "hand", NOW + created)
            cards.add(store, student, [card])
            if edited:
                cards.edit(store, student, card.id, front=f"edit {edited}", back="A", topic="lora", at=NOW + 9 + edited)
            seen = None
            for at, rating in sorted(reviews.items()):
                after = cards.grade(store, student, card.id, rating, NOW + at * DAY_MS // 2, seen=seen, fuzz=False)
                seen = after.memory.reviewed
    return take_along.save(store, student)


@given(histories=st.lists(devices, min_size=2, max_size=3))
@hypothesis_settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_merging_unites_without_doubles_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, histories: list[Device]
) -> None:
    store = Store(tmp_path_factory.mktemp("store") / "iris.db")
    files = [history(store, f"device {place}", device) for place, device in enumerate(histories)]
    merged = []
    for place, order in enumerate(permutations(files)):
        student = f"merged {place}"
        store.student(student)
        for text in (*order, *order):
            take_along.load(store, student, text)
        merged.append(tables(take_along.save(store, student)))
    store.close()
    assert all(other == merged[0] for other in merged)
    ids = {cards.make("id2223", "", f"Q{n}", f"A{n}", "hand", 0).id: n for device in histories for n in device}
    found = {row["id"]: row for row in merged[0].get("cards", [])}
    assert set(found) == set(ids)
    for name, number in ids.items():
        mine = [device[number] for device in histories if number in device]
        assert found[name]["created"] == NOW + min(created for created, _, _ in mine)
        times = {NOW + at * DAY_MS // 2 for _, _, reviews in mine for at in reviews}
        rows = [row for row in merged[0].get("reviews", []) if row["card"] == name]
        assert {row["at"] for row in rows} == times
        assert len(rows) == len(times)
        expected = memory.replay(
            found[name]["created"], [memory.Review(row["at"], row["rating"], row["duration"]) for row in rows]
        )
        if rows:
            assert found[name]["stability"] == pytest.approx(expected.stability)
            assert found[name]["due"] == expected.due


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "cannot be read as JSON"),
        ("not json", "cannot be read as JSON"),
        ('{"format": "iris-learner", "version": 1, "tab', "may have been cut off"),
        (b"\xff\xfe\x00", "cannot be read as JSON"),
        ("[" * 100_000, "cannot be read as JSON"),
        ("[]", "no learner file of Iris"),
        ('{"format": "anki"}', "no learner file of Iris"),
        ('{"format": "iris-learner"}', "no version"),
        ('{"format": "iris-learner", "version": true}', "no version"),
        ('{"format": "iris-learner", "version": 2, "tables": {}}', r"newer Iris \(version 2"),
        ('{"format": "iris-learner", "version": 1, "tables": []}', "its tables are not"),
        ('{"format": "iris-learner", "version": 1, "tables": {"cards": {}}}', "its tables are not"),
        ('{"format": "iris-learner", "version": 1, "tables": {"spells": []}}', "does not know: 'spells'"),
        ('{"format": "iris-learner", "version": 1, "tables": {"students": []}}', "does not know: 'students'"),
        ('{"format": "iris-learner", "version": 1, "tables": {"cards": [{"due": NaN}]}}', "NaN is no number"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_read_changes_nothing(
    store: Store, whole: str, text: str | bytes, complaint: str
) -> None:
    store.student("ada")
    take_along.load(store, "ada", whole)
    before = take_along.save(store, "ada")
    with pytest.raises(LearnerFileError, match=complaint):
        take_along.load(store, "ada", text)
    assert tables(take_along.save(store, "ada")) == tables(before)


@pytest.mark.parametrize(
    ("table", "change", "complaint"),
    [
        ("cards", {"front": 5}, "entry 1 of cards cannot be read .front is 5"),
        ("cards", {"front": " "}, "front of the card is empty"),
        ("cards", {"front": None}, "front is missing"),
        ("cards", {"id": "a\0b"}, "null character"),
        ("cards", {"source": "elsewhere"}, "source is 'elsewhere'"),
        ("cards", {"state": 9}, "memory is not as FSRS"),
        ("cards", {"stability": -1.0}, "memory is not as FSRS"),
        ("cards", {"difficulty": 11.0}, "memory is not as FSRS"),
        ("cards", {"reviewed": None}, "memory is not as FSRS"),
        ("cards", {"due": 10**18}, "which is no time"),
        ("cards", {"due": 10**30}, "due is"),
        ("cards", {"surprise": 1}, "'surprise' is not known here"),
        ("reviews", {"rating": 5}, "rating is 5"),
        ("reviews", {"at": -1}, "which is no time"),
        ("reviews", {"card": "unknown"}, "reviews of a card that it does not have"),
        ("plans", {"asked": "{}"}, "cannot be read"),
        ("plans", {"facts": "no json"}, "cannot be read"),
        ("plans", {"plan_sessions": [{"id": "x"}]}, "place is missing"),
        ("plans", {"plan_sessions": ["x"]}, "not as they should be"),
        ("drills", {"items": "[1]"}, "cannot be read"),
        ("drills", {"report": "{}"}, "cannot be read"),
        ("chats", {"chat_messages": [{"place": 0, "role": "root", "text": "x", "folded": "x"}]}, "CHECK"),
    ],
)
def test_a_damaged_entry_is_named_and_nothing_is_imported(
    store: Store, whole: str, table: str, change: dict[str, Any], complaint: str
) -> None:
    store.student("bo")
    top = json.loads(whole)
    rows = top["tables"][table]
    row = next((row for row in rows if row.get("reviewed") or row.get("handed_in")), rows[0])
    rows.remove(row)
    rows.insert(0, {**row, **change})
    with pytest.raises(LearnerFileError, match=complaint) as caught:
        take_along.load(store, "bo", json.dumps(top))
    assert "Nothing was imported" in str(caught.value)
    assert tables(take_along.save(store, "bo")) == {}


@given(data=st.data())
@hypothesis_settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_damage_is_an_error_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, whole: str, data: st.DataObject
) -> None:
    """One value of a good file is replaced by anything: the import refuses it, or what it brings can be used."""
    store = Store(tmp_path_factory.mktemp("store") / "iris.db")
    store.student("bo")
    top = json.loads(whole)
    table = data.draw(st.sampled_from(sorted(top["tables"])))
    row = data.draw(st.sampled_from(top["tables"][table]))
    name = data.draw(st.sampled_from(sorted(row)))
    anything = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
    row[name] = data.draw(anything | st.lists(anything, max_size=2) | st.just("{}") | st.just("[]"))
    try:
        take_along.load(store, "bo", json.dumps(top))
    except LearnerFileError:
        assert tables(take_along.save(store, "bo")) == {}
    else:
        course = courses.find("id2223")
        cards.due(store, "bo", "id2223", NOW + 400 * DAY_MS, UTC, limit=100)
        cards.recall_by_topic(store, "bo", "id2223", NOW)
        if kept := plans.load(store, "bo", "id2223"):
            planner.outline(course, kept.plan, date(2026, 11, 26) + timedelta(days=1))
        drill.under_way(store, "bo", course, NOW + 40)
    store.close()
