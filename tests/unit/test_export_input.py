"""Bad input is a clear error with status 2, and nothing is left under a final name."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from export.errors import ExportError
from export.shards import Shards
from tests.unit import tiny_models
from tests.unit.exporting import Commands

ROOT = Path(__file__).parents[2]
Tiny = Callable[[str], Path]
MakeAdapter = Callable[..., Path]


def refused(commands: Commands, out: Path, *arguments: object) -> str:
    """The error of an export that must fail, and leave nothing."""
    done = commands.to_gguf(*arguments, "--f16", "--quantize", "Q8_0", "--out", out)
    assert done.status == 2, done.out
    assert not out.exists()
    return done.err


def copied(source: Path, target: Path) -> Path:
    shutil.copytree(source, target)
    return target


def changed(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_an_adapter_of_another_base(tiny: Tiny, adapter: MakeAdapter, commands: Commands, tmp_path: Path) -> None:
    out = tmp_path / "out"
    err = refused(commands, out, adapter("gemma2"), "--base", tiny("phi3"))
    assert re.search(r"gemma2-lora belongs to another base: it changes \S+, of shape .* --base", err)
    # Of the same architecture, but wider.
    wide = tiny_models.build("llama3", tmp_path / "wide", hidden_size=512, num_attention_heads=8)
    err = refused(commands, out, adapter("llama3"), "--base", wide)
    assert re.search(r"llama3-lora belongs to another base: it changes \S+, of shape \([^)]*\), which is", err)


def test_an_adapter_of_another_revision_of_the_embedded_model(
    adapter: MakeAdapter, commands: Commands, tmp_path: Path
) -> None:
    lora = copied(adapter("llama3"), tmp_path / "lora")
    changed(lora / "adapter_config.json", base_model_name_or_path="catalog:smollm2-135m", revision="sha256:" + 64 * "0")
    err = refused(commands, tmp_path / "out", lora)
    assert re.search(r"trained on catalog:smollm2-135m with sha256:0+…, and the file there has .*another base", err)


def test_a_missing_shard(tiny: Tiny, commands: Commands, tmp_path: Path) -> None:
    base = copied(tiny("llama3"), tmp_path / "base")
    (base / "model.safetensors").rename(base / "model-00001-of-00002.safetensors")
    names = list(Shards([base / "model-00001-of-00002.safetensors"]).places)
    weights = dict.fromkeys(names, "model-00001-of-00002.safetensors") | {"x": "model-00002-of-00002.safetensors"}
    (base / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weights}))
    err = refused(commands, tmp_path / "out", base)
    assert "lacks model-00002-of-00002.safetensors (1 of 2 files" in err


def test_a_missing_tensor(tiny: Tiny, commands: Commands, tmp_path: Path) -> None:
    base = copied(tiny("llama3"), tmp_path / "base")
    changed(base / "config.json", num_hidden_layers=3)
    assert "the weights are incomplete, blk.2." in refused(commands, tmp_path / "out", base)


def test_truncated_files(tiny: Tiny, commands: Commands, tmp_path: Path) -> None:
    base = copied(tiny("llama3"), tmp_path / "base")
    path = base / "model.safetensors"
    os.truncate(path, path.stat().st_size - 100)
    assert re.search(r"is truncated: it has [\d,]+ bytes", refused(commands, tmp_path / "out", base))
    assert commands.to_gguf(tiny("llama3"), "--f16", "--out", tmp_path / "good").status == 0
    small = tmp_path / "small.gguf"
    small.write_bytes((tmp_path / "good/llama3_f16.gguf").read_bytes()[:-5000])
    assert "small.gguf is truncated" in refused(commands, tmp_path / "out", small)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_damage_to_a_safetensors_file_goes_further_than_a_clear_error(data: st.DataObject, tmp_path: Path) -> None:
    header = {"a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}
    header["b"] = {"dtype": "BF16", "shape": [4], "data_offsets": [24, 32]}
    encoded = json.dumps(header).encode()
    whole = len(encoded).to_bytes(8, "little") + encoded + bytes(range(32))
    path = tmp_path / "model.safetensors"
    broken = bytearray(whole)
    for _ in range(data.draw(st.integers(0, 3))):
        broken[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(broken[: data.draw(st.integers(0, len(whole)))]))
    try:
        shards = Shards([path])
    except ExportError:
        return
    for name, place in shards.places.items():
        assert shards.rows(name, 0, place.shape[0] if place.shape else 1).dtype == np.float32
    shards.close()


def test_a_tokenizer_larger_than_the_embedding(tiny: Tiny, commands: Commands, tmp_path: Path) -> None:
    base = copied(tiny("llama3"), tmp_path / "base")
    about = json.loads((base / "tokenizer.json").read_text())
    about["added_tokens"].append({**about["added_tokens"][-1], "id": 5000, "content": "<|new|>"})
    (base / "tokenizer.json").write_text(json.dumps(about))
    assert "the tokenizer has 5,001 tokens, and the embedding" in refused(commands, tmp_path / "out", base)


def test_an_embedding_of_another_size_than_the_config(tiny: Tiny, commands: Commands, tmp_path: Path) -> None:
    base = copied(tiny("llama3"), tmp_path / "base")
    changed(base / "config.json", vocab_size=4096)
    assert "Weights and config.json are of two models" in refused(commands, tmp_path / "out", base)


def test_an_adapter_for_a_tied_output(adapter: MakeAdapter, commands: Commands, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    lora = copied(adapter("smollm2"), tmp_path / "lora")
    tensors = load_file(lora / "adapter_model.safetensors")
    a, b = np.zeros((8, 256), np.float32), np.zeros((605, 8), np.float32)
    tensors |= {"base_model.model.lm_head.lora_A.weight": a, "base_model.model.lm_head.lora_B.weight": b}
    save_file(tensors, lora / "adapter_model.safetensors")
    assert "adapts lm_head, which in this base is the embedding itself" in refused(commands, tmp_path / "out", lora)


class Odd(NamedTuple):
    change: dict[str, Any]
    complaint: str


@pytest.mark.parametrize(
    "odd",
    [
        Odd({"peft_type": "IA3"}, "is a IA3 adapter"),
        Odd({"modules_to_save": ["embed_tokens"]}, "also trained whole modules (embed_tokens)"),
        Odd({"bias": "all"}, "also trained biases"),
        Odd({"r": 4}, "has rank 8, and adapter_config.json says 4"),
        Odd({"use_dora": True}, "disagree about DoRA"),
        Odd({"base_model_name_or_path": ""}, "does not name its base. Give it with --base"),
        Odd({"base_model_name_or_path": "gone/for/good"}, "There is no base gone/for/good"),
    ],
    ids=lambda odd: next(iter(odd.change)),
)
def test_odd_adapters(odd: Odd, adapter: MakeAdapter, commands: Commands, tmp_path: Path) -> None:
    lora = copied(adapter("smollm2"), tmp_path / "lora")
    changed(lora / "adapter_config.json", **odd.change)
    assert odd.complaint in refused(commands, tmp_path / "out", lora)


def test_a_diverged_training(adapter: MakeAdapter, commands: Commands, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    lora = copied(adapter("smollm2"), tmp_path / "lora")
    tensors = load_file(lora / "adapter_model.safetensors")
    tensors[next(iter(tensors))][0, 0] = np.nan
    save_file(tensors, lora / "adapter_model.safetensors")
    assert "values that are not finite. The training diverged" in refused(commands, tmp_path / "out", lora)


def test_what_is_not_there(commands: Commands, tmp_path: Path) -> None:
    assert "There is no" in refused(commands, tmp_path / "out", tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    assert "is neither a run" in refused(commands, tmp_path / "out", tmp_path / "empty")
    done = commands.to_gguf(tmp_path / "empty", "--quantize", "Q9_Z")
    assert (done.status, "There is no quantization 'Q9_Z'; known are" in done.err) == (2, True)
    assert "Nothing was asked for" in commands.to_gguf(tmp_path / "empty").err


def test_too_little_room_is_seen_before_the_work(
    tiny: Tiny, commands: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 1000))
    assert re.search(
        r"has 0\.0 GB left, and this export needs about", refused(commands, tmp_path / "out", tiny("llama3"))
    )


def run(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ROOT)


@pytest.mark.parametrize("stage", ["model_file.write", "quantized.quantize"])
def test_a_disk_that_fills_up_midway(stage: str, tiny: Tiny, tmp_path: Path) -> None:
    """A limit on the size of files, set when that stage begins, gives the write errors of a full disk."""
    module, name = stage.split(".")
    code = (
        f"import resource, sys; from export import {module}, to_gguf;"
        f"real = {module}.{name};"
        "limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000));"
        f"{module}.{name} = lambda *a, **k: (limit(), real(*a, **k));"
        "sys.exit(to_gguf.main(sys.argv[1:]))"
    )
    out = tmp_path / "out"
    done = run(code, tiny("llama3"), "--quantize", "Q8_0", "--f16", "--no-verify", "--out", out)
    assert done.returncode == 2, done.stderr
    wanted = "_f16.gguf cannot be written: File too large" if module == "model_file" else "could not quantize to Q8_0"
    assert wanted in done.stderr
    assert not out.exists()


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_being_stopped_midway_leaves_nothing(name: str, tiny: Tiny, tmp_path: Path) -> None:
    """The signal comes from within the progress of llama.cpp's quantizing, whose thread cannot be stopped."""
    code = (
        "import os, signal, sys; from export import quantized, to_gguf;"
        "real = quantized.quantize;"
        f"stop = lambda *_: os.kill(os.getpid(), signal.{name});"
        "quantized.quantize = lambda *a, **k: real(*a, **{**k, 'progress': stop});"
        "sys.exit(to_gguf.main(sys.argv[1:]))"
    )
    out = tmp_path / "out"
    done = run(code, tiny("llama3"), "--quantize", "Q4_K_M", "--f16", "--no-verify", "--out", out)
    assert done.returncode == 130, done.stderr
    assert "stopped; nothing was left behind" in done.stderr
    assert not out.exists()
