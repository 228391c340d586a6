"""The README's chapter on own courses, followed by a new user: write its files, type its commands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from iris import courses
from tests.unit.builds import manifest, parts

ROOT = Path(__file__).parents[2]


def test_the_chapter_works_command_by_command(tmp_path: Path) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    chapter = text.split("\n## Bring your own course\n")[1].split("\n## The exam data\n")[0]
    files = re.findall(
        r"^`([\w./-]+)` [^`]*(?:`[^`\n]+`[^`]*)*?\n\n```(?!sh)\w+\n(.*?)^```$", chapter, re.DOTALL | re.M
    )
    assert [name for name, _ in files] == ["course.toml", "notes/hydration.md", "qa/dough.jsonl", "mcq/dough.jsonl"]
    folder = tmp_path / ".iris" / "courses" / "bread"
    for name, content in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")
    course = courses.load(folder)
    assert (len(course.notes), len(course.questions), len(course.bank)) == (1, 2, 2)

    (commands,) = re.findall(r"^```sh\n(.*?)^```$", chapter, re.DOTALL | re.M)
    checkout = tmp_path / "iris"  # a working tree as a user has it, without writing into this one
    checkout.mkdir()
    (checkout / ".venv").symlink_to(sys.prefix)
    (checkout / "data").symlink_to(ROOT / "data")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("IRIS_")}
    done = subprocess.run(
        ["bash", "-e", "-c", commands],
        cwd=checkout,
        capture_output=True,
        text=True,
        timeout=120,
        env={**environment, "HOME": str(tmp_path)},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "Verdict: fit." in done.stdout
    assert "Baking bread: 2 questions, 2 note sections, 2 multiple choice, 6 written" in done.stdout
    assert "note: 1 of 2 topics have no note: starter." in done.stdout
    built = checkout / "outputs" / "data" / "bread"
    where = parts(built)
    assert len(where) == manifest(built)["rows"]["written"] == 6
    assert sorted(where[f"hydration-m0{n}"] for n in (1, 2)) == ["mcq_test", "train"]


def test_every_file_of_data_is_in_the_tree() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    tree = text.split("\n## The tree\n")[1].split("```")[1]
    for path in (ROOT / "data").glob("*.py"):
        assert path.name == "__init__.py" or re.search(rf"\b{re.escape(path.name)}\b", tree), path.name
