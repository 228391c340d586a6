"""What the engine's tests need beside the shared engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from iris.engine.batch import LocalEngine
from tests.conftest import THREADS
from tests.unit.engines import MakeEngine, Reference, Steps, check_books


@pytest.fixture
def make_engine(gguf: Path) -> Iterator[MakeEngine]:
    """Opens engines of the test's own; at its end nothing may be left running and the books must be right."""
    engines: list[LocalEngine] = []

    def opened(**options: Any) -> LocalEngine:
        engine = LocalEngine(gguf, **{"slots": 2, "context": 512, "cache": 768, "threads": THREADS, **options})
        engines.append(engine)
        return engine

    yield opened
    for engine in engines:
        if not engine.status().closed:
            check_books(engine)
        engine.close()


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    return Steps(monkeypatch)


@pytest.fixture(scope="module")
def reference(gguf: Path) -> Iterator[Reference]:
    plain = Reference(str(gguf))
    yield plain
    plain.llama.close()
