"""What all tests share: a state folder of their own, the embedded model's file, and one engine on it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from iris.engine.batch import LocalEngine

THREADS = 1
"""For engines in tests. Two threads wait for each other at every layer: on a busy machine they are 20 times slower."""

_OURS = ("IRIS_", "HF_", "HUGGING_FACE_", "HUGGINGFACE_")
_KEPT = {"IRIS_CHROMIUM"}  # where the browser is, not a setting of Iris


def _foreign_settings() -> list[str]:
    return [name for name in os.environ if name.startswith(_OURS) and name not in _KEPT]


# Before any import of huggingface_hub and gradio, which read theirs once.
for _name in _foreign_settings():
    del os.environ[_name]
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"

import huggingface_hub.constants  # noqa: E402, F401 - reads HF_HUB_OFFLINE once: before a test sets it


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The state folder of this test, not created yet. No variable of the machine it runs on reaches the test."""
    for name in _foreign_settings():
        monkeypatch.delenv(name)
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    folder = tmp_path / "iris-home"
    monkeypatch.setenv("IRIS_HOME", str(folder))
    return folder


@pytest.fixture(scope="session")
def gguf() -> Path:
    """The embedded model's file."""
    from iris import catalog

    return catalog.resolve("smollm2-135m").path


@pytest.fixture(scope="session")
def engine(gguf: Path) -> Iterator[LocalEngine]:
    """The embedded model in the real engine, shared by all tests: leave nothing running in it.

    Its prefix cache keeps what earlier tests asked. A test that closes, breaks or crowds its engine opens its own.
    """
    from iris.engine.batch import LocalEngine

    shared = LocalEngine(gguf, model_id="smollm2-135m", slots=8, context=2048, cache=8192, threads=THREADS)
    yield shared
    shared.close()
