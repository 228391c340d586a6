"""A class of impatient students: joins, cancels and disconnects at random leak nothing."""

from __future__ import annotations

import contextlib
import gc
import random
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from iris.engine import batch as batch_module
from iris.engine.batch import LocalEngine
from iris.engine.sampler import Sampler
from iris.errors import QueueFull, SchemaError
from tests.conftest import THREADS
from tests.unit.engines import PATIENCE_S, ask, check_books, eventually, idle, request, together

STUDENTS = 10
VISITS = 20
WAYS = ("reads to the end", "closes", "drops", "thread dies", "closes unread", "drops unread")
SYSTEM = "You are a patient tutor. Answer in one or two plain sentences and give an example."
TOPICS = ("overfitting", "dropout", "a learning rate", "a transformer", "serving a model", "drift", "a GPU", "bias")


class _Lost(Exception):
    """The student's connection breaks in the middle of an answer."""


def visit(engine: LocalEngine, chance: random.Random, way: str, seen: Counter[str]) -> None:
    """One question, and one way to go away."""
    topic = chance.choice(TOPICS)
    turns = [f"What is {topic}?"]
    if chance.random() < 0.4:
        turns += [f"It is about {topic}.", "Why? " + "Say more. " * chance.randint(0, 12)]
    schema = {"enum": ["yes", "no", topic]} if chance.random() < 0.15 else None
    asked = request(
        *turns,
        system=SYSTEM if chance.random() < 0.6 else "",
        schema=schema,
        max_tokens=chance.choice([0, 1, 3, 8, 16]),
        temperature=chance.choice([0.0, 1.0]),
        repeat_penalty=1.15,
        logprobs=chance.choice([0, 0, 2]),
    )
    while True:
        try:
            stream = engine.stream(asked)
            break
        except QueueFull:
            seen["line full"] += 1
            time.sleep(0.02)
    seen[way] += 1
    if way == "closes unread":
        stream.close()
    elif way == "drops unread":
        pass
    elif way == "reads to the end":
        with contextlib.suppress(SchemaError):  # too few tokens for the JSON
            assert list(stream)[-1].usage is not None
    else:
        with contextlib.suppress(StopIteration, SchemaError):
            for _ in range(chance.randint(1, 5)):
                next(stream)
        if way == "closes":
            stream.close()
        elif way == "thread dies":
            raise _Lost


def student(engine: LocalEngine, seed: int, visits: int, seen: Counter[str], failures: list[BaseException]) -> None:
    chance = random.Random(seed)
    try:
        for _ in range(visits):
            way = chance.choice(WAYS)
            if way == "thread dies":
                dying = threading.Thread(target=visit, args=(engine, chance, way, seen))
                dying.start()
                dying.join(PATIENCE_S)
            else:
                visit(engine, chance, way, seen)
            time.sleep(chance.random() * 0.02)
    except BaseException as error:
        failures.append(error)


def classroom(engine: LocalEngine, seed: int, visits: int) -> Counter[str]:
    seen: Counter[str] = Counter()
    failures: list[BaseException] = []
    threads = [
        threading.Thread(target=student, args=(engine, seed * 1000 + n, visits, seen, failures))
        for n in range(STUDENTS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * PATIENCE_S)
        assert not thread.is_alive(), "a student waits for ever"
    assert failures == []
    eventually(lambda: idle(engine), "every slot is free")
    return seen


def live_samplers() -> int:
    gc.collect()
    return sum(type(thing) is Sampler and bool(thing._chain) for thing in gc.get_objects())


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


@pytest.mark.slow
def test_two_hundred_joins_cancels_and_disconnects_leak_nothing(gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lost: list[type[BaseException]] = []
    monkeypatch.setattr(threading, "excepthook", lambda failed: lost.append(failed.exc_type))
    monkeypatch.setattr(batch_module, "BATCH", 64)
    samplers, threads = live_samplers(), threading.active_count()
    engine = LocalEngine(gguf, slots=4, queue=4, context=256, cache=512, threads=THREADS)
    try:
        undisturbed = ask(engine, "What is a weight?").text
        classroom(engine, 1, VISITS // 4)  # fills the cache and Python's own pools before memory is measured
        before = resident_mb()
        seen = classroom(engine, 2, VISITS)
        check_books(engine)
        assert sum(seen[way] for way in WAYS) == STUDENTS * VISITS == 200
        assert all(seen[way] > 5 for way in [*WAYS, "line full"]), seen
        assert set(lost) == {_Lost}
        assert live_samplers() == samplers
        assert resident_mb() - before < 25
        status = engine.status()
        assert (status.active, status.waiting, status.restarts) == (0, 0, 0)
        # All cells can still be used, and what is in them is right.
        assert ask(engine, "What is a weight?").text == undisturbed
        both = [engine.stream(request(f"{word} " * 150, max_tokens=64)) for word in ("word", "term")]
        assert all(got.final and not got.notices for got in together(both))
        check_books(engine)
    finally:
        engine.close()
    assert threading.active_count() == threads
