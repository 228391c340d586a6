"""Hugging Face -> GGUF -> llama.cpp: the logits, tokens and templates of every architecture are the original's."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from tests.unit import tiny_models
from tests.unit.exporting import Commands, left_over, tensors

Tiny = Callable[[str], Path]
MakeAdapter = Callable[..., Path]


def file_of(report: Path, kind: str) -> dict[str, Any]:
    (found,) = [file for file in json.loads(report.read_text())["files"] if file["kind"] == kind]
    return dict(found)


@pytest.mark.parametrize("kind", tiny_models.KINDS)
def test_an_adapted_model_is_the_same_in_llama_cpp(
    kind: str, tiny: Tiny, adapter: MakeAdapter, commands: Commands, tmp_path: Path
) -> None:
    lora = adapter(kind)
    assert commands.to_gguf(lora, "--f16", "--quantize", "Q8_0", "--out", tmp_path).status == 0
    names = [f"{kind}-lora_f16.gguf", f"{kind}-lora_q8_0.gguf"]
    for name in names:
        digest = hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
        assert (tmp_path / f"{name}.sha256").read_text() == f"{digest}  {name}\n"
    assert left_over(tmp_path) == []
    report = tmp_path / "report.json"
    done = commands.verify(*(tmp_path / name for name in names), "--against", lora, report=report)
    assert done.status == 0, done.out
    exact = file_of(report, "F16")
    assert exact["distance"]["logit_error"] < 0.004
    assert exact["distance"]["kl"] < 1e-4
    assert (exact["equal_strings"], exact["equal_chats"]) == (200, exact["chats"])
    assert file_of(report, "Q8_0")["distance"]["logit_error"] < 0.06


def test_a_model_without_an_adapter(tiny: Tiny, commands: Commands, tmp_path: Path) -> None:
    assert commands.to_gguf(tiny("llama3"), "--bf16", "--out", tmp_path).status == 0
    done = commands.verify(tmp_path / "llama3_bf16.gguf", "--against", tiny("llama3"), report=tmp_path / "r.json")
    assert done.status == 0, done.out
    # The weights are bfloat16 already, so nothing is rounded on the way.
    assert file_of(tmp_path / "r.json", "BF16")["distance"]["kl"] < 1e-3


def test_shards_are_read_through_their_index(tiny: Tiny, commands: Commands, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    whole, parts = tiny("smollm2"), tmp_path / "parts"
    shutil.copytree(whole, parts)
    (parts / "model.safetensors").unlink()
    AutoModelForCausalLM.from_pretrained(whole).save_pretrained(parts, max_shard_size="600KB")
    assert len(list(parts.glob("*.safetensors"))) > 2
    for folder, out in ((whole, tmp_path / "one"), (parts, tmp_path / "many")):
        assert commands.to_gguf(folder, "--f16", "--out", out).status == 0
    one, many = dict(tensors(tmp_path / "one/smollm2_f16.gguf")), dict(tensors(tmp_path / "many/parts_f16.gguf"))
    assert one.keys() == many.keys()
    assert all(np.array_equal(one[name], many[name]) for name in one)


@pytest.mark.parametrize(
    "options",
    [
        {"use_rslora": True},
        {"use_dora": True},
        {"rank_pattern": {"q_proj": 4}, "alpha_pattern": {"v_proj": 40}},
        {"target_modules": ["q_proj", "down_proj"], "use_rslora": True, "r": 16},
    ],
    ids=["rslora", "dora", "patterns", "two modules"],
)
def test_every_kind_of_scaling_is_merged_right(
    options: dict[str, Any], adapter: MakeAdapter, commands: Commands, tmp_path: Path
) -> None:
    lora = adapter("smollm2", **options)
    assert commands.to_gguf(lora, "--f16", "--out", tmp_path).status == 0
    done = commands.verify(tmp_path / "smollm2-lora_f16.gguf", "--against", lora, report=tmp_path / "r.json")
    assert done.status == 0, done.out
    assert file_of(tmp_path / "r.json", "F16")["distance"]["logit_error"] < 0.004


def test_a_base_that_is_a_gguf(tiny: Tiny, adapter: MakeAdapter, commands: Commands, tmp_path: Path) -> None:
    """The adapter put on a GGUF gives the model that it gives on the folder which the GGUF was made of."""
    assert commands.to_gguf(tiny("llama3"), "--f16", "--out", tmp_path).status == 0
    lora = adapter("llama3")
    done = commands.to_gguf(lora, "--base", tmp_path / "llama3_f16.gguf", "--f16", "--out", tmp_path / "on")
    assert done.status == 0, done.err
    made = tmp_path / "on/llama3-lora_f16.gguf"
    done = commands.verify(made, "--against", lora, report=tmp_path / "r.json")
    assert done.status == 0, done.out


def test_the_tokenizer_comes_across_whole(tiny: Tiny, commands: Commands, tmp_path: Path) -> None:
    commands.to_gguf(tiny("llama3"), "--f16", "--out", tmp_path)
    fields = gguf.GGUFReader(tmp_path / "llama3_f16.gguf").fields
    found = {key: field.contents() for key, field in fields.items() if len(field.data) == 1}
    about = json.loads((tiny("llama3") / "tokenizer.json").read_text())
    ids = {token["content"]: token["id"] for token in about["added_tokens"]}
    assert found["tokenizer.ggml.pre"] == "llama-bpe"
    assert found["tokenizer.chat_template"] == tiny_models.LLAMA3_TEMPLATE
    assert found["tokenizer.ggml.bos_token_id"] == ids["<|begin_of_text|>"]
    assert found["tokenizer.ggml.eos_token_id"] == found["tokenizer.ggml.eot_token_id"] == ids["<|eot_id|>"]
    assert found["tokenizer.ggml.add_bos_token"] is True
    assert "rope_freqs.weight" in dict(tensors(tmp_path / "llama3_f16.gguf"))


def test_the_merged_folder_is_what_peft_makes(
    tiny: Tiny, adapter: MakeAdapter, commands: Commands, tmp_path: Path
) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    lora = adapter("llama3")
    assert commands.to_gguf(lora, "--hf", tmp_path / "merged").status == 0
    ours: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    base: Any = AutoModelForCausalLM.from_pretrained(tiny("llama3"), dtype=torch.float32)
    theirs = PeftModel.from_pretrained(base, str(lora)).merge_and_unload()
    for (name, a), (_, b) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        # float32 rounded once to bfloat16, to the nearest.
        assert torch.equal(a, b.to(torch.bfloat16).float()), name
    assert left_over(tmp_path) == []


def test_other_architectures_are_refused_by_name(tiny: Tiny, commands: Commands, tmp_path: Path) -> None:
    shutil.copytree(tiny("llama3"), tmp_path / "other")
    config = json.loads((tmp_path / "other/config.json").read_text())
    (tmp_path / "other/config.json").write_text(json.dumps(config | {"architectures": ["Qwen3ForCausalLM"]}))
    done = commands.to_gguf(tmp_path / "other", "--f16")
    assert done.status == 2
    assert "Qwen3ForCausalLM cannot be exported; known are LlamaForCausalLM, Gemma2ForCausalLM, Phi3" in done.err
