"""Audits through the command line: the numbers, the verdict, and what cannot be audited."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data import audit, build
from tests.unit import tiny_course
from tests.unit.builds import made_up, qa_file, question, read

ROOT = Path(__file__).parents[2]
EXAM = ROOT.parent / "shared" / "data" / "id2223" / "id2223_exam_prep_full.jsonl"
needs_exam = pytest.mark.skipif(not EXAM.exists(), reason="the original exam set is not beside the repository")


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, Any]]:
    """An audit as JSON, with no course around but those that are named."""

    def audited(*arguments: object) -> dict[str, Any]:
        given = [str(argument) for argument in arguments]
        given += [] if "--courses" in given else ["--courses", str(tmp_path / "none")]
        assert audit.main([*given, "--json", "--out", str(tmp_path / "out")]) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    return audited


def script(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The command line as a person types it."""
    command = [sys.executable, "data/audit.py", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


def reasons(found: dict[str, Any], weight: str) -> str:
    return "\n".join(reason["text"] for reason in found["verdict"]["reasons"] if reason["weight"] == weight)


# The original exam set, and our course.


@pytest.fixture(scope="module")
def exam() -> dict[str, Any]:
    done = script(EXAM, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@needs_exam
def test_what_the_original_set_is(exam: dict[str, Any]) -> None:
    """The counts, once more without any of our code."""
    rows = [json.loads(line)["conversations"] for line in EXAM.read_text(encoding="utf-8").splitlines()]
    pairs = {tuple(turn["content"] for turn in turns) for turns in rows}
    assert (exam["rows"], exam["distinct_pairs"]) == (len(rows), len(pairs)) == (6521, 331)
    assert exam["distinct_answers"] == len({pair[-1] for pair in pairs}) == 45
    assert exam["distinct_prompts"] == len({pair[:-1] for pair in pairs})
    assert exam["malformed"] == 0


@needs_exam
def test_the_original_set_is_unfit(exam: dict[str, Any]) -> None:
    assert exam["verdict"]["grade"] == "unfit"
    bad = reasons(exam, "bad")
    assert "Only 331 of 6,521 rows are different" in bad
    assert "331 different questions get only 45 different answers" in bad
    assert "A random split would put 99." in bad
    assert exam["random_split"]["same_answer"] > 0.99
    assert exam["templates"]["share"] > 0.9
    assert exam["shared_answers"]["rows"] > 6400


@needs_exam
def test_the_damaged_prompts_of_the_original_set_are_found(exam: dict[str, Any]) -> None:
    lines = EXAM.read_text(encoding="utf-8").splitlines()
    damaged = {n for n, line in enumerate(lines, 1) if json.loads(line)["conversations"][0]["content"].startswith(",")}
    assert exam["damaged_prompts"]["rows"] == len(damaged) > 0
    assert exam["damaged_prompts"]["kinds"] == {"starts with punctuation": len(damaged)}
    named = {int(re.search(r":(\d+): starts with", text)[1]) for text in exam["damaged_prompts"]["examples"]}  # type: ignore[index]
    assert named <= damaged


@needs_exam
def test_a_random_split_leaks_as_much_as_the_audit_says(exam: dict[str, Any]) -> None:
    """The exact expectation against drawing splits."""
    answers = [
        json.loads(line)["conversations"][-1]["content"] for line in EXAM.read_text(encoding="utf-8").splitlines()
    ]
    source, shares = random.Random(1), []
    for _ in range(20):
        source.shuffle(answers)
        train = set(answers[: round(0.8 * len(answers))])
        test = answers[round(0.9 * len(answers)) :]
        shares.append(sum(answer in train for answer in test) / len(test))
    assert exam["random_split"]["same_answer"] == pytest.approx(sum(shares) / 20, abs=0.002)


def test_our_course_is_fit() -> None:
    done = script("data/courses/id2223", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert found["verdict"] == {
        "grade": "fit", "sentence": found["verdict"]["sentence"], "reasons": []
    }  # fmt: skip
    assert found["rows"] == found["distinct_pairs"] == found["distinct_prompts"] == found["distinct_answers"]
    assert found["random_split"]["same_answer"] == found["damaged_prompts"]["prompts"] == 0
    assert found["meta_instructions"]["answers"] == found["meta_instructions"]["prompts"] == 0
    assert found["near_duplicates"]["groups"] == found["rows"]


@needs_exam
def test_the_readme_compares_the_two_as_they_are(exam: dict[str, Any]) -> None:
    ours = json.loads(script("data/courses/id2223", "--json").stdout)
    table = (ROOT / "README.md").read_text(encoding="utf-8")
    numbers: dict[str, Callable[[dict[str, Any]], str]] = {
        "rows": lambda found: f"{found['rows']:,}",
        "different question and answer pairs": lambda found: f"{found['distinct_pairs']:,}",
        "different answers": lambda found: f"{found['distinct_answers']:,}",
        "answers given to several questions": lambda found: f"{found['shared_answers']['answers']:,}",
        "damaged questions": lambda found: f"{found['damaged_prompts']['prompts']:,}",
        "questions made from a template": lambda found: f"{found['templates']['share']:.0%}",
        "median length of an answer, in tokens": lambda found: f"{found['tokens']['answer']['median']:,}",
        "test answers that a random split would put into training": lambda found: (
            f"{found['random_split']['same_answer']:.1%}"
        ),
        "verdict": lambda found: str(found["verdict"]["grade"]),
    }
    for name, value in numbers.items():
        assert f"| {name} | {value(exam)} | {value(ours)} |" in table


# What an audit finds.


def test_a_report_that_a_teacher_can_read(tmp_path: Path) -> None:
    rows = made_up(40)
    rows += [(asked, "The same answer to all of them, and to each.") for asked, _ in made_up(60, first=100)]
    rows += [(f", and {asked}", said) for asked, said in made_up(3, first=300)]
    rows += [(f"Briefly explain {asked}", said) for asked, said in made_up(5, first=400)]
    done = script(qa_file(tmp_path / "rows.jsonl", rows), "--courses", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == f"Audit of {tmp_path / 'rows.jsonl'}"
    assert lines[2].startswith("Verdict: unfit. Do not train on this as it is")
    assert "  - 108 different questions get only 49 different answers" in done.stdout
    assert re.search(r"^  rows +108$", done.stdout, re.MULTILINE)
    assert re.search(r"^  answers of several prompts +1  used by 60 prompts, 60 rows$", done.stdout, re.MULTILINE)
    assert "      60 prompts get: The same answer to all of them" in done.stdout
    assert re.search(r"^  damaged prompts +3  3 rows\n +\S+rows\.jsonl:101: starts with", done.stdout, re.MULTILINE)
    assert re.search(r"^  prompts with instructions +5  .*brief-first 5", done.stdout, re.MULTILINE)
    assert "evaluation prompts: not checked; name a file of them with --against" in done.stdout
    assert max(map(len, lines)) < 200


def test_near_duplicates_are_counted(tmp_path: Path, run: Callable[..., dict[str, Any]]) -> None:
    rows = made_up(30)
    rows += [(f"Please tell me: {rows[n][0]}", said) for n, (_, said) in enumerate(made_up(5, first=50))]
    rows += [(asked, f"{rows[n + 10][1]} Indeed.") for n, (asked, _) in enumerate(made_up(4, first=70))]
    rows += rows[:2]
    found = run(qa_file(tmp_path / "rows.jsonl", rows))
    assert (found["rows"], found["distinct_pairs"]) == (41, 39)
    near = found["near_duplicates"]
    assert (near["prompts"]["texts"], near["prompts"]["groups"]) == (10, 5)
    assert (near["answers"]["texts"], near["answers"]["groups"]) == (8, 4)
    assert near["groups"] == 30


def test_answers_that_give_instructions_are_found(tmp_path: Path, run: Callable[..., dict[str, Any]]) -> None:
    rows = made_up(50)
    rows += [(asked, f"{said} Include an example from industry.") for asked, said in made_up(2, first=60)]
    found = run(qa_file(tmp_path / "rows.jsonl", rows))
    assert found["meta_instructions"]["answers"] == 2
    assert "2 answers contain instructions to the writer" in reasons(found, "bad")
    assert found["meta_instructions"]["answer_examples"][0].endswith("rows.jsonl:51: Include an example from industry.")


@pytest.mark.parametrize("kind", ["txt", "json", "jsonl"])
def test_planted_evaluation_prompts_are_found(tmp_path: Path, run: Callable[..., dict[str, Any]], kind: str) -> None:
    rows = made_up(300)
    data = qa_file(tmp_path / "rows.jsonl", rows)
    planted = [f"Could you please explain: {asked.upper()}" for asked, _ in rows[:7]]
    clean = [asked for asked, _ in made_up(13, first=900)]
    file = tmp_path / f"evaluation.{kind}"
    if kind == "txt":
        file.write_text("\n".join(planted + clean), encoding="utf-8")
    elif kind == "json":
        tasks = [{"prompt": text, "reference": "x"} for text in clean]
        file.write_text(json.dumps({"domain": [{"question": text} for text in planted], "more": {"t": tasks}}))
    else:
        answers = [said for _, said in made_up(20, first=1500)]
        answers[-1] = rows[200][1]  # found by its answer
        qa_file(file, list(zip(planted + clean, answers, strict=True)))
    found = run(data, "--against", file)
    (check,) = found["contamination"]
    count = 8 if kind == "jsonl" else 7
    assert (check["name"], check["prompts"], check["found"], check["rows"]) == (str(file), 20, count, count)
    assert check["examples"] == planted[:3]
    assert found["verdict"]["grade"] == "unfit"
    assert f"{count} of the 20 evaluation prompts of {file}" in reasons(found, "bad")
    (tmp_path / "clean.txt").write_text("\n".join(clean), encoding="utf-8")
    found = run(data, "--against", tmp_path / "clean.txt")
    assert found["contamination"][0]["found"] == 0
    assert found["verdict"]["grade"] == "fit"


def test_held_out_questions_of_a_course_are_looked_for(
    tmp_path: Path, run: Callable[..., dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    """As a build holds them out, whether or not there is a build."""
    folder = tmp_path / "courses" / "id2223"
    folder.parent.mkdir()
    folder.symlink_to(ROOT / "data" / "courses" / "id2223")
    assert build.main(["--course", str(folder), "--out", str(tmp_path / "built")]) == 0
    capsys.readouterr()
    parts = read(tmp_path / "built" / "id2223")
    planted = [(question(row), said) for row, (_, said) in zip(parts["test"][:6], made_up(6, first=500), strict=True)]
    trained = [(question(row), said) for row, (_, said) in zip(parts["train"][:6], made_up(6, first=600), strict=True)]
    data = qa_file(tmp_path / "rows.jsonl", made_up(50) + planted + trained)
    found = run(data, "--courses", folder.parent)
    (check,) = found["contamination"]
    assert (check["name"], check["found"]) == ("the course id2223", 6)
    assert check["prompts"] == len(parts["test"]) + len(parts["mcq_test"])
    found = run(tmp_path / "built" / "id2223", "--courses", folder.parent)
    assert found["contamination"] == [], "its own splits hold the held-out rows, of course"


def test_copies_and_lengths(tmp_path: Path, run: Callable[..., dict[str, Any]]) -> None:
    long = " ".join(f"word{n}" for n in range(1100))
    found = run(qa_file(tmp_path / "rows.jsonl", [*made_up(1) * 6, *made_up(3, first=5), ("Why so long?", long)]))
    assert found["tokens"]["longer_than_1024"] == 1
    assert found["tokens"]["row"]["max"] > 1100
    assert found["tokens"]["total"] > found["tokens"]["answer"]["mean"] * 10 - 1
    assert "Only 5 of 10 rows are different (50%); the rest are copies." in reasons(found, "doubtful")
    assert "10% of the rows are longer than 1,024 tokens" in reasons(found, "doubtful")


def test_plain_text_has_no_prompts(tmp_path: Path, run: Callable[..., dict[str, Any]]) -> None:
    (tmp_path / "text.txt").write_text("\n".join(said for _, said in made_up(20)), encoding="utf-8")
    found = run(tmp_path / "text.txt")
    assert (found["rows"], found["distinct_prompts"], found["shared_answers"]) == (20, 0, None)
    assert found["verdict"]["grade"] == "fit"


def test_some_processes_find_what_one_finds(tmp_path: Path, run: Callable[..., dict[str, Any]]) -> None:
    source = random.Random(4)
    rows = made_up(2500)
    rows += [(source.choice(rows)[0], source.choice(rows)[1]) for _ in range(500)]
    data = qa_file(tmp_path / "rows.jsonl", rows)
    assert run(data, "--processes", 2) == run(data, "--processes", 1)


# What cannot be audited.


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("a.jsonl", b"", r"a\.jsonl:1: the file is empty"),
        ("a.jsonl", '{"text": "a"}'.encode("utf-16"), r"a\.jsonl:1: the file is UTF-16 .* Save it as UTF-8"),
        ("a.jsonl", b'{"text": "caf\xe9"}', r"a\.jsonl:1: byte 0xe9 at column 14 is not UTF-8"),
        (
            "a.jsonl",
            b'{"text": "a"}\n' * 60 + b'["a", "list"]\n',
            r"a\.jsonl:61: a row must be an object .*, not a list",
        ),
        ("a.jsonl", b'{"text": "a"}\n{"text": 1}\n', r"a\.jsonl:2: text must be a text, not 1 \(1 of 2 rows"),
        ("a.json", b'[{"text": "a"}\n{"text": "b"}]', r"a\.json:2: there must be a comma"),
        ("a.csv", b"question,answer", r"a\.csv: files of kind '\.csv' cannot be read"),
        ("b.jsonl", b"", r"a\.jsonl cannot be read: No such file"),
    ],
)
def test_what_cannot_be_read_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes, complaint: str
) -> None:
    (tmp_path / name).write_bytes(content)
    path = tmp_path / ("a.jsonl" if name == "b.jsonl" else name)
    assert audit.main([str(path), "--json"]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert re.search(complaint, told.err), told.err
    assert str(path) in told.err


def test_a_few_malformed_rows_are_counted_and_shown(tmp_path: Path, run: Callable[..., dict[str, Any]]) -> None:
    path = qa_file(tmp_path / "rows.jsonl", made_up(200))
    path.write_bytes(b'["a"]\n' + path.read_bytes() + b'{"question": "caf\xe9"}\n')
    found = run(path)
    assert (found["rows"], found["malformed"]) == (200, 2)
    assert [text.split(": ")[0].rsplit(":")[-1] for text in found["malformed_rows"]] == ["1", "202"]
    assert "2 malformed rows were left out. The first: " in reasons(found, "note")
    assert found["verdict"]["grade"] == "fit"


def test_all_that_is_wrong_with_a_course_is_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tiny_course.write(tmp_path / "bread")
    (folder / "notes" / "steam.md").write_bytes(b"# Steam\n" + b"x" * (5 << 20))
    (folder / "course.toml").write_text(
        tiny_course.TOML.replace('id = "sourdough"', 'id = "hydration"'), encoding="utf-8"
    )
    assert audit.main([str(folder)]) == 2
    told = capsys.readouterr().err
    assert "course.toml:20: duplicate topic id 'hydration'" in told
    assert "steam.md:1: 5.2 MB is too large" in told
    assert told.count("there is no topic 'sourdough'") > 3


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("e.json", b"{", r"e\.json:1: this is not valid JSON"),
        ("e.json", b'{"tasks": []}', r'e\.json:1: there is no "prompt" or "question" in it'),
        ("e.txt", b"", r"e\.txt:1: the file is empty"),
        ("e.jsonl", b"[1]\n", r"e\.jsonl:1: a row must be an object"),
        ("f.json", b"", r"e\.json cannot be read: No such file"),
    ],
)
def test_evaluation_prompts_that_cannot_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes, complaint: str
) -> None:
    (tmp_path / name).write_bytes(content)
    data = qa_file(tmp_path / "rows.jsonl", made_up(5))
    file = tmp_path / ("e.json" if name == "f.json" else name)
    assert audit.main([str(data), "--against", str(file), "--courses", str(tmp_path)]) == 2
    assert re.search(complaint, capsys.readouterr().err)


def test_a_reader_that_has_enough_is_no_error(tmp_path: Path) -> None:
    data = qa_file(tmp_path / "rows.jsonl", made_up(5))
    command = f"{sys.executable} data/audit.py {data} --courses {tmp_path} --json | head -c 1"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("{", "")
