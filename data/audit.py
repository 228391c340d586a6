"""Audit training data: what is in it, and whether it is fit to train on.

    python data/audit.py data.jsonl                      a report to read
    python data/audit.py data.jsonl --json               the same as JSON
    python data/audit.py data/courses/id2223             a course folder
    python data/audit.py owner/name                      a data set on the Hugging Face Hub
    python data/audit.py data.jsonl --against eval.txt   also look for these evaluation prompts

Reads .jsonl, .json, .parquet, .txt and .raw files (formats: data/sources.py), a folder of them, or a course. The
held-out questions of the courses are looked for in any case.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from data import build_course, manifest, parallel, report, sources
from data.course_rows import course_rows
from data.files import DataError
from data.measure import Audit, Prompt
from data.sources import FORMATS, Report, Row
from iris import courses
from iris.engine import Message
from iris.errors import CourseError, IrisError

SEED = 2223


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        found = audit(
            options.path,
            format=options.format,
            against=options.against,
            courses_folder=options.courses,
            out=options.out,
            tokenizer=options.tokenizer,
            processes=options.processes,
        )
    except IrisError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return 130
    try:
        print(json.dumps(found, ensure_ascii=False, indent=1) if options.json else report.render(found), flush=True)
    except BrokenPipeError:  # `… | head` has read enough
        sys.stderr.close()
    return 0


def audit(
    path: str,
    *,
    format: str = "",
    against: Sequence[str] = (),
    courses_folder: Path | None = None,
    out: Path = Path("outputs/data"),
    tokenizer: Path | None = None,
    processes: int | None = None,
) -> dict[str, Any]:
    """All numbers of an audit and its verdict.

    Raises:
        DataError: the data cannot be read; CourseError: a course is broken; ModelFileError: no tokenizer.
    """
    counted = Report()
    work = Audit(counted, tokenizer=tokenizer, processes=processes)
    is_course = (Path(path) / "course.toml").is_file()
    rows = _course(path, counted) if is_course else sources.read(path, format=format, report=counted)
    work.run(parallel.progress(rows, "reading"))
    sets = [(name, _prompts(name)) for name in against]
    if not is_course:
        own = manifest.read(Path(path)) or {}
        for course in build_course.all_courses(courses_folder):
            if own.get("name") == course.id:  # its splits, the held-out ones among them
                continue
            made = build_course.plan(course, out, seed=SEED, fresh=False, stages={})
            parts = zip(made.rows, made.result.parts, strict=True)
            held = [Prompt(row.asked, row.completion) for row, part in parts if part == "test"]
            sets.append((f"the course {course.id}", held))
    found = {"path": path, **work.result([(name, prompts) for name, prompts in sets if prompts])}
    return {**found, "verdict": report.verdict(found)}


def _course(path: str, counted: Report) -> Iterator[Row]:
    if wrong := courses.problems(path):
        raise CourseError("\n".join(map(str, wrong)))  # all of them: who writes a course mends them in one go
    course = courses.load(path)
    for example in course_rows(course, Counter()):
        counted.rows += 1
        question = (Message("user", example.prompt),)
        yield Row(question, example.completion, course.id, example.topic, f"{path}: {example.id}")
    if not counted.rows:
        raise DataError(f"{path}/course.toml:1: the course has no notes, questions or multiple-choice items.")


def _prompts(path: str) -> list[Prompt]:
    """Evaluation prompts: the lines of a .txt file, every "prompt" or "question" in a .json file, or rows."""
    file = Path(path)
    if file.suffix == ".txt":
        return [Prompt(row.completion) for row in sources.read(file, format="text")]
    if file.suffix == ".json":
        try:
            found = list(dict.fromkeys(_named(json.loads(file.read_text(encoding="utf-8")))))
        except OSError as error:
            raise DataError(f"{file} cannot be read: {error.strerror or error}.") from error
        except (ValueError, RecursionError) as error:
            raise DataError(f"{file}:1: this is not valid JSON in UTF-8: {error}") from error
        if not found:
            raise DataError(f'{file}:1: there is no "prompt" or "question" in it.')
        return [Prompt(text) for text in found]
    return [Prompt(row.question, row.completion) for row in sources.read(path)]


def _named(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            if name in ("prompt", "question", "instruction") and isinstance(inner, str):
                yield inner
            else:
                yield from _named(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _named(inner)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="data/audit.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("path", help="file, folder, course folder, or Hub id")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a report")
    parser.add_argument("--format", choices=FORMATS, default="", help="default: recognized row by row")
    parser.add_argument("--against", action="append", default=[], metavar="FILE", help="evaluation prompts to look for")
    parser.add_argument("--courses", type=Path, help="folder of courses (default: data/courses and ~/.iris/courses)")
    parser.add_argument(
        "--out", type=Path, default=Path("outputs/data"), help="where builds are (default: outputs/data)"
    )
    parser.add_argument("--tokenizer", type=Path, metavar="GGUF", help="default: the built-in model's")
    parser.add_argument("--processes", type=parallel.positive, help="worker processes (default: the CPU quota)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
