"""The real app, served inside the test's process, so that a test can also look at the engine behind the page."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from iris import prompts
from iris.engine import Engine, Message
from iris.engine.pool import EnginePool
from iris.settings import Settings

THREADS = 1
"""See ``tests/conftest.py``."""


@dataclass(frozen=True)
class App:
    """A served app: its address, its models, its state folder."""

    url: str
    pool: EnginePool
    home: Path

    def engine(self, model: str = "smollm2-135m") -> Engine:
        return self.pool.loaded()[model]

    def idle(self) -> bool:
        """Whether no answer is being written or waits, in any model."""
        return not any(e.status().active or e.status().waiting for e in self.pool.loaded().values())


@contextmanager
def served(home: Path, **settings: Any) -> Iterator[App]:
    """Serve the app with these settings and ``IRIS_HOME`` at ``home``."""
    import anyio

    from iris.ui import app

    # Loaded lazily with the first file served, deep in a stack where pytest's rewriting of it fails (python 3.11).
    _ = anyio.open_file
    config = Settings(**{"model": "smollm2-135m", "threads": THREADS, "context": 2048, "cache": 16384, **settings})
    pool = EnginePool(config, warm=[Message("system", prompts.STUDY_CHAT_SYSTEM)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IRIS_HOME", str(home))
        blocks = app.build(pool, config)
        pool.get()
        port = _free_port()
        blocks.launch(server_name="127.0.0.1", server_port=port, prevent_thread_lock=True, **app.launch_options(config))
    try:
        yield App(f"http://127.0.0.1:{port}", pool, home)
    finally:
        blocks.close(verbose=False)
        pool.close()


def wait_until(true: Callable[[], object], what: str, seconds: float = 30.0) -> None:
    """Wait for a condition; fail with ``what`` when it does not come."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"waited {seconds:.0f} s in vain: {what}"
        time.sleep(0.02)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
