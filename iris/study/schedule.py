"""The planner's arithmetic: topics, hours and days in, dated sessions out. Exact, in quarters of an hour.

1. Every topic needs learning time by how well it is known, and review when FSRS predicts that recall is down to 90 %.
2. If that is more than there are hours, ``selection`` keeps the most useful part.
3. Day by day: reviews whose recall has fallen, lowest first, then learning at an even pace, three topics in turn, each
   after its prerequisites. A review never takes time that the learning still to come needs.
4. A mock exam near the end, then whatever will be weakest on the day of the exam.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta

from iris.study.plan import LEARN, MOCK, REVIEW, SLOT, LeftOut, Plan, Request, Session, Shortened, Topic, session_id
from iris.study.plan_check import checked, order
from iris.study.prediction import Prediction
from iris.study.selection import Need, choose

MOCK_SLOTS = 4
MOCK_FROM = 16
"""With fewer slots than this in all, a mock exam would take too much of them."""
REVIEW_SHARE = 4
"""When time is short, at most one slot in so many is kept for reviews."""
ACTIVE = 3
"""How many topics are learned in turn."""
SITTING = 2
"""Slots that one topic is learned at a stretch, where another is at hand."""
FINAL_DAYS = 2
ENOUGH = 0.97
"""On the last days a topic is reviewed if recall on the day of the exam is predicted below this."""


def plan(request: Request, done: Sequence[Session] = ()) -> Plan:
    """A plan from ``request.today`` to the day before the exam.

    Args:
        request: what is to be planned.
        done: sessions of an earlier plan that were done. They stay as they are, and count.

    Raises:
        PlanError: no plan can be made of this; the message says why and what to change.
    """
    request = checked(request)
    finished = tuple(replace(session, done=True) for session in done)
    reserve: int | None = None
    while True:
        planner = _Planner(request, finished, reserve)
        made = planner.run()
        unused = sum(planner.capacity.values()) - planner.planned
        if not planner.reserve or not unused or not (made.left_out or made.shortened):
            return made
        # Recall called for fewer reviews than time was kept for: what is left out may have it.
        reserve = max(0, planner.reserve - unused)


def learning_slots(known: float) -> int:
    """Slots that a topic takes which is known this well, 0 to 1: from an hour and a half to a quarter of an hour."""
    return 1 + round(5 * (1 - known))


@dataclass
class _Planner:
    request: Request
    done: tuple[Session, ...]
    reserve: int | None = None  # slots kept for reviews when time is short; None: as predicted recall asks
    planned: int = 0
    capacity: dict[date, int] = field(default_factory=dict)
    left: dict[str, int] = field(default_factory=dict)  # slots of learning still to do
    sessions: list[Session] = field(default_factory=list)
    active: list[str] = field(default_factory=list)
    turn: dict[str, int] = field(default_factory=dict)  # when a topic was last taken up
    parts: dict[tuple[str, str], int] = field(default_factory=dict)  # the last number given to a session of a kind

    def run(self) -> Plan:
        self.topics = {topic.id: topic for topic in order(self.request.topics)}
        self.used = {session.id for session in self.done}
        self.prediction = Prediction(self.topics.values(), self.request.today)
        self._free_time()
        needs = self._needs()
        mock = self._mock_day()
        room = sum(self.capacity.values())
        demand = self._review_demand(needs)
        if self.reserve is None:
            self.reserve = min(demand, room // REVIEW_SHARE)
        chosen = choose(needs, room - self.reserve)
        self.left = {name: slots for name, slots in chosen.items() if slots}
        self._recall_done({name for name, slots in chosen.items() if slots == 0})
        self._days(mock)
        return self._plan(needs, chosen, demand, room)

    def _free_time(self) -> None:
        """Slots by study day, what was done on them taken off."""
        per_day = int(self.request.hours * 60 // SLOT)
        day = self.request.today
        while day < self.request.exam:
            if not self.request.off(day):
                self.capacity[day] = per_day
            day += timedelta(days=1)
        for session in self.done:
            if session.day in self.capacity:
                self.capacity[session.day] = max(0, self.capacity[session.day] - session.minutes // SLOT)

    def _needs(self) -> dict[str, Need]:
        learned: dict[str, int] = {}
        for session in self.done:
            if session.kind == LEARN:
                learned[session.topic] = learned.get(session.topic, 0) + session.minutes // SLOT
        after = _dependants(self.topics)
        needs = {}
        for place, topic in enumerate(self.topics.values()):
            slots, before = learning_slots(topic.known), learned.get(topic.id, 0)
            short = math.ceil(slots / 2)
            # Worth most: what is known least and what much else builds on; of equals, what comes first in the course.
            worth = (1.05 - topic.known) * (1 + 0.5 * after[topic.id] / len(self.topics))
            needs[topic.id] = Need(
                total=slots,
                short=max(0, short - before),
                rest=slots - max(short, min(before, slots)),
                worth=worth + 1e-4 * (1 - place / len(self.topics)),
                prerequisites=topic.prerequisites,
            )
        return needs

    def _mock_day(self) -> date | None:
        """Take the mock exam's time off one of the last three days: the last but one if there is room."""
        days = [day for day, slots in self.capacity.items() if slots]
        if any(session.kind == MOCK for session in self.done) or sum(self.capacity.values()) < MOCK_FROM:
            return None
        for day in [*days[-2:-1], *days[-3:-2], *days[-1:]]:
            if self.capacity[day] >= 2:
                slots = min(MOCK_SLOTS, self.capacity[day])
                self.capacity[day] -= slots
                self._add(day, MOCK, "", slots)
                return day
        return None

    def _review_demand(self, needs: dict[str, Need]) -> int:
        """Reviews that recall would call for if all were learned at an even pace over the first three quarters."""
        days = list(self.capacity)
        pace = max(1, len(days) * 3 // 4)
        return sum(
            self.prediction.reviews_until(name, days[min(len(days) - 1, place * pace // len(needs))], self.request.exam)
            for place, name in enumerate(needs)
        )

    def _recall_done(self, learned: set[str]) -> None:
        for session in sorted(self.done, key=lambda session: session.day):
            if session.kind == REVIEW and session.topic in self.topics:
                self.prediction.review(session.topic, session.day)
            elif session.kind == LEARN and session.topic in learned:
                self.prediction.learn(session.topic, session.day)

    def _days(self, mock: date | None) -> None:
        days = list(self.capacity)
        ahead = sum(self.capacity.values())
        last = days.index(mock) if mock else len(days) - 1
        phase = max(1, min(last, len(days) * 3 // 4))
        for number, day in enumerate(days):
            free = self.capacity[day]
            ahead -= free
            learning = sum(self.left.values())
            must = max(0, learning - ahead)
            reviews = self._due(day, final=number >= len(days) - FINAL_DAYS)
            share = free // 2 if learning else free
            reviews = reviews[: max(0, min(free - must, share))]
            pace = math.ceil(learning / (phase - number)) if number < phase else learning
            self._fill(day, reviews, max(must, min(pace, free - len(reviews))))
        assert not self.left, "learning was chosen to fit"

    def _due(self, day: date, *, final: bool) -> list[str]:
        at, limit = (self.request.exam, ENOUGH) if final else (day, self.prediction.target)
        recall = {name: self.prediction.recall(name, at) for name in self.prediction.known()}
        return sorted((name for name in recall if recall[name] < limit), key=lambda name: (recall[name], name))

    def _fill(self, day: date, reviews: list[str], learning: int) -> None:
        """The sessions of one day: reviews between the learning."""
        last = ""
        while reviews or (learning and self.left):
            if learning and self.left:
                name = self._next(last)
                slots = min(SITTING, learning, self.left[name])
                self._add(day, LEARN, name, slots)
                self.planned += slots
                learning -= slots
                self.left[name] -= slots
                if not self.left[name]:
                    del self.left[name]
                    self.active.remove(name)
                    self.prediction.learn(name, day)
                last = name
            if reviews:
                name = reviews.pop(next((at for at, name in enumerate(reviews) if name != last), 0))
                self._add(day, REVIEW, name, 1)
                self.planned += 1
                self.prediction.review(name, day)
                last = name

    def _next(self, last: str) -> str:
        """The topic to learn now: of three in progress, not the last one again, the one that has waited longest."""
        while len(self.active) < ACTIVE:
            chapters = {self.topics[name].chapter for name in self.active}
            ready = [
                name
                for name, topic in self.topics.items()
                if name in self.left
                and name not in self.active
                and not any(earlier in self.left for earlier in topic.prerequisites)
            ]
            if not ready:
                break
            self.active.append(next((name for name in ready if self.topics[name].chapter not in chapters), ready[0]))
        name = min(self.active, key=lambda name: (name == last, self.turn.get(name, 0)))
        self.turn[name] = len(self.sessions)
        return name

    def _add(self, day: date, kind: str, topic: str, slots: int) -> None:
        before = self.sessions[-1] if self.sessions else None
        if before and (before.day, before.kind, before.topic) == (day, kind, topic):
            self.sessions[-1] = replace(before, minutes=before.minutes + slots * SLOT)
            return
        part = self.parts.get((kind, topic), 0) + 1
        while session_id(kind, topic, part) in self.used:
            part += 1
        self.parts[kind, topic] = part
        self.sessions.append(Session(session_id(kind, topic, part), day, kind, topic, slots * SLOT))

    def _plan(self, needs: dict[str, Need], chosen: dict[str, int | None], demand: int, room: int) -> Plan:
        left_out, shortened = [], []
        for name, slots in chosen.items():
            need = needs[name]
            if slots is None:
                missing = next((earlier for earlier in need.prerequisites if chosen.get(earlier, 0) is None), "")
                left_out.append(LeftOut(name, (need.short + need.rest) * SLOT, missing))
            elif slots < need.short + need.rest:
                shortened.append(Shortened(name, (need.total - need.rest) * SLOT, need.total * SLOT))
        sessions = sorted((*self.done, *self.sessions), key=lambda session: session.day)
        asked = {topic.id for topic in self.request.topics}
        return Plan(
            exam=self.request.exam,
            sessions=tuple(sessions),
            left_out=tuple(left_out),
            shortened=tuple(shortened),
            has_mock=any(session.kind == MOCK for session in sessions),
            needed=sum(need.short + need.rest for need in needs.values()) * SLOT,
            reviews=demand * SLOT,
            available=room * SLOT,
            recall={name: self.prediction.recall(name, self.request.exam) for name in self.prediction.known()},
            assumed=tuple(
                sorted({name for topic in self.request.topics for name in topic.prerequisites if name not in asked})
            ),
        )


def _dependants(topics: dict[str, Topic]) -> dict[str, int]:
    """How many topics build on each, at any remove."""
    above: dict[str, set[str]] = {name: set() for name in topics}
    for name in reversed(topics):  # in study order, so what builds on a topic comes before it here
        for earlier in topics[name].prerequisites:
            above[earlier] |= above[name] | {name}
    return {name: len(found) for name, found in above.items()}
