"""The record of a build: what went in, what was changed, what came out. Written last, it vouches for the rest."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data import clean_rules, splits
from data.files import DataError, Writer, sha256
from data.groups import ANSWER_LIKE, CONTAINED, QUESTION_LIKE
from data.splits import BANK_FILE, SHARES, Item, Splits

FORMAT = 1
NAME = "manifest.json"
FILES = (*SHARES, BANK_FILE)
_LISTED = 50  # ids in a list


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished build: its folder and manifest, and what the person who ran it should know."""

    folder: Path
    manifest: dict[str, Any]
    warnings: tuple[str, ...] = ()


def read(folder: Path) -> dict[str, Any] | None:
    """The manifest of the build in ``folder``; None if there is none, or one of other software.

    Raises:
        DataError: it cannot be read.
    """
    path = folder / NAME
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            f"{path}:1: the record of this build is damaged ({error}). Put it back, or build anew with --fresh."
        ) from error
    return value if isinstance(value, dict) and value.get("format") == FORMAT else None


def stages(root: Path, course: str) -> dict[str, dict[str, Any]]:
    """The manifests of all first-stage builds in the folders of ``root``, by the folder's name.

    The folder of ``course`` is its own build, not another stage.

    Raises:
        DataError: one cannot be read. Passing over it would pass over the check against its test split, unnoticed.
    """
    folders = [path.parent for path in sorted(root.glob(f"*/{NAME}")) if path.parent.name != course]
    found = {folder.name: about for folder in folders if (about := read(folder)) is not None}
    return {name: about for name, about in found.items() if about["kind"] == "source"}


def earlier(folder: Path, *, kind: str, seed: int, fresh: bool) -> dict[str, str]:
    """The part of each row in the build in ``folder``; empty if there is none, with another seed, or if ``fresh``.

    Raises:
        DataError: the build is of another kind, or a file of it is not the one of its manifest.
    """
    try:
        about = read(folder)
    except DataError:
        if not fresh:
            raise
        return {}
    if about is not None and about["kind"] != kind:
        raise DataError(
            f"{folder} holds the build of a {about['kind']}, not of a {kind}. Choose another folder: --out."
        )
    if about is None or fresh or about["seed"] != seed or about["shares"]["wanted"] != SHARES:
        return {}
    return {row["id"]: part for part, row in split_rows(folder, about)}


def split_rows(folder: Path, about: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(part, row) of all rows of a build; the held-out multiple-choice items count as test.

    Raises:
        DataError: a file is not the one of the manifest.
    """
    for name, split in about["splits"].items():
        path = checked(folder, split)
        part = "test" if name == BANK_FILE else name
        with path.open(encoding="utf-8") as file:
            for line in file:
                yield part, json.loads(line)


def checked(folder: Path, split: Mapping[str, Any]) -> Path:
    """The file of a split of the build in ``folder``.

    Raises:
        DataError: it is missing, or is not the one of the manifest.
    """
    path: Path = folder / split["file"]
    if not path.is_file() or sha256(path) != split["sha256"]:
        raise DataError(
            f"{path}:1: the file is missing, or is not the one of {NAME} beside it. Put it back, or build anew "
            "with --fresh."
        )
    return path


def fingerprint(rows: Iterable[Sequence[str]]) -> str:
    """A sha256 that changes when any of these rows changes, whatever their order."""
    return hashlib.sha256("\n".join(sorted("\0".join(row) for row in rows)).encode()).hexdigest()


def prove_separate(keys: npt.NDArray[np.uint64], parts: Sequence[str]) -> None:
    """Raise DataError if an equal question or answer stands in two parts: an independent check of the grouping.

    ``keys`` are pairs of row number and key; rows from ``len(parts)`` on belong to another build.
    """
    codes = np.array([("", *SHARES).index(part) for part in parts], np.int64)
    keys = keys[keys[:, 0] < len(codes)]
    part = codes[keys[:, 0].astype(np.int64)]
    keys, part = keys[part > 0], part[part > 0]
    order = np.argsort(keys[:, 1], kind="stable")
    same = keys[order, 1][1:] == keys[order, 1][:-1]
    if (same & (part[order][1:] != part[order][:-1])).any():
        raise DataError("The splits share a question or an answer. This is a mistake in data/: please report it.")


def finish(
    writer: Writer,
    *,
    kind: str,
    name: str,
    seed: int,
    items: Sequence[Item],
    result: Splits,
    hits: Mapping[str, int],
    rows: Mapping[str, int],
    more: Mapping[str, Any],
) -> dict[str, Any]:
    """Describe the files of ``writer`` in a manifest, and let all of them appear.

    ``rows`` counts what went in and what was left out, ``hits`` the cleaning rules that changed something, ``more``
    is put in as it is.
    """
    where = [
        BANK_FILE if item.kind == "mcq" and part == "test" else part
        for item, part in zip(items, result.parts, strict=True)
    ]
    sizes = Counter(group for group, part in zip(result.groups, result.parts, strict=True) if part)
    largest = sizes.most_common(1)[0] if sizes else ("", 0)
    described = {}
    for split in FILES:
        if split == BANK_FILE and kind != "course":
            continue
        chosen = [number for number, part in enumerate(where) if part == split]
        described[split] = {
            **writer.describe(f"{split}.jsonl"),
            "rows": len(chosen),
            "groups": len({result.groups[number] for number in chosen}),
            "kinds": dict(sorted(Counter(items[number].kind for number in chosen).items())),
        }
    manifest = {
        "format": FORMAT,
        "kind": kind,
        "name": name,
        "seed": seed,
        "shares": {
            "wanted": SHARES,
            "real": splits.shares(result.parts),
            "real_of_questions": splits.shares(
                part for item, part in zip(items, result.parts, strict=True) if item.kind in ("qa", "chat")
            ),
        },
        "rows": {**rows, "written": sum(split["rows"] for split in described.values())},
        "rules": {rule.name: hits.get(rule.name, 0) for rule in clean_rules.RULES}
        | {name: count for name, count in sorted(hits.items()) if not name.startswith("dropped")},
        "dropped": {
            name.removeprefix("dropped: "): count for name, count in sorted(hits.items()) if name.startswith("dropped")
        },
        "groups": {
            "count": len(sizes),
            "of_several_rows": sum(size > 1 for size in sizes.values()),
            "largest": {"group": largest[0], "rows": largest[1]},
            "likeness": {"question": QUESTION_LIKE, "answer": ANSWER_LIKE, "contained": CONTAINED},
        },
        "earlier_build": {"kept": result.kept, "moved": len(result.moved), "moved_ids": result.moved[:_LISTED]},
        "splits": described,
        **more,
    }
    writer.open(NAME).write(json.dumps(manifest, ensure_ascii=False, indent=1).encode() + b"\n")
    writer.commit(NAME, stale=tuple(f"{split}.jsonl" for split in FILES))
    return manifest


def listed(ids: Sequence[str]) -> list[str]:
    """The first ids of a long list."""
    return list(ids[:_LISTED])
