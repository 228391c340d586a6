"""An adapter GGUF over its base gives what the merged model gives, or is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from tests.unit.exporting import Commands, left_over, tensors

Tiny = Callable[[str], Path]
MakeAdapter = Callable[..., Path]


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("llama3", {}),
        ("smollm2", {"use_rslora": True}),
        ("gemma2", {"alpha_pattern": {"q_proj": 64}}),
        ("phi3", {"use_rslora": True, "r": 4, "lora_alpha": 4}),
    ],
    ids=["llama3", "rslora", "two alphas", "phi3 rslora"],
)
def test_over_its_base_it_is_the_merged_model(
    kind: str, options: dict[str, Any], tiny: Tiny, adapter: MakeAdapter, commands: Commands, tmp_path: Path
) -> None:
    lora = adapter(kind, **options)
    assert commands.to_gguf(lora, "--adapter-only", "--out", tmp_path).status == 0
    assert commands.to_gguf(tiny(kind), "--f16", "--out", tmp_path).status == 0
    base, small = tmp_path / f"{kind}_f16.gguf", tmp_path / f"{kind}-lora_adapter_f16.gguf"
    done = commands.verify(base, "--adapter", small, "--against", lora, report=tmp_path / "r.json")
    assert done.status == 0, done.out
    # Without it, the gate must fail: the adapter is what makes the difference.
    assert commands.verify(base, "--against", lora, report=tmp_path / "r.json").status == 1
    assert left_over(tmp_path) == []


def test_rslora_as_the_usual_converter_writes_it_is_caught(
    tiny: Tiny, adapter: MakeAdapter, commands: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The raw lora_alpha in the file makes rsLoRA √r too weak."""
    lora = adapter("smollm2", use_rslora=True)
    commands.to_gguf(tiny("smollm2"), "--f16", "--out", tmp_path)
    raw = gguf.GGUFWriter.add_float32

    def wrong(writer: Any, key: str, value: float) -> None:
        raw(writer, key, 16.0 if key == "adapter.lora.alpha" else value)

    monkeypatch.setattr(gguf.GGUFWriter, "add_float32", wrong)
    assert commands.to_gguf(lora, "--adapter-only", "--out", tmp_path).status == 0
    files = tmp_path / "smollm2_f16.gguf", "--adapter", tmp_path / "smollm2-lora_adapter_f16.gguf"
    assert commands.verify(*files, "--against", lora, report=tmp_path / "r.json").status == 1


def test_q_and_k_are_reordered_and_the_matrices_are_half_precision(
    adapter: MakeAdapter, commands: Commands, tmp_path: Path
) -> None:
    from export import adapter as adapters

    lora = adapter("llama3")
    commands.to_gguf(lora, "--adapter-only", "--out", tmp_path)
    found = dict(tensors(tmp_path / "llama3-lora_adapter_f16.gguf"))
    original = adapters.read(lora).deltas["model.layers.0.self_attn.q_proj"].b.astype(np.float16)
    written = found["blk.0.attn_q.weight.lora_b"]
    assert written.dtype == np.float16
    assert not np.array_equal(written, original)
    assert np.array_equal(np.sort(written, axis=0), np.sort(original, axis=0))
    plain = adapters.read(lora).deltas["model.layers.0.self_attn.v_proj"].b.astype(np.float16)
    assert np.array_equal(found["blk.0.attn_v.weight.lora_b"], plain)


def test_dora_cannot_be_an_adapter_gguf(adapter: MakeAdapter, commands: Commands, tmp_path: Path) -> None:
    done = commands.to_gguf(adapter("smollm2", use_dora=True), "--adapter-only", "--out", tmp_path / "out")
    assert done.status == 2
    assert "is DoRA: it also rescales the rows of the base" in done.err
    assert not (tmp_path / "out").exists()
