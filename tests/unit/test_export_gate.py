"""The gate can fail: each way in which exports go wrong is done on purpose, and caught."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from export.architectures import Architecture
from tests.unit import tiny_models
from tests.unit.exporting import Commands

Tiny = Callable[[str], Path]
MakeAdapter = Callable[..., Path]


def edited(source: Path, target: Path, name: str, old: str, new: str) -> Path:
    """A copy of a folder with a piece of one file replaced."""
    shutil.copytree(source, target)
    text = (target / name).read_text(encoding="utf-8")
    assert old in text
    (target / name).write_text(text.replace(old, new), encoding="utf-8")
    return target


def test_swapped_rows_of_q_and_k_are_caught(
    adapter: MakeAdapter, commands: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Architecture, "order", lambda *_: None)
        assert commands.to_gguf(adapter("smollm2"), "--f16", "--quantize", "Q4_K_M", "--out", tmp_path).status == 0
    files = sorted(tmp_path.glob("*.gguf"))
    done = commands.verify(*files, "--against", adapter("smollm2"), report=tmp_path / "r.json")
    assert done.status == 1
    assert all(f"{path.name}: logits: KL is" in done.out for path in files)
    assert json.loads((tmp_path / "r.json").read_text())["passed"] is False


def test_a_dropped_delta_is_caught(tiny: Tiny, adapter: MakeAdapter, commands: Commands, tmp_path: Path) -> None:
    assert commands.to_gguf(tiny("smollm2"), "--f16", "--out", tmp_path).status == 0
    done = commands.verify(tmp_path / "smollm2_f16.gguf", "--against", adapter("smollm2"), report=tmp_path / "r.json")
    assert done.status == 1
    assert "logits: error of the logits is" in done.out


@pytest.mark.parametrize("alpha", [15.0, 32.0])  # also 6 % off
def test_a_wrong_scaling_is_caught(alpha: float, adapter: MakeAdapter, commands: Commands, tmp_path: Path) -> None:
    lora = adapter("smollm2")
    wrong = edited(lora, tmp_path / "wrong", "adapter_config.json", '"lora_alpha": 16', f'"lora_alpha": {alpha}')
    assert commands.to_gguf(wrong, "--f16", "--out", tmp_path).status == 0
    done = commands.verify(tmp_path / "wrong_f16.gguf", "--against", lora, report=tmp_path / "r.json")
    assert done.status == 1
    assert "logits: error of the logits is" in done.out


def test_rslora_read_as_lora_is_caught(adapter: MakeAdapter, commands: Commands, tmp_path: Path) -> None:
    lora = adapter("smollm2", use_rslora=True)
    wrong = edited(lora, tmp_path / "wrong", "adapter_config.json", '"use_rslora": true', '"use_rslora": false')
    assert commands.to_gguf(wrong, "--f16", "--out", tmp_path).status == 0
    done = commands.verify(tmp_path / "wrong_f16.gguf", "--against", lora, report=tmp_path / "r.json")
    assert done.status == 1


@pytest.mark.parametrize(
    ("kind", "name", "old", "new", "complaint"),
    [
        ("smollm2", "chat_template.jinja", "<|im_start|>{{ message", "<|im_start|> {{ message", "template: "),
        (
            "llama3",
            "chat_template.jinja",
            "{{ bos_token }}",
            "{{ bos_token }}{{ bos_token }}",
            "bos: a conversation has 2",
        ),
        ("llama3", "chat_template.jinja", "<|eot_id|>", "<|end_header_id|>", "template: "),
        ("smollm2", "tokenizer.json", '"individual_digits": true', '"individual_digits": false', ""),
        ("phi3", "config.json", '"rope_theta": 10000.0', '"rope_theta": 500.0', "logits: "),
        ("llama3", "config.json", '"factor": 32.0', '"factor": 4.0', "logits: "),
    ],
    ids=["template", "two BOS", "end of turn", "pre-tokenizer", "rope base", "rope scaling"],
)
def test_what_belongs_to_another_model_is_caught(
    kind: str, name: str, old: str, new: str, complaint: str, tiny: Tiny, commands: Commands, tmp_path: Path
) -> None:
    wrong = edited(tiny(kind), tmp_path / "wrong", name, old, new)
    done = commands.to_gguf(wrong, "--f16", "--out", tmp_path)
    if not complaint:  # refused before anything is written
        assert done.status == 2
        assert "llama.cpp would make other tokens" in done.err
        return
    assert done.status == 0, done.err
    done = commands.verify(tmp_path / "wrong_f16.gguf", "--against", tiny(kind), report=tmp_path / "r.json")
    assert done.status == 1
    assert complaint in done.out


def test_an_end_of_turn_that_does_not_stop_is_caught(tiny: Tiny, commands: Commands, tmp_path: Path) -> None:
    """As when a base model's end of text is exported with a chat template whose turns end in another token."""
    base = edited(tiny("llama3"), tmp_path / "odd", "chat_template.jinja", "<|eot_id|>", "<|end_header_id|>")
    (tmp_path / "plain").mkdir()
    shutil.copytree(base, tmp_path / "plain/odd")
    (tmp_path / "plain/odd/chat_template.jinja").write_text(tiny_models.LLAMA3_TEMPLATE)
    assert commands.to_gguf(tmp_path / "plain/odd", "--f16", "--out", tmp_path).status == 0
    done = commands.verify(tmp_path / "odd_f16.gguf", "--against", base, report=tmp_path / "r.json")
    assert done.status == 1
    assert "end of turn: what follows an answer in the template does not stop generation" in done.out


def test_a_tokenizer_that_llama_cpp_cannot_imitate_fails(tiny: Tiny, commands: Commands, tmp_path: Path) -> None:
    """transformers 5's own Llama tokenizer puts a space before the first word only, not after each special token."""
    base = tmp_path / "new"
    shutil.copytree(tiny("phi3"), base)
    about = json.loads((base / "tokenizer.json").read_text())
    about["normalizer"] = None
    about["pre_tokenizer"] = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}
    (base / "tokenizer.json").write_text(json.dumps(about))
    assert commands.to_gguf(base, "--f16", "--out", tmp_path).status == 0
    done = commands.verify(tmp_path / "new_f16.gguf", "--against", base, report=tmp_path / "r.json")
    assert done.status == 1
    assert "template: " in done.out
