"""The accounting of cells, against a model that is too simple to be wrong."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from iris.engine.cache import Cells, Ints, common_prefix

CAPACITY, SEQUENCES, LIMIT = 40, 5, 24
TOKENS = st.lists(st.integers(0, 2), max_size=12)
WHICH = st.integers(0, SEQUENCES - 1)


def ints(values: list[int]) -> Ints:
    return np.array(values, np.int32)


@settings(deadline=None)
@given(a=TOKENS, b=TOKENS)
def test_the_common_prefix(a: list[int], b: list[int]) -> None:
    expected = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    assert common_prefix(ints(a), ints(b)) == expected


class Accounting(RuleBasedStateMachine):
    """Here a cell is an object, and a sequence a list of (token, cell): what is free follows by counting."""

    @initialize()
    def start(self) -> None:
        self.cells = Cells(CAPACITY, SEQUENCES, LIMIT)
        self.naive: list[list[tuple[int, object]]] = [[] for _ in range(SEQUENCES)]

    @property
    def used(self) -> int:
        return len({id(cell) for sequence in self.naive for _, cell in sequence})

    @rule(which=WHICH, tokens=TOKENS)
    def append(self, which: int, tokens: list[int]) -> None:
        room = min(CAPACITY - self.used, LIMIT - len(self.naive[which]))
        tokens = tokens[:room]
        self.cells.append(self.cells.sequences[which], ints(tokens))
        self.naive[which] += [(token, object()) for token in tokens]

    @precondition(lambda self: any(self.naive))
    @rule(data=st.data(), source=WHICH, other=WHICH)
    def share(self, data: st.DataObject, source: int, other: int) -> None:
        mine, theirs = self.naive[source], self.naive[other]
        same = [token for token, _ in mine][: len(theirs)] == [token for token, _ in theirs]
        if source == other or not same or len(mine) <= len(theirs):
            return
        length = data.draw(st.integers(len(theirs), len(mine)))
        self.cells.share(self.cells.sequences[source], self.cells.sequences[other], length)
        theirs += mine[len(theirs) : length]

    @rule(which=WHICH, keep=st.integers(0, LIMIT))
    def truncate(self, which: int, keep: int) -> None:
        keep = min(keep, len(self.naive[which]))
        self.cells.truncate(self.cells.sequences[which], keep)
        del self.naive[which][keep:]

    @rule(which=WHICH, source=WHICH)
    def start_over_from_another(self, which: int, source: int) -> None:
        """What admission does: empty a sequence, then share into it."""
        if source != which:
            self.cells.truncate(self.cells.sequences[which], 0)
            self.cells.share(self.cells.sequences[source], self.cells.sequences[which], len(self.naive[source]))
            self.naive[which] = list(self.naive[source])

    @invariant()
    def agrees(self) -> None:
        assert self.cells.used == self.used
        assert self.cells.free == CAPACITY - self.used
        for sequence, naive in zip(self.cells.sequences, self.naive, strict=True):
            assert sequence.length == len(naive)
            assert sequence.tokens.tolist() == [token for token, _ in naive]
        # The same cell here is the same cell there, and no two share one by accident.
        pairs = {
            (int(number), id(cell))
            for sequence, naive in zip(self.cells.sequences, self.naive, strict=True)
            for number, (_, cell) in zip(sequence.cells, naive, strict=True)
        }
        assert len(pairs) == len({number for number, _ in pairs}) == len({cell for _, cell in pairs})


TestAccounting = Accounting.TestCase
TestAccounting.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)


def test_every_cell_comes_back() -> None:
    cells = Cells(CAPACITY, SEQUENCES, LIMIT)
    first, *others = cells.sequences
    cells.append(first, ints([1, 2, 3, 4]))
    for other in others:
        cells.share(first, other, 3)
        cells.append(other, ints([7]))
    assert cells.used == 4 + len(others)
    cells.truncate(first, 0)
    assert cells.used == 3 + len(others), "the others still hold the prefix"
    for other in others:
        cells.truncate(other, 0)
    assert cells.free == CAPACITY


def test_reading_more_than_there_is_room_for_is_a_bug_of_the_caller() -> None:
    cells = Cells(4, 2, 8)
    with pytest.raises(AssertionError, match="free cells"):
        cells.append(cells.sequences[0], ints([1] * 5))
    assert cells.free == 4
