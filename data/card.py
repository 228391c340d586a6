"""The dataset card: data/README.md, with the numbers of a build in it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data.files import DataError, Writer

README = Path(__file__).with_name("README.md")
_BEGIN, _END = "<!-- numbers: begin -->", "<!-- numbers: end -->"
_HUB_LICENCE = {"cc-by-4.0", "cc-by-sa-4.0", "cc-by-sa-3.0", "cc0-1.0", "apache-2.0", "mit", "cc-by-nc-4.0"}


def text(about: Mapping[str, Any]) -> str:
    """The card for a build: data/README.md with the front matter, the title and the numbers of this build.

    Raises:
        DataError: data/README.md has lost the marks between which the numbers stand.
    """
    template = README.read_text(encoding="utf-8")
    parts = re.fullmatch(rf"---\n.*?\n---\n+# [^\n]*\n(.*?){_BEGIN}.*?{_END}(.*)", template, re.DOTALL)
    if parts is None:
        raise DataError(f"{README}:1: the card needs front matter, a title, and the marks {_BEGIN} and {_END}.")
    return f"{_front(about)}\n# {about['title']}\n{parts[1]}{_BEGIN}\n{_numbers(about)}{_END}{parts[2]}"


def update(about: Mapping[str, Any]) -> None:
    """Write the card for a build to data/README.md."""
    content = text(about)
    with Writer(README.parent) as writer:
        writer.open(README.name).write(content.encode())
        writer.commit(README.name)


def _front(about: Mapping[str, Any]) -> str:
    licence = about["licence"].strip().lower().replace(" ", "-")
    lines = [f"pretty_name: {_quoted(about['title'])}", f"language: [{about['language']}]"]
    lines.append(f"license: {licence if licence in _HUB_LICENCE else 'other'}")
    if licence not in _HUB_LICENCE and licence:
        lines.append(f"license_name: {_quoted(about['licence'])}")
    lines += ["task_categories: [question-answering, text-generation, multiple-choice]", "tags: [education, tutoring]"]
    rows = about["rows"]["written"]
    size = next(
        name
        for limit, name in ((1e3, "n<1K"), (1e4, "1K<n<10K"), (1e5, "10K<n<100K"), (1e18, "n>100K"))
        if rows < limit
    )
    lines += [
        f"size_categories: [{size}]",
        "configs:",
        f"- config_name: {about['name']}",
        "  default: true",
        "  data_files:",
    ]
    splits = [(name, split) for name, split in about["splits"].items() if split["rows"]]
    for name, split in splits:
        if "mcq" not in name:
            lines += [f"  - split: {name}", f"    path: {about['name']}/{split['file']}"]
    for name, split in splits:
        if "mcq" in name:
            lines += [f"- config_name: {about['name']}-mcq", "  data_files:"]
            lines += ["  - split: test", f"    path: {about['name']}/{split['file']}"]
    return "\n".join(("---", *lines, "---", ""))


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _numbers(about: Mapping[str, Any]) -> str:
    kinds = sorted({kind for split in about["splits"].values() for kind in split["kinds"]})
    named = {"qa": "questions", "note": "note sections", "mcq": "multiple choice", "chat": "conversations"}
    lines = [
        "| split | rows | groups | " + " | ".join(named[kind] for kind in kinds) + " |",
        "| --- |" + " ---: |" * (2 + len(kinds)),
    ]
    for name, split in about["splits"].items():
        counts = " | ".join(f"{split['kinds'].get(kind, 0):,}" for kind in kinds)
        lines.append(f"| `{name}` | {split['rows']:,} | {split['groups']:,} | {counts} |")
    real = about["shares"]["real_of_questions"]
    groups = about["groups"]
    lines += [
        "",
        f"Seed {about['seed']}. Of the questions {real['train']:.1%} are in train, {real['validation']:.1%} in "
        f"validation and {real['test']:.1%} in test. {groups['of_several_rows']:,} of {groups['count']:,} groups have "
        f"more than one row; the largest has {groups['largest']['rows']:,}.",
        "",
    ]
    return "\n".join(lines)
