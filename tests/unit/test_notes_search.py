"""The notes in the store: indexed once, searched, each student's for the student alone."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from iris import courses
from iris.courses import Course
from iris.errors import NoteError
from iris.notes import Document, library
from iris.notes.library import Scope
from iris.notes.search import search
from iris.notes.words import content_words
from iris.store import Store, now
from iris.study import learner
from tests.unit import tiny_course

CELLS = Document("Cells", "markdown", ("# Cells\n\n## Light\n\nA chloroplast turns light into sugar.\n",))
BREAD = Document(
    "My bread", "pdf", ("", "A wet dough has large holes.", "Salt slows the yeast."), ("", "Dough", "Dough")
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "iris.db")
    for student in ("ada", "bob"):
        store.student(student)
    yield store
    store.close()


@pytest.fixture
def bread(tmp_path: Path) -> Course:
    return courses.load(tiny_course.write(tmp_path / "bread"))


def found(store: Store, query: str, scope: Scope) -> list[str]:
    return [hit.passage.label for hit in search(store, query, scope).hits]


def rows(store: Store, table: str) -> int:
    with store.read() as connection:
        count: int = connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        return count


def test_course_notes_are_indexed_once_for_each_version(store: Store, bread: Course) -> None:
    assert library.sync(store, bread)
    assert not library.sync(store, bread)
    assert found(store, "When should the steam leave the oven?", Scope("bread"))[0].startswith("Steam")
    changed = replace(bread, notes=(replace(bread.notes[0], text="# Hydration\n\nAll about zeppelins."),))
    assert library.sync(store, changed)
    assert found(store, "zeppelins", Scope("bread")) == ["Hydration"]
    assert found(store, "steam", Scope("bread")) == []
    assert rows(store, "course_index") == rows(store, "course_passages")


def test_courses_do_not_mix(store: Store, bread: Course) -> None:
    library.sync(store, bread)
    library.sync(store, courses.find("id2223"))
    assert all("Hydration" in label or "Sourdough" in label for label in found(store, "dough starter", Scope("bread")))
    assert not [label for label in found(store, "sourdough starter", Scope("id2223")) if "Sourdough" in label]


def test_a_student_finds_only_what_is_the_students_own(store: Store) -> None:
    library.add(store, "ada", "bio", CELLS)
    library.add(store, "bob", "bio", BREAD)
    assert found(store, "chloroplast light", Scope("bio", "ada", shared=False)) == ["Cells › Light"]
    assert found(store, "chloroplast light", Scope("bio", "bob", shared=False)) == []
    assert found(store, "chloroplast light", Scope("chemistry", "ada", shared=False)) == []
    assert found(store, "chloroplast light", Scope("bio")) == []
    assert found(store, "large holes", Scope("bio", "bob", shared=False)) == ["My bread › Dough, p. 2"]


def test_a_passage_opens_for_its_owner_only(store: Store) -> None:
    library.add(store, "ada", "bio", CELLS)
    (hit,) = search(store, "chloroplast", Scope("bio", "ada")).hits
    assert library.passage(store, "student", hit.passage.id, "ada") == hit.passage
    for owner, student in (("student", "bob"), ("course", "ada")):
        with pytest.raises(NoteError, match="not there any more"):
            library.passage(store, owner, hit.passage.id, student)  # type: ignore[arg-type]


def test_notes_that_are_not_chosen_are_searched_but_not_leant_on(store: Store) -> None:
    cells = library.add(store, "ada", "bio", CELLS)
    library.add(store, "ada", "bio", BREAD)
    library.choose(store, "ada", "bio", [cells])
    library.choose(store, "bob", "bio", [])  # concerns nobody else
    assert [(note.title, note.chosen) for note in library.own(store, "ada", "bio")] == [
        ("My bread", False),
        ("Cells", True),
    ]
    assert found(store, "holes chloroplast", Scope("bio", "ada")) == ["Cells › Light"]
    assert len(found(store, "holes chloroplast", Scope("bio", "ada", everything=True))) == 2


def test_what_is_deleted_leaves_nothing(store: Store) -> None:
    note = library.add(store, "ada", "bio", CELLS)
    library.add(store, "bob", "bio", CELLS)
    with pytest.raises(NoteError, match="not there any more"):
        library.delete(store, "bob", note)
    assert library.delete(store, "ada", note) == "Cells"
    assert library.own(store, "ada", "bio") == ()
    assert rows(store, "student_passages") == rows(store, "student_index") == 1
    with store.write() as connection:  # as when a student asks to be forgotten
        connection.execute("DELETE FROM students WHERE id = 'bob'")
    for table in ("student_notes", "student_passages", "student_index"):
        assert rows(store, table) == 0
    with store.write() as connection:
        connection.execute("INSERT INTO student_index (student_index) VALUES ('integrity-check')")


def test_notes_travel_in_a_learner_file(store: Store) -> None:
    """Imported under another id, in a store where other notes have their numbers, they are found as before."""
    library.add(store, "ada", "bio", CELLS)
    library.add(store, "ada", "bio", BREAD)
    text = learner.dump(store, "ada", now())
    store.student("carol")
    learner.load(store, "carol", text)
    assert found(store, "chloroplast", Scope("bio", "carol")) == ["Cells › Light"]
    assert found(store, "large holes", Scope("bio", "carol")) == ["My bread › Dough, p. 2"]


def test_the_same_file_twice_and_too_many_are_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    library.add(store, "ada", "bio", CELLS)
    with pytest.raises(NoteError, match="Copy is among your notes already, as Cells"):
        library.add(store, "ada", "bio", replace(CELLS, title="Copy"))
    library.add(store, "ada", "other course", CELLS)
    library.add(store, "bob", "bio", CELLS)
    monkeypatch.setattr(library, "MAX_NOTES", 1)
    with pytest.raises(NoteError, match="There is no room for My bread: you may keep 1 notes"):
        library.add(store, "ada", "bio", BREAD)
    assert len(library.own(store, "ada", "bio")) == 1


def test_a_note_that_fails_halfway_is_not_there(store: Store) -> None:
    broken = Document("Broken", "text", ("text \ud800",))  # a half character cannot be stored
    with pytest.raises((UnicodeError, sqlite3.Error)):
        library.add(store, "ada", "bio", broken)
    assert library.own(store, "ada", "bio") == ()
    assert rows(store, "student_passages") == 0


def test_pages_headings_and_marks_come_back(store: Store) -> None:
    library.add(store, "ada", "bio", BREAD)
    (hit,) = search(store, "What do LARGE holes mean?", Scope("bio", "ada")).hits
    assert (hit.passage.page, hit.passage.heading, hit.passage.title) == (2, "Dough", "My bread")
    assert [hit.passage.text[start:end] for start, end in hit.marks] == ["large", "holes"]
    assert [one.page for one in library.around(store, hit.passage)] == [2, 3]


def test_endings_and_accents_do_not_matter(store: Store) -> None:
    library.add(store, "ada", "bio", Document("N", "text", ("Les modèles quantized were überprüft and optimised.",)))
    for query in ("modeles", "quantizing", "uberpruft", "OPTIMISE"):
        assert found(store, query, Scope("bio", "ada")) == ["N"], query


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ("What is the difference between LoRA and QLoRA?", ("difference", "LoRA", "QLoRA")),
        ("Can you please explain to me why it is so?", ()),
        ("Vad är en faltning och varför behövs den?", ("faltning", "behövs")),
        ("Warum ist die Lernrate so klein?", ("Lernrate", "klein")),
        ("Rank 8 of 4096 × 4096", ("Rank", "8", "4096")),
        ('" OR NEAR( * ) AND title:x -- ;', ("NEAR", "AND", "title")),
    ],
)
def test_question_words_are_no_content(question: str, words: tuple[str, ...]) -> None:
    if "NEAR" in question:
        assert "NEAR" in content_words(question)
    else:
        assert content_words(question) == words


@given(st.text(max_size=200))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_query_is_only_words(store: Store, query: str) -> None:
    if not library.own(store, "ada", "bio"):
        library.add(store, "ada", "bio", CELLS)
    result = search(store, query, Scope("bio", "ada"))
    assert result.strength >= 0
    assert all(0 <= start < end <= len(hit.passage.text) for hit in result.hits for start, end in hit.marks)


def test_coverage_tells_the_course_from_the_rest_of_the_world(store: Store) -> None:
    library.sync(store, courses.find("id2223"))
    for question in (
        "What does LoRA freeze, and what does it learn?",
        "Why do LSTMs suffer less from vanishing gradients than plain RNNs?",
        "When is batch inference the better choice over real-time inference?",
        "What is a point-in-time join?",
    ):
        assert search(store, question, Scope("id2223")).covered, question
    for question in (
        "Who won the football world cup in 2014?",
        "What is the capital of Mongolia?",
        "How do I bake a sourdough bread?",
        "Which vitamins does a carrot have?",
        "xyzzy",
    ):
        assert not search(store, question, Scope("id2223")).covered, question


def test_a_students_only_note_covers_what_it_is_about(store: Store) -> None:
    """In one's only note every word is common, and says yet what the note is about."""
    text = "\n\n".join(f"Photosynthesis, part {n}: the chloroplast turns light into sugar." for n in range(30))
    library.add(store, "ada", "bio", Document("Photosynthesis", "markdown", (text,)))
    scope = Scope("bio", "ada", shared=False)
    assert search(store, "What is photosynthesis?", scope).covered
    assert not search(store, "What is a point-in-time join?", scope).covered
