"""The pages of Planner, Review and Drill for a student with a long history.

    python -m benchmarks.study_pages [--cards 10000] [--reviews 100000] [--answers 20000] [--rounds 20]

Fills a store, then measures what each page asks of it, as its tab does. Prints median and slowest of the rounds, and
the processor time of one, which other programs on the computer hardly change.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from statistics import median
from zoneinfo import ZoneInfo

from iris import courses
from iris.courses import Course
from iris.store import Store, now
from iris.study import cards, days, drills, memory, plans, progress
from iris.study.days import DAY_MS
from iris.study.memory import Review
from iris.study.plans import Asked
from iris.tools import drill, planner, take_along
from iris.tools.quiz_items import KINDS

STUDENT = "student"
UTC = ZoneInfo("UTC")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--cards", type=int, default=10_000)
    parser.add_argument("--reviews", type=int, default=100_000)
    parser.add_argument("--answers", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args(arguments)
    course = courses.find("id2223")
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "iris.db")
        fill(store, course, options.cards, options.reviews, options.answers)
        at = now()
        with store.read() as connection:
            sizes = [connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in ("cards", "reviews")]
        print(f"{sizes[0]:,} cards, {sizes[1]:,} reviews, {options.answers:,} answers of one student")
        for name, page in pages(store, course, at).items():
            page()  # once to warm up
            begun = time.process_time()
            times = [_milliseconds(page) for _ in range(options.rounds)]
            used = (time.process_time() - begun) * 1000 / options.rounds
            print(f"{name:34} median {median(times):7.1f} ms, slowest {max(times):7.1f} ms, processor {used:6.1f} ms")
        store.close()
    return 0


def fill(store: Store, course: Course, number: int, reviews: int, answers: int) -> None:
    """A history over the last year, ending now."""
    draw = random.Random(1)
    begin = now() - 365 * DAY_MS
    names = [topic.id for topic in course.topics]
    store.student(STUDENT)
    made = [
        cards.make(course.id, draw.choice(names), f"Question {n}? " + "word " * 20, f"Answer {n}. " * 20, "hand", begin)
        for n in range(number)
    ]
    with store.write() as connection:
        cards.insert(connection, STUDENT, made)
        for place, card in enumerate(made):
            count = reviews // number + (place < reviews % number)
            times = sorted(draw.sample(range(365 * 24), count))
            given = [Review(begin + hour * 3_600_000, draw.choice((1, 2, 3, 3, 3, 4)), 4000) for hour in times]
            connection.executemany(
                "INSERT INTO reviews (student, card, at, rating, duration) VALUES (?, ?, ?, ?, ?)",
                [(STUDENT, card.id, review.at, review.rating, review.duration) for review in given],
            )
            if given:
                cards.remember(connection, STUDENT, card.id, memory.replay(begin, given))
        connection.executemany(
            'INSERT INTO answers (student, at, course, item, topic, kind, "right", source) '
            "VALUES (?, ?, ?, ?, ?, 'choice', ?, 'quiz')",
            [
                (STUDENT, begin + n * (365 * DAY_MS // max(1, answers)), course.id, f"i{n}", draw.choice(names), 1.0)
                for n in range(answers)
            ],
        )
    exam = days.day_of(now(), UTC) + timedelta(days=60)
    planner.make(store, STUDENT, course, Asked(exam, 2, dict.fromkeys(names, 0.5)), now(), UTC)
    drill.begin(store, STUDENT, course, names, 20, 180, KINDS, now())


def pages(store: Store, course: Course, at: int) -> dict[str, Callable[[], object]]:
    """What each page asks of the store."""

    def review() -> None:
        cards.counts(store, STUDENT, course.id, at, UTC)
        cards.due(store, STUDENT, course.id, at, UTC)

    def grade() -> None:
        (card,) = cards.due(store, STUDENT, course.id, at, UTC)
        cards.grade(store, STUDENT, card.id, 4, at, seen=card.memory.reviewed)
        review()

    def mastery() -> None:
        reviewed = cards.reviewed(store, STUDENT, course.id)
        progress.by_topic(store, STUDENT, course.id, at, reviewed)
        reviewed.recall(at + 60 * DAY_MS)

    def plan() -> None:
        plans.load(store, STUDENT, course.id)

    def planned() -> None:
        planner.replan(store, STUDENT, course, at, UTC)

    def taking() -> None:
        drills.under_way(store, STUDENT, course.id)
        drills.latest(store, STUDENT, course.id)

    return {
        "Review: counts and the next card": review,
        "Review: a grade, and the next card": grade,
        "Review: mastery and recall": mastery,
        "Planner: the plan": plan,
        "Planner: planning anew": planned,
        "Drill: the drill under way": taking,
        "My data: the learner file": lambda: take_along.save(store, STUDENT),
    }


def _milliseconds(page: Callable[[], object]) -> float:
    begun = time.perf_counter()
    page()
    return (time.perf_counter() - begun) * 1000


if __name__ == "__main__":
    raise SystemExit(main())
