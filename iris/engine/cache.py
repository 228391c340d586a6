"""Which tokens every sequence of the context holds, and how many cells that takes.

Sequences that share a prefix share its cells, so the cells in use are fewer than the tokens held. Each token of a
sequence carries the number of a virtual cell; copying a prefix copies the numbers, and a cell is free again when
nothing refers to it. (Which physical cell llama.cpp uses does not matter: only how many are left.)
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int32]


def common_prefix(a: Ints, b: Ints) -> int:
    """How many leading token ids ``a`` and ``b`` share."""
    size = min(len(a), len(b))
    if size == 0:
        return 0
    different = a[:size] != b[:size]
    first = int(different.argmax())
    return first if different[first] else size


class Sequence:
    """The tokens that one sequence of the context holds; ``number`` is llama.cpp's id of it."""

    def __init__(self, number: int, limit: int) -> None:
        self.number = number
        self.length = 0
        self.last_used = 0.0
        self._tokens = np.zeros(limit, np.int32)
        self._cells = np.zeros(limit, np.int32)

    @property
    def tokens(self) -> Ints:
        return self._tokens[: self.length]

    @property
    def cells(self) -> Ints:
        return self._cells[: self.length]


class Cells:
    """Counts the cells of all sequences; every change of a sequence goes through here.

    Args:
        capacity: cells there are.
        sequences: how many sequences there are.
        limit: the most tokens one sequence may hold.
    """

    def __init__(self, capacity: int, sequences: int, limit: int) -> None:
        self.capacity = capacity
        self.sequences = [Sequence(number, limit) for number in range(sequences)]
        self._references = np.zeros(capacity, np.int32)
        self._free = np.arange(capacity, dtype=np.int32)
        self._free_count = capacity

    @property
    def free(self) -> int:
        return self._free_count

    @property
    def used(self) -> int:
        return self.capacity - self._free_count

    def append(self, sequence: Sequence, tokens: Ints) -> None:
        """Record freshly read tokens. There must be that many free cells."""
        count = len(tokens)
        assert count <= self._free_count, "read more tokens than there are free cells"
        start = self._free_count - count
        taken = self._free[start : self._free_count]
        self._free_count = start
        self._references[taken] = 1
        end = sequence.length + count
        sequence._tokens[sequence.length : end] = tokens
        sequence._cells[sequence.length : end] = taken
        sequence.length = end

    def share(self, source: Sequence, target: Sequence, length: int) -> None:
        """Let ``target``, which holds a shorter part of the same prefix, hold ``source``'s first ``length`` tokens.

        What it holds already stays in its own cells; only the rest is shared.
        """
        start = target.length
        target._tokens[start:length] = source._tokens[start:length]
        target._cells[start:length] = source._cells[start:length]
        self._references[source._cells[start:length]] += 1
        target.length = length

    def truncate(self, sequence: Sequence, length: int) -> None:
        """Forget all but the first ``length`` tokens."""
        dropped = sequence._cells[length : sequence.length]
        self._references[dropped] -= 1
        freed = dropped[self._references[dropped] == 0]
        self._free[self._free_count : self._free_count + len(freed)] = freed
        self._free_count += len(freed)
        sequence.length = length
