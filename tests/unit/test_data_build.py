"""Builds of courses and sources through the command line: what is on disk, and that it stays where it is."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from data import text
from iris import courses
from tests.unit import tiny_course
from tests.unit.builds import (
    OURS,
    PARTS,
    ROOT,
    answer,
    contents,
    made_up,
    manifest,
    parts,
    qa_file,
    question,
    read,
    run,
    script,
)

DOLLY = ROOT.parent / "shared" / "data" / "dolly" / "dolly_2000.json"


def _words(value: str) -> set[str]:
    return {word.removesuffix("s") for word in text.content_words(value)}


def _triples(value: str) -> set[str]:
    found = re.findall(r"\w+", value.lower())
    return {" ".join(found[place : place + 3]) for place in range(len(found) - 2)} or {value}


def alike(one: Sequence[tuple[set[str], set[str]]], other: Sequence[tuple[set[str], set[str]]]) -> set[tuple[int, int]]:
    """Pairs of rows that are clearly near-duplicates, by comparing each with each that shares anything with it.

    "Clearly": 0.1 above the limits of data/groups.py, since words are cut a little differently here.
    """
    return {
        pair
        for side, like in ((0, 0.9), (1, 0.6))
        for pair in _overlapping([row[side] for row in one], [row[side] for row in other], like)
    }


def _overlapping(one: Sequence[set[str]], other: Sequence[set[str]], like: float) -> Iterator[tuple[int, int]]:
    having: dict[str, list[int]] = defaultdict(list)
    for j, found in enumerate(other):
        for thing in found:
            having[thing].append(j)
    for i, found in enumerate(one):
        for j, common in Counter(j for thing in found for j in having.get(thing, ())).items():
            if common >= like * (len(found) + len(other[j]) - common):
                yield i, j


def features(rows: Sequence[dict[str, Any]]) -> list[tuple[set[str], set[str]]]:
    """Words of the question (for a multiple-choice item without its options) and word triples of the answer."""
    return [
        (set() if row["kind"] == "note" else _words(question(row).split("\n\nA. ")[0]), _triples(answer(row)))
        for row in rows
    ]


# A course.


def test_a_build_is_on_disk_as_its_manifest_says(ours: Path) -> None:
    about = manifest(ours)
    assert set(contents(ours)) == {f"{part}.jsonl" for part in PARTS} | {"manifest.json"}
    rows = read(ours)
    for part, split in about["splits"].items():
        data = (ours / split["file"]).read_bytes()
        assert split["file"] == f"{part}.jsonl"
        assert (split["bytes"], split["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
        assert (split["rows"], split["groups"]) == (len(rows[part]), len({row["group"] for row in rows[part]}))
        assert split["kinds"] == Counter(row["kind"] for row in rows[part])
    for entry in about["inputs"]:
        data = (OURS / "id2223" / entry["path"]).read_bytes()
        assert (entry["bytes"], entry["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    inside = {path.relative_to(OURS / "id2223").as_posix() for path in (OURS / "id2223").rglob("*.*")}
    assert {entry["path"] for entry in about["inputs"]} == inside
    course = courses.load(OURS / "id2223")
    sections = sum(len(note.sections) for note in course.notes)
    counted = about["rows"]
    assert counted["questions"] == len(course.questions)
    assert (counted["note_sections"], counted["multiple_choice"]) == (sections, len(course.bank))
    written = len(course.questions) + sections + len(course.bank) - sum(about["dropped"].values())
    assert counted["written"] == written == sum(map(len, rows.values()))
    assert (about["seed"], about["kind"], about["name"]) == (2223, "course", "id2223")
    for part, share in about["shares"]["real_of_questions"].items():
        assert share == pytest.approx(about["shares"]["wanted"][part], abs=0.03)


def test_every_row_is_a_conversation(ours: Path) -> None:
    seen: set[str] = set()
    for part, rows in read(ours).items():
        for row in rows:
            assert row["id"] not in seen
            seen.add(row["id"])
            assert row["source"] == "id2223"
            assert [message["role"] for message in row["prompt"]] == ["user"]
            assert [message["role"] for message in row["completion"]] == ["assistant"]
            assert question(row).strip() == question(row) != ""
            assert answer(row).strip() == answer(row) != ""
            if part == "mcq_test":
                assert list(row)[7:] == ["difficulty", "question", "options", "answer", "explanation"]
            else:
                assert list(row) == ["id", "source", "kind", "topic", "group", "prompt", "completion"]


def test_a_part_of_the_bank_of_every_topic_is_held_out(ours: Path) -> None:
    rows = read(ours)
    bank = {item.id: item for item in courses.load(OURS / "id2223").bank}
    assert {row["id"] for row in rows["mcq_test"]} | {
        row["id"] for row in rows["train"] if row["kind"] == "mcq"
    } == set(bank)
    held = Counter(row["topic"] for row in rows["mcq_test"])
    for topic, count in Counter(item.topic for item in bank.values()).items():
        assert held[topic] == round(0.4 * count), topic
    trained = "\n".join(question(row) for row in rows["train"])
    letters = Counter(row["answer"] for row in rows["mcq_test"])
    assert set(letters) == set("ABCD")
    assert max(letters.values()) < 0.4 * len(rows["mcq_test"]), "the right option stands at any place"
    for row in rows["mcq_test"]:
        item = bank[row["id"]]
        assert row["question"] not in trained
        assert row["options"]["ABCD".index(row["answer"])] == item.answer
        assert sorted(row["options"]) == sorted((item.answer, *item.distractors))
        assert (row["difficulty"], row["explanation"]) == (item.difficulty, item.explanation)
        assert question(row) == "\n".join(
            [
                row["question"],
                "",
                *(f"{letter}. {option}" for letter, option in zip("ABCD", row["options"], strict=True)),
            ]
        )
        assert answer(row) == f"{row['answer']}. {item.answer}\n\n{item.explanation}"


def test_sections_of_notes_are_rows(ours: Path) -> None:
    rows = read(ours)
    sections = {answer(row): row for part in rows.values() for row in part if row["kind"] == "note"}
    course = courses.load(OURS / "id2223")
    for note in course.notes:
        for section in note.sections:
            row = sections.pop(section.text)
            assert row["topic"] == note.topic
            assert course.topic(note.topic).title in question(row)
    assert not sections


def test_no_two_parts_have_rows_that_are_alike(ours: Path) -> None:
    """A check that shares no code with the grouping but the choice of content words: each row with each."""
    found = {part: features(rows) for part, rows in read(ours).items()}
    tests = found["test"] + found["mcq_test"]
    assert alike(found["train"], tests) == set()
    assert alike(found["train"], found["validation"]) == set()
    assert alike(found["validation"], tests) == set()
    assert alike(tests[:3], tests[:3]) == {(n, n) for n in range(3)}, "the check itself finds what is alike"


def test_the_same_input_gives_the_same_bytes(ours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--course", "id2223", "--courses", OURS, "--out", tmp_path) == 0
    assert contents(tmp_path / "id2223") == contents(ours)
    assert run("--course", OURS / "id2223", "--out", tmp_path) == 0
    again = contents(tmp_path / "id2223")
    assert {name: data for name, data in again.items() if name != "manifest.json"} == {
        name: data for name, data in contents(ours).items() if name != "manifest.json"
    }
    assert "1,340 rows stayed where they were, 0 moved" in capsys.readouterr().out
    assert run("--course", "id2223", "--courses", OURS, "--out", tmp_path, "--fresh") == 0
    assert contents(tmp_path / "id2223") == contents(ours)


def test_rows_that_are_added_move_no_others(ours: Path, tmp_path: Path) -> None:
    course = shutil.copytree(OURS / "id2223", tmp_path / "id2223")
    old = parts(ours)
    with (course / "qa" / "foundations.jsonl").open("a", encoding="utf-8") as file:
        for number, (asked, said) in enumerate(made_up(30)):
            row = {
                "id": f"new-q{number}",
                "topic": "linear-regression",
                "kind": "why",
                "question": asked,
                "answer": said,
            }
            file.write(json.dumps(row) + "\n")
    with (course / "notes" / "lora.md").open("a", encoding="utf-8") as file:
        file.write("\n## One more thing\n\nFreezing saves memory, and a zebra saves nothing at all.\n")
    assert run("--course", course, "--out", tmp_path / "apart") == 0
    new = parts(tmp_path / "apart" / "id2223")
    assert len(new) == len(old) + 31
    assert {name: new[name] for name in old} == old, "without knowing the earlier build"

    wrong = [f"no{n}" for n in range(3)]
    with (course / "mcq" / "foundations.jsonl").open("a", encoding="utf-8") as file:
        for number, (asked, said) in enumerate(made_up(6, first=100)):
            row = {"id": f"new-m{number}", "topic": "linear-regression", "difficulty": "easy", "question": asked}
            file.write(json.dumps({**row, "answer": said, "distractors": wrong, "explanation": asked + said}) + "\n")
    out = tmp_path / "again"
    shutil.copytree(ours, out / "id2223")
    assert run("--course", course, "--out", out) == 0
    new = parts(out / "id2223")
    assert len(new) == len(old) + 37
    assert {name: new[name] for name in old} == old, "with the earlier build at hand"
    assert manifest(out / "id2223")["earlier_build"] == {"kept": len(old), "moved": 0, "moved_ids": []}
    held = [
        name for name, part in new.items() if part == "mcq_test" and name.startswith(("new-m", "linear-regression-m"))
    ]
    assert len(held) == round(0.4 * 11), "the topic's share is filled up from the new items"


def test_a_course_without_a_bank_is_built_and_says_so(
    bread: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(bread / "mcq")
    assert run("--course", "bread", "--courses", bread.parent, "--out", tmp_path) == 0
    assert "note: The course has no multiple-choice bank (mcq/)" in capsys.readouterr().out
    assert (tmp_path / "bread" / "mcq_test.jsonl").read_bytes() == b""
    assert manifest(tmp_path / "bread")["splits"]["mcq_test"]["rows"] == 0


def test_an_answer_that_repeats_a_note_takes_the_note_along(bread: Path, tmp_path: Path) -> None:
    """A section of a note is for training, unless a held-out question has the same answer."""
    rows = tiny_course.qa_rows()
    section = "Steam keeps the surface of the loaf moist, so that it can stretch before the crust sets and hardens."
    rows += [{**rows[0], "id": f"x{n}", "question": f"{a} {b}", "answer": b} for n, (a, b) in enumerate(made_up(40))]
    rows.append({**rows[8], "id": "twin", "question": "What is vapour good for in baking?", "answer": section})
    tiny_course.write_rows(bread / "qa" / "all.jsonl", rows)
    found = set()
    for seed in range(12):
        assert run("--course", bread, "--out", tmp_path, "--seed", seed) == 0
        where = parts(tmp_path / "bread")
        assert where["twin"] == where["steam-n01"]
        found.add(where["twin"])
    assert {"train", "test"} <= found


# A source, and both stages against each other.


def test_a_source_is_built_from_a_local_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = made_up(400)
    rows[7] = rows[6]
    rows[9] = (rows[8][0] + " Please be brief.", rows[9][1])
    path = qa_file(tmp_path / "rows.jsonl", rows)
    path.write_text(path.read_text() + '["a list"]\n')
    assert run("--source", "philosophy", "--path", path, "--courses", OURS, "--out", tmp_path) == 0
    told = capsys.readouterr()
    assert f"note: 1 malformed rows were left out. The first: {path}:401: a row must be an object" in told.out
    assert told.err == ""
    folder = tmp_path / "philosophy"
    about = manifest(folder)
    assert set(contents(folder)) == {"train.jsonl", "validation.jsonl", "test.jsonl", "manifest.json"}
    assert about["rows"] == {
        "read": 400, "malformed": 1, "after_cleaning": 399, "sampled": 399, "contaminated": 0, "written": 399
    }  # fmt: skip
    assert about["dropped"] == {"exact repetition": 1}
    assert about["inputs"] == [
        {"path": str(path), "bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    ]
    built = read(folder)
    assert sum(map(len, built.values())) == 399
    asked = Counter(question(row) for part in built.values() for row in part)
    assert asked == Counter(row[0] for row in rows[:7] + rows[8:9] + rows[8:9] + rows[10:]), "clean, each once"
    assert about["rules"]["style-sentence"] == 1


def test_a_sample_is_drawn_by_content(tmp_path: Path) -> None:
    """The draw does not depend on the order of the rows, and mostly stays when rows are added."""
    rows = made_up(600)
    options = ("--sample", 200, "--courses", tmp_path, "--fresh")
    ids = []
    for name, source in (("a", rows), ("b", rows[::-1]), ("c", [*made_up(60, first=900), *rows])):
        path = qa_file(tmp_path / name / "rows.jsonl", source)
        assert run("--source", "x/y", "--path", path, "--out", tmp_path / name, *options) == 0
        ids.append(parts(tmp_path / name / "y"))
    assert len(ids[0]) == 200
    assert ids[1] == ids[0]
    assert len(ids[2]) == 200
    assert len(ids[0].keys() & ids[2].keys()) > 160
    assert all(ids[0][name] == ids[2][name] for name in ids[0].keys() & ids[2].keys())


def test_the_stages_are_kept_clear_of_each_other(
    bread: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """First the source against the course, then a course that grows rows like the source's test split."""
    options = ("--courses", bread.parent, "--out", tmp_path)
    rows = tiny_course.qa_rows()
    rows += [{**rows[0], "id": f"x{n}", "question": a, "answer": b} for n, (a, b) in enumerate(made_up(60))]
    tiny_course.write_rows(bread / "qa" / "all.jsonl", rows)
    assert run("--course", "bread", *options) == 0
    where = parts(tmp_path / "bread")
    held = [row for row in rows if where[row["id"]] in ("test", "validation")]
    taught = [row for row in rows if where[row["id"]] == "train"]
    assert held
    bank = read(tmp_path / "bread")["mcq_test"]
    other = iter(made_up(200, first=1000))
    copies = [(f"Please tell me: {row['question']}", next(other)[1]) for row in [*held, *bank, *taught]]
    path = qa_file(tmp_path / "rows.jsonl", made_up(300, first=500) + copies)
    assert run("--source", "dolly", "--path", path, *options) == 0
    told = capsys.readouterr().out
    assert f"checked against bread: {len(held) + len(bank)} rows left out" in told
    about = manifest(tmp_path / "dolly")
    assert about["rows"]["contaminated"] == len(held) + len(bank)
    source = {question(row): part for part, found in read(tmp_path / "dolly").items() for row in found}
    assert len(source) == 300 + len(taught)
    assert {source[asked] for asked, _ in copies[-len(taught) :]} == {"train"}, (
        "what the course trains on may be trained on, but is no test"
    )

    assert run("--course", "bread", *options) == 0
    told = capsys.readouterr().out
    assert "checked against dolly: 0 rows left out" in told
    assert "was not checked" not in told
    tests = read(tmp_path / "dolly")["test"][:9]
    grown = [
        {**rows[0], "id": f"g{n}", "question": question(row), "answer": next(other)[1]} for n, row in enumerate(tests)
    ]
    tiny_course.write_rows(bread / "qa" / "all.jsonl", rows + grown)
    assert run("--course", "bread", *options) == 0
    told = capsys.readouterr().out
    new = parts(tmp_path / "bread")
    assert {new.get(row["id"], "test") for row in grown} == {"test"}, "left out, or a test row here as well"
    left = [row["id"] for row in grown if row["id"] not in new]
    assert left
    assert manifest(tmp_path / "bread")["checked_against"] == [{"build": "dolly", "dropped": len(left), "ids": left}]
    assert f"{len(left)} rows of the course are like test rows of dolly and were left out" in told
    assert {name: new[name] for name in where} == where


def test_a_first_stage_from_before_the_course_changed_is_told(
    bread: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--courses", bread.parent, "--out", tmp_path)
    path = qa_file(tmp_path / "rows.jsonl", made_up(40, first=500))
    assert run("--source", "dolly", "--path", path, *options) == 0
    rows = tiny_course.qa_rows()
    rows += [{**rows[0], "id": f"x{n}", "question": a, "answer": b} for n, (a, b) in enumerate(made_up(60))]
    tiny_course.write_rows(bread / "qa" / "all.jsonl", rows)
    capsys.readouterr()
    assert run("--course", "bread", *options) == 0
    assert "dolly was not checked against these test rows: build it again" in capsys.readouterr().out
    assert run("--source", "dolly", "--path", path, *options) == 0
    capsys.readouterr()
    assert run("--course", "bread", *options) == 0
    assert "was not checked" not in capsys.readouterr().out


@pytest.mark.skipif(not DOLLY.exists(), reason="the rows of Dolly are not beside the repository")
def test_dolly_and_our_course_share_nothing(ours: Path, tmp_path: Path) -> None:
    shutil.copytree(ours, tmp_path / "id2223")
    done = script("--source", "dolly", "--path", DOLLY, "--courses", OURS, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    dolly = {part: features(rows) for part, rows in read(tmp_path / "dolly").items()}
    assert sum(map(len, dolly.values())) > 1950
    assert alike(dolly["train"], dolly["test"]) == set()
    assert alike(dolly["train"], dolly["validation"]) == set()
    course = {part: features(rows) for part, rows in read(ours).items()}
    everything = [row for rows in dolly.values() for row in rows]
    assert alike(everything, course["test"] + course["mcq_test"] + course["validation"]) == set()
    assert alike(dolly["test"], course["train"]) == set()


WORDS = [
    first + second for first in ("ba", "du", "ki", "lo", "me", "sha") for second in ("ra", "to", "ve", "zi", "gum")
]
PHRASES = st.lists(st.sampled_from(WORDS), min_size=3, max_size=12).map(" ".join)
HOW = ["new", "same question", "same answer", "nearly the same question", "nearly the same answer", "joins two"]
RECIPES = st.lists(
    st.tuples(PHRASES, PHRASES, st.sampled_from(HOW), st.integers(0, 99)),
    min_size=1,
    max_size=40,
)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # an example is two builds: shrinking would take minutes
)
@given(RECIPES, st.integers(0, 3), st.booleans())
def test_no_group_straddles_the_parts_of_a_build(
    tmp_path: Path, recipe: list[tuple[str, str, str, int]], seed: int, grown: bool
) -> None:
    """Whatever rows come, and if half of them were built before: files on disk, each row compared with each."""
    rows = made_up(12)
    for asked, said, how, of in recipe:
        old = rows[of % len(rows)]
        rows.append(
            {
                "new": (asked, said),
                "same question": (f"Can you explain this: {old[0]}?", said),
                "same answer": (asked, old[1]),
                "nearly the same answer": (asked, f"{old[1]}, {said.split()[0]}"),
                "joins two": (old[0], rows[of * 7 % len(rows)][1]),
                "nearly the same question": (f"{old[0]} {asked.split()[0]}", said),
            }[how]
        )
    out = Path(tempfile.mkdtemp(dir=tmp_path))  # hypothesis gives all examples the same tmp_path
    options = ("--source", "x/y", "--courses", out, "--out", out, "--seed", seed)
    if grown:
        assert run(*options, "--path", qa_file(out / "half.jsonl", rows[: 12 + len(recipe) // 2])) == 0
    assert run(*options, "--path", qa_file(out / "rows.jsonl", rows)) == 0
    built = read(out / "y")
    groups: dict[str, set[str]] = defaultdict(set)
    for part, found in built.items():
        for row in found:
            groups[row["group"]].add(part)
    assert all(len(found) == 1 for found in groups.values())
    for one, other in (("train", "test"), ("train", "validation"), ("validation", "test")):
        assert alike(features(built[one]), features(built[other])) == set()
    kept = {(question(row).casefold().rstrip("?"), answer(row)) for found in built.values() for row in found}
    assert len(kept) <= len(set(rows))
    shutil.rmtree(out)
