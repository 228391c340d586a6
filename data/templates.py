"""Which prompts are made from a template: the same words around a slot of a few others.

A frame is a prompt without one stretch of one to six words. It counts as a template when enough different prompts
have it and it is most of them ("What are the advantages of … ?"), or, with fewer fixed words, when it makes up a
twentieth of all prompts ("Explain …").
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from data.text import words

_LONGEST = 24  # words; a longer prompt from a template has more than one slot, or is no student's question
_SLOT = 6
_FIXED = 4  # words of a frame that is a template by itself
_PROMPTS = 5  # of a template, and at least a thousandth of all
_COMMON = 0.05  # share of all prompts at which a shorter frame is a template as well
_SHORT_SLOT = 4

Keys = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Frames:
    """The frames of some prompts: ``keys[i]`` is one of prompt ``owners[i]``; ``fixed[i]`` whether it is long."""

    keys: Keys
    owners: npt.NDArray[np.int64]
    fixed: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Template:
    """A frame with ``…`` for the slot, and how many different prompts it has."""

    text: str
    prompts: int


def frames(prompts: Sequence[str]) -> Frames:
    """The frames of prompts, each of which must be different from the others."""
    keys, owners, fixed = [], [], []
    for number, prompt in enumerate(prompts):
        begin, end = _slots(len(found := words(prompt)))
        if not len(begin):
            continue
        keys.append(_frame_keys(found, begin, end))
        owners.append(np.full(len(begin), number, np.int64))
        fixed.append(_is_long(len(found), begin, end))
    if not keys:
        return Frames(np.empty(0, np.uint64), np.empty(0, np.int64), np.empty(0, bool))
    return Frames(np.concatenate(keys), np.concatenate(owners), np.concatenate(fixed))


def _slots(count: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Begin and end of every stretch that can be the slot of a prompt of ``count`` words."""
    if not 2 <= count <= _LONGEST:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    begin, size = np.meshgrid(np.arange(count), np.arange(1, _SLOT + 1), indexing="ij")
    end = begin + size
    short = (size <= _SHORT_SLOT) & (count - size >= 1)
    chosen = (end <= count) & (short | _is_long(count, begin, end))
    return begin[chosen], end[chosen]


def _is_long(count: int, begin: npt.NDArray[np.int64], end: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    rest = count - (end - begin)
    result: npt.NDArray[np.bool_] = (rest >= _FIXED) & (rest >= end - begin)
    return result


def _frame_keys(found: Sequence[str], begin: npt.NDArray[np.int64], end: npt.NDArray[np.int64]) -> Keys:
    left, right = [1], [1]
    for word in found:
        left.append((left[-1] * 0x100000001B3 + zlib.crc32(word.encode("utf-8", "surrogatepass"))) & 0xFFFFFFFFFFFFFFFF)
    for word in reversed(found):
        right.append(
            (right[-1] * 0x100000001B3 + zlib.crc32(word.encode("utf-8", "surrogatepass"))) & 0xFFFFFFFFFFFFFFFF
        )
    before, after = np.array(left, np.uint64)[begin], np.array(right[::-1], np.uint64)[end]
    mixed: Keys = (before * np.uint64(0xBF58476D1CE4E5B9) ^ after) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def templates(prompts: Sequence[str], found: Frames, *, total: int, shown: int = 5) -> tuple[int, list[Template]]:
    """How many prompts are made from a template, and the largest templates.

    ``prompts`` are those that ``found`` is of, ``total`` is how many there are in all.
    """
    order = np.argsort(found.keys, kind="stable")
    keys, owners, fixed = found.keys[order], found.owners[order], found.fixed[order]
    if not len(keys):
        return 0, []
    begins = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    counts = np.diff(np.append(begins, len(keys)))
    is_template = (fixed[begins] & (counts >= max(_PROMPTS, total / 1000))) | (
        counts >= max(2 * _PROMPTS, _COMMON * total)
    )
    made = np.unique(owners[np.repeat(is_template, counts)])

    largest: list[Template] = []
    left = np.ones(len(prompts), bool)
    for place in np.flatnonzero(is_template)[np.argsort(-counts[is_template], kind="stable")].tolist():
        members = owners[begins[place] : begins[place] + counts[place]]
        members = members[left[members]]
        if len(members) >= max(_PROMPTS, counts[place] / 2):  # most of it is not in a template named before
            left[members] = False
            largest.append(Template(_shown(prompts[int(members[0])], int(keys[begins[place]])), int(counts[place])))
            if len(largest) == shown:
                break
    return len(made), largest


def _shown(prompt: str, key: int) -> str:
    found = words(prompt)
    begin, end = _slots(len(found))
    place = int(np.flatnonzero(_frame_keys(found, begin, end) == np.uint64(key))[0])
    return " ".join([*found[: begin[place]], "…", *found[end[place] :]])
