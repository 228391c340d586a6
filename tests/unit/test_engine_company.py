"""Many answers at a time: the waiting line, running together, cancelling, failing, closing."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from iris.engine import Chunk, Message
from iris.engine import batch as batch_module
from iris.engine.answer import HEARTBEAT_S
from iris.engine.batch import LocalEngine
from iris.engine.llama import Context
from iris.engine.sampler import Sampler
from iris.errors import EngineClosed, EngineFailure, QueueFull, SchemaError
from tests.conftest import THREADS
from tests.unit.engines import (
    PATIENCE_S,
    STORY,
    Got,
    MakeEngine,
    Steps,
    ask,
    eventually,
    first_token,
    idle,
    read,
    request,
    together,
)

# ---- The waiting line.


def test_places_in_line_count_down_and_a_full_line_says_so(make_engine: MakeEngine, steps: Steps) -> None:
    engine = make_engine(slots=1, queue=2)
    steps.hold()
    first = engine.stream(request("One", max_tokens=2))
    steps.wait_held()
    order: list[str] = []
    second, third = (engine.stream(request(name, max_tokens=2)) for name in ("Two", "Three"))
    with pytest.raises(QueueFull) as caught:
        engine.stream(request("Four"))
    assert caught.value.place == 3
    assert "number 3" in str(caught.value)
    assert engine.status().waiting == 2
    assert engine.status().active == 1

    def finish(name: str, stream: Any, into: list[Got]) -> None:
        into.append(read(stream))
        order.append(name)

    results: dict[str, list[Got]] = {"1": [], "2": [], "3": []}
    threads = [
        threading.Thread(target=finish, args=(name, stream, results[name]))
        for name, stream in zip("321", (third, second, first), strict=True)
    ]
    for thread in threads:
        thread.start()
    steps.release()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert results["1"][0].places == []
    assert results["2"][0].places == [1]
    assert results["3"][0].places == [2, 1]
    assert results["1"][0].usage.queued_s < results["2"][0].usage.queued_s < results["3"][0].usage.queued_s
    assert results["3"][0].usage.queued_s <= (results["3"][0].usage.first_token_s or 0)
    assert ask(engine, "Four").usage


def test_who_leaves_the_line_lets_the_others_move_up(make_engine: MakeEngine, steps: Steps) -> None:
    engine = make_engine(slots=1, queue=2)
    steps.hold()
    first = engine.stream(request("One", max_tokens=4))
    steps.wait_held()
    second, third = engine.stream(request("Two")), engine.stream(request("Three"))
    second.close()
    assert engine.status().waiting == 1
    fourth = engine.stream(request("Four"))  # there is room again
    with pytest.raises(QueueFull):
        engine.stream(request("Five"))
    steps.release()
    results = together([first, third, fourth])
    assert [got.places for got in results] == [[], [2, 1], [2, 1]]
    assert all(got.usage for got in results)
    with pytest.raises(StopIteration):
        next(second)


def test_a_waiting_reader_hears_something_now_and_then(make_engine: MakeEngine, steps: Steps) -> None:
    """Or a web handler could not notice that its student has left."""
    engine = make_engine(slots=1)
    steps.hold()
    first = engine.stream(request("One", max_tokens=1))
    steps.wait_held()
    second = engine.stream(request("Two", max_tokens=1))
    assert next(second).place == 1
    started = time.monotonic()
    assert next(second) == Chunk()
    assert time.monotonic() - started >= HEARTBEAT_S * 0.9
    steps.release()
    assert all(got.usage for got in together([first, second]))


def test_first_come_first_served_also_when_memory_is_the_limit(make_engine: MakeEngine, steps: Steps) -> None:
    """A short request does not overtake a long one that waits for room, or the long one might wait for ever."""
    engine = make_engine(slots=4, context=512, cache=512)
    steps.hold()
    big = engine.stream(request("One", max_tokens=400, stop=(" ",)))
    steps.wait_held()
    bigger = engine.stream(request("Two", max_tokens=400, stop=(" ",)))
    small = engine.stream(request("hi", max_tokens=2))
    steps.release()
    results = together([big, bigger, small])
    assert [got.places for got in results] == [[], [1], [2]]
    assert all(got.final for got in results)


# ---- Company.


def test_a_running_answer_flows_while_a_long_prompt_is_read(
    make_engine: MakeEngine, steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_module, "BATCH", 32)
    engine = make_engine(context=1024, cache=1536)
    running = engine.stream(request(STORY, max_tokens=300, temperature=1.0, seed=1, logprobs=1))
    got = read(running, until=first_token)
    steps.hold()
    steps.wait_held()
    before = len(steps.batches)
    long_ = engine.stream(request("word " * 320, max_tokens=1, logprobs=1))
    answered = threading.Event()

    def read_long() -> None:
        read(long_)
        answered.set()

    reader = threading.Thread(target=read_long)
    reader.start()
    seen = len(got.logprobs)
    steps.release()
    read(running, into=got, until=lambda _: answered.is_set())
    running.close()
    reader.join(PATIENCE_S)
    reading = [size for size in steps.batches[before:] if size > 1]
    assert len(reading) >= 320 // 32, "the long prompt was read in steps"
    assert len(got.logprobs) - seen >= len(reading) * 3 // 4, "and nearly each of them wrote a token of the answer"


def test_cancel_while_the_prompt_is_read_takes_effect_within_a_step(
    make_engine: MakeEngine, steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_module, "BATCH", 32)
    engine = make_engine(context=1024, cache=1024)
    steps.hold()
    stream = engine.stream(request("word " * 600))
    steps.wait_held()
    stream.close()
    steps.release()
    eventually(lambda: idle(engine), "the slot is free")
    assert len(steps.batches) == 1
    assert list(stream) == []


def test_cancel_while_writing_takes_effect_within_a_step(make_engine: MakeEngine, steps: Steps) -> None:
    engine = make_engine()
    stream = engine.stream(request(STORY, max_tokens=200, logprobs=1))
    read(stream, until=first_token)
    steps.hold()
    steps.wait_held()
    count = len(steps.batches)
    stream.close()
    stream.close()
    steps.release()
    eventually(lambda: idle(engine), "the slot is free")
    assert len(steps.batches) == count


@pytest.mark.parametrize("how", ["dropped", "thread dies", "with"])
def test_a_forgotten_stream_frees_its_slot(make_engine: MakeEngine, how: str) -> None:
    engine = make_engine(slots=1)

    def half_read() -> None:
        stream = engine.stream(request(STORY, max_tokens=400))
        next(stream)
        if how == "thread dies":
            raise KeyError("the reader fails")

    if how == "with":
        with engine.stream(request(STORY, max_tokens=400)) as stream:
            next(stream)
    elif how == "dropped":
        half_read()
    else:
        hook, threading.excepthook = threading.excepthook, lambda _: None
        try:
            thread = threading.Thread(target=half_read)
            thread.start()
            thread.join(PATIENCE_S)
        finally:
            threading.excepthook = hook
    eventually(lambda: idle(engine), "the slot is free")
    assert ask(engine, "hi", max_tokens=2).usage.queued_s < PATIENCE_S


# ---- Failures.


def test_a_failing_answer_takes_no_other_down(
    make_engine: MakeEngine, steps: Steps, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    undisturbed = ask(make_engine(), STORY, max_tokens=16).text
    sample = Sampler.sample
    victims: list[Sampler] = []

    def failing(sampler: Sampler, context: Context, index: int) -> int:
        if sampler in victims:
            raise ValueError("a bug")
        return sample(sampler, context, index)

    monkeypatch.setattr(Sampler, "sample", failing)
    engine = make_engine()
    steps.hold()
    good = engine.stream(request(STORY, max_tokens=16))
    bad = engine.stream(request("hi", max_tokens=16))
    sampler = bad._answer.sampler
    assert sampler is not None
    victims.append(sampler)
    steps.release()
    fine, failed = together([good, bad])
    assert fine.text == undisturbed
    assert isinstance(failed.error, EngineFailure)
    assert "internal error" in str(failed.error)
    assert engine.status().restarts == 0
    assert "a bug" in caplog.text  # the cause is in the log, with its traceback


def test_a_dead_end_in_the_json_is_that_answers_error(
    make_engine: MakeEngine, steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = ask(make_engine(), STORY, max_tokens=16).text
    monkeypatch.setattr(Sampler, "_allowed", lambda sampler, token: False)
    engine = make_engine()
    steps.hold()
    streams = [engine.stream(request(STORY, max_tokens=16)), engine.stream(request("hi", schema={"type": "boolean"}))]
    steps.release()
    fine, failed = together(streams)
    assert fine.text == undisturbed
    assert isinstance(failed.error, SchemaError)
    assert "No token of this model continues the JSON" in str(failed.error)


@pytest.mark.parametrize("when", ["reading", "writing"])
def test_after_an_engine_error_the_answers_go_on(make_engine: MakeEngine, steps: Steps, when: str) -> None:
    asked = [request(STORY, max_tokens=12), request("Yes?", max_tokens=40, schema={"const": "no, not at all, never"})]
    calm, engine = make_engine(), make_engine()
    undisturbed = [read(calm.stream(each)).text for each in asked]
    start = len(steps.batches)
    steps.hold()
    streams = [engine.stream(each) for each in asked]
    steps.fail = {start + (1 if when == "reading" else 6)}  # the first step began before the second question came
    steps.release()
    results = together(streams)
    assert engine.status().restarts == 1
    assert [got.text for got in results] == undisturbed
    for got in results:
        assert any("restarted" in notice for notice in got.notices)
        assert got.usage.cached_tokens <= got.usage.prompt_tokens
    follow = ask(engine, STORY, max_tokens=12)
    assert follow.text == undisturbed[0]
    assert follow.notices == []


def test_an_error_that_stays_ends_the_running_answers_only(make_engine: MakeEngine, steps: Steps) -> None:
    engine = make_engine(slots=1)
    undisturbed = ask(engine, "What is a weight?", max_tokens=6).text
    start = len(steps.batches)
    steps.hold()
    streams = [engine.stream(request(q, max_tokens=6)) for q in (STORY, "What is a weight?")]
    steps.fail = {start, start + 1}
    steps.release()
    failed, fine = together(streams)
    assert isinstance(failed.error, EngineFailure)
    assert "failed twice" in str(failed.error)
    assert fine.text == undisturbed
    assert fine.notices == []
    assert engine.status().restarts == 2


def test_an_engine_that_cannot_restart_closes(
    make_engine: MakeEngine, steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine()
    stream = engine.stream(request(STORY, max_tokens=100, logprobs=1))
    read(stream, until=first_token)
    steps.hold()
    steps.wait_held()

    def no_memory(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Context, "__init__", no_memory)
    steps.fail = {len(steps.batches)}
    steps.release()
    with pytest.raises(EngineClosed):
        read(stream)
    assert engine.status().closed
    with pytest.raises(EngineClosed):
        engine.stream(request("hi"))


# ---- Closing.


def test_closing_ends_every_stream(make_engine: MakeEngine, steps: Steps) -> None:
    engine = make_engine(slots=1)
    running = engine.stream(request(STORY, max_tokens=400, logprobs=1))
    read(running, until=first_token)
    waiting = engine.stream(request("hi"))
    assert not engine.status().closed
    engine.close()
    for stream in (running, waiting):
        with pytest.raises(EngineClosed, match="Ask again"):
            read(stream)
        with pytest.raises(StopIteration):
            next(stream)
        stream.close()
    engine.close()
    assert engine.status().closed
    for call in (
        lambda: engine.stream(request("hi")),
        lambda: engine.stream(request("hi", schema={"type": "null"})),
        lambda: engine.count_tokens("hi"),
        lambda: engine.warm((Message("user", "hi"),)),
    ):
        with pytest.raises(EngineClosed, match="Ask again"):
            call()


def test_closing_while_many_threads_ask(make_engine: MakeEngine) -> None:
    """The vocabulary is read by the asking threads: closing must not free it under them."""
    for _ in range(3):
        engine = make_engine(slots=2, queue=1000)
        stop = threading.Event()
        wrong: list[BaseException] = []

        def hammer(engine: LocalEngine, stop: threading.Event, wrong: list[BaseException]) -> None:
            text = "overfitting and regularization " * 200
            while not stop.is_set():
                try:
                    engine.count_tokens(text)
                    engine.stream(request(text[:400], max_tokens=1)).close()
                except EngineClosed:
                    return
                except BaseException as error:
                    wrong.append(error)
                    return

        threads = [threading.Thread(target=hammer, args=(engine, stop, wrong)) for _ in range(6)]
        for thread in threads:
            thread.start()
        time.sleep(0.1)
        engine.close()
        stop.set()
        for thread in threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive()
        assert wrong == []


def test_the_interpreter_can_end_while_an_answer_runs(gguf: Path) -> None:
    code = f"""
from pathlib import Path
from iris.engine import GenerationRequest, Message, Sampling
from iris.engine.batch import LocalEngine
engine = LocalEngine(Path({str(gguf)!r}), context=512, cache=512, threads={THREADS})
stream = engine.stream(GenerationRequest((Message("user", "Tell me a story."),), Sampling(max_tokens=400)))
while not next(stream).text: pass
print("bye")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE_S)
    assert (done.returncode, done.stdout, done.stderr) == (0, "bye\n", "")
