"""The engines of this process: opened on first use, shared by all students, closed when another needs the room."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence

from iris import catalog
from iris.engine import Engine, Message
from iris.errors import EngineClosed, EngineError, ModelError, QueueFull
from iris.settings import Settings, home

log = logging.getLogger(__name__)

GRACE_S = 10.0
"""An engine that was asked for this recently is not closed for another model: its request may be on the way."""


BESIDE = 700_000_000
"""Bytes that Iris needs beside a model's weights: Python, Gradio, the keys and values of a class of conversations."""


class EnginePool:
    """Hands out one engine a model.

    Args:
        settings: threads, slots, cache and so on for the engines, and how many models may be loaded.
        warm: messages that every conversation begins with; read into each engine's cache when it is opened.
    """

    def __init__(self, settings: Settings, warm: Sequence[Message] = ()) -> None:
        self._settings = settings
        self._warm = tuple(warm)
        self._lock = threading.Lock()
        self._opening: dict[str, threading.Lock] = {}  # held while the engine of that name is opened
        self._loading: set[str] = set()  # models whose memory is about to be taken
        self._engines: dict[str, Engine] = {}
        self._asked: dict[str, float] = {}
        self._closed = False

    def get(self, model: str = "", progress: catalog.Progress | None = None) -> Engine:
        """The engine of a model (default: the configured one), opened first if need be.

        Raises:
            ModelError: the model is unknown, cannot be downloaded or cannot be served.
            EngineFailure: the remote engine cannot be reached.
            QueueFull: as many models are loaded as may be, and all of them are answering.
            EngineClosed: the pool was closed.
        """
        name = model or self._settings.model
        while True:
            with self._lock:
                if self._closed:
                    raise EngineClosed("Iris is shutting down.")
                engine = self._engines.get(name)
                if engine is not None and not engine.status().closed:
                    self._asked[name] = time.monotonic()
                    return engine
                opening = self._opening.setdefault(name, threading.Lock())
            with opening:
                with self._lock:
                    if self._opening.get(name) is not opening:  # another thread was faster, or failed
                        continue
                    dead = self._engines.pop(name, None)
                try:
                    if dead is not None:
                        dead.close()
                    return self._opened(name, progress)
                finally:
                    with self._lock:
                        del self._opening[name]
                        self._loading.discard(name)

    def loaded(self) -> dict[str, Engine]:
        """The engines that are open now, by model."""
        with self._lock:
            return dict(self._engines)

    def close(self) -> None:
        """Close every engine; answers being written end with EngineClosed."""
        with self._lock:
            self._closed = True
            engines, self._engines = list(self._engines.values()), {}
        for engine in engines:
            engine.close()

    def _opened(self, name: str, progress: catalog.Progress | None) -> Engine:
        engine = self._open(name, progress)
        if self._warm:
            try:
                engine.warm(self._warm)
            except EngineError:
                log.exception("what every conversation begins with cannot be read by %s", name)
        with self._lock:
            if not self._closed:
                self._engines[name] = engine
                self._asked[name] = time.monotonic()
                return engine
        engine.close()
        raise EngineClosed("Iris is shutting down.")

    def _open(self, name: str, progress: catalog.Progress | None) -> Engine:
        s = self._settings
        if s.engine_url:
            from iris.engine.remote import RemoteEngine

            return RemoteEngine(s.engine_url, key=s.engine_key, model=name, context=s.context)
        files = catalog.resolve(name, progress)
        self._fits(files)
        self._make_room(name)
        from iris.engine.batch import LocalEngine
        from iris.engine.fastcopy import fast_copy
        from iris.engine.merged import merged_copy

        path, adapter = files.path, files.adapter
        if adapter and (merged := merged_copy(path, adapter, home() / "cache", threads=s.threads)):
            path, adapter = merged, None
        elif s.fast_copy:
            path = fast_copy(path, home() / "cache", threads=s.threads)
        return LocalEngine(
            path,
            model_id=files.spec.id,
            adapter=adapter,
            slots=s.slots,
            queue=s.queue,
            context=s.context,
            cache=s.cache,
            threads=s.threads,
        )

    def _fits(self, files: catalog.ModelFiles) -> None:
        """Refuse a model that this machine cannot hold: the system would end Iris in the middle of an answer."""
        size, memory = files.path.stat().st_size, self._settings.memory
        if memory and size + BESIDE > memory:
            raise ModelError(
                f"{files.spec.title} needs about {(size + BESIDE) / 1e9:.0f} GB of memory, and Iris has "
                f"{memory / 1e9:.0f} GB here. Choose a smaller model, or a smaller quantization of this one."
            )

    def _make_room(self, name: str) -> None:
        """Unload idle models until one more may be loaded, and take that place for ``name``."""
        patience = time.monotonic() + GRACE_S
        while True:
            with self._lock:
                if len(self._engines) + len(self._loading) < self._settings.loaded_models:
                    self._loading.add(name)
                    return
                victim = self._idle()
                engine = self._engines.pop(victim) if victim else None
            if engine is not None:
                log.info("unloading %s to make room", victim)
                engine.close()
            elif time.monotonic() > patience:
                raise QueueFull(1)
            else:
                time.sleep(0.05)

    def _idle(self) -> str | None:
        """The model that was asked for the longest ago, of those that are not answering."""
        settled = time.monotonic() - GRACE_S
        idle = [
            name
            for name, engine in self._engines.items()
            if self._asked[name] <= settled and not (engine.status().active or engine.status().waiting)
        ]
        return min(idle, key=lambda name: self._asked[name], default=None)
