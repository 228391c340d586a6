"""How well a card is remembered and when to ask for it again: FSRS, by the ``fsrs`` package.

FSRS describes a memory by its stability S (days until recall has fallen to 90 %) and difficulty D (1 to 10). After t
days recall is R = (1 + F t / S) ** -d, with d from the parameters and F so that R(S) = 0.9. Source:
https://github.com/open-spaced-repetition/fsrs4anki/wiki/The-Algorithm
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from functools import cache

import numpy as np
from fsrs import Card, Rating, Scheduler, State
from numpy.typing import ArrayLike, NDArray

from iris.study.days import DAY_MS, milliseconds, moment

AGAIN, HARD, GOOD, EASY = (int(rating) for rating in Rating)
LEARNING, REVIEW, RELEARNING = (int(state) for state in State)

TARGET = 0.9
"""A card comes back when its predicted recall has fallen this far."""
LONGEST_DAYS = 3650
HARDEST = (1.0, 10.0)
"""The range of difficulty."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What FSRS knows of one card. Times in milliseconds since 1970; a new card has no stability and no review."""

    due: int
    state: int = LEARNING
    step: int | None = 0
    stability: float | None = None
    difficulty: float | None = None
    reviewed: int | None = None


@dataclass(frozen=True, slots=True)
class Review:
    """One answer to a card: when, how well (1 again, 2 hard, 3 good, 4 easy), and how long it took (ms)."""

    at: int
    rating: int
    duration: int | None = None


def after(memory: Memory, rating: int, at: int, *, fuzz: bool = True) -> Memory:
    """The memory after a review. ``fuzz`` spreads cards of one day over several.

    A review that seems to come before the last one (the clock was set back) counts as one on the same day.
    """
    card = Card(
        card_id=1,
        state=State(memory.state),
        step=memory.step,
        stability=memory.stability,
        difficulty=memory.difficulty,
        due=moment(memory.due),
        last_review=None if memory.reviewed is None else moment(memory.reviewed),
    )
    card, _ = scheduler(fuzz=fuzz).review_card(card, Rating(rating), moment(at))
    return Memory(
        due=milliseconds(card.due),
        state=int(card.state),
        step=card.step,
        stability=card.stability,
        difficulty=card.difficulty,
        reviewed=at,
    )


def replay(created: int, reviews: Iterable[Review]) -> Memory:
    """The memory that a new card has after these reviews, without fuzz, whatever order they are given in."""
    memory = Memory(due=created)
    for review in sorted(reviews, key=lambda review: (review.at, review.rating)):
        memory = after(memory, review.rating, review.at, fuzz=False)
    return memory


def recall(stability: ArrayLike, reviewed: ArrayLike, at: int) -> NDArray[np.float64]:
    """Predicted recall at a time, 0 to 1, for many cards at once: stabilities in days, last reviews in milliseconds.

    Counts whole days, as the ``fsrs`` package does.
    """
    days = np.maximum(0, (at - np.asarray(reviewed, dtype=np.int64)) // DAY_MS)
    factor, decay = curve()
    result: NDArray[np.float64] = (1 + factor * days / np.asarray(stability, dtype=np.float64)) ** decay
    return result


@cache
def curve() -> tuple[float, float]:
    """F and -d of the forgetting curve."""
    decay = -scheduler(fuzz=False).parameters[20]
    return TARGET ** (1 / decay) - 1, decay


@cache
def scheduler(*, fuzz: bool) -> Scheduler:
    return Scheduler(
        desired_retention=TARGET,
        learning_steps=(timedelta(minutes=1), timedelta(minutes=10)),
        relearning_steps=(timedelta(minutes=10),),
        maximum_interval=LONGEST_DAYS,
        enable_fuzzing=fuzz,
    )
