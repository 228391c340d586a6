"""The measures, as pure functions of numbers and texts.

Each says where it comes from. What needs a model (BERTScore, the judge) is in ``likeness.py`` and ``judge.py``.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data.clean import leak_rate
from data.text import words


@dataclass(frozen=True, slots=True)
class Likelihood:
    """What a model thinks of a text: the sum of the natural-log probabilities of its ``tokens``, and its ``bytes``."""

    logprob: float
    tokens: int
    bytes: int


def perplexity(found: Sequence[Likelihood]) -> float:
    """exp of the mean negative log-likelihood of a token, over all tokens of all texts (Jelinek et al., 1977).

    Weighted by token: a mean of the texts' own perplexities would let short texts decide. Comparable only between
    models of the same tokenizer; ``bits_per_byte`` compares others.
    """
    tokens = sum(text.tokens for text in found)
    if not tokens:
        raise ValueError("no tokens were scored")
    return math.exp(-sum(text.logprob for text in found) / tokens)


def bits_per_byte(found: Sequence[Likelihood]) -> float:
    """Bits that an optimal code by this model needs for a byte of UTF-8 (Gao et al., 2020: The Pile, section 3.1).

    Does not depend on how a tokenizer cuts the text.
    """
    size = sum(text.bytes for text in found)
    if not size:
        raise ValueError("no bytes were scored")
    return -sum(text.logprob for text in found) / size / math.log(2)


def best_option(logprobs: Sequence[float], sizes: Sequence[int] | None = None) -> int:
    """The likeliest option; with ``sizes``, by log-probability for each byte, so that long options are not punished.

    The first is lm-evaluation-harness's ``acc``, the second its ``acc_norm`` (Gao et al., 2021).
    """
    values = np.asarray(logprobs, np.float64)
    if sizes is not None:
        values = values / np.maximum(np.asarray(sizes, np.float64), 1.0)
    return int(values.argmax())


_LETTER = re.compile(
    r"(?:the\s+)?(?:correct\s+|right\s+|best\s+)?(?:answer|option|choice)?(?:\s+is)?[:\s]*"
    r"[*_(\[\"']*([A-H])(?![A-Za-z'’])[*_)\].:,\"']*",
    re.IGNORECASE,
)


def letter(text: str, count: int = 4) -> int | None:
    """The option that an answer begins with ("B", "(B)", "**B.**", "The answer is B"), or None.

    Strict on purpose: a letter anywhere later in the text ("a model …") is no choice. A lone "a" or "I" that begins a
    sentence is none either: in small letters only "b)" and the like count.
    """
    match = _LETTER.match(text.strip())
    if not match:
        return None
    sign, after = match[1], text.strip()[match.end(1) : match.end(1) + 2]
    alone = match.end() == len(text.strip())
    if (sign.islower() or sign in "AI") and not alone and after[:1] not in (".", ")", ":", "]", "*", "\n"):
        return None
    place = ord(sign.upper()) - ord("A")
    return place if place < count else None


def rouge_l(answer: str, reference: str) -> float:
    """F1 of the longest common subsequence of words (Lin, 2004: ROUGE, section 3; beta = 1), 0 to 1.

    Words in small letters without punctuation, not stemmed.
    """
    a, b = list(words(answer)), list(words(reference))
    if not a or not b:
        return 0.0
    codes: dict[str, int] = {}
    x = np.array([codes.setdefault(word, len(codes)) for word in a])
    row = np.zeros(len(a) + 1, np.int64)
    for word in b:
        # A row of the usual table at once: what one step up or diagonally gives, then the running maximum.
        step = np.where(x == codes.get(word, -1), row[:-1] + 1, row[1:])
        row[1:] = np.maximum.accumulate(step)
    common = int(row[-1])
    if not common:
        return 0.0
    precision, recall = common / len(a), common / len(b)
    return 2 * precision * recall / (precision + recall)


def key_facts(answer: str, facts: Sequence[Sequence[str]]) -> float:
    """The share of facts that an answer mentions. A fact is a list of spellings, found at the beginning of a word.

    The idea is that of "nuggets" in question answering (Voorhees, 2003): what must be in an answer, not how it is said.
    """
    if not facts:
        raise ValueError("there are no facts to look for")
    text = " ".join(answer.lower().split())
    return sum(any(_mentions(text, spelling) for spelling in fact) for fact in facts) / len(facts)


def _mentions(text: str, spelling: str) -> bool:
    return re.search(rf"(?<![^\W_]){re.escape(' '.join(spelling.lower().split()))}", text) is not None


def leaks(answer: str) -> float:
    """1 if a sentence of the answer tells the student how to answer, as the original's training prompts did; else 0.

    The rules are those that clean training data (``data.clean``).
    """
    return float(leak_rate(answer) > 0)


def repetition(answer: str, size: int = 4) -> float:
    """The share of ``size``-grams of words that stood in the answer before: 0 never, near 1 a loop.

    One minus distinct-n (Li et al., 2016), with n = 4 as in "seq-rep-4" (Welleck et al., 2020).
    """
    found = list(words(answer))
    grams = [tuple(found[start : start + size]) for start in range(len(found) - size + 1)]
    return 1 - len(Counter(grams)) / len(grams) if grams else 0.0


def rescaled(value: float, baseline: float) -> float:
    """BERTScore on a scale where ``baseline`` (what unrelated texts get) is 0 and equality 1.

    Zhang et al. (2020): BERTScore, section "Rescaling"; https://github.com/Tiiiger/bert_score/blob/master/journal/rescale_baseline.md
    """
    return (value - baseline) / (1 - baseline)
