"""The pool: one engine a model, opened on first use; the idle one that was asked for the longest ago makes room."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from iris import catalog
from iris.engine import Engine, Message, pool
from iris.engine.batch import LocalEngine
from iris.engine.llama import Context
from iris.engine.pool import EnginePool
from iris.errors import EngineClosed, EngineFailure, ModelFileError, QueueFull, UnknownModel
from iris.settings import Settings
from tests.conftest import THREADS
from tests.unit.engines import PATIENCE_S, Steps, eventually, idle, read, request

MakePool = Callable[..., EnginePool]
STORY = "Tell me a long story."
SMALL = {
    "model": "smollm2-135m",
    "threads": THREADS,
    "slots": 2,
    "queue": 2,
    "context": 256,
    "cache": 256,
    "fast_copy": False,
}


@pytest.fixture
def make() -> Iterator[MakePool]:
    pools: list[EnginePool] = []

    def opened(warm: tuple[Message, ...] = (), **options: Any) -> EnginePool:
        pools.append(EnginePool(Settings(**{**SMALL, **options}), warm))
        return pools[-1]

    yield opened
    for each in pools:
        each.close()


@pytest.fixture
def paths(gguf: Path, tmp_path: Path) -> list[str]:
    """Three models: the embedded one under three names."""
    for name in "abc":
        (tmp_path / f"{name}.gguf").symlink_to(gguf)
    return [str(tmp_path / f"{name}.gguf") for name in "abc"]


@pytest.fixture
def no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "GRACE_S", 0.0)


def local(engine: Engine) -> LocalEngine:
    assert isinstance(engine, LocalEngine)
    return engine


def test_a_model_is_opened_once(make: MakePool) -> None:
    several = make()
    assert several.loaded() == {}
    first = several.get()
    assert first.model_id == "smollm2-135m"
    assert first.context_tokens == 256
    assert several.get() is first
    assert several.get("smollm2-135m") is first
    assert several.loaded() == {"smollm2-135m": first}


def test_many_who_ask_at_once_get_the_same_engine(make: MakePool) -> None:
    several = make()
    got: list[Engine] = []
    threads = [threading.Thread(target=lambda: got.append(several.get())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert len(got) == 8
    assert set(map(id, got)) == {id(several.get())}


def test_unknown_and_broken_models(make: MakePool, tmp_path: Path) -> None:
    several = make(loaded_models=1)
    (tmp_path / "broken.gguf").write_bytes(b"GGUF, but not really")
    for _ in range(2):
        with pytest.raises(UnknownModel, match="smollm2-135m"):
            several.get("gpt-5")
        with pytest.raises(ModelFileError, match=r"broken\.gguf"):
            several.get(str(tmp_path / "broken.gguf"))
    assert several.get().model_id == "smollm2-135m"  # and they take nobody's place


def test_a_model_that_cannot_be_opened_gives_its_place_back(
    make: MakePool, paths: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    several = make(loaded_models=1)
    with monkeypatch.context() as patch:
        patch.setattr(Context, "__init__", lambda *_, **__: (_ for _ in ()).throw(ModelFileError("No memory.")))
        with pytest.raises(ModelFileError, match="No memory"):
            several.get(paths[0])
    assert several.get(paths[1])


@pytest.mark.usefixtures("no_grace")
def test_the_model_asked_for_the_longest_ago_makes_room(make: MakePool, paths: list[str]) -> None:
    several = make(loaded_models=2)
    a, b = several.get(paths[0]), several.get(paths[1])
    assert several.get(paths[0]) is a
    c = several.get(paths[2])
    assert several.loaded() == {paths[0]: a, paths[2]: c}
    assert b.status().closed
    with pytest.raises(EngineClosed):
        b.stream(request("hi"))
    assert several.get(paths[1]) is not b
    assert a.status().closed


@pytest.mark.usefixtures("no_grace")
def test_a_model_that_answers_is_kept(make: MakePool, paths: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    several = make(loaded_models=2)
    a, b = several.get(paths[0]), several.get(paths[1])
    steps = Steps(monkeypatch)
    steps.hold()
    with a.stream(request(STORY)) as running:
        c = several.get(paths[2])
        assert b.status().closed  # though it was asked for after a
        assert not a.status().closed
        with c.stream(request(STORY)) as second:
            with pytest.raises(QueueFull, match="busy"):
                several.get(paths[1])
            assert several.get(paths[0]) is a
            steps.release()
            assert read(running).usage.completion_tokens == read(second).usage.completion_tokens == 8


def test_a_model_that_was_just_asked_for_is_kept_a_moment(
    make: MakePool, paths: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its student is about to ask; who wants another model waits that moment instead of being turned away."""
    monkeypatch.setattr(pool, "GRACE_S", 1.5)
    several = make(loaded_models=1)
    a = several.get(paths[0])
    asked = time.monotonic()
    b = several.get(paths[1])
    assert time.monotonic() - asked >= 1.4
    assert a.status().closed
    assert not b.status().closed


@pytest.mark.usefixtures("no_grace")
def test_no_more_models_than_allowed_when_several_are_opened_at_once(
    make: MakePool, paths: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    most = 0
    alive = 0
    lock = threading.Lock()
    start, close = Context.__init__, Context.close

    def counted_start(context: Context, *args: Any, **options: Any) -> None:
        nonlocal alive, most
        with lock:
            alive += 1
            most = max(most, alive)
        start(context, *args, **options)

    def counted_close(context: Context) -> None:
        nonlocal alive
        with lock:
            alive -= bool(context.handle)
        close(context)

    monkeypatch.setattr(Context, "__init__", counted_start)
    monkeypatch.setattr(Context, "close", counted_close)
    several = make(loaded_models=1)
    failures: list[BaseException] = []

    def ask(path: str) -> None:
        for _ in range(3):
            try:
                several.get(path)
            except (QueueFull, EngineClosed):
                pass
            except BaseException as error:
                failures.append(error)

    threads = [threading.Thread(target=ask, args=(path,)) for path in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert failures == []
    assert most == 1
    assert len(several.loaded()) == 1


def test_what_every_conversation_begins_with_is_read_at_once(make: MakePool) -> None:
    system = "You are a patient tutor for a course on machine learning. Answer briefly, with an example."
    engine = make((Message("system", system), Message("user", "Hello"))).get()
    eventually(lambda: idle(local(engine)), "the prompt is read")
    with engine.stream(request("What is a weight?", system=system, max_tokens=2)) as stream:
        assert read(stream).usage.cached_tokens >= 20


def test_a_beginning_that_does_not_fit_does_not_keep_the_model_from_opening(make: MakePool) -> None:
    several = make((Message("system", "word " * 400), Message("user", "Hello")))
    assert several.get() is several.get()


def test_an_engine_that_died_is_opened_anew(make: MakePool, monkeypatch: pytest.MonkeyPatch) -> None:
    several = make()
    steps = Steps(monkeypatch)
    first = several.get()
    with monkeypatch.context() as patch:
        patch.setattr(Context, "__init__", lambda *_, **__: (_ for _ in ()).throw(MemoryError()))
        steps.fail = {0}
        with pytest.raises(EngineClosed):
            read(first.stream(request("hi")))
    second = several.get()
    assert second is not first
    with second.stream(request("hi", max_tokens=2)) as stream:
        assert read(stream).usage.completion_tokens == 2


def test_closing_ends_answers_and_refuses_more(make: MakePool) -> None:
    several = make()
    stream = several.get().stream(request(STORY, max_tokens=200))
    next(stream)
    several.close()
    with pytest.raises(EngineClosed):
        read(stream)
    with pytest.raises(EngineClosed, match="shutting down"):
        several.get()
    assert several.loaded() == {}
    several.close()


def test_closing_while_a_model_is_opened(make: MakePool, monkeypatch: pytest.MonkeyPatch) -> None:
    several = make()
    opening, closed = threading.Event(), threading.Event()
    resolve = catalog.resolve

    def slow(*args: Any) -> Any:
        opening.set()
        assert closed.wait(PATIENCE_S)
        return resolve(*args)

    monkeypatch.setattr(catalog, "resolve", slow)
    raised: list[BaseException] = []

    def ask() -> None:
        try:
            several.get()
        except EngineClosed as error:
            raised.append(error)

    before = {thread.name for thread in threading.enumerate()}
    thread = threading.Thread(target=ask)
    thread.start()
    assert opening.wait(PATIENCE_S)
    several.close()
    closed.set()
    thread.join(PATIENCE_S)
    assert len(raised) == 1
    assert {thread.name for thread in threading.enumerate()} <= before  # its engine is not left running


def test_a_remote_engine_that_is_not_there(make: MakePool) -> None:
    several = make(engine_url="http://127.0.0.1:9", engine_key="k")
    with pytest.raises(EngineFailure, match=r"http://127\.0\.0\.1:9/v1 cannot be reached"):
        several.get()
