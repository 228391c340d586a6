"""Builds over earlier builds, and what goes wrong: damage, bad input, a full disk, Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.unit import tiny_course
from tests.unit.builds import OURS, ROOT, contents, made_up, parts, qa_file, run


def test_fresh_forgets_the_earlier_build(tmp_path: Path) -> None:
    """Pairs of near-duplicates in the other order: their groups get other names, and with --fresh other parts."""
    twins = [((asked, said), (asked + " Really", said)) for asked, said in made_up(60)]
    path = qa_file(tmp_path / "rows.jsonl", [row for pair in twins for row in pair])
    options = ("--source", "x/y", "--path", path, "--courses", tmp_path)
    assert run(*options, "--out", tmp_path) == 0
    old = parts(tmp_path / "y")
    qa_file(path, [row for pair in twins for row in pair[::-1]])
    assert run(*options, "--out", tmp_path) == 0
    assert parts(tmp_path / "y") == old
    assert run(*options, "--out", tmp_path / "elsewhere") == 0
    anew = parts(tmp_path / "elsewhere" / "y")
    assert anew != old
    assert run(*options, "--out", tmp_path, "--fresh") == 0
    assert parts(tmp_path / "y") == anew
    assert run(*options, "--out", tmp_path, "--seed", 1) == 0
    assert parts(tmp_path / "y") != anew, "another seed is another draw"


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (
            lambda folder: (folder / "train.jsonl").write_text("{}\n"),
            r"train\.jsonl:1: .* is not the one of manifest\.json",
        ),
        (lambda folder: (folder / "test.jsonl").unlink(), r"test\.jsonl:1: the file is missing"),
        (
            lambda folder: (folder / "manifest.json").write_text('{"format": 1, '),
            r"manifest\.json:1: the record .* damaged",
        ),
        (
            lambda folder: (folder / "manifest.json").write_bytes(b"\xff\xfe{"),
            r"manifest\.json:1: the record .* damaged",
        ),
    ],
    ids=["changed", "missing", "cut", "no text"],
)
def test_a_damaged_earlier_build_is_told(
    bread: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: Any, complaint: str
) -> None:
    options = ("--course", bread, "--out", tmp_path)
    assert run(*options) == 0
    whole = contents(tmp_path / "bread")
    damage(tmp_path / "bread")
    before = contents(tmp_path / "bread")
    capsys.readouterr()
    assert run(*options) == 2
    assert re.search(complaint, capsys.readouterr().err)
    assert contents(tmp_path / "bread") == before, "nothing was written"
    path = qa_file(tmp_path / "rows.jsonl", made_up(20))
    assert run("--source", "x/y", "--path", path, "--courses", bread.parent, "--out", tmp_path) == 2
    assert re.search(complaint, capsys.readouterr().err), "another stage that is checked against it says so too"
    assert run(*options, "--fresh") == 0
    assert contents(tmp_path / "bread") == whole


def test_a_first_stage_with_a_damaged_record_is_not_passed_over(
    bread: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Passed over, its test split would go unchecked."""
    (tmp_path / "dolly").mkdir()
    (tmp_path / "dolly" / "manifest.json").write_text("{")
    assert run("--course", bread, "--out", tmp_path) == 2
    assert re.search(r"dolly/manifest\.json:1: the record of this build is damaged", capsys.readouterr().err)
    (tmp_path / "dolly" / "manifest.json").write_text('["of other software"]')
    assert run("--course", bread, "--out", tmp_path) == 0


def test_a_source_does_not_take_a_course_s_folder(
    bread: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--course", bread, "--out", tmp_path) == 0
    path = qa_file(tmp_path / "rows.jsonl", made_up(20))
    assert run("--source", "baker/bread", "--path", path, "--courses", tmp_path, "--out", tmp_path, "--fresh") == 2
    assert "holds the build of a course, not of a source" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--course", "nothing"], r"no course 'nothing'"),
        (["--source", "nothing"], r"'nothing' is no source; known are finetome, dolly"),
        (["--source", "exam"], r"exam is not on the Hub: name a local file with --path"),
        (["--source", "wikitext"], r"plain text without questions"),
        (["--source", "x/.."], r"would be called '\.\.'"),
        (["--source", "dolly", "--path", "{tmp}/gone.json"], r"gone\.json cannot be read: No such file"),
        (["--source", "dolly", "--path", "{tmp}/empty.jsonl"], r"empty\.jsonl:1: the file is empty"),
        (
            ["--source", "dolly", "--path", "{tmp}/lists.jsonl"],
            r"lists\.jsonl:1: a row must be an object .* not a list",
        ),
        (["--source", "dolly", "--path", "{tmp}/wide.jsonl"], r"wide\.jsonl:1: the file is UTF-16"),
        (["--source", "dolly", "--path", "{tmp}/latin.jsonl"], r"latin\.jsonl:1: byte 0xe9 at column 18 is not UTF-8"),
        (["--source", "dolly", "--path", "{tmp}/nothing-left.jsonl"], r":1: no row is left after cleaning"),
        (["--course", "{tmp}/hollow"], r"hollow: the course has no notes, questions or multiple-choice items"),
        (["--out", "{tmp}/empty.jsonl"], r"empty\.jsonl/id2223 cannot be made: Not a directory"),
        (["--card", "--course", "{tmp}/bread"], r"README\.md is the card of id2223; a build of bread"),
    ],
)
def test_what_cannot_be_built_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], complaint: str
) -> None:
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "lists.jsonl").write_text("[1]\n")
    (tmp_path / "wide.jsonl").write_text('{"question": "a"}', encoding="utf-16")
    (tmp_path / "latin.jsonl").write_bytes(b'{"question": "caf\xe9", "answer": "a"}\n')
    qa_file(tmp_path / "nothing-left.jsonl", [("?!", "a"), ("Why?", " ")])
    hollow = tmp_path / "hollow" / "course.toml"
    tiny_course.write(tmp_path / "bread")
    hollow.parent.mkdir()
    hollow.write_text(
        'title = "x"\n[[chapters]]\nid = "c"\ntitle = "C"\n[[topics]]\nid = "t"\ntitle = "T"\nchapter = "c"\n'
    )
    where = [] if "--out" in arguments else ["--out", str(tmp_path / "out")]
    assert run(*(argument.replace("{tmp}", str(tmp_path)) for argument in arguments), *where) == 2
    told = capsys.readouterr()
    assert re.search(complaint, told.err), told.err
    if "--card" not in arguments:
        assert not list(tmp_path.glob("out/*/*")), "nothing is left behind"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--path", "x.json"], "--path goes with --source"),
        (["--course", "id2223", "--sample", "5"], "--sample goes with --source"),
        (["--keep-instructions"], "--keep-instructions goes with --source"),
        (["--source", "dolly", "--sample", "0"], "'0' is no whole number above 0"),
        (["--source", "dolly", "--processes", "two"], "'two' is no whole number above 0"),
        (["--source", "dolly", "--course", "id2223"], "not allowed with"),
    ],
)
def test_options_that_do_not_fit_together(
    capsys: pytest.CaptureFixture[str], arguments: list[str], complaint: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        run(*arguments)
    assert caught.value.code == 2
    assert complaint in capsys.readouterr().err


def test_a_full_disk_leaves_the_earlier_build(ours: Path, bread: Path, tmp_path: Path) -> None:
    """The operating system refuses to let a file grow beyond 100 KB, as a full disk would."""
    shutil.copytree(ours, tmp_path / "id2223")
    path = qa_file(tmp_path / "rows.jsonl", made_up(3000))
    for arguments in (
        ("--course", "id2223", "--courses", OURS),
        ("--source", "x/y", "--path", path, "--courses", bread),
    ):
        command = [sys.executable, "data/build.py", *map(str, arguments), "--out", str(tmp_path)]
        limited = ["bash", "-c", 'ulimit -f 100; exec "$@"', "bash", *command]
        done = subprocess.run(limited, cwd=ROOT, capture_output=True, text=True, timeout=120)
        assert done.returncode == 2, done.stderr
        assert re.fullmatch(r".*/(id2223|y) cannot be written: File too large\.\n", done.stderr)
    assert contents(tmp_path / "id2223") == contents(ours)
    assert not (tmp_path / "y").exists()


@pytest.mark.parametrize("before", [False, True], ids=["first build", "earlier build"])
def test_ctrl_c_leaves_no_partial_file(tmp_path: Path, before: bool) -> None:
    folder, path = tmp_path / "y", tmp_path / "rows.jsonl"
    options = ["--source", "x/y", "--path", str(path), "--courses", str(tmp_path), "--out", str(tmp_path)]
    if before:
        qa_file(path, made_up(30))
        assert run(*options) == 0
    whole = contents(folder) if before else {}
    qa_file(path, made_up(100_000))
    process = subprocess.Popen(
        [sys.executable, "data/build.py", *options, "--processes", "2"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        began = time.monotonic()
        while not _writes(process.pid, folder) and time.monotonic() - began < 60:
            time.sleep(0.02)
        time.sleep(0.5)  # into the rows, and the workers' start
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers, too
        told, complaint = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, told, complaint) == (130, "", "Stopped; nothing was written.\n")
    assert (contents(folder) if folder.exists() else {}) == whole
    assert not list(tmp_path.rglob("*.partial"))


def _writes(pid: int, folder: Path) -> bool:
    """Whether a process has a file in a folder open."""
    with contextlib.suppress(OSError):
        return any(os.readlink(link).startswith(f"{folder}/") for link in Path(f"/proc/{pid}/fd").iterdir())
    return False
