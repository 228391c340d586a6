"""Which rows are trained together: decided for all steps before the first, from lengths and a seed alone.

Rows are taken epoch by epoch in a shuffled order, and that stream is cut into steps of equal size. The rows of a step
are spread over its micro-batches so that their token counts are nearly equal; a micro-batch is computed as one
sequence without padding. So a step holds the same rows, and has the same gradient, on one device as on many, the
place of a run in its data is its step number, and the largest micro-batch, which bounds the memory, is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.errors import RowsError

MicroBatch = tuple[int, ...]
"""Numbers of rows."""


@dataclass(frozen=True, slots=True)
class Plan:
    """``steps[s][m]`` are the rows of micro-batch ``m`` of optimizer step ``s``."""

    steps: tuple[tuple[MicroBatch, ...], ...]

    @property
    def micro_batches(self) -> list[MicroBatch]:
        """All in the order they are computed."""
        return [part for step in self.steps for part in step]

    def largest(self, lengths: Sequence[int]) -> int:
        """Tokens of the largest micro-batch."""
        return max(sum(lengths[row] for row in part) for part in self.micro_batches)


def plan(
    lengths: Sequence[int], *, epochs: int, batch_rows: int, micro_batches: int, seed: int, max_steps: int = 0
) -> Plan:
    """The batches of ``epochs`` passes over rows of these lengths, cut off after ``max_steps`` (0: never).

    Steps hold ``batch_rows`` rows, give or take one, so that every row is seen exactly ``epochs`` times.

    Raises:
        RowsError: there are fewer rows than micro-batches.
    """
    total = len(lengths) * epochs
    if total < micro_batches:
        raise RowsError(
            f"{len(lengths)} rows are too few for {micro_batches} micro-batches a step. Add rows, or --set "
            f"micro_batches={max(total, 1)} --set batch_rows={max(total, 1)}."
        )
    stream = np.concatenate([np.random.default_rng([seed, epoch]).permutation(len(lengths)) for epoch in range(epochs)])
    count = max(1, min(round(total / batch_rows), total // micro_batches))
    edges = [total * step // count for step in range(count + 1)]
    chosen = range(min(count, max_steps) if max_steps else count)
    return Plan(
        tuple(spread([int(row) for row in stream[edges[s] : edges[s + 1]]], lengths, micro_batches) for s in chosen)
    )


def spread(rows: Sequence[int], lengths: Sequence[int], parts: int) -> tuple[MicroBatch, ...]:
    """``rows`` in ``parts`` non-empty groups of nearly equal token counts.

    Longest first, each to the group that is shortest so far: at most 4/3 of the best possible maximum (Graham, Bounds
    on multiprocessing timing anomalies, 1969).
    """
    groups: list[list[int]] = [[] for _ in range(parts)]
    sizes = [0] * parts
    for row in sorted(rows, key=lambda row: (-lengths[row], row)):
        # An empty group always comes first, whatever the lengths.
        shortest = min(range(parts), key=lambda part: (bool(groups[part]), sizes[part], part))
        groups[shortest].append(row)
        sizes[shortest] += lengths[row]
    return tuple(tuple(group) for group in groups)


def by_length(made: Plan, lengths: Sequence[int]) -> Plan:
    """The same steps with the rows of each sorted by length before they are parted, for models that must be padded.

    Rows of a micro-batch are then of nearly one length, so that little is padding.
    """

    def parted(step: tuple[MicroBatch, ...]) -> tuple[MicroBatch, ...]:
        rows = sorted((row for part in step for row in part), key=lambda row: (lengths[row], row))
        edges = [len(rows) * part // len(step) for part in range(len(step) + 1)]
        return tuple(tuple(rows[edges[part] : edges[part + 1]]) for part in range(len(step)))

    return Plan(tuple(parted(step) for step in made.steps))


def chunks(lengths: Sequence[int], limit: int) -> list[MicroBatch]:
    """All rows in order of length, in groups of at most ``limit`` tokens (or one row), for measuring."""
    groups: list[list[int]] = [[]]
    size = 0
    for row in sorted(range(len(lengths)), key=lambda row: (-lengths[row], row)):
        if groups[-1] and size + lengths[row] > limit:
            groups.append([])
            size = 0
        groups[-1].append(row)
        size += lengths[row]
    return [tuple(group) for group in groups]
