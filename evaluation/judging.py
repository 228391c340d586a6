"""The judge in a run: chosen, tried on planted answers, then asked about every model against the first."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from evaluation.cached import Cached, key
from evaluation.errors import JudgeError
from evaluation.judge import Judge, Judged, Pair, planted, refuse_itself, tally
from evaluation.records import Records
from evaluation.summary import Values
from evaluation.targets import Target, find
from evaluation.tasks import Task
from iris import settings
from iris.engine import Engine
from iris.errors import EngineError

PLANTED = 12
"""Questions with known answers that a judge is tried on: two pairs each."""
TOGETHER = 8
"""Pairs judged between two writes."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The judge: a local GGUF, or a server and the model's name there."""

    name: str
    target: Target | None
    url: str
    timeout_s: float


def choose(judge: str, model: str, timeout_s: float, targets: Sequence[Target]) -> Choice:
    """The judge that these options name.

    Raises:
        JudgeError: it is one of the models under test, or no GGUF, or the time makes no sense.
        IrisError: it does not exist.
    """
    if not timeout_s > 0:
        raise JudgeError(f"--judge-timeout must be more than 0 seconds, not {timeout_s:g}.")
    if judge.startswith(("http://", "https://")):
        refuse_itself(model, "", targets)
        return Choice(model or judge, None, judge, timeout_s)
    target = find(judge)
    if target.backend != "gguf":
        raise JudgeError(
            f"The judge {judge} must be a GGUF or a server; export it first: python export/to_gguf.py {judge}"
        )
    refuse_itself(target.name, target.sha256, targets)
    return Choice(target.name, target, "", timeout_s)


def judge(
    choice: Choice, out: Path, tasks: Sequence[Task], found: Mapping[str, Records], *, threads: int
) -> tuple[dict[str, Values], list[str]]:
    """How often each model but the first is preferred to it, by item, and what is to be said about the judge.

    Raises:
        JudgeError: it cannot be reached, or never answers.
    """
    rows = [(task.name, item) for task in tasks if task.kind == "answer" for item in task.items if item.reference]
    if len(rows) < 2:
        raise JudgeError("The judge needs questions with reference answers: add the task course.")
    labels = list(found)
    kept = Cached(out / "judge.jsonl")
    try:
        engine = _open(choice, threads)
        try:
            asker = Judge(engine, timeout_s=choice.timeout_s)
            trial = list(planted([(item.prompt[-1].content, item.reference) for _, item in rows[:PLANTED]]))
            known = _judged(asker, choice, kept, trial)
            notes = [_trust(choice, known)]
            values: dict[str, Values] = {}
            for label in labels[1:]:
                items, pairs = [], []
                for name, item in rows:
                    key_ = (name, item.id, "answer")
                    if key_ in found[labels[0]].found and key_ in found[label].found:
                        first, second = (str(found[one].found[key_]["answer"]) for one in (labels[0], label))
                        items.append((name, item.id))
                        pairs.append(Pair(item.prompt[-1].content, item.reference, first, second))
                judged = _judged(asker, choice, kept, pairs)
                notes.append(_said(choice, labels[0], label, judged))
                scores: Values = {}
                for (name, item_id), one in zip(items, judged, strict=True):
                    if one.outcome in ("first", "second", "tie"):
                        value = {"first": 0.0, "second": 1.0}.get(one.outcome, 0.5)
                        scores.setdefault(f"{name}.judge", {})[item_id] = (value,)
                values[label] = scores
            return values, notes
        finally:
            engine.close()
    finally:
        kept.close()


def _open(choice: Choice, threads: int) -> Engine:
    if choice.target is None:
        from iris.engine.remote import RemoteEngine

        try:
            config = settings.load()
            return RemoteEngine(choice.url, key=config.engine_key, model=choice.name, timeout_s=choice.timeout_s)
        except EngineError as error:
            raise JudgeError(f"The judge at {choice.url} cannot be asked: {error}") from error
    from iris.engine.batch import LocalEngine

    assert choice.target.path is not None
    return LocalEngine(choice.target.path, adapter=choice.target.adapter, slots=4, cache=16384, threads=threads)


def _judged(asker: Judge, choice: Choice, kept: Cached, pairs: Sequence[Pair]) -> list[Judged]:
    from tqdm import tqdm

    names = [key("judge", choice.name, choice.url, asdict(pair)) for pair in pairs]
    todo = [n for n, name in enumerate(names) if name not in kept.found]
    with tqdm(total=2 * len(pairs), initial=2 * (len(pairs) - len(todo)), desc="judge", disable=None) as bar:
        for start in range(0, len(todo), TOGETHER):
            part = todo[start : start + TOGETHER]
            for n, one in zip(part, asker.judge([pairs[n] for n in part], bar.update), strict=True):
                if one.outcome == "failed":  # to be asked again when the run goes on
                    kept.found[names[n]] = asdict(one)
                else:
                    kept.add(names[n], asdict(one))
    return [Judged(**_fields(kept.found[name])) for name in names]


def _fields(value: Any) -> dict[str, Any]:
    return {name: value[name] for name in ("forward", "backward", "outcome")}


def _trust(choice: Choice, known: Sequence[Judged]) -> str:
    found = tally(known)
    agreed = found.second / found.pairs
    warning = "" if agreed >= 0.8 else " Its verdicts say little."
    print(f"The judge agrees with {100 * agreed:.0f} % of the planted pairs.{warning}", file=sys.stderr)
    return (
        f"Judge {choice.name}: prefers the right one of {found.pairs} planted pairs in both orders in "
        f"{100 * agreed:.0f} %; {found.first} wrong, {found.ties} ties ({found.inconsistent} by disagreement of the "
        f"orders), {found.unparsed} unparsed, {found.failed} failed.{warning}"
    )


def _said(choice: Choice, first: str, second: str, judged: Sequence[Judged]) -> str:
    found = tally(judged)
    return (
        f"Judge {choice.name}, {second} against {first}, {found.pairs} pairs in both orders: {found.second} won, "
        f"{found.first} lost, {found.ties} ties ({found.inconsistent} by disagreement of the orders), {found.unparsed} "
        f"unparsed, {found.failed} failed."
    )
