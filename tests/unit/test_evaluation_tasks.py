"""Prompt sets, the course's held-out questions, other texts, and everything that can be wrong with them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evaluation import metrics, tasks
from evaluation.errors import TaskError
from evaluation.tasks import Sources
from iris.engine import Message
from tests.unit.evaluating import course_splits


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    folder = course_splits(tmp_path_factory.mktemp("data") / "id2223")
    raw = folder / "wiki.test.raw"
    raw.write_text(" = Bread = \n\n" + "\n\n".join(f" Loaf {n} is baked at noon . " * 12 for n in range(40)))
    return Sources(folder, folder / "test.jsonl", raw, {})


@pytest.mark.parametrize(("name", "count"), [("general", 10), ("domain", 10), ("philosophy", 11)])
def test_every_prompt_of_the_sets_has_facts_that_can_be_found(name: str, count: int, sources: Sources) -> None:
    task = tasks.load(name, sources)
    assert (task.kind, len(task.items)) == ("answer", count)
    for item in task.items:
        assert item.facts, item.id
        best = " ".join(fact[0] for fact in item.facts)
        assert metrics.key_facts(best, item.facts) == 1, item.id
        assert metrics.key_facts(item.prompt[-1].content, item.facts) < 1, f"{item.id}: its own words answer it"
    assert name != "philosophy" or len({item.category for item in task.items}) >= 6


def test_course_questions_come_with_references_and_key_terms(sources: Sources) -> None:
    task = tasks.load("course", sources)
    assert len(task.items) == 12
    for item in task.items:
        assert item.reference
        if item.facts:
            assert metrics.key_facts(item.reference, item.facts) == 1
            assert metrics.key_facts(item.question, item.facts) == 0
    assert sum(bool(item.facts) for item in task.items) >= 8


def test_multiple_choice_knows_the_right_option(sources: Sources) -> None:
    task = tasks.load("mcq", sources)
    assert task.kind == "choice"
    for item in task.items:
        assert item.options[item.right] == item.reference
        assert len(item.options) == 4
        assert all(
            f"\n{letter}. {text}" in item.prompt[-1].content for letter, text in zip("ABCD", item.options, strict=True)
        )
        assert item.prompt[-1].content.startswith(item.question)
        assert "\nA. " not in item.question


def test_texts_are_cut_at_words_to_like_lengths(sources: Sources) -> None:
    passages = tasks.load("wikitext", sources).items
    assert len(passages) > 5
    assert all(tasks.PASSAGE - 40 < len(item.reference) <= tasks.PASSAGE for item in passages)
    assert tasks.load("dolly", sources).kind == "text"


def test_a_limit_takes_items_from_all_over(sources: Sources) -> None:
    some = tasks.load("mcq", Sources(sources.course, limits={"mcq": 4}))
    every = tasks.load("mcq", sources)
    assert [item.id for item in some.items] == [every.items[n].id for n in (0, 3, 6, 9)]
    assert some.sha256 != every.sha256


def test_own_prompts_in_three_forms(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\ufeffWhy?\n\n  How so?  \n", encoding="utf-8")
    (tmp_path / "b.jsonl").write_text('{"question": "Why?", "answer": "So.", "facts": [["so"]]}\n\n')
    (tmp_path / "c.toml").write_text('[[prompts]]\nid = "x"\ntext = "Why?"\ncategory = "doubt"\n')
    txt, jsonl, toml = (tasks.own(tmp_path / name) for name in ("a.txt", "b.jsonl", "c.toml"))
    assert [item.prompt for item in txt.items] == [(Message("user", "Why?"),), (Message("user", "How so?"),)]
    assert (jsonl.items[0].reference, jsonl.items[0].facts) == ("So.", (("so",),))
    assert (toml.name, toml.items[0].id, toml.items[0].category) == ("c", "x", "doubt")


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("empty.txt", "", "is empty: write a prompt"),
        ("blank.txt", " \n\n", "is empty: write a prompt"),
        ("empty.toml", "", "is empty: write a prompt"),
        ("broken.toml", "[[prompts]", "is not valid TOML"),
        ("none.toml", '[[prompts]]\nid = "x"\n', "prompt 1: there is no text"),
        ("facts.toml", '[[prompts]]\ntext = "x"\nfacts = ["a"]\n', "facts are lists of spellings"),
        ("twice.toml", '[[prompts]]\nid="x"\ntext="a"\n[[prompts]]\nid="x"\ntext="b"\n', "'x' is there twice"),
        ("broken.jsonl", '{"prompt": "a"}\n{"prompt"', ":2: this is not valid JSON"),
        ("number.jsonl", "5\n", ":1: expected fields"),
        ("bytes.txt", b"\xff\xfe\x00", "cannot be read"),
        ("what.doc", "x", "There is no task"),
    ],
)
def test_what_is_wrong_with_a_prompt_file_is_said(
    tmp_path: Path, name: str, content: str | bytes, complaint: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(TaskError, match=complaint) as caught:
        tasks.own(path)
    assert name in str(caught.value)


def test_missing_data_names_the_command_that_makes_it(tmp_path: Path) -> None:
    nothing = Sources(tmp_path / "id2223", tmp_path / "dolly.jsonl", tmp_path / "wiki")
    for name, remedy in (
        ("course", "data/build.py --course id2223"),
        ("mcq", "data/build.py --course id2223"),
        ("dolly", "data/build.py --source dolly"),
        ("wikitext", "--wikitext"),
        (str(tmp_path / "no.txt"), "There is no file"),
    ):
        with pytest.raises(TaskError, match=remedy):
            tasks.load(name, nothing)


def test_a_broken_row_is_named(tmp_path: Path) -> None:
    (tmp_path / "mcq_test.jsonl").write_text(json.dumps({"id": "x", "prompt": [], "question": "?"}) + "\n")
    with pytest.raises(TaskError, match="item 1 has no question, options and answer letter"):
        tasks.load("mcq", Sources(tmp_path))


def test_two_tasks_of_one_name_are_refused(tmp_path: Path, sources: Sources) -> None:
    (tmp_path / "general.txt").write_text("Why?")
    with pytest.raises(TaskError, match="Two tasks are called 'general'"):
        tasks.load_all(["general", str(tmp_path / "general.txt")], sources)
