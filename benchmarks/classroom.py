"""The workload of `benchmarks.serve`: students who start together, ask, and ask again when the answer is there."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median

Chat = Callable[[list[dict[str, str]], int], Iterator[str]]
"""``(messages, most tokens) -> pieces of text``, one piece a token where the backend allows it."""

SYSTEM = (
    "You are a patient tutor for a course on machine learning systems. Students who prepare for their exam ask you "
    "about feature stores, training pipelines, model serving, monitoring, neural networks and language models. Begin "
    "with the answer itself in one or two plain sentences, then explain the reason step by step. Use a small example "
    "with numbers when it helps, and show how each number comes about. Name the mistake that is made most often with "
    "this topic and how to avoid it. Prefer the words of the course: features, labels, training data, inference, "
    "online store, offline store, drift, skew, latency. Define a term the first time you use it. When a question has "
    "more than one reasonable answer, say on what the choice depends, and give the usual choice with its reason. When "
    "a question rests on a wrong assumption, say so kindly and correct it before you answer. Do not invent sources, "
    "product names or numbers; say that you are not sure when you are not. Keep formulas short and explain every "
    "symbol in them. Write complete sentences, in a calm and friendly tone, without headings. Do not repeat the "
    "question, do not praise it, and do not end with an offer of further help. Never give the student a task of your "
    "own and never write instructions about how an answer should look. Keep to what was asked, and stop when the "
    "question has been answered. The student may ask follow-up questions; read the conversation so far before you "
    "answer them, and do not explain again what you have already explained."
)

QUESTIONS = (
    "Why does a feature store keep an online and an offline copy of the same features?",
    "How does gradient descent decide how large its next step is?",
    "What makes the LSTM better at long sequences than a plain recurrent network?",
    "When would you choose batch inference over an online prediction service?",
    "How can I notice that the data my model sees has drifted away from its training data?",
    "What does multiplying queries with keys achieve in self-attention?",
    "Why do we need a validation set when there is already a test set?",
    "How does quantization make a language model smaller, and what is lost?",
)
FOLLOW_UP = "Can you explain that again with another example, step by step, and say where I would go wrong?"


@dataclass
class Turn:
    """What one student saw of one answer; times in seconds since the question was sent."""

    first: float
    gaps: list[float]
    pieces: int


@dataclass
class Result:
    """All turns of one class. ``seconds`` from the first question to the last word."""

    seconds: float
    turns: list[list[Turn]] = field(default_factory=list)

    @property
    def tokens(self) -> int:
        return sum(turn.pieces for student in self.turns for turn in student)

    def row(self) -> dict[str, float]:
        """Aggregate tokens/s, median time to first token of each turn, p95 of the gaps between pieces."""
        gaps = sorted(gap for student in self.turns for turn in student for gap in turn.gaps)
        firsts = [turn.first for student in self.turns for turn in student]
        return {
            "tokens_per_s": self.tokens / self.seconds,
            "first_token_s": median(firsts),
            "first_turn_s": median(student[0].first for student in self.turns),
            "follow_up_s": median(student[1].first for student in self.turns),
            "gap_p95_s": gaps[int(0.95 * (len(gaps) - 1))] if gaps else 0.0,
        }


def run(chat: Chat, students: int, tokens: int) -> Result:
    """Two turns for each of ``students``, all at once, ``tokens`` at most an answer.

    Raises:
        Exception: what the first failing student met.
    """
    turns: list[list[Turn]] = [[] for _ in range(students)]
    failures: list[BaseException] = []
    start = threading.Barrier(students + 1)

    def student(number: int) -> None:
        try:
            messages = [{"role": "system", "content": SYSTEM}]
            start.wait()
            for question in (QUESTIONS[number % len(QUESTIONS)], FOLLOW_UP):
                messages.append({"role": "user", "content": question})
                turn, answer = _listen(chat(messages, tokens))
                turns[number].append(turn)
                messages.append({"role": "assistant", "content": answer})
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=student, args=(n,)) for n in range(students)]
    for thread in threads:
        thread.start()
    start.wait()
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return Result(time.perf_counter() - began, turns)


def _listen(pieces: Iterator[str]) -> tuple[Turn, str]:
    began = time.perf_counter()
    times: list[float] = []
    text: list[str] = []
    for piece in pieces:
        if piece:
            times.append(time.perf_counter() - began)
            text.append(piece)
    if not times:
        raise RuntimeError("an answer came back empty")
    return Turn(times[0], [b - a for a, b in pairwise(times)], len(times)), "".join(text)
