"""The engines of this process: opened on first use, shared by all students, closed when another model needs the room."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence

from iris import catalog
from iris.engine import Engine, Message
from iris.errors import EngineClosed, QueueFull
from iris.settings import Settings

log = logging.getLogger(__name__)

GRACE_S = 10.0
"""An engine that was asked for this recently is not closed for another model: its request may be on the way."""


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
        self._opening: dict[str, threading.Lock] = {}
        self._engines: dict[str, Engine] = {}
        self._asked: dict[str, float] = {}
        self._closed = False

    def get(self, model: str = "", progress: catalog.Progress | None = None) -> Engine:
        """The engine of a model (default: the configured one), opened first if need be.

        Raises:
            ModelError: the model is unknown, cannot be downloaded or cannot be served.
            QueueFull: as many models are loaded as may be, and all of them are answering.
            EngineClosed: the pool was closed.
        """
        name = model or self._settings.model
        with self._lock:
            if self._closed:
                raise EngineClosed("Iris is shutting down.")
            self._asked[name] = time.monotonic()
            if name in self._engines:
                return self._engines[name]
            opening = self._opening.setdefault(name, threading.Lock())
        with opening:
            with self._lock:
                if name in self._engines:
                    return self._engines[name]
            engine = self._open(name, progress)
            if self._warm:
                engine.warm(self._warm)
            if not self._keep(name, engine):
                engine.close()
                raise EngineClosed("Iris is shutting down.")
            return engine

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

    def _open(self, name: str, progress: catalog.Progress | None) -> Engine:
        s = self._settings
        if s.engine_url:
            from iris.engine.remote import RemoteEngine

            return RemoteEngine(s.engine_url, key=s.engine_key, model=name, context=s.context)
        files = catalog.resolve(name, progress)
        self._make_room()
        from iris.engine.batch import LocalEngine

        return LocalEngine(
            files.path,
            model_id=files.spec.id,
            adapter=files.adapter,
            slots=s.slots,
            queue=s.queue,
            context=s.context,
            cache=s.cache,
            threads=s.threads,
        )

    def _keep(self, name: str, engine: Engine) -> bool:
        with self._lock:
            if not self._closed:
                self._engines[name] = engine
            return not self._closed

    def _make_room(self) -> None:
        while True:
            with self._lock:
                if len(self._engines) < self._settings.loaded_models:
                    return
                now = time.monotonic()
                victim = min(
                    (
                        name
                        for name, engine in self._engines.items()
                        if not (engine.status().active or engine.status().waiting) and now - self._asked[name] > GRACE_S
                    ),
                    key=lambda name: self._asked[name],
                    default=None,
                )
                if victim is None:
                    raise QueueFull(1)
                engine = self._engines.pop(victim)
            log.info("unloading %s to make room", victim)
            engine.close()
