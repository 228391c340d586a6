"""Near-duplicates among many texts: MinHash signatures (datasketch), locality-sensitive hashing, exact check, union.

Two texts are near-duplicates if their sets of words (``data.text``) overlap by a Jaccard similarity of at least
``QUESTION_LIKE`` or ``ANSWER_LIKE``. Candidates come from MinHash with 42 bands of 3 rows, which finds a pair of
similarity 0.5 with a probability of 99.6 %, of 0.6 with 99.996 %, of 0.7 with 1 - 2e-8; every candidate is then
checked on the sets themselves, so nothing is joined by accident. Groups are the connected components.

Leskovec, Rajaraman, Ullman: Mining of Massive Datasets, chapter 3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from data.files import DataError
from data.text import Features

QUESTION_LIKE = 0.8
ANSWER_LIKE = 0.5
CONTAINED = 0.6

_BANDS, _ROWS = 42, 3
_SLACK = 0.15  # how far a similarity estimated from 126 values may lie below the true one: 3.4 standard deviations
_FAMILY = 100  # texts in one bucket from which on not every pair is compared
_RARE = 32  # texts of a family that may share a feature for it to count as rare
_NEIGHBOURS = 8
_TELLING = 15  # features of a text from which on it can be contained in another
_CHUNK = 1 << 14  # pairs handled at once
_REMEMBERED = 1 << 22  # pairs, 32 MB
_PATIENCE = 30  # pairs for each text that may look alike and not be, before the estimate is taken as it is

Ints = npt.NDArray[np.int64]
Signatures = npt.NDArray[np.uint32]


@dataclass(frozen=True)
class Sketches:
    """What is kept of n texts: ``signatures`` (n, 126), and the features of text i at ``starts[i]:starts[i + 1]``."""

    signatures: Signatures
    features: Features
    starts: Ints

    def __len__(self) -> int:
        return len(self.signatures)

    @cached_property
    def sizes(self) -> Ints:
        return np.diff(self.starts)


def sketch(texts: Iterable[str], features: Callable[[str], Features]) -> Sketches:
    """The sketches of some texts; ``features`` is ``text.question_features`` or ``text.answer_features``."""
    sets = [features(text) for text in texts]
    minhash = _minhash()
    signatures = np.empty((len(sets), _BANDS * _ROWS), np.uint32)
    for number, values in enumerate(sets):
        minhash.clear()
        minhash.update_batch((values,))
        signatures[number] = minhash.hashvalues
    starts = np.concatenate([[0], np.cumsum([len(values) for values in sets], dtype=np.int64)]).astype(np.int64)
    return Sketches(signatures, np.concatenate(sets) if sets else np.empty(0, np.uint32), starts)


def joined(parts: Sequence[Sketches]) -> Sketches:
    """One after the other."""
    if not parts:
        return Sketches(np.empty((0, _BANDS * _ROWS), np.uint32), np.empty(0, np.uint32), np.zeros(1, np.int64))
    sizes = np.concatenate([part.sizes for part in parts])
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    signatures = np.concatenate([part.signatures for part in parts])
    return Sketches(signatures, np.concatenate([part.features for part in parts]), starts)


@cache
def _minhash() -> Any:
    try:
        from datasketch import MinHash  # here, because it takes a second to import
    except ImportError:
        raise DataError("Finding near-duplicates needs datasketch. Install it: make offline") from None
    # The features are hashes already: 32 bits, which is what MinHash works with. An array passes as one element.
    return MinHash(num_perm=_BANDS * _ROWS, seed=1, hashfunc=_itself)


def _itself(values: Features) -> Features:
    return values


class Groups:
    """Which of n things belong together (union-find). A group is known by its smallest member."""

    def __init__(self, n: int) -> None:
        self._parent = np.arange(n, dtype=np.int64)

    def join(self, a: int, b: int) -> None:
        parent = self._parent
        while parent[a] != a:
            parent[a] = a = int(parent[parent[a]])
        while parent[b] != b:
            parent[b] = b = int(parent[parent[b]])
        parent[max(a, b)] = min(a, b)

    def join_pairs(self, left: Ints, right: Ints) -> None:
        for a, b in zip(left.tolist(), right.tolist(), strict=True):
            self.join(a, b)

    def join_equal(self, keys: npt.NDArray[Any], members: Ints | None = None) -> None:
        """Join things of equal key; ``members`` are their numbers, by default 0, 1, 2, …"""
        order = np.argsort(keys, kind="stable")
        same = np.flatnonzero(keys[order][1:] == keys[order][:-1])
        numbers = order if members is None else members[order]
        self.join_pairs(numbers[same], numbers[same + 1])

    def labels(self) -> Ints:
        """For each thing the smallest member of its group."""
        parent = self._parent
        while not np.array_equal(above := parent[parent], parent):
            parent = above
        self._parent = parent
        return parent.copy()


def join_near_duplicates(groups: Groups, sketches: Sketches, like: float, members: Ints | None = None) -> None:
    """Join all texts whose features overlap by ``like`` or more; text i is thing ``members[i]`` of ``groups``.

    In a family of more than 100 texts that fall in one bucket of the hash, pairs that share none of the family's rare
    words are compared only with the smallest text of the same common words and with some neighbours. That misses
    nothing where the common words are a fixed frame ("What are the advantages of … ?"). In a collection where nearly
    all pairs are nearly alike (texts put together from a few sentences) the estimate gets the last word in the end, so
    that time does not grow with the square of the texts; pairs just above ``like`` can then be missed.
    """
    members = np.arange(len(sketches), dtype=np.int64) if members is None else members
    keys = _set_keys(sketches)
    groups.join_equal(keys, members)
    first = np.sort(np.unique(keys, return_index=True)[1]).astype(np.int64)  # of equal sets one is enough from here on
    check = _Check(groups, sketches, like, members)
    for band in range(_BANDS):
        rows = sketches.signatures[first, band * _ROWS : (band + 1) * _ROWS].astype(np.uint64)
        key = (rows[:, 0] * np.uint64(0x9E3779B97F4A7C15) ^ rows[:, 1]) * np.uint64(0xBF58476D1CE4E5B9) ^ rows[:, 2]
        for left, right in _candidates(sketches, first, key, groups, members, band):
            check.add(left, right)
    check.join()


def _set_keys(sketches: Sketches) -> npt.NDArray[np.uint64]:
    """Equal for equal sets of features: a sum of mixed hashes, with the size."""
    mixed = sketches.features.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> np.uint64(32)
    mixed *= np.uint64(0x94D049BB133111EB)
    if not len(sketches):
        return mixed
    sums: npt.NDArray[np.uint64] = np.add.reduceat(mixed, sketches.starts[:-1])
    return sums ^ sketches.sizes.astype(np.uint64)


def _candidates(
    sketches: Sketches, texts: Ints, key: npt.NDArray[np.uint64], groups: Groups, members: Ints, band: int
) -> Iterator[tuple[Ints, Ints]]:
    """Pairs of texts of one key: all of them in small buckets, the promising ones in families."""
    order = np.argsort(key, kind="stable")
    key = key[order]
    begins = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]]))
    counts = np.diff(np.append(begins, len(key)))
    texts = texts[order]
    small = (counts >= 2) & (counts <= _FAMILY)
    yield from _pairs_in_runs(texts, begins[small], counts[small])
    labels = groups.labels()[members[texts]]
    for begin, count in zip(begins[counts > _FAMILY].tolist(), counts[counts > _FAMILY].tolist(), strict=True):
        part = slice(begin, begin + count)
        if (labels[part] != labels[begin]).any():
            yield from _family(sketches, texts[part], band)


def _pairs_in_runs(items: Ints, begins: Ints, counts: Ints) -> Iterator[tuple[Ints, Ints]]:
    """All pairs within each run ``items[begin : begin + count]``."""
    for size in np.unique(counts):
        upper, lower = np.triu_indices(size, 1)
        at_once = max(1, _CHUNK // len(upper))
        runs = begins[counts == size]
        for start in range(0, len(runs), at_once):
            rows = items[runs[start : start + at_once, None] + np.arange(size)]
            yield rows[:, upper].ravel(), rows[:, lower].ravel()


def _family(sketches: Sketches, family: Ints, band: int) -> Iterator[tuple[Ints, Ints]]:
    """The pairs of a large bucket that can be near-duplicates, without comparing every text with every other."""
    where, owner = _gather(sketches, family)
    features = sketches.features[where]
    order = np.argsort(features, kind="stable")
    features, owner = features[order], owner[order]
    begins = np.flatnonzero(np.concatenate([[True], features[1:] != features[:-1]]))
    counts = np.diff(np.append(begins, len(features)))
    rare = (counts >= 2) & (counts <= _RARE)
    yield from _pairs_in_runs(family[owner], begins[rare], counts[rare])

    # What is left shares only common features. Among texts with the same common features the smallest one is the most
    # similar to all others, so comparing with it is enough.
    common = np.repeat(counts > _RARE, counts)
    mixed = features[common].astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(32))) * np.uint64(0x94D049BB133111EB)
    pattern = np.zeros(len(family), np.uint64)
    np.add.at(pattern, owner[common], mixed)
    order = np.lexsort((sketches.sizes[family], pattern))
    begins = np.flatnonzero(np.concatenate([[True], pattern[order][1:] != pattern[order][:-1]]))
    counts = np.diff(np.append(begins, len(order)))
    yield from _chunks(family[np.repeat(order[begins], counts)], family[order])

    leaders = family[order[begins]]
    following = sketches.signatures[leaders, (band * _ROWS + _ROWS) % (_BANDS * _ROWS) :][:, :4]
    leaders = leaders[np.lexsort(following.T)]
    for step in range(1, min(_NEIGHBOURS, len(leaders) - 1) + 1):
        yield from _chunks(leaders[:-step], leaders[step:])


def _chunks(left: Ints, right: Ints) -> Iterator[tuple[Ints, Ints]]:
    for start in range(0, len(left), _CHUNK):
        yield left[start : start + _CHUNK], right[start : start + _CHUNK]


def _gather(sketches: Sketches, texts: Ints) -> tuple[Ints, Ints]:
    """The places of all features of some texts, and which of the texts (0, 1, …) each belongs to."""
    sizes = sketches.sizes[texts]
    owner = np.repeat(np.arange(len(texts)), sizes)
    offsets = np.arange(len(owner)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return sketches.starts[texts][owner] + offsets, owner


def join_contained(groups: Groups, sketches: Sketches) -> None:
    """Join texts of which one is for the most part contained in the other, however long that is.

    Features that more than 50 texts have are ignored, and so are texts with few features: they are in everything.
    """
    order = np.argsort(sketches.features, kind="stable")
    features = sketches.features[order]
    owner = np.repeat(np.arange(len(sketches)), sketches.sizes)[order]
    begins = np.flatnonzero(np.concatenate([[True], features[1:] != features[:-1]]))
    counts = np.diff(np.append(begins, len(features)))
    shared = (counts >= 2) & (counts <= 50)
    codes = [
        np.minimum(left, right) << 32 | np.maximum(left, right)
        for left, right in _pairs_in_runs(owner, begins[shared], counts[shared])
    ]
    if not codes:
        return
    code, common = np.unique(np.concatenate(codes), return_counts=True)
    left, right = code >> 32, code & 0xFFFFFFFF
    smaller = np.minimum(sketches.sizes[left], sketches.sizes[right])
    inside = (smaller >= _TELLING) & (common >= CONTAINED * smaller)
    groups.join_pairs(left[inside], right[inside])


class _Check:
    """Joins the candidates that really are near-duplicates, looking closely at as few of them as possible."""

    def __init__(self, groups: Groups, sketches: Sketches, like: float, members: Ints) -> None:
        self._groups, self._sketches, self._like, self._members = groups, sketches, like, members
        self._sizes = sketches.sizes
        # For an estimate the lowest byte of each value is enough, and a quarter of the memory to walk through.
        self._marks = sketches.signatures.astype(np.uint8)
        self._needed = round((like - _SLACK) * _BANDS * _ROWS)
        self._waiting: list[tuple[Ints, Ints]] = []
        self._count = 0
        self._failures = 0
        self._failed = np.empty(0, np.uint64)  # pairs that looked alike and were not, sorted
        self._lately: list[npt.NDArray[np.uint64]] = []  # the same, not yet sorted in

    def add(self, left: Ints, right: Ints) -> None:
        self._waiting.append((left, right))
        self._count += len(left)
        if self._count >= _CHUNK:
            self.join()

    def join(self) -> None:
        """Check and join what was added."""
        if not self._count:
            return
        left = np.concatenate([pair[0] for pair in self._waiting])
        right = np.concatenate([pair[1] for pair in self._waiting])
        self._waiting, self._count = [], 0
        members, labels = self._members, self._groups.labels()
        one, other = self._sizes[left], self._sizes[right]
        keep = (labels[members[left]] != labels[members[right]]) & (
            np.minimum(one, other) >= self._like * np.maximum(one, other)
        )
        left, right = left[keep], right[keep]
        if not len(left):
            return
        agree = (self._marks[left] == self._marks[right]).sum(1) >= self._needed
        left, right = left[agree], right[agree]
        code = np.minimum(left, right).astype(np.uint64) << np.uint64(32) | np.maximum(left, right).astype(np.uint64)
        code = np.unique(code)
        if len(self._failed):
            place = np.minimum(np.searchsorted(self._failed, code), len(self._failed) - 1)
            code = code[self._failed[place] != code]
        left, right = (code >> np.uint64(32)).astype(np.int64), (code & np.uint64(0xFFFFFFFF)).astype(np.int64)
        alike = jaccard(self._sketches, left, right) >= self._like
        self._groups.join_pairs(members[left[alike]], members[right[alike]])
        failed = code[~alike]
        self._failures += len(failed)
        if self._failures > _PATIENCE * len(self._sizes):
            self._needed = round(self._like * _BANDS * _ROWS)
        if len(self._failed) < _REMEMBERED:
            self._lately.append(failed)
            if len(self._lately) == 64:
                self._failed = np.unique(np.concatenate([self._failed, *self._lately]))
                self._lately.clear()


def jaccard(sketches: Sketches, left: Ints, right: Ints) -> npt.NDArray[np.float64]:
    """The exact similarity of pairs of texts: shared features over all features."""
    if not len(left):
        return np.empty(0)
    sizes = sketches.sizes[left] + sketches.sizes[right]
    if sizes.mean() < 100:  # many small sets: all at once
        parts = []
        for texts in (left, right):
            where, owner = _gather(sketches, texts)
            parts.append(owner.astype(np.uint64) << np.uint64(32) | sketches.features[where].astype(np.uint64))
        both = np.sort(np.concatenate(parts))  # a feature that both texts of a pair have stands there twice
        pair = (both[1:][both[1:] == both[:-1]] >> np.uint64(32)).astype(np.int64)
        shared = np.bincount(pair, minlength=len(left))
    else:
        shared = np.array([_shared(sketches, a, b) for a, b in zip(left.tolist(), right.tolist(), strict=True)])
    result: npt.NDArray[np.float64] = shared / (sizes - shared)
    return result


def _shared(sketches: Sketches, a: int, b: int) -> int:
    one = sketches.features[sketches.starts[a] : sketches.starts[a + 1]]
    other = sketches.features[sketches.starts[b] : sketches.starts[b + 1]]
    place = one.searchsorted(other)
    place[place == len(one)] = 0
    return int(np.count_nonzero(one[place] == other))
