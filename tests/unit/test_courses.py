"""Courses: a tiny one read and broken in every way, and the one that Iris comes with, line by line."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest

from data.clean import clean_prompt, damage, leak_rate
from iris import courses
from iris.courses import Course
from iris.errors import CourseError, IrisError
from tests.unit import tiny_course

ROOT = Path(__file__).parents[2]
OURS = ROOT / "data" / "courses" / "id2223"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_course.write(tmp_path / "bread")


def test_a_course_is_read_whole(folder: Path) -> None:
    course = courses.load(folder)
    assert (course.id, course.title, course.licence, course.language) == ("bread", "Baking bread", "CC-BY-4.0", "en")
    assert [chapter.id for chapter in course.chapters] == ["dough", "oven"]
    assert [topic.id for topic in course.topics_of("dough")] == ["hydration", "sourdough"]
    assert course.topic("steam").prerequisites == ("hydration", "sourdough")
    assert (len(course.questions), len(course.bank), len(course.notes)) == (12, 6, 3)
    assert [question.kind for question in course.questions_of("steam")] == ["why", "design", "mistake", "mechanism"]
    (item, _) = course.bank_of("sourdough")
    assert item.answer == "Lactic bacteria"
    assert item.distractors == ("The yeast alone", "Old flour", "Chlorine")
    assert course.warnings == ()
    assert courses.problems(folder) == ()


def test_notes_have_sections_with_their_lines(folder: Path) -> None:
    note = courses.load(folder).note("hydration")
    assert note is not None
    assert note.title == "Hydration"
    assert [section.heading for section in note.sections] == ["Idea", "Worked example", "Typical mistake"]
    lines = note.path.read_text(encoding="utf-8").split("\n")
    assert [lines[section.line - 1] for section in note.sections] == [f"## {s.heading}" for s in note.sections]
    assert "no heading" in note.sections[1].text, "a ## in a code block is text"


def test_study_order_puts_prerequisites_first(folder: Path) -> None:
    text = tiny_course.TOML.replace("prerequisites = []", 'prerequisites = ["steam"]').replace(
        'prerequisites = ["hydration", "sourdough"]', "prerequisites = []"
    )
    (folder / "course.toml").write_text(text, encoding="utf-8")
    assert [topic.id for topic in courses.load(folder).study_order] == ["steam", "hydration", "sourdough"]


def test_a_long_chain_of_prerequisites(tmp_path: Path) -> None:
    topics = "".join(
        f'[[topics]]\nid = "t{n}"\ntitle = "T"\nchapter = "c"\nprerequisites = ["t{n + 1}"]\n' for n in range(3000)
    )
    last = '[[topics]]\nid = "t3000"\ntitle = "T"\nchapter = "c"\n'
    (tmp_path / "course.toml").write_text(
        f'title = "Long"\n[[chapters]]\nid = "c"\ntitle = "C"\n{topics}{last}', encoding="utf-8"
    )
    assert courses.load(tmp_path).study_order[0].id == "t3000"


def test_find_looks_in_the_state_folder_first(home: Path) -> None:
    with pytest.raises(CourseError, match=r"no course 'bread' in .*Known are: id2223"):
        courses.find("bread")
    tiny_course.write(home / "courses" / "bread")
    assert courses.find("bread").title == "Baking bread"
    assert list(courses.available()) == ["id2223", "bread"]
    assert courses.find("id2223").folder == OURS
    for name in ("../bread", "/etc", "", "bread/"):
        with pytest.raises(CourseError):
            courses.find(name)


def test_the_folder_is_called_as_the_course(home: Path) -> None:
    tiny_course.write(home / "courses" / "rolls")
    with pytest.raises(CourseError, match=r"course\.toml:1: id is 'bread', but the folder is called 'rolls'"):
        courses.find("rolls")


def test_an_unknown_topic_names_the_like(folder: Path) -> None:
    with pytest.raises(CourseError, match=r"no topic 'hydraton'\. Did you mean 'hydration'\?"):
        courses.load(folder).topic("hydraton")


@pytest.mark.parametrize(("missing", "warning"), [("mcq", "no multiple-choice bank"), ("qa", "no questions")])
def test_a_missing_part_is_a_warning(folder: Path, missing: str, warning: str) -> None:
    (folder / missing / "all.jsonl").unlink()
    (folder / missing).rmdir()
    course = courses.load(folder)
    assert any(warning in text for text in course.warnings)
    assert len(course.warnings) == 1


def test_missing_notes_and_shared_answers_are_warnings(folder: Path) -> None:
    (folder / "notes" / "steam.md").unlink()
    rows = tiny_course.qa_rows()
    rows[1]["answer"] = rows[0]["answer"]
    tiny_course.write_rows(folder / "qa" / "all.jsonl", [row for row in rows if row["topic"] == "hydration"])
    assert courses.load(folder).warnings == (
        "1 of 3 topics have no note: steam.",
        "2 of 3 topics have no question: sourdough, steam.",
        "hydration-q02 has the same answer as hydration-q01: each question should have an answer of its own.",
    )


def _toml(old: str, new: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "course.toml"
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), encoding="utf-8")

    return change


def _file(name: str, content: bytes) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).write_bytes(content)

    return change


def _row(file: str, **values: object) -> Callable[[Path], None]:
    """Change the second row of a file; a value of ... takes the field away."""

    def change(folder: Path) -> None:
        rows = tiny_course.qa_rows() if file == "qa" else tiny_course.mcq_rows()
        rows[1] = {name: value for name, value in {**rows[1], **values}.items() if value is not ...}
        tiny_course.write_rows(folder / file / "all.jsonl", rows)

    return change


def _delete(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


BROKEN = {
    "no course.toml": (_delete("course.toml"), r"course\.toml:1: cannot be read \(No such file"),
    "empty course.toml": (_file("course.toml", b" \n"), r"course\.toml:1: the file is empty"),
    "broken TOML": (_toml('title = "Dough"', "title = Dough"), r"course\.toml:8: this is not valid TOML"),
    "cut TOML": (_toml('"hydration", "sourdough"]\n', '"hydration"'), r"course\.toml:\d+: this is not valid TOML"),
    "no title": (_toml('title = "Baking bread"', ""), r"course\.toml:1: title is missing"),
    "a title that is a number": (_toml('title = "Baking bread"', "title = 7"), r"title must be a text, not 7"),
    "an unknown field": (_toml("licence", "license"), r"unknown field 'license'; known are title, id, description"),
    "a bad id": (_toml('id = "bread"', 'id = "../bread"'), r"'\.\./bread' is no id"),
    "no topics": (_file("course.toml", tiny_course.TOML.split("[[topics]]")[0].encode()), r"no \[\[topics"),
    "a topic twice": (
        _toml('id = "sourdough"', 'id = "hydration"'),
        r"toml:20: duplicate topic id 'hydration': line 14",
    ),
    "a chapter twice": (_toml('id = "oven"', 'id = "dough"'), r"toml:10: duplicate chapter id 'dough': line 6 has it"),
    "a topic in no chapter": (
        _toml('chapter = "oven"', 'chapter = "pan"'),
        r"toml:26: topic 'steam' is in chapter 'pan'",
    ),
    "a prerequisite that is none": (
        _toml('["hydration"]', '["hydraton"]'),
        r"toml:20: 'sourdough' requires 'hydraton', which is no topic\. Did you mean 'hydration'",
    ),
    "prerequisites in a circle": (
        _toml("prerequisites = []", 'prerequisites = ["steam"]'),
        r"toml:14: prerequisites go in a circle: hydration -> steam -> hydration",
    ),
    "a prerequisite of itself": (
        _toml("prerequisites = []", 'prerequisites = ["hydration"]'),
        r"hydration -> hydration\.",
    ),
    "prerequisites as text": (
        _toml("prerequisites = []", 'prerequisites = "steam"'),
        r"toml:14: prerequisites must be a list",
    ),
    "topics that are no tables": (
        _file("course.toml", b'title="x"\nchapters=[1]\ntopics=[{id="a"}]'),
        r"toml:1: a row must have named fields",
    ),
    "a note of no topic": (_file("notes/steem.md", b"# Steem\n"), r"steem\.md:1: there is no topic 'steem'.*'steam'"),
    "a note of 5 MB": (
        _file("notes/steam.md", b"# Steam\n" + b"x" * (5 << 20)),
        r"steam\.md:1: 5\.2 MB is too large; at most 1\.0 MB",
    ),
    "a note without title": (
        _file("notes/steam.md", b"Steam is hot.\n"),
        r"steam\.md:1: a note must begin with its title",
    ),
    "an empty note": (_file("notes/steam.md", b""), r"steam\.md:1: the file is empty"),
    "a note in Latin-1": (_file("notes/steam.md", b"# Steam\n\nCr\xe8me\n"), r"steam\.md:3: byte 0xe8 is not UTF-8"),
    "a note in UTF-16": (_file("notes/steam.md", "# Steam".encode("utf-16")), r"steam\.md:1: byte 0xff is not UTF-8"),
    "an empty qa file": (_file("qa/all.jsonl", b"\n\n"), r"all\.jsonl:1: the file is empty"),
    "a row that is a list": (
        _file("qa/all.jsonl", b'[1, "a"]\n'),
        r"all\.jsonl:1: a row must have named fields .* list",
    ),
    "broken JSON": (_file("qa/all.jsonl", b'{"id": 1,\n'), r"all\.jsonl:1: this is not valid JSON"),
    "deep JSON": (_file("qa/all.jsonl", b"[" * 100_000), r"all\.jsonl:1: this is not valid JSON"),
    "a row without answer": (_row("qa", answer=...), r"qa/all\.jsonl:2: answer is missing"),
    "a row with an empty answer": (_row("qa", answer=" "), r"qa/all\.jsonl:2: answer is empty"),
    "a row with a number": (_row("qa", question=7), r"qa/all\.jsonl:2: question must be a text, not 7"),
    "a row of an unknown kind": (
        _row("qa", kind="essay"),
        r"all\.jsonl:2: kind 'essay' must be one of definition, why",
    ),
    "a row of no topic": (_row("qa", topic="steem"), r"all\.jsonl:2: there is no topic 'steem' .*Did you mean 'steam'"),
    "an id twice": (_row("qa", id="hydration-q01"), r"all\.jsonl:2: duplicate id 'hydration-q01': all\.jsonl:1 has it"),
    "an id in both": (_row("mcq", id="hydration-q01"), r"mcq/all\.jsonl:2: duplicate id"),
    "a field too many": (_row("qa", level=3), r"all\.jsonl:2: unknown field 'level'"),
    "a lost backslash": (_row("qa", answer="It is \theta."), r"all\.jsonl:2: a control character .*backslash"),
    "another lost backslash": (_row("qa", answer="It is \x0crac{a}{b}."), r"all\.jsonl:2: a control character"),
    "two distractors": (
        _row("mcq", distractors=["a", "b"]),
        r"mcq/all\.jsonl:2: distractors must be a list of 3 texts",
    ),
    "a distractor that is none": (_row("mcq", distractors=["a", "b", 3]), r"distractors must be a list of 3 texts"),
    "an option twice": (
        _row("mcq", distractors=["a", "A ", "b"]),
        r"all\.jsonl:2: the right answer and the distractors",
    ),
    "no difficulty": (_row("mcq", difficulty="fair"), r"difficulty 'fair' must be one of easy, medium, hard"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_broken_is_named_with_file_and_line(folder: Path, case: str) -> None:
    breaks, complaint = BROKEN[case]
    breaks(folder)
    with pytest.raises(CourseError) as caught:
        courses.load(folder)
    assert re.search(complaint, str(caught.value)), str(caught.value)
    assert str(folder) in str(caught.value)
    assert isinstance(caught.value, IrisError)
    listed = courses.problems(folder)
    assert any(re.search(complaint, str(problem)) for problem in listed)


def test_problems_lists_all(folder: Path) -> None:
    rows = tiny_course.qa_rows()
    for row in rows[:3]:
        row["kind"] = "essay"
    tiny_course.write_rows(folder / "qa" / "all.jsonl", rows)
    (folder / "notes" / "steam.md").write_bytes(b"\xff")
    assert [problem.line for problem in courses.problems(folder)] == [1, 1, 2, 3]
    with pytest.raises(CourseError, match=r"steam\.md:1: .* \(and 3 more\)"):
        courses.load(folder)


def test_windows_line_ends_and_a_byte_order_mark_are_read(folder: Path) -> None:
    for path in folder.rglob("*.*"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    course = courses.load(folder)
    assert len(course.questions) == 12
    note = course.note("steam")
    assert note is not None
    assert "\r" not in note.text


# The course that Iris comes with.


@pytest.fixture(scope="module")
def ours() -> Course:
    assert courses.problems(OURS) == ()
    return courses.load(OURS)


def test_our_course_is_complete(ours: Course) -> None:
    assert ours.id == "id2223"
    assert ours.warnings == ()
    assert len(ours.topics) >= 48
    assert len(ours.questions) >= 600
    assert len(ours.bank) >= 200
    assert {note.topic for note in ours.notes} == {topic.id for topic in ours.topics}
    chapters = {chapter.id for chapter in ours.chapters}
    for kind in ("qa", "mcq"):
        assert {path.stem for path in (OURS / kind).iterdir()} == chapters
        for path in (OURS / kind).glob("*.jsonl"):
            topics = {json.loads(line)["topic"] for line in path.read_text(encoding="utf-8").splitlines()}
            assert topics == {topic.id for topic in ours.topics_of(path.stem)}


def test_our_notes(ours: Course) -> None:
    for note in ours.notes:
        assert note.title == ours.topic(note.topic).title, note.path
        assert 300 <= len(note.text.split()) <= 600, note.path
        headings = [section.heading for section in note.sections]
        assert headings[0] == "Idea", note.path
        assert headings[1] in ("Formula", "Mechanism"), note.path
        assert headings[2:] == ["Worked example", "Typical mistake"], note.path
        assert note.text.count("$$") % 2 == 0, note.path


def test_our_questions(ours: Course) -> None:
    answers = Counter(question.answer for question in ours.questions)
    assert answers.most_common(1)[0][1] == 1
    assert len({question.question for question in ours.questions}) == len(ours.questions)
    kinds = defaultdict(set)
    for question in ours.questions:
        kinds[question.topic].add(question.kind)
        assert 40 <= len(question.answer.split()) <= 160, question.id
        assert clean_prompt(question.question) == question.question, question.id
        assert not damage(question.question), question.id
        assert leak_rate(question.answer) == 0, question.id
    assert min(map(len, kinds.values())) >= 6
    starts = Counter(" ".join(question.question.lower().split()[:3]) for question in ours.questions)
    assert starts.most_common(1)[0][1] < 0.03 * len(ours.questions), "a template: students ask in many ways"


def test_our_bank(ours: Course) -> None:
    per_topic = Counter(item.topic for item in ours.bank)
    assert min(per_topic[topic.id] for topic in ours.topics) >= 4
    longest = sum(len(item.answer) > max(map(len, item.distractors)) for item in ours.bank)
    assert longest <= len(ours.bank) / 3, "the right option must not be given away by its length"
    for item in ours.bank:
        assert 25 <= len(item.explanation.split()) <= 80, item.id
        assert not damage(item.question), item.id
    difficulties = Counter(item.difficulty for item in ours.bank)
    assert min(difficulties.values()) >= 0.15 * len(ours.bank)
