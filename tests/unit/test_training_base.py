"""The base: the embedded GGUF as a Hugging Face folder is the same model; what cannot be had is explained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.tiny_training import main, recipe
from training import base, recipes
from training.errors import BaseError
from training.recipes import Base


@pytest.fixture(scope="module")
def unpacked(gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IRIS_HOME", str(tmp_path_factory.mktemp("home")))
        folder = base.dequantized(gguf)
        assert base.dequantized(gguf) == folder
        assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    return folder


def test_the_folder_gives_the_logits_of_the_file(unpacked: Path, gguf: Path, reference: Any) -> None:
    import numpy as np
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(unpacked)
    model = AutoModelForCausalLM.from_pretrained(unpacked)
    assert model.dtype == torch.float32
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is a point-in-time join?"}], tokenize=False, add_generation_prompt=True
    )
    ids = tokenizer(text, add_special_tokens=False).input_ids
    assert reference.llama.tokenize(text.encode(), add_bos=False, special=True) == ids
    with torch.no_grad():
        ours = model(torch.tensor([ids])).logits[0, -1].double().log_softmax(-1).numpy()
    theirs = reference.logprobs(ids)
    assert ours.argmax() == theirs.argmax()
    assert float((np.exp(theirs) * (theirs - ours)).sum()) < 0.02  # llama.cpp rounds activations to 8 bits


def test_tokenizer_template_and_ends_are_those_of_the_file(unpacked: Path, gguf: Path) -> None:
    from gguf import GGUFReader
    from transformers import AutoTokenizer, GenerationConfig

    fields = GGUFReader(gguf).fields
    tokenizer = AutoTokenizer.from_pretrained(unpacked)
    assert tokenizer.chat_template == fields["tokenizer.chat_template"].contents()
    assert tokenizer.eos_token_id == fields["tokenizer.ggml.eos_token_id"].contents()
    assert tokenizer.convert_ids_to_tokens(tokenizer.eos_token_id) == "<|im_end|>"
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    assert GenerationConfig.from_pretrained(unpacked).eos_token_id == tokenizer.eos_token_id
    config = json.loads((unpacked / "config.json").read_text())
    assert "quantization_config" not in config
    assert not any(
        "/" in str(value) for value in config.values()
    )  # where this machine keeps the file is nobody's business


@pytest.mark.parametrize(
    "text",
    ["\n 7", "d 1  2", "In 2024,  350 / 500 = 0.7\n\n  12", "a\t3\t4", "naïve 日本 42 🙂", "def f(x):\n    return 10"],
)
def test_training_reads_the_tokens_that_serving_reads(unpacked: Path, reference: Any, text: str) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(unpacked)
    served = reference.llama.tokenize(text.encode(), add_bos=False, special=False)
    assert tokenizer.encode(text, add_special_tokens=False) == served


def test_the_small_base_is_named_by_the_file_it_comes_from(unpacked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "dequantized", lambda path: unpacked)
    found = base.locate(recipes.find_base("smollm2-135m"))
    assert found.location == str(unpacked)
    assert found.identity["source"] == "catalog:smollm2-135m"
    assert found.identity["revision"].startswith("sha256:")
    assert found.identity["licence"] == "apache-2.0"


def refuse(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    import huggingface_hub

    def answer(*_: Any, **__: Any) -> str:
        raise error

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", answer)


def test_a_gated_model_names_the_page_and_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    import httpx2
    from huggingface_hub.errors import GatedRepoError

    response = httpx2.Response(403, request=httpx2.Request("GET", "https://huggingface.co"))
    refuse(monkeypatch, GatedRepoError("403 Client Error", response=response))
    with pytest.raises(BaseError) as caught:
        base.locate(recipes.find_base("llama32-3b"))
    assert "https://huggingface.co/meta-llama/Llama-3.2-3B-Instruct" in str(caught.value)
    assert "HF_TOKEN" in str(caught.value)
    assert "--base smollm2-135m" in str(caught.value)


def test_without_network_the_command_says_so(
    workshop: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert main("--dry-run", "--base=someone/some-model") == 2
    message = capsys.readouterr().err
    assert "someone/some-model cannot be reached from here" in message
    assert "--base" in message


def test_folders_that_are_no_models_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BaseError, match=r"has no config.json"):
        base.locate(Base("x", str(tmp_path), ""))


def test_a_base_without_a_chat_template_is_refused(tiny_base: Path, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "plain"
    shutil.copytree(tiny_base, folder)
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(BaseError, match="instruct or chat variant"):
        base.tokenizer_of(base.locate(Base("plain", str(folder), "")))


def test_the_fingerprint_of_a_folder_follows_its_weights(tiny_base: Path, smol_tokenizer: Any, tmp_path: Path) -> None:
    from tests.unit.tiny_training import make_base

    first = base.locate(Base("a", str(tiny_base), "")).revision
    same = base.locate(Base("a", str(make_base(tmp_path / "same", smol_tokenizer)), "")).revision
    other = base.locate(Base("a", str(make_base(tmp_path / "other", smol_tokenizer, seed=1)), "")).revision
    assert first == same != other


def test_qlora_holds_the_layers_in_four_bits_and_the_rest_in_bfloat16(tiny_base: Path) -> None:
    import torch

    made = recipe(tiny_base, tiny_base, method="qlora")
    model = base.model_of(base.locate(Base("tiny", str(tiny_base), "")), made)
    state = model.model.layers[0].mlp.up_proj.weight.quant_state
    assert (state.quant_type, state.nested) == ("nf4", True)
    assert model.model.embed_tokens.weight.dtype == torch.bfloat16
