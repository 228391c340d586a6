"""Quiz: items from the course's bank first, then from the model; and the quiz as it is taken.

``prepare`` chooses from the bank in milliseconds and says what is missing; ``write`` asks the model for that and yields
the quiz as it grows. A quiz that is too short says so; an empty one is an error that says what to do.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Container, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from iris.courses import DIFFICULTIES, Course, Difficulty
from iris.engine import Engine
from iris.errors import RequestError
from iris.tools import passages, quiz_bank, quiz_checks, quiz_write, words
from iris.tools.passages import Evidence
from iris.tools.quiz_checks import Reason
from iris.tools.quiz_items import KINDS, Item, Kind

MAX_COUNT = 30
TRIES_EACH = 3
"""How often the model may try for each item that is missing …"""
MAX_TRIES = 24
"""… and for all together: a student waits."""
HOPELESS = 6
"""After so many refused items in a row the model is asked no more."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a student asks for. ``difficulty`` None is any; ``topics`` are ids."""

    topics: tuple[str, ...]
    count: int = 5
    kinds: tuple[Kind, ...] = ("choice",)
    difficulty: Difficulty | None = None


@dataclass(frozen=True, slots=True)
class Past:
    """What a student has seen: how often each item, by id, and the questions of earlier quizzes."""

    seen: Mapping[str, int] = field(default_factory=dict)
    questions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Quiz:
    """A quiz, perhaps still growing.

    Attributes:
        wanted: what was asked for.
        items: the items so far, each of which has passed all checks.
        tried: how many items the model has written for it.
        refused: for which reasons how many of them were refused.
        again: how many items the student has met in an earlier quiz.
        done: nothing more will come.
    """

    wanted: Wanted
    items: tuple[Item, ...]
    tried: int = 0
    refused: Mapping[Reason, int] = field(default_factory=dict)
    again: int = 0
    done: bool = False

    @property
    def missing(self) -> int:
        return max(0, self.wanted.count - len(self.items))

    @property
    def rejection_rate(self) -> float | None:
        """The share of the model's items that were refused; None where it wrote none."""
        return sum(self.refused.values()) / self.tried if self.tried else None


def checked(
    course: Course | None,
    topics: Sequence[str],
    count: object,
    kinds: Sequence[str],
    difficulty: str | None,
    own: Container[str] = (),
) -> Wanted:
    """The wish, checked; ``own`` are the names of a student's notes, which may stand among the topics.

    Raises:
        RequestError: no topic or kind was chosen, or something is not known; the message says what to do.
        CourseError: there is no topic of that id.
    """
    if course is None:
        raise RequestError("There is no course to make a quiz of. Put one into the courses folder and restart Iris.")
    if not topics:
        raise RequestError("No topics are chosen. Choose one or more topics, then make the quiz.")
    chosen = tuple(dict.fromkeys(topic if topic in own else course.topic(topic).id for topic in topics))
    if not kinds:
        raise RequestError(f"No kind of question is chosen. Choose at least one of {', '.join(KINDS)}.")
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise RequestError(f"There is no kind of question {unknown[0]!r}. Known are {', '.join(KINDS)}.")
    if isinstance(count, bool) or not isinstance(count, int | float) or count != int(count):
        raise RequestError(f"The number of questions must be a whole number, not {count!r}.")
    if not 1 <= count <= MAX_COUNT:
        raise RequestError(f"A quiz has 1 to {MAX_COUNT} questions, not {int(count)}.")
    if difficulty not in (None, "", "any", *DIFFICULTIES):
        raise RequestError(f"The difficulty must be any, {', '.join(DIFFICULTIES)}, not {difficulty!r}.")
    level: Difficulty | None = next((name for name in DIFFICULTIES if name == difficulty), None)
    ordered = tuple(kind for kind in KINDS if kind in kinds)
    return Wanted(chosen, int(count), ordered, level)


def prepare(course: Course, wanted: Wanted, past: Past | None = None, seed: int | None = None) -> Quiz:
    """The quiz as far as the course's bank gives it: items not seen before, spread over topics and kinds."""
    past = past or Past()
    shuffle = random.Random(seed)
    fresh = [item for item in _candidates(course, wanted) if not past.seen.get(_row(item))]
    return _with(Quiz(wanted, ()), _spread(fresh, wanted, shuffle, ()), course, shuffle)


def complete(course: Course, quiz: Quiz, past: Past | None = None, seed: int | None = None) -> Quiz:
    """The quiz filled up with items of the bank that the student has met before, least often first; then it is done.

    Raises:
        RequestError: there is not a single item.
    """
    past = past or Past()
    shuffle = random.Random(seed)
    old = [item for item in _candidates(course, quiz.wanted) if past.seen.get(_row(item))]
    old.sort(key=lambda item: past.seen.get(_row(item), 0))
    more = _spread(old, quiz.wanted, shuffle, quiz.items, keep_order=True)
    quiz = replace(_with(quiz, more, course, shuffle), again=len(more), done=True)
    if not quiz.items:
        refused = f" The model wrote {quiz.tried}, and none passed the checks." if quiz.tried else ""
        raise RequestError(
            "There are no questions of this kind and difficulty for these topics in the course's bank."
            f"{refused} Choose more topics, another kind or another difficulty."
        )
    return quiz


def write(
    engine: Engine,
    course: Course,
    quiz: Quiz,
    past: Past | None = None,
    *,
    evidence: Evidence | None = None,
    seed: int | None = None,
) -> Generator[Quiz, None, None]:
    """Ask the model for the items that are missing; yields the quiz while an item is written, and after it.

    ``evidence`` gives the passages to ask about (default: the course's own notes). Closing the generator stops the
    engine's work; what was yielded stays good.

    Raises what ``Engine.stream`` raises.
    """
    past = past or Past()
    shuffle = random.Random(seed)
    lexicon = words.lexicon(course)
    sources = (evidence or passages.of_course(course))(quiz.wanted.topics)
    others = [*past.questions, *(item.question for item in quiz.items)]
    writer = quiz_write.Writer(engine, lexicon, others, shuffle)
    tries = min(MAX_TRIES, TRIES_EACH * quiz.missing)
    in_a_row = 0
    for kind, passage in itertools.islice(quiz_write.plan(quiz.wanted.kinds, sources, shuffle), tries):
        writing = writer.attempt(kind, passage, quiz.wanted.difficulty or "medium")
        while True:
            try:
                next(writing)
            except StopIteration as done:
                attempt: quiz_write.Attempt = done.value
                break
            yield quiz
        if attempt.item is None:
            assert attempt.reason is not None
            quiz = replace(quiz, refused=Counter(quiz.refused) + Counter([attempt.reason]))
            in_a_row += 1
        else:
            quiz = replace(quiz, items=(*quiz.items, attempt.item))
            in_a_row = 0
        quiz = replace(quiz, tried=quiz.tried + 1)
        yield quiz
        if not quiz.missing or in_a_row >= HOPELESS:
            return


def _candidates(course: Course, wanted: Wanted) -> list[Item]:
    return quiz_bank.items(course, wanted.topics, wanted.kinds, wanted.difficulty)


def _row(item: Item) -> str:
    """The course's row behind an item: the same question is not asked once as a choice and once as a claim."""
    return item.id.partition("/")[0]


def _spread(
    candidates: Sequence[Item], wanted: Wanted, shuffle: random.Random, there: Sequence[Item], keep_order: bool = False
) -> list[Item]:
    """As many of the candidates as are missing: each row once, topics and kinds in turn."""
    pool = list(candidates)
    if not keep_order:
        shuffle.shuffle(pool)
    chosen: list[Item] = []
    rows = {_row(item) for item in there}
    topics = Counter(item.topic for item in there)
    kinds = Counter(item.kind for item in there)
    while pool and len(there) + len(chosen) < wanted.count:
        # The first of the least used topic and kind; min is stable, so the order of the pool decides.
        item = min(pool, key=lambda item: (topics[item.topic], kinds[item.kind]))
        pool.remove(item)
        if _row(item) in rows:
            continue
        rows.add(_row(item))
        topics[item.topic] += 1
        kinds[item.kind] += 1
        chosen.append(item)
    return chosen


def _with(quiz: Quiz, more: Sequence[Item], course: Course, shuffle: random.Random) -> Quiz:
    lexicon = words.lexicon(course)
    kept = list(quiz.items)
    for item in more:
        if not any(quiz_checks.reworded(item.question, other.question, lexicon) for other in kept):
            kept.append(quiz_bank.dressed(item, course, shuffle))
    return replace(quiz, items=tuple(kept))
