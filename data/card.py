"""The dataset card: data/README.md, with the numbers of a build in it.

That file is the card of the course id2223. For the card of another build its title, front matter and numbers are
replaced, and what is between the marks ``<!-- id2223: begin -->`` and ``<!-- id2223: end -->`` is left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data.files import DataError, Writer

README = Path(__file__).with_name("README.md")
OURS = "id2223"
_BEGIN, _END = "<!-- numbers: begin -->", "<!-- numbers: end -->"
_ONLY_OURS = re.compile(rf"<!-- {OURS}: begin -->\n.*?<!-- {OURS}: end -->\n\n?", re.DOTALL)
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
    before, after = (part if about["name"] == OURS else _ONLY_OURS.sub("", part) for part in parts.groups())
    return f"{_front(about)}\n# {about['title']}\n{before}{_BEGIN}\n{_numbers(about)}{_END}{after}"


def update(about: Mapping[str, Any]) -> None:
    """Write the numbers of a build of the course id2223 to data/README.md.

    Raises:
        DataError: the build is of something else, or the file cannot be written.
    """
    if about["name"] != OURS:
        raise DataError(f"{README} is the card of {OURS}; a build of {about['name']} gets its own with --push.")
    content = text(about)
    with Writer(README.parent) as writer:
        writer.open(README.name).write(content.encode())
        writer.commit(README.name)


def _front(about: Mapping[str, Any]) -> str:
    licence = re.sub(r"[^a-z0-9.]+", "-", about["licence"].lower()).strip("-.")  # as the Hub writes them
    lines = [f"pretty_name: {_quoted(about['title'])}", f"language: [{about['language']}]"]
    lines.append(f"license: {licence if licence in _HUB_LICENCE else 'other'}")
    if licence not in _HUB_LICENCE and licence:
        lines.append(f"license_name: {licence}")
    tasks = "question-answering, text-generation" + (", multiple-choice" if about["kind"] == "course" else "")
    lines += [f"task_categories: [{tasks}]", "tags: [education, tutoring]"]
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
    together = (
        f"{groups['of_several_rows']:,} groups have more than one row; the largest has {groups['largest']['rows']:,}."
        if groups["of_several_rows"]
        else "No two rows are near-duplicates."
    )
    lines += [
        "",
        f"Seed {about['seed']}. Of the questions {real['train']:.1%} are in train, {real['validation']:.1%} in "
        f"validation and {real['test']:.1%} in test.",
        together,
        "",
    ]
    return "\n".join(lines)
