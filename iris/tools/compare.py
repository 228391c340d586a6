"""Compare: one question to two models at the same time, their names hidden; votes; and stored evaluation results."""

from __future__ import annotations

import queue
import random
import threading
from collections.abc import Generator
from dataclasses import dataclass, field, replace

from iris import prompts, results
from iris.engine import Engine, Sampling
from iris.errors import IrisError, RequestError, ResultsError
from iris.results import Results
from iris.store import Store
from iris.study.votes import Duel, Score, Votes, duels_csv, scores_csv
from iris.tools import study_chat
from iris.tools.study_chat import Answer, Pace


@dataclass(frozen=True, slots=True)
class Sides:
    """Both answers so far; ``duel`` is the id to vote with once both are complete."""

    left: Answer = field(default_factory=Answer)
    right: Answer = field(default_factory=Answer)
    duel: str = ""


def placed(models: tuple[str, str], chance: random.Random | None = None) -> tuple[str, str]:
    """The two models, left and right by chance.

    Raises:
        RequestError: they are the same.
    """
    if models[0] == models[1]:
        raise RequestError("Choose two different models: there is nothing to compare.")
    return models if (chance or random.SystemRandom()).random() < 0.5 else (models[1], models[0])


def stream(
    store: Store,
    student: str,
    question: str,
    models: tuple[str, str],
    engines: tuple[Engine, Engine],
    *,
    sampling: Sampling = prompts.STUDY_CHAT_SAMPLING,
    pace: Pace | None = None,
) -> Generator[Sides, None, None]:
    """Ask both, left and right, and yield the answers as they grow; the last value has the duel's id.

    Both are asked what Study Chat would ask them. Closing the generator stops both.

    Raises:
        RequestError: the question is empty or too long, or the models are the same.
        EngineError: see ``Engine.stream``; when one fails, the other is stopped.
    """
    if models[0] == models[1]:
        raise RequestError("Choose two different models: there is nothing to compare.")
    question = study_chat.checked(question)
    news: queue.SimpleQueue[tuple[int, Answer | Exception | None]] = queue.SimpleQueue()
    stop = threading.Event()

    def ask(side: int) -> None:
        # Its own thread, since an answer that waits must not hold up the other.
        answers = study_chat.stream(engines[side], question, sampling=sampling, pace=pace)
        try:
            for answer in answers:
                if stop.is_set():
                    return
                news.put((side, answer))
            news.put((side, None))
        except Exception as error:
            news.put((side, error))
        finally:
            answers.close()

    for side in (0, 1):
        threading.Thread(target=ask, args=(side,), name=f"iris-compare {side}", daemon=True).start()
    sides, open_ = Sides(), 2
    try:
        while open_:
            side, answer = news.get()
            if isinstance(answer, Exception):
                raise answer
            if answer is None:
                open_ -= 1
                continue
            sides = replace(sides, left=answer) if side == 0 else replace(sides, right=answer)
            yield sides
    finally:
        stop.set()
    if not (sides.left.text and sides.right.text):
        raise RequestError("One of the models ended without an answer. Ask again, or put the question differently.")
    yield replace(sides, duel=Votes(store).open(student, question, models, (sides.left.text, sides.right.text)))


def vote(store: Store, student: str, duel: str, choice: str) -> Duel:
    """Count a vote and say who was who. Raises RequestError."""
    return Votes(store).vote(student, duel, choice)


def scores(store: Store) -> list[Score]:
    """How all students voted."""
    return Votes(store).scores()


def export(store: Store, student: str) -> dict[str, str]:
    """Files by name: the counts of all, and what this student voted on."""
    votes = Votes(store)
    return {"votes.csv": scores_csv(votes.scores()), "my-votes.csv": duels_csv(votes.of(student))}


def evaluations() -> tuple[dict[str, Results], list[str]]:
    """Stored evaluation results by file name, and what is wrong with those that cannot be read."""
    found: dict[str, Results] = {}
    problems: list[str] = []
    try:
        for path in results.stored():
            try:
                found[path.stem] = results.read(path)
            except ResultsError as error:
                problems.append(str(error))
    except IrisError as error:
        problems.append(str(error))
    return found, problems
