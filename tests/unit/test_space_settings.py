"""What Iris takes from a Space: where it listens, what it may use, where it keeps things, which models it offers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from iris import hub, settings
from iris.engine import pool
from iris.engine.pool import EnginePool
from iris.errors import ModelError, UnknownModel
from iris.settings import Settings
from iris.ui.models import Models

GB = 1 << 30


@pytest.fixture
def space(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPACE_ID", "school/iris")


@pytest.mark.usefixtures("space")
def test_a_space_listens_for_everyone_behind_one_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    config = settings.load()
    assert (config.host, config.proxies) == ("0.0.0.0", 1)
    monkeypatch.setenv("IRIS_HOST", "127.0.0.1")
    monkeypatch.setenv("IRIS_PROXIES", "0")
    assert (settings.load().host, settings.load().proxies) == ("127.0.0.1", 0)


def test_elsewhere_it_does_not_and_nothing_is_forgotten() -> None:
    config = settings.load()
    assert (config.host, config.proxies, config.forgets) == ("127.0.0.1", 0, False)
    assert settings.keep_folder() is None


@pytest.mark.usefixtures("space")
def test_a_space_forgets_unless_a_bucket_is_mounted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    assert settings.keep_folder(tmp_path) is None, "a folder that is no mount goes with the container"
    monkeypatch.setattr(os.path, "ismount", lambda path: path == tmp_path / "data")
    assert settings.keep_folder(tmp_path) == tmp_path / "data/iris"
    monkeypatch.setenv("IRIS_KEEP", str(tmp_path / "kept"))
    assert settings.keep_folder() == tmp_path / "kept"
    assert not settings.load().forgets


@pytest.mark.parametrize(
    ("said", "files", "expected"),
    [
        ("16Gi", {}, 16 * GB),
        ("512Mi", {}, GB // 2),
        ("8G", {}, 8 * GB),
        ("16Gi", {"proc/meminfo": "MemTotal:  4194304 kB\nMemFree: 1 kB\n"}, 4 * GB),
        ("lots", {"proc/meminfo": "MemTotal:  4194304 kB\n"}, 4 * GB),
        ("", {"sys/fs/cgroup/memory.max": f"{2 * GB}\n"}, 2 * GB),
        ("", {"sys/fs/cgroup/memory.max": "max\n"}, 0),
        ("16Gi", {"sys/fs/cgroup/memory/memory.limit_in_bytes": str(3 * GB)}, 3 * GB),
        ("", {"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/memory.max": str(5 * GB)}, 5 * GB),
        ("", {}, 0),
    ],
)
def test_memory_is_the_smallest_that_anything_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: str, files: dict[str, str], expected: int
) -> None:
    monkeypatch.setenv("MEMORY", said)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert settings.memory_quota(tmp_path) == expected


def test_a_model_that_does_not_fit_is_refused_before_it_is_loaded(gguf: Path) -> None:
    full = EnginePool(Settings(memory=pool.BESIDE + gguf.stat().st_size - 1, threads=1))
    with pytest.raises(ModelError, match=r"needs about 1 GB of memory, and Iris has 1 GB here. Choose a smaller model"):
        full.get()
    assert full.loaded() == {}
    full.close()


def test_only_the_named_models_are_offered_and_the_first_one_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    far = "hf:school/tutor/tutor_q4_k_m.gguf@main"
    monkeypatch.setenv("IRIS_MODELS", f" {far}, smollm2-135m ,")
    config = settings.load()
    assert config.models == (far, "smollm2-135m")
    assert config.model == far
    known = Models(EnginePool(config), config)
    assert [name for _, name in known.choices] == [far, "smollm2-135m"]
    with pytest.raises(UnknownModel):
        known.known("llama32-3b-qlora-exam")
    monkeypatch.setenv("IRIS_MODEL", "smollm2-135m")
    assert settings.load().model == "smollm2-135m"


def test_a_preloaded_model_is_used_from_the_hubs_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, gguf: Path
) -> None:
    """As ``preload_from_hub`` leaves it; the Hub is not asked."""
    from huggingface_hub import constants

    commit = "0123456789abcdef0123456789abcdef01234567"
    snapshot = tmp_path / "models--school--tutor" / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (snapshot / "tutor.gguf").symlink_to(gguf)
    (tmp_path / "models--school--tutor/refs").mkdir()
    (tmp_path / "models--school--tutor/refs/main").write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    for revision in ("main", commit):
        assert hub.fetch("school/tutor", "tutor.gguf", revision) == snapshot / "tutor.gguf"
