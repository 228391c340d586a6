"""Build training data: clean, de-duplicate, group near-duplicates, split by group, write with a manifest.

    python data/build.py --course id2223                          the course, to outputs/data/id2223
    python data/build.py --source finetome --sample 40000         first-stage data from the Hub
    python data/build.py --source dolly --path dolly.json         the same from a local file
    python data/build.py --course id2223 --push owner/name        upload card and splits to the Hub

Writes train.jsonl, validation.jsonl and test.jsonl (prompt/completion messages), for a course also mcq_test.jsonl,
and manifest.json. Run again, rows keep the part they have; --fresh forgets the earlier build.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from data import build_course, build_source, card, push
from data.manifest import Outcome
from data.parallel import positive
from iris.errors import IrisError

SEED = 2223


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    for name in ("path", "sample", "keep_instructions"):
        if getattr(options, name) and not options.source:
            parser.error(f"--{name.replace('_', '-')} goes with --source")
    made: Outcome | None = None
    try:
        if options.source:
            made = build_source.build(
                options.source,
                options.out,
                path=options.path,
                sample=options.sample,
                courses=build_course.all_courses(options.courses),
                seed=options.seed,
                fresh=options.fresh,
                keep_instructions=options.keep_instructions,
                processes=options.processes,
            )
        else:
            course = build_course.find(options.course or "id2223", options.courses)
            made = build_course.build(course, options.out, seed=options.seed, fresh=options.fresh)
        _print(made)
        if options.card:
            card.update(made.manifest)
            print(f"The counts in {card.README} are those of this build.")
        if options.push:
            print(f"Uploaded to {push.push(made, options.push, private=options.private)}")
    except IrisError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped." if made else "Stopped; nothing was written.", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="data/build.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--course", help="id or folder of a course (default: id2223)")
    what.add_argument("--source", help="finetome, dolly, alpaca, philosophy, exam, or a Hub id")
    parser.add_argument("--path", help="local file or folder to read the source from")
    parser.add_argument("--sample", type=positive, help="rows to draw from the source (default: all)")
    parser.add_argument("--out", type=Path, default=Path("outputs/data"), help="default: outputs/data")
    parser.add_argument("--courses", type=Path, help="folder of courses (default: data/courses and ~/.iris/courses)")
    parser.add_argument("--seed", type=int, default=SEED, help=f"default: {SEED}")
    parser.add_argument("--fresh", action="store_true", help="do not keep the parts of an earlier build")
    parser.add_argument("--keep-instructions", action="store_true", help="leave “briefly”, “in two sentences” … in")
    parser.add_argument("--processes", type=positive, help="worker processes (default: the CPU quota)")
    parser.add_argument("--card", action="store_true", help="write the counts into data/README.md")
    parser.add_argument(
        "--push", metavar="OWNER/NAME", type=push.repository, help="upload card and splits to this Hub data set"
    )
    parser.add_argument("--private", action="store_true", help="make the Hub data set private")
    return parser


def _print(made: Outcome) -> None:
    about = made.manifest
    rows = about["rows"]
    counted = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in rows.items() if count)
    print(f"{about['title']}: {counted}")
    for name, split in about["splits"].items():
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in split["kinds"].items())
        print(f"  {name:<11} {split['rows']:>7,} rows in {split['groups']:>7,} groups  ({kinds or 'empty'})")
    changed = {name: count for name, count in about["rules"].items() if count}
    print(f"  cleaned     {', '.join(f'{name} {count:,}' for name, count in changed.items()) or 'nothing to change'}")
    for reason, count in about["dropped"].items():
        print(f"  left out    {count:,}: {reason}")
    for entry in about["checked_against"]:
        print(f"  checked against {entry.get('course') or entry.get('build')}: {entry['dropped']:,} rows left out")
    earlier = about["earlier_build"]
    if earlier["kept"] or earlier["moved"]:
        print(f"  earlier build: {earlier['kept']:,} rows stayed where they were, {earlier['moved']:,} moved")
    for warning in made.warnings:
        print(f"  note: {warning}")
    print(f"  in {made.folder}")


if __name__ == "__main__":
    sys.exit(main())
