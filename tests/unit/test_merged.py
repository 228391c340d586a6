"""A small model with its adapter worked in says what the two say together, is made once, and fails without harm."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest

from iris.engine import llama
from iris.engine.merged import merge, merged_copy
from iris.errors import ModelFileError
from tests.unit.exporting import Commands

RANK = 2
Tiny = Callable[[str], Path]
MakeAdapter = Callable[..., Path]


def write_lora(path: Path, name: str, wide: int) -> Path:
    """An adapter for one square matrix of that name and width, which may exist in no model."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", float(RANK))
    writer.add_tensor(f"{name}.lora_a", np.ones((RANK, wide), np.float16))
    writer.add_tensor(f"{name}.lora_b", np.ones((wide, RANK), np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture
def pair(tiny: Tiny, adapter: MakeAdapter, commands: Commands, tmp_path: Path) -> tuple[Path, Path]:
    """A base and an adapter for it, as GGUF."""
    lora = adapter("smollm2", use_rslora=True)
    assert commands.to_gguf(tiny("smollm2"), "--f16", "--out", tmp_path).status == 0
    assert commands.to_gguf(lora, "--adapter-only", "--out", tmp_path).status == 0
    return tmp_path / "smollm2_f16.gguf", tmp_path / "smollm2-lora_adapter_f16.gguf"


@pytest.mark.parametrize(
    ("kind", "options"),
    [("llama3", {"alpha_pattern": {"q_proj": 64}}), ("smollm2", {"use_rslora": True}), ("phi3", {"r": 4})],
    ids=["llama3, two alphas", "smollm2, rslora", "phi3"],
)
def test_the_merged_file_is_the_trained_model(
    kind: str, options: dict[str, object], tiny: Tiny, adapter: MakeAdapter, commands: Commands, tmp_path: Path
) -> None:
    lora = adapter(kind, **options)
    assert commands.to_gguf(lora, "--adapter-only", "--out", tmp_path).status == 0
    assert commands.to_gguf(tiny(kind), "--f16", "--out", tmp_path).status == 0
    target = tmp_path / "merged_f16.gguf"
    merge(tmp_path / f"{kind}_f16.gguf", tmp_path / f"{kind}-lora_adapter_f16.gguf", target)
    done = commands.verify(target, "--against", lora, report=tmp_path / "r.json")
    assert done.status == 0, done.out


def test_made_once_under_its_final_name(pair: tuple[Path, Path], tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    copy = merged_copy(*pair, folder, threads=1)
    assert copy
    made = copy.stat().st_mtime_ns
    assert merged_copy(*pair, folder, threads=1) == copy
    assert copy.stat().st_mtime_ns == made
    assert [path.name for path in folder.iterdir()] == [copy.name]
    model = llama.Model(copy)
    assert model.chat_template()
    model.close()


def test_another_adapter_is_another_copy(pair: tuple[Path, Path], adapter: MakeAdapter, tmp_path: Path) -> None:
    base, lora = pair
    folder = tmp_path / "cache"
    first = merged_copy(base, lora, folder, threads=1)
    data = bytearray(lora.read_bytes())
    data[-2] ^= 1  # in the last weight
    lora.write_bytes(data)
    assert merged_copy(base, lora, folder, threads=1) not in (None, first)
    assert len(list(folder.iterdir())) == 2


def test_without_room_the_adapter_is_served_beside(
    pair: tuple[Path, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("no folder can be made here")
    with caplog.at_level(logging.WARNING):
        assert merged_copy(*pair, tmp_path / "file" / "cache", threads=1) is None
    assert "is added at each step" in caplog.text


def test_an_adapter_of_another_model_is_refused(
    pair: tuple[Path, Path], tiny: Tiny, adapter: MakeAdapter, commands: Commands, tmp_path: Path
) -> None:
    other = adapter("phi3")
    assert commands.to_gguf(other, "--adapter-only", "--out", tmp_path).status == 0
    with pytest.raises(ModelFileError, match="not a LoRA adapter for a model of the kind 'llama'"):
        merged_copy(pair[0], tmp_path / "phi3-lora_adapter_f16.gguf", tmp_path / "cache", threads=1)
    with pytest.raises(ModelFileError, match="not a LoRA adapter"):
        merged_copy(pair[0], pair[0], tmp_path / "cache", threads=1)
    for name, wide in (("blk.0.attn_q.weight", 24), ("blk.900.attn_q.weight", 32)):
        with pytest.raises(ModelFileError, match=r"does not fit smollm2_f16\.gguf|smollm2_f16\.gguf does not have"):
            merged_copy(pair[0], write_lora(tmp_path / "other.gguf", name, wide), tmp_path / "cache", threads=1)
    assert not list((tmp_path / "cache").glob("*"))
