"""Weighted sums of adapters: what several LoRA changes amount to together, and a LoRA that comes near.

All of it happens in the space of the changes themselves, ``scaling * B @ A``. Summing the A and the B apart, as peft's
``add_weighted_adapter`` does for all but cat and svd, also multiplies each A with every other's B: for unrelated
adapters the result is as far from the sum as zero is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from export.adapter import Delta
from export.shards import Floats

METHODS = ("linear", "cat", "svd", "ties", "dare_linear", "dare_ties", "magnitude_prune")
SPARSE = ("ties", "dare_linear", "dare_ties", "magnitude_prune")
"""Methods that drop a part of each change (``density`` is what is kept) before they sum."""


@dataclass(frozen=True, slots=True)
class Merged:
    """One module's result, and squared Frobenius norms: of the true weighted sum, of the result's difference to it, and
    of the difference that peft's way would have (None where peft does the same)."""

    a: Floats
    b: Floats
    norm: float
    error: float
    peft_error: float | None


def merge(parts: Sequence[Delta], weights: Sequence[float], method: str, *, rank: int, density: float) -> Merged:
    """Combine one module's changes into factors of at most ``rank``; random methods draw from torch's generator."""
    wanted = weighted_sum(parts, weights)
    if method == "cat":
        a = np.concatenate([part.a for part in parts])
        b = np.concatenate(
            [np.float32(w * part.scaling) * part.b for part, w in zip(parts, weights, strict=True)], axis=1
        )
    elif method in ("linear", "svd"):
        a, b = _low_rank_sum(parts, weights, rank)
    else:
        changes = [part.scaling * (part.b @ part.a) for part in parts]
        a, b = _factors(_combined(method, changes, weights, density), rank)
    error = float(np.square(b @ a - wanted, dtype=np.float64).sum())
    other = None
    if method not in ("cat", "svd"):
        apart = _apart(parts, weights, method, density)
        other = float(np.square(apart - wanted, dtype=np.float64).sum())
    return Merged(a, b, float(np.square(wanted, dtype=np.float64).sum()), error, other)


def weighted_sum(parts: Sequence[Delta], weights: Sequence[float]) -> Floats:
    """The matrix that the weighted changes add up to."""
    total = np.zeros(parts[0].shape, np.float32)
    for part, weight in zip(parts, weights, strict=True):
        total += np.float32(weight * part.scaling) * (part.b @ part.a)
    return total


def _low_rank_sum(parts: Sequence[Delta], weights: Sequence[float], rank: int) -> tuple[Floats, Floats]:
    """The best approximation of the sum of that rank (Eckart and Young, 1936), without ever forming the matrix.

    With all B side by side and all A one below the other, ``B @ A = Q_b (R_b R_a^T) Q_a^T``: the small matrix in the
    middle has the singular values of the whole.
    """
    a = np.concatenate([part.a for part in parts]).astype(np.float64)
    b = np.concatenate([weight * part.scaling * part.b for part, weight in zip(parts, weights, strict=True)], axis=1)
    q_b, r_b = np.linalg.qr(b.astype(np.float64))
    q_a, r_a = np.linalg.qr(a.T)
    left, values, right = np.linalg.svd(r_b @ r_a.T)
    return _split(q_b @ left, values, right @ q_a.T, rank)


def _factors(matrix: Floats, rank: int) -> tuple[Floats, Floats]:
    import torch

    # Randomized, with four power iterations (Halko et al., 2011): a full decomposition takes minutes a matrix.
    left, values, right = torch.svd_lowrank(torch.from_numpy(matrix), q=min(rank + 8, *matrix.shape), niter=4)
    return _split(left.numpy(), values.numpy(), right.numpy().T, rank)


def _split(left: Any, values: Any, right: Any, rank: int) -> tuple[Floats, Floats]:
    root = np.sqrt(values[:rank])
    return (root[:, None] * right[:rank]).astype(np.float32), (left[:, :rank] * root).astype(np.float32)


def _combined(method: str, tensors: Sequence[Floats], weights: Sequence[float], density: float) -> Floats:
    """peft's own arithmetic, on whole changes."""
    import torch
    from peft.utils import merge_utils

    chosen: Callable[..., Any] = getattr(merge_utils, "task_arithmetic" if method == "linear" else method)
    given: list[Any] = [[torch.from_numpy(tensor) for tensor in tensors], torch.tensor(weights)]
    result: npt.NDArray[np.float32] = chosen(*given, *([density] if method in SPARSE else [])).float().numpy()
    return result


def _apart(parts: Sequence[Delta], weights: Sequence[float], method: str, density: float) -> Floats:
    """What peft's ``add_weighted_adapter`` would make of it: the method on all A, and on all B."""
    if len({part.rank for part in parts}) > 1:
        return np.full(parts[0].shape, np.nan, np.float32)
    roots = [float(np.sqrt(abs(weight * part.scaling))) for part, weight in zip(parts, weights, strict=True)]
    signs = [float(np.sign(weight)) for weight in weights]
    a = _combined(method, [part.a for part in parts], roots, density)
    b = _combined(method, [sign * part.b for part, sign in zip(parts, signs, strict=True)], roots, density)
    return b @ a
