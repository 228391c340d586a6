"""What the tests of data/ share: the build command, what it wrote, and rows that are made up."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data import build
from tests.unit import tiny_course

ROOT = Path(__file__).parents[2]
OURS = ROOT / "data" / "courses"
PARTS = ("train", "validation", "test", "mcq_test")

Rows = dict[str, list[dict[str, Any]]]


def run(*arguments: object) -> int:
    """The command line in this process."""
    return build.main([str(argument) for argument in arguments])


def script(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """The command line as a person types it."""
    command = [sys.executable, "data/build.py", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, **options)


def read(folder: Path) -> Rows:
    """The rows of every split in a build's folder."""
    return {
        part: [json.loads(line) for line in (folder / f"{part}.jsonl").read_text(encoding="utf-8").splitlines()]
        for part in PARTS
        if (folder / f"{part}.jsonl").exists()
    }


def manifest(folder: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return value


def parts(folder: Path) -> dict[str, str]:
    """The part of each row, by id."""
    return {row["id"]: part for part, rows in read(folder).items() for row in rows}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def question(row: dict[str, Any]) -> str:
    return "\n\n".join(message["content"] for message in row["prompt"] if message["role"] == "user")


def answer(row: dict[str, Any]) -> str:
    return str(row["completion"][0]["content"])


def qa_file(path: Path, rows: Sequence[tuple[str, str]]) -> Path:
    return tiny_course.write_rows(path, [{"question": asked, "answer": said} for asked, said in rows])


def made_up(count: int, *, first: int = 0) -> list[tuple[str, str]]:
    """Questions and answers of which no two are alike."""
    return [
        (
            " ".join(f"{stem}{number}" for stem in ("why", "does", "ba", "du", "ki")) + "?",
            " ".join(f"{stem}{number}" for stem in ("lo", "mi", "ne", "po", "ru", "sa", "te")) + ".",
        )
        for number in range(first, first + count)
    ]
