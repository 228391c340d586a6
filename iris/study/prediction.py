"""What FSRS predicts for whole topics while a plan is being made, in days, as if every review went well."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta

from iris.study import memory
from iris.study.days import DAY_MS
from iris.study.memory import EASY, GOOD, HARD, TARGET, Memory
from iris.study.plan import Topic

DIFFICULTY = 5.0
"""Of a topic whose cards were reviewed: the middle of FSRS's scale."""


class Prediction:
    """The memory of each topic that is known so far, moved forward as the plan learns and reviews."""

    target = TARGET

    def __init__(self, topics: Iterable[Topic], today: date) -> None:
        self._memories: dict[str, Memory] = {}
        self._first: dict[str, int] = {}
        factor, decay = memory.curve()
        for topic in topics:
            self._first[topic.id] = HARD if topic.known < 1 / 3 else GOOD if topic.known < 2 / 3 else EASY
            if topic.stability is None:
                continue
            recall = min(1.0, max(0.01, topic.recall))
            since = topic.stability * (recall ** (1 / decay) - 1) / factor  # days, the forgetting curve turned round
            self._memories[topic.id] = Memory(
                due=_noon(today),
                state=memory.REVIEW,
                step=None,
                stability=topic.stability,
                difficulty=DIFFICULTY,
                reviewed=_noon(today) - round(min(since, memory.LONGEST_DAYS)) * DAY_MS,
            )

    def known(self) -> list[str]:
        """The topics that have been learned, or whose cards have been reviewed."""
        return list(self._memories)

    def recall(self, topic: str, day: date) -> float:
        """Predicted recall on a day, 0 to 1."""
        now = self._memories[topic]
        return float(memory.recall(now.stability or 1.0, now.reviewed or 0, _noon(day)))

    def learn(self, topic: str, day: date) -> None:
        """The topic was learned on this day: as the first review of a card, or as one more."""
        if topic in self._memories:
            self.review(topic, day)
        else:
            self._memories[topic] = _learned(self._first[topic], day)

    def review(self, topic: str, day: date) -> None:
        """The topic was reviewed on this day, with success."""
        now = self._memories.get(topic)
        self._memories[topic] = (
            memory.after(now, GOOD, _noon(day), fuzz=False) if now else _learned(self._first[topic], day)
        )

    def reviews_until(self, topic: str, learned: date, exam: date) -> int:
        """How often recall falls to the target between learning on one day and the exam."""
        now = self._memories.get(topic) or _learned(self._first[topic], learned)
        count, day = 0, learned
        while True:
            # At the target recall the stability is, by its definition, the time that has passed.
            day += timedelta(days=max(1, round(min(now.stability or 1.0, memory.LONGEST_DAYS))))
            if day >= exam:
                return count
            count += 1
            now = memory.after(now, GOOD, _noon(day), fuzz=False)


def _learned(rating: int, day: date) -> Memory:
    first = memory.after(Memory(due=_noon(day)), rating, _noon(day), fuzz=False)
    return Memory(
        due=first.due,
        state=memory.REVIEW,
        step=None,
        stability=first.stability,
        difficulty=first.difficulty,
        reviewed=first.reviewed,
    )


def _noon(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, 12, tzinfo=UTC).timestamp()) * 1000
