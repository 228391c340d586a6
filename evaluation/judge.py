"""A judge model compares two answers to a question, with the reference before it; asked in both orders.

Language models prefer the first or the second place whatever stands there (Zheng et al., 2023: Judging LLM-as-a-Judge,
section 3.3), so a win is what both orders agree on. What cannot be parsed is counted, not dropped. How far the judge
can be trusted is measured first, on answers whose order is known: the reference against that of another question, and
against its own first third.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, Literal

from evaluation.errors import JudgeError
from evaluation.targets import Target
from iris.engine import Engine, GenerationRequest, Message, Sampling
from iris.errors import EngineError, RequestError

Verdict = Literal["first", "second", "tie", "unparsed", "failed"]

SYSTEM = """\
You compare two answers to a student's question with a reference answer that is known to be right. Judge only whether \
what an answer says is right and complete, not its style or length. Reply with one line and nothing else: \
VERDICT: 1 if the first answer is better, VERDICT: 2 if the second is better, VERDICT: TIE if neither is."""

TOKENS = 12
CHARACTERS = 6000
"""Of each answer, for judges of short memory."""
GIVE_UP = 4
"""Failures in a row, from the beginning, after which the judge counts as dead."""

_LINE = re.compile(r"VERDICT:\s*(1|2|TIE)\.?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two answers to one question."""

    question: str
    reference: str
    first: str
    second: str


@dataclass(frozen=True, slots=True)
class Judged:
    """The verdict on one pair in either order, and what both say together, in terms of the pair's own order.

    ``outcome`` is a win only where both orders agree; "tie" where they do not, or both say so; "unparsed" or "failed"
    where one of them gave no verdict.
    """

    forward: Verdict
    backward: Verdict
    outcome: Verdict

    @property
    def consistent(self) -> bool:
        return self.forward == self.backward


@dataclass(frozen=True, slots=True)
class Tally:
    """Over many pairs. ``score`` is the share that the second answer wins, ties counting half, of the parsed ones."""

    pairs: int
    first: int
    second: int
    ties: int
    unparsed: int
    failed: int
    inconsistent: int

    @property
    def score(self) -> float | None:
        parsed = self.first + self.second + self.ties
        return (self.second + self.ties / 2) / parsed if parsed else None

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"score": self.score}


class Judge:
    """A judge over any engine.

    Args:
        engine: a local GGUF's or a remote server's.
        timeout_s: for one verdict; what takes longer is cancelled and counted as failed.
        together: verdicts asked for at the same time.
    """

    def __init__(self, engine: Engine, *, timeout_s: float = 60.0, together: int = 4) -> None:
        self._engine = engine
        self._timeout_s = timeout_s
        self._together = together
        self._answered = False

    def judge(self, pairs: Sequence[Pair], step: Callable[[int], None] = lambda _: None) -> list[Judged]:
        """Each pair in both orders.

        Raises:
            JudgeError: the judge has not answered a single of the first questions.
        """
        asked = [one for pair in pairs for one in ((pair, False), (pair, True))]
        verdicts: list[Verdict] = []
        with ThreadPoolExecutor(self._together) as pool:
            for start in range(0, len(asked), max(self._together, GIVE_UP)):
                part = asked[start : start + max(self._together, GIVE_UP)]
                verdicts += pool.map(lambda one: self._ask(*one), part)
                step(len(part))
                if not self._answered:
                    raise JudgeError(
                        f"The judge {self._engine.model_id} did not answer one of its first {len(verdicts)} questions "
                        f"within {self._timeout_s:g} s. Check its address, or give it longer with --judge-timeout."
                    )
        return [_joined(verdicts[n], _swapped(verdicts[n + 1])) for n in range(0, len(verdicts), 2)]

    def _ask(self, pair: Pair, swapped: bool) -> Verdict:
        one, two = (pair.second, pair.first) if swapped else (pair.first, pair.second)
        text = (
            f"Question:\n{pair.question}\n\nReference answer:\n{pair.reference}\n\n"
            f"Answer 1:\n{one[:CHARACTERS]}\n\nAnswer 2:\n{two[:CHARACTERS]}"
        )
        messages = (Message("system", SYSTEM), Message("user", text))
        request = GenerationRequest(messages, Sampling(temperature=0.0, repeat_penalty=1.0, max_tokens=TOKENS))
        said = ""
        end = time.monotonic() + self._timeout_s
        try:
            with self._engine.stream(request) as chunks:
                for chunk in chunks:
                    said += chunk.text
                    if time.monotonic() > end:
                        return "failed"
        except RequestError:  # too long for it, say: it is there, but cannot judge this pair
            self._answered = True
            return "failed"
        except EngineError:
            return "failed"
        self._answered = True
        return parse(said)


def parse(said: str) -> Verdict:
    """The verdict, if what the judge said is that one line and nothing else."""
    match = _LINE.fullmatch(said.strip())
    if not match:
        return "unparsed"
    if match[1] == "1":
        return "first"
    return "second" if match[1] == "2" else "tie"


def _swapped(verdict: Verdict) -> Verdict:
    if verdict == "first":
        return "second"
    return "first" if verdict == "second" else verdict


def _joined(forward: Verdict, backward: Verdict) -> Judged:
    missing: Verdict
    for missing in ("failed", "unparsed"):
        if missing in (forward, backward):
            return Judged(forward, backward, missing)
    return Judged(forward, backward, forward if forward == backward else "tie")


def tally(judged: Sequence[Judged]) -> Tally:
    """The counts."""
    found = Counter(one.outcome for one in judged)
    return Tally(
        len(judged),
        found["first"],
        found["second"],
        found["tie"],
        found["unparsed"],
        found["failed"],
        sum(not one.consistent for one in judged if one.outcome == "tie"),
    )


def planted(rows: Sequence[tuple[str, str]]) -> Iterator[Pair]:
    """Pairs whose second answer is the better one: the reference, against another question's, and against its start.

    ``rows`` are (question, reference), at least two.
    """
    for number, (question, reference) in enumerate(rows):
        yield Pair(question, reference, rows[(number + 1) % len(rows)][1], reference)
        yield Pair(
            question, reference, reference[: len(reference) // 3].rpartition(" ")[0] or "I do not know.", reference
        )


def refuse_itself(judge: str, judge_sha256: str, targets: Sequence[Target]) -> None:
    """Raise JudgeError if the judge is one of the models under test: by its weights, or, remote, by its name."""
    for target in targets:
        if (judge_sha256 and target.sha256 == judge_sha256) or (
            not judge_sha256 and judge in (target.name, target.label)
        ):
            raise JudgeError(
                f"The judge {judge} is the model {target.label} under test. "
                "A model prefers its own answers: name another."
            )
