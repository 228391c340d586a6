"""Which part of the data a group of near-duplicates goes to.

A group is named after its first row. Its part is drawn from a hash of the seed and that name, so rows that are added
elsewhere change nothing, and a row that joins a group follows it. Where the earlier build is at hand, rows keep the
part they had there. If a new row joins two groups of different parts, the group goes where most damage is avoided:
to training if any of it has been trained on, else to validation, else to test. Such moves are counted and listed.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from data import text

SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}
BANK_SHARE = 0.4
"""Of the multiple-choice items of each topic that are held out: with 4 or 5 a topic, two."""
BANK_FILE = "mcq_test"

_PRECEDENCE = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class Item:
    """What a split is decided on. ``kind`` is qa, note, mcq or chat."""

    id: str
    kind: str = "chat"
    topic: str = ""


@dataclass(frozen=True, slots=True)
class Splits:
    """For each item the name of its group and its part: train, validation, test, or empty where it was left out."""

    groups: list[str]
    parts: list[str]
    kept: int
    moved: list[str]


def assign(
    items: Sequence[Item],
    labels: Sequence[int],
    *,
    seed: int,
    before: Mapping[str, str] | None = None,
    left_out: Iterable[int] = (),
    training: Iterable[int] = (),
) -> Splits:
    """Decide the part of every item; items of one label stay together.

    ``before`` are parts of an earlier build by id. Groups whose label is in ``left_out`` are dropped, those in
    ``training`` go to training whatever else speaks for another part.
    """
    before = before or {}
    dropped, pinned = set(left_out), set(training)
    members: dict[int, list[int]] = defaultdict(list)
    for number, label in enumerate(labels):
        members[label].append(number)
    names = {label: items[numbers[0]].id for label, numbers in members.items()}
    parts: dict[int, str] = {}
    for label, numbers in members.items():
        earlier = {before[items[number].id] for number in numbers if items[number].id in before}
        if label in dropped:
            parts[label] = ""
        elif label in pinned:
            parts[label] = "train"
        elif earlier:
            parts[label] = next(part for part in _PRECEDENCE if part in earlier)
    _hold_out_bank(items, members, names, parts, seed)
    for label, numbers in members.items():
        if label not in parts:
            # Notes are what the course teaches: they are for training, unless a held-out row repeats one.
            asked = any(items[number].kind in ("qa", "chat") for number in numbers)
            parts[label] = _draw(seed, names[label]) if asked else "train"
    result = [parts[label] for label in labels]
    ids = [item.id for item in items]
    kept = sum(before.get(name) == part for name, part in zip(ids, result, strict=True))
    moved = [name for name, part in zip(ids, result, strict=True) if part and before.get(name, part) != part]
    return Splits([names[label] for label in labels], result, kept, moved)


def _draw(seed: int, name: str) -> str:
    drawn, limit = text.fraction("split", str(seed), name), 0.0
    for part, share in SHARES.items():
        limit += share
        if drawn < limit:
            return part
    return part


def _hold_out_bank(
    items: Sequence[Item],
    members: Mapping[int, Sequence[int]],
    names: Mapping[int, str],
    parts: dict[int, str],
    seed: int,
) -> None:
    """Give groups with multiple-choice items to test until each topic has its share there, the rest to training."""
    topics: dict[str, list[int]] = defaultdict(list)
    for label, numbers in members.items():
        for topic in {items[number].topic for number in numbers if items[number].kind == "mcq"}:
            topics[topic].append(label)
    for topic, labels in topics.items():
        of_topic = {
            label: sum(items[number].kind == "mcq" and items[number].topic == topic for number in members[label])
            for label in labels
        }
        total = sum(of_topic.values())
        wanted = max(round(BANK_SHARE * total), 1) if total > 1 else 0
        held = sum(count for label, count in of_topic.items() if parts.get(label) == "test")
        for label in sorted(labels, key=lambda label: text.fraction("bank", str(seed), names[label])):
            if label not in parts and held + of_topic[label] <= wanted:
                parts[label] = "test"
                held += of_topic[label]
    for labels in topics.values():
        for label in labels:
            parts.setdefault(label, "train")


def shares(parts: Iterable[str]) -> dict[str, float]:
    """The real share of each part, rounded to four digits."""
    counts = Counter(part for part in parts if part)
    total = sum(counts.values())
    return {part: round(counts[part] / total, 4) if total else 0.0 for part in SHARES}
