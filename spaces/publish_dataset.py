"""Publish a build of a course as a data set on the Hugging Face Hub: splits, manifest, and a card with its numbers.

    python spaces/publish_dataset.py outputs/data/id2223                         # to you/id2223
    python spaces/publish_dataset.py outputs/data/id2223 --to our-school/exam --private

`python data/build.py --course id2223` makes the build. A file that is not the one of the build's manifest is refused.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import model_card
from deploy import name
from space_folder import SpaceError

from data import card, manifest
from iris.errors import IrisError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        return _publish(options)
    except IrisError as error:
        print(f"publish_dataset: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("build", type=Path, help="the build's folder, outputs/data/COURSE")
    parser.add_argument("--to", type=name, help="the repository, owner/name (you/COURSE)")
    parser.add_argument("--private", action="store_true", help="only for its owner")
    return parser


def _publish(options: argparse.Namespace) -> int:
    folder: Path = options.build
    about = manifest.read(folder)
    if about is None:
        raise SpaceError(f"There is no build in {folder}. Make one: python data/build.py --course {folder.name}")
    model_card.free(f"the data {about['name']}", str(about.get("licence") or ""))
    splits = [split for split in about["splits"].values() if split["rows"]]
    files: dict[str, Path | bytes] = {
        "README.md": card.text(about).encode(),
        **{f"{about['name']}/{split['file']}": manifest.checked(folder, split) for split in splits},
        f"{about['name']}/{manifest.NAME}": folder / manifest.NAME,
    }
    from hub_session import Session

    session = Session()
    repo = options.to or f"{session.name}/{about['name']}"
    session.own(repo)
    session.call(
        f"making {repo}",
        session.api.create_repo,
        repo,
        repo_type="dataset",
        private=options.private or None,
        exist_ok=True,
    )
    message = f"{about['title']}: {about['rows']['written']:,} rows"
    done = session.upload(repo, "dataset", files, message, tidy=False)
    address = f"{session.api.endpoint}/datasets/{repo}"
    print(f"{done.sent} files sent, {done.same} as before: {address}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
