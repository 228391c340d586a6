"""Checkpoints that count only when they are complete.

A kill can come at any byte of a checkpoint. The marker is written last and renamed into place, so a folder that has it
is whole; older folders are removed only after that. Of the complete ones the newest is resumed from and the best kept.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

_MARKER = "complete.json"
_NAME = re.compile(r"checkpoint-(\d+)")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A complete checkpoint; ``last``: the stage ended here, by its plan or early, so nothing is left to train."""

    folder: Path
    step: int
    last: bool


def complete(folder: Path, *, step: int, last: bool) -> None:
    """Vouch for a checkpoint whose files are all written."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
    write_json(folder / _MARKER, {"step": step, "last": last})


def newest(root: Path) -> Checkpoint | None:
    """The complete checkpoint of the highest step."""
    return max(_complete(root), key=lambda found: found.step, default=None)


def prune(root: Path, *, keep: set[int]) -> None:
    """Remove all checkpoints but those of the steps in ``keep``; a half-written one is always removed."""
    whole = {found.folder for found in _complete(root) if found.step in keep}
    for path in root.glob("checkpoint-*"):
        if path not in whole:
            # Without its marker first: a kill in the middle must not leave a complete-looking ruin.
            (path / _MARKER).unlink(missing_ok=True)
            shutil.rmtree(path)


def _complete(root: Path) -> list[Checkpoint]:
    found = []
    for path in root.glob("checkpoint-*"):
        match = _NAME.fullmatch(path.name)
        try:
            about = json.loads((path / _MARKER).read_text())
        except (OSError, ValueError):
            continue
        if match and about["step"] == int(match[1]):
            found.append(Checkpoint(path, about["step"], about["last"]))
    return found


def write_json(path: Path, value: object) -> None:
    """Write a JSON file beside its place and rename it."""
    beside = path.with_name(f"{path.name}.partial")
    with beside.open("w", encoding="utf-8") as file:
        json.dump(value, file, ensure_ascii=False, indent=1)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)


def as_json(value: object) -> object:
    """A dataclass as JSON would give it back: tuples as lists."""
    return json.loads(json.dumps(asdict(value)))  # type: ignore[call-overload]
