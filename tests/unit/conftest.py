"""What the engine's tests need beside the shared engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from iris.engine.batch import LocalEngine
from tests.conftest import THREADS
from tests.unit import tiny_course
from tests.unit.builds import script
from tests.unit.engines import MakeEngine, Reference, Steps, check_books
from tests.unit.exporting import Commands, write_rows
from tests.unit.tiny_training import make_base, tiny_builds


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


@pytest.fixture(scope="session")
def smol_tokenizer(gguf: Path) -> Any:
    """The embedded model's tokenizer, with a padding token of its own as training gives it."""
    from training.base import tokenizer_in

    tokenizer = tokenizer_in(gguf)
    tokenizer.pad_token = tokenizer.unk_token
    return tokenizer


@pytest.fixture(scope="session")
def tiny_base(smol_tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of two layers."""
    return make_base(tmp_path_factory.mktemp("tiny-base"), smol_tokenizer)


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to train in, with data in outputs/data; the working directory of the test."""
    tiny_builds(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path


@pytest.fixture(scope="session")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of splits for the gate."""
    return write_rows(tmp_path_factory.mktemp("data") / "course")


@pytest.fixture
def commands(rows: Path, capsys: pytest.CaptureFixture[str]) -> Commands:
    return Commands(rows, capsys)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """``kind -> folder`` of a tiny random model of that kind, made once."""
    from tests.unit import tiny_models

    root = tmp_path_factory.mktemp("tiny")

    def folder(kind: str) -> Path:
        return root / kind if (root / kind).is_dir() else tiny_models.build(kind, root / kind)

    return folder


@pytest.fixture(scope="session")
def adapter(tiny: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """``kind, options of peft's LoraConfig -> folder`` of a LoRA adapter for that tiny model, made once."""
    from tests.unit import tiny_models

    made: dict[str, Path] = {}

    def folder(kind: str, **options: Any) -> Path:
        key = f"{kind} {sorted(options.items())}"
        if key not in made:
            made[key] = tiny_models.adapt(tiny(kind), tmp_path_factory.mktemp("lora") / f"{kind}-lora", **options)
        return made[key]

    return folder


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The course that Iris comes with, built once by the script."""
    out = tmp_path_factory.mktemp("ours")
    done = script("--course", "id2223", "--out", out)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return out / "id2223"


@pytest.fixture
def bread(tmp_path: Path) -> Path:
    return tiny_course.write(tmp_path / "courses" / "bread")
