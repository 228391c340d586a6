"""How well each topic is mastered: an estimate of the chance that the next answer is right, from all answers so far.

Answers to quiz and drill items count by how recent they are, and every reviewed card counts as one more answer that is
right with its predicted recall. In numbers, with answers of worth r in 0..1 given t days ago, and n cards (at most ten)
of mean recall R:

    mastery = (0.5 + sum(r 2^(-t / 30)) + n R) / (1 + sum(2^(-t / 30)) + n)

which is the mean of a beta distribution that begins as (0.5, 0.5) and forgets with a half-life of 30 days.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from iris.study.cards import TopicRecall
from iris.study.days import DAY_MS

HALF_LIFE_DAYS = 30.0
PRIOR = 0.5
CARDS = 10
"""A topic's cards weigh as much as this many fresh answers at most."""
SURE = 5.0
"""With this much evidence, what answers show counts as much as what the student says."""


@dataclass(frozen=True, slots=True)
class Mastery:
    """``level`` from 0 to 1, and the weighted number of answers it rests on, cards included."""

    level: float
    evidence: float


def estimate(
    answers: Iterable[tuple[str, int, float]], recall: Mapping[str, TopicRecall], at: int
) -> dict[str, Mastery]:
    """Mastery at a time, for every topic of which anything is known.

    Args:
        answers: topic, time (milliseconds since 1970) and worth (0 to 1) of each.
        recall: what the cards of each topic show at that time.
        at: the time.
    """
    right: dict[str, float] = {}
    weight: dict[str, float] = {}
    for topic, time, worth in answers:
        share = 0.5 ** (max(0, at - time) / DAY_MS / HALF_LIFE_DAYS)
        right[topic] = right.get(topic, 0.0) + share * worth
        weight[topic] = weight.get(topic, 0.0) + share
    for topic, cards in recall.items():
        number = min(cards.cards, CARDS)
        right[topic] = right.get(topic, 0.0) + number * cards.recall
        weight[topic] = weight.get(topic, 0.0) + number
    return {topic: Mastery((PRIOR + right[topic]) / (2 * PRIOR + weight[topic]), weight[topic]) for topic in weight}


def known(confidence: float, mastery: Mastery | None) -> float:
    """How well a topic is known, 0 to 1: what the student says, and the more evidence there is, what answers show."""
    if mastery is None:
        return confidence
    share = mastery.evidence / (mastery.evidence + SURE)
    return (1 - share) * confidence + share * mastery.level
