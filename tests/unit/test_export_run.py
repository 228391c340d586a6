"""The whole command on a run's folder: names, gate, importance matrix, lineage."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from export import lineage, to_gguf, verify
from export.architectures import Architecture
from tests.unit.exporting import left_over

Tiny = Callable[[str], Path]
MakeAdapter = Callable[..., Path]

RUN = {
    "recipe": {"name": "llama32-3b-qlora-finetome-exam", "lora_r": 8},
    "base": {"id": "tiny", "source": "owner/tiny", "revision": "f00d", "licence": "apache-2.0"},
    "data": {"exam": {"name": "id2223", "manifest_sha256": "ab" * 32, "licence": "CC-BY-4.0"}},
    "licences": ["CC-BY-4.0", "apache-2.0"],
    "packages": {"torch": "2.13.0"},
    "output": "adapter",
    "finished": "2026-11-26T02:00:00+00:00",
}


@pytest.fixture
def run(adapter: MakeAdapter, tmp_path: Path) -> Path:
    """The folder of a finished run on the tiny Llama 3."""
    folder = tmp_path / "outputs/some-folder"
    shutil.copytree(adapter("llama3"), folder / "adapter")
    (folder / "run.json").write_text(json.dumps(RUN))
    return folder


def export(run: Path, rows: Path, *arguments: str) -> int:
    return to_gguf.main([str(run), *arguments, "--data", str(rows), "--threads", "1"])


def test_files_are_named_after_the_recipe_and_pass_the_gate(run: Path, rows: Path) -> None:
    assert export(run, rows, "--quantize", "Q8_0", "q4_k_m", "--imatrix", "auto") == 0
    name = "llama32-3b-qlora-finetome-exam"
    found = {path.name for path in (run / "gguf").iterdir() if path.suffix != ".sha256"}
    assert found == {f"{name}_q4_k_m.gguf", f"{name}_q8_0.gguf", f"{name}_imatrix.gguf", f"{name}.report.json"}
    assert left_over(run) == []
    report = json.loads((run / f"gguf/{name}.report.json").read_text())
    distances = {file["file"]: file["distance"]["kl"] for file in report["files"]}
    # F16 is always held against the original, also when it is not kept; the file without imatrix is there to compare.
    assert distances.keys() == {f"{name}{end}.gguf" for end in ("_f16", "_q8_0", "_q4_k_m", "_q4_k_m.plain")}
    weighed = distances[f"{name}_q4_k_m.gguf"] <= distances[f"{name}_q4_k_m.plain.gguf"]  # else made without it
    about = lineage.read(run / f"gguf/{name}_q4_k_m.gguf")
    assert about.get("quantize.imatrix.dataset") == (f"{rows.name}, train split" if weighed else None)
    assert ("quantize.imatrix.entries_count" in about) == weighed
    assert "quantize.imatrix.dataset" not in lineage.read(run / f"gguf/{name}_q8_0.gguf")
    # The matrix that was collected can be given again, and makes the same file; without one it is another.
    matrix = run / f"gguf/{name}_imatrix.gguf"
    again = ["--quantize", "Q4_K_M", "--imatrix", str(matrix), "--no-verify", "--out", str(run / "again")]
    assert export(run, rows, *again) == 0
    assert export(run, rows, "--quantize", "Q4_K_M", "--no-verify", "--out", str(run / "plain")) == 0
    first, second, plain = (
        (run / folder / f"{name}_q4_k_m.gguf").read_bytes() for folder in ("gguf", "again", "plain")
    )
    assert first == second
    assert (first == plain) == (distances[f"{name}_q4_k_m.gguf"] > distances[f"{name}_q4_k_m.plain.gguf"])


def test_a_file_that_fails_the_gate_does_not_get_its_name(
    run: Path, rows: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:  # the gate is another process, where this is not so
        patch.setattr(Architecture, "order", lambda *_: None)
        assert export(run, rows, "--f16") == 1
    names = {path.name for path in (run / "gguf").iterdir()}
    assert "llama32-3b-qlora-finetome-exam_f16.rejected.gguf" in names
    assert "llama32-3b-qlora-finetome-exam_f16.gguf" not in names
    assert "KL is" in capfd.readouterr().out


def test_the_lineage_is_in_the_file_and_can_be_checked(
    run: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)  # data that was built in this checkout is not what the run names
    assert export(run, rows, "--quantize", "Q8_0", "--no-verify") == 0
    (path,) = (run / "gguf").glob("*.gguf")
    found: dict[str, Any] = lineage.read(path)
    assert json.loads(found["iris.recipe"]) == RUN["recipe"]
    assert json.loads(found["iris.data"]) == RUN["data"]
    assert json.loads(found["iris.licences"]) == RUN["licences"]
    assert {"gguf", "llama-cpp-python", "training: torch"} <= json.loads(found["iris.tools"]).keys()
    assert found["general.name"] == "llama32-3b-qlora-finetome-exam"
    assert found["iris.adapter.method"] == "lora, rank 8, scaling 2"
    assert found["iris.base.source"] == "owner/tiny"
    assert str(tmp_path.parent) not in str(found)
    capsys.readouterr()
    assert verify.main([str(path), "--lineage"]) == 0
    said = capsys.readouterr().out
    assert "iris.adapter.sha256 = " in said
    assert "ok      adapter: " in said
    # Another adapter in the run's place is noticed, and so is a file that was changed.
    weights = run / "adapter/adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\1")
    with path.open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x7f")
    assert verify.main([str(path), "--lineage"]) == 1
    said = capsys.readouterr().out
    assert "WRONG   adapter: " in said
    assert "WRONG   sha256: " in said


def test_a_foreign_file_has_no_lineage(gguf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify.main([str(gguf), "--lineage"]) == 2
    assert "carries no lineage" in capsys.readouterr().err


@pytest.mark.slow
def test_an_adapter_on_the_embedded_model(gguf: Path, rows: Path, tmp_path: Path) -> None:
    """The real model, whose base is a Q4_1 file: the adapter over that very file is what peft computes."""
    from export import base

    opened = base.open_base(gguf)
    shapes = {weight.name: weight.shape for weight in opened.weights}
    folder = random_adapter(tmp_path / "embedded", shapes)
    assert export(folder, rows, "--adapter-only", "--out", str(tmp_path / "out")) == 0
    assert (tmp_path / "out/embedded_adapter_f16.gguf").stat().st_size < 12 << 20


def random_adapter(folder: Path, shapes: dict[str, tuple[int, ...]]) -> Path:
    """A rank-16 adapter for attention in all layers of the embedded model."""
    import numpy as np
    from safetensors.numpy import save_file

    chance = np.random.default_rng(1)
    tensors = {}
    for layer in range(30):
        for ours, theirs in (("attn_q", "q_proj"), ("attn_v", "v_proj")):
            rows, columns = shapes[f"blk.{layer}.{ours}.weight"]
            name = f"base_model.model.model.layers.{layer}.self_attn.{theirs}"
            tensors[f"{name}.lora_A.weight"] = 0.04 * chance.standard_normal((16, columns)).astype(np.float32)
            tensors[f"{name}.lora_B.weight"] = 0.02 * chance.standard_normal((rows, 16)).astype(np.float32)
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    about = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 16, "lora_alpha": 32, "use_rslora": True}
    about |= {"base_model_name_or_path": "catalog:smollm2-135m", "target_modules": ["q_proj", "v_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(about))
    return folder
