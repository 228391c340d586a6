"""The plan of batches: every row as often as it should be, in parts of nearly equal size."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.batches import by_length, chunks, plan, spread
from training.errors import RowsError

LENGTHS = st.lists(st.integers(1, 2048), min_size=8, max_size=80)


@given(LENGTHS, st.integers(1, 3), st.integers(4, 20), st.sampled_from([1, 2, 4]), st.integers(0, 99))
def test_every_row_is_seen_once_an_epoch_in_steps_of_equal_size(
    lengths: list[int], epochs: int, rows: int, parts: int, seed: int
) -> None:
    made = plan(lengths, epochs=epochs, batch_rows=rows, micro_batches=parts, seed=seed)
    seen = Counter(row for micro in made.micro_batches for row in micro)
    assert seen == Counter(dict.fromkeys(range(len(lengths)), epochs))
    sizes = [sum(map(len, step)) for step in made.steps]
    assert max(sizes) - min(sizes) <= 1
    assert all(len(step) == parts and all(step) for step in made.steps)
    assert made == plan(lengths, epochs=epochs, batch_rows=rows, micro_batches=parts, seed=seed)


@given(LENGTHS, st.integers(1, 8))
def test_the_parts_of_a_step_are_balanced(lengths: list[int], parts: int) -> None:
    sizes = [sum(lengths[row] for row in group) for group in spread(range(len(lengths)), lengths, parts)]
    assert max(sizes) <= sum(lengths) / parts + max(lengths)
    assert max(sizes) - min(sizes) <= max(lengths)


@given(LENGTHS, st.sampled_from([1, 2, 4]))
def test_batches_that_must_be_padded_hold_the_same_rows_in_each_step_with_less_padding(
    lengths: list[int], parts: int
) -> None:
    made = plan(lengths, epochs=1, batch_rows=8, micro_batches=parts, seed=0)
    grouped = by_length(made, lengths)

    def padded(step: tuple[tuple[int, ...], ...]) -> int:
        return sum(len(micro) * max(lengths[row] for row in micro) for micro in step)

    for before, after in zip(made.steps, grouped.steps, strict=True):
        assert sorted(row for micro in before for row in micro) == sorted(row for micro in after for row in micro)
        assert len(after) == parts
        assert all(after)
        in_order = [lengths[row] for micro in after for row in micro]
        assert in_order == sorted(in_order)
        assert padded(after) <= max(lengths) * sum(map(len, before))


@given(LENGTHS, st.integers(1, 4096))
def test_chunks_for_measuring_hold_all_rows_within_the_limit(lengths: list[int], limit: int) -> None:
    made = chunks(lengths, limit)
    assert sorted(row for group in made for row in group) == list(range(len(lengths)))
    assert all(len(group) == 1 or sum(lengths[row] for row in group) <= limit for group in made)


def test_max_steps_cuts_the_plan_off_and_changes_nothing_before() -> None:
    options = {"epochs": 2, "batch_rows": 4, "micro_batches": 2, "seed": 1}
    whole, cut = plan([5] * 40, **options), plan([5] * 40, **options, max_steps=3)
    assert cut.steps == whole.steps[:3]
    assert len(whole.steps) == 20


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    options = {"batch_rows": 40, "micro_batches": 1}
    first, second = plan([1] * 40, epochs=2, seed=1, **options).steps
    assert set(first[0]) == set(second[0])
    assert plan([1] * 400, epochs=1, seed=1, **options) != plan([1] * 400, epochs=1, seed=2, **options)


def test_fewer_rows_than_parts_are_refused_with_the_remedy() -> None:
    with pytest.raises(RowsError, match="micro_batches=2"):
        plan([3, 4], epochs=1, batch_rows=16, micro_batches=4, seed=0)
