"""How far one model's predictions are from another's: pure functions over logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from export.shards import Floats


@dataclass(frozen=True, slots=True)
class Distance:
    """Over all compared places.

    ``kl``: mean Kullback-Leibler divergence from the reference, in nats; ``kl_p99`` its 99th percentile. ``top1``: the
    share of places where both expect the same token. ``perplexity`` and ``reference_perplexity``: exp of the mean
    negative log-likelihood of the text's own next tokens, weighted by token. ``logit_error``: root mean square of the
    difference of the logits over that of the reference's, each centred at every place (a constant changes nothing).
    """

    tokens: int
    kl: float
    kl_p99: float
    top1: float
    perplexity: float
    reference_perplexity: float
    logit_error: float

    def as_json(self) -> dict[str, Any]:
        return {key: round(value, 6) if isinstance(value, float) else value for key, value in asdict(self).items()}


class Comparison:
    """Collects windows of text."""

    def __init__(self) -> None:
        self._kl: list[npt.NDArray[np.float64]] = []
        self._same = 0
        self._loss = self._reference_loss = 0.0
        self._targets = 0
        self._error = self._size = 0.0

    def add(self, reference: Floats, logits: Floats, ids: Sequence[int]) -> None:
        """One window: logits of shape (tokens, vocabulary) after each of its ``ids``."""
        width = min(reference.shape[1], logits.shape[1])  # what one of them has more is padding of the embedding
        step = 64  # places at a time: float64 copies of whole windows of a large vocabulary would take gigabytes
        for start in range(0, len(ids), step):
            self._some(
                reference[start : start + step, :width].astype(np.float64),
                logits[start : start + step, :width].astype(np.float64),
                np.asarray(ids[start + 1 : start + step + 1], np.int64),
            )

    def _some(self, p: npt.NDArray[np.float64], q: npt.NDArray[np.float64], following: npt.NDArray[np.int64]) -> None:
        centred = p - p.mean(axis=1, keepdims=True)
        self._size += float((centred**2).sum())
        self._error += float(((q - q.mean(axis=1, keepdims=True) - centred) ** 2).sum())
        self._same += int((p.argmax(axis=1) == q.argmax(axis=1)).sum())
        p, q = _log_softmax(p), _log_softmax(q)
        self._kl.append(np.maximum((np.exp(p) * (p - q)).sum(axis=1), 0.0))
        places = np.arange(len(following))
        self._reference_loss -= float(p[places, following].sum())
        self._loss -= float(q[places, following].sum())
        self._targets += len(following)

    def result(self) -> Distance:
        kl = np.concatenate(self._kl)
        return Distance(
            tokens=len(kl),
            kl=float(kl.mean()),
            kl_p99=float(np.quantile(kl, 0.99)),
            top1=self._same / len(kl),
            perplexity=float(np.exp(self._loss / self._targets)),
            reference_perplexity=float(np.exp(self._reference_loss / self._targets)),
            logit_error=float(np.sqrt(self._error / self._size)),
        )


def _log_softmax(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)), np.float64)
