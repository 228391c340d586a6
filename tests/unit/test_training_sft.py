"""The loop: its loss is the plain one, only the adapter learns, and it stops well when things go wrong."""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import sys
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from tests.unit.tiny_training import RECIPE, curve, log_of, main, recipe
from training import adapters, base, checkpoints, cpu, run, sft
from training.base import BaseFiles
from training.errors import BaseError
from training.recipes import Base, Recipe
from training.rows import Encoded

ROWS = tuple(
    Encoded(tuple(range(start, start + size)), size // 2) for start, size in ((100, 20), (900, 13), (40, 31), (7, 8))
)


@pytest.fixture
def model(tiny_base: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32)


def found(folder: Path) -> BaseFiles:
    return BaseFiles(Base("tiny", str(folder), ""), str(folder), "x")


def test_the_loss_at_supervised_positions_is_the_plain_loss(model: Any) -> None:
    for packed in (True, False):
        inputs = sft.Collator(ROWS, 0, packed).tensors(range(len(ROWS)))
        total, count = sft.supervised_loss(model, inputs)
        plain = 0.0
        for row in ROWS:
            out = model(input_ids=torch.tensor([row.ids]), labels=torch.tensor([row.labels]))
            plain += out.loss.item() * row.supervised
        assert int(count) == sum(row.supervised for row in ROWS)
        assert total.item() == pytest.approx(plain, rel=1e-5)


def test_packed_rows_do_not_see_each_other(model: Any) -> None:
    packed = sft.Collator(ROWS, 0, packed=True).tensors(range(len(ROWS)))
    logits = model(input_ids=packed["input_ids"], position_ids=packed["position_ids"], use_cache=False).logits[0]
    start = 0
    for row in ROWS:
        alone = model(input_ids=torch.tensor([row.ids])).logits[0]
        torch.testing.assert_close(logits[start : start + len(row.ids)], alone, rtol=1e-4, atol=1e-4)
        start += len(row.ids)


def test_the_cpu_s_own_attention_computes_the_same_and_keeps_rows_apart(model: Any) -> None:
    inputs = sft.Collator(ROWS, 0, packed=True).tensors(range(len(ROWS)))
    plain, _ = sft.supervised_loss(model, inputs)
    plain.backward()
    gradients = [weight.grad.clone() for weight in model.parameters()]
    model.zero_grad()
    cpu.prepare(model)
    assert model.config._attn_implementation == cpu.ATTENTION
    ours, _ = sft.supervised_loss(model, inputs)
    ours.backward()
    torch.testing.assert_close(ours, plain)
    for weight, before in zip(model.parameters(), gradients, strict=True):
        torch.testing.assert_close(weight.grad, before, rtol=1e-3, atol=1e-4)
    assert sft.packing_is_exact(model, ROWS[0], ROWS[1])
    cpu.restore(model)
    assert model.config._attn_implementation == "sdpa"


def test_models_whose_attention_has_more_to_it_keep_their_own(model: Any) -> None:
    model.config.sliding_window = 16
    cpu.prepare(model)
    assert model.config._attn_implementation == "sdpa"


def test_the_cpu_s_own_dropout_is_dropout() -> None:
    torch.manual_seed(0)
    drop = cpu.Dropout(0.05)
    values = torch.ones(1001, 333, requires_grad=True)
    dropped = drop(values)
    share = (dropped == 0).float().mean().item()
    assert share == pytest.approx(0.05, abs=0.002)
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.002)
    assert (dropped == 0).float().mean(0).std().item() < 0.01  # no pattern in columns
    dropped.sum().backward()
    assert values.grad is not None
    assert torch.equal(values.grad == 0, dropped == 0)
    assert torch.equal(drop.eval()(values), values)


def test_packing_is_given_up_where_rows_would_see_each_other(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sft.packing_is_exact(model, ROWS[0], ROWS[1])
    from transformers import masking_utils

    monkeypatch.setattr(masking_utils, "find_packed_sequence_indices", lambda position_ids: None)
    assert not sft.packing_is_exact(model, ROWS[0], ROWS[1])


def test_padded_batches_train_to_the_same_curve(
    workshop: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = [f"--base={tiny_base}", "--set=dolly.max_steps=3", "--set=lora_dropout=0"]
    assert main(*changes, "--out=packed") == 0
    monkeypatch.setattr(sft, "packing_is_exact", lambda *_: False)
    assert main(*changes, "--out=padded") == 0
    assert [
        json.loads((workshop / name / "run.json").read_text())["stages"][0]["packed"] for name in ("packed", "padded")
    ] == [True, False]
    for one, other in zip(curve(workshop / "packed"), curve(workshop / "padded"), strict=True):
        assert [v for v in one[2:] if v is not None] == pytest.approx([v for v in other[2:] if v is not None], rel=2e-2)


def trained(workshop: Path, tiny_base: Path, **changes: Any) -> tuple[Any, Recipe]:
    """A model after a stage of five steps."""
    made = recipe(tiny_base, workshop / "outputs/data/dolly", **changes)
    prepared = run.prepare(made)
    plan = prepared.plan(0)
    loaded = base.model_of(prepared.found, made)
    before = fingerprints(loaded)
    loaded = adapters.attach(loaded, made, prepared.found, steps=len(plan.steps), start=None)
    trainer = sft.build(
        loaded,
        prepared.tokenizer,
        made,
        made.stages[0],
        plan,
        train=prepared.stages[0].train.rows,
        validation=prepared.stages[0].validation.rows,
        folder=workshop / "checkpoints",
        monitor=None,
        world=1,
        seed=1,
    )
    sft.run(trainer, None)
    after = fingerprints(loaded.get_base_model()) if made.method != "full" else fingerprints(loaded)
    if made.method == "full":
        assert before != after
    else:
        assert before.keys() <= {name.replace(".base_layer", "") for name in after}
        assert all(
            before[plain] == value
            for name, value in after.items()
            if (plain := name.replace(".base_layer", "")) in before
        )
    return loaded, made


def fingerprints(model: Any) -> dict[str, str]:
    return {
        name: hashlib.sha256(weight.detach().contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()
        for name, weight in model.named_parameters()
    }


@pytest.mark.parametrize("method", ["lora", "qlora", "full", "dora", "rslora", "ia3", "adalora"])
def test_every_method_trains_its_own_weights_and_leaves_the_base_alone(
    workshop: Path, tiny_base: Path, method: Any
) -> None:
    learned, made = trained(workshop, tiny_base, method=method)
    assert adapters.check_trainable(learned, made) > 0
    moved = [name for name, weight in learned.named_parameters() if weight.requires_grad and weight.grad is not None]
    assert method == "full" or all("lora_" in name or "ia3_" in name for name in moved)


def test_adalora_makes_its_own_step(workshop: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import peft

    steps: list[int] = []
    plain = peft.AdaLoraModel.update_and_allocate

    def counted(self: Any, step: int) -> None:
        steps.append(step)
        plain(self, step)

    monkeypatch.setattr(peft.AdaLoraModel, "update_and_allocate", counted)
    learned, made = trained(workshop, tiny_base, method="adalora", max_steps=8)
    assert steps == list(range(8))
    ranks = [bool(value) for pattern in learned.peft_config["default"].rank_pattern.values() for value in pattern]
    assert sum(ranks) == made.lora_r * 14  # seven layers in each of two blocks; half of the starting ranks more is gone


def test_gradients_still_flow_after_a_validation(workshop: Path, tiny_base: Path) -> None:
    """bitsandbytes would repack 4-bit weights in eval mode on some CPUs, and cut the backward pass off."""
    made = recipe(tiny_base, workshop / "outputs/data/dolly", method="qlora", lora_dropout=0.0)
    prepared = run.prepare(made)
    model = adapters.attach(base.model_of(prepared.found, made), made, prepared.found, steps=5, start=None)
    inputs = sft.Collator(prepared.stages[0].train.rows, 0, packed=True).tensors((0, 1))

    def gradient() -> torch.Tensor:
        model.zero_grad()
        total, count = sft.supervised_loss(model, inputs)
        (total / count).backward()
        return torch.cat(
            [w.grad.float().flatten() for n, w in model.named_parameters() if "layers.0" in n and w.requires_grad]
        )

    before = gradient()
    model.eval()
    with torch.no_grad():
        sft.supervised_loss(model, inputs)
    model.train()
    torch.testing.assert_close(gradient(), before)
    assert before.abs().sum() > 0


def test_two_stages_go_on_with_one_adapter_and_leave_a_whole_record(workshop: Path, tiny_base: Path) -> None:
    name = "smollm2-135m-qlora-finetome-exam"
    changes = [f"--base={tiny_base}", "--set=method=lora", "--set=finetome.max_steps=4", "--set=exam.max_steps=4"]
    changes += ["--set=finetome.eval_steps=2", "--set=exam.eval_steps=2", "--set=exam.learning_rate=1e-2"]
    assert main(*changes, recipe=name) == 0
    out = workshop / "outputs" / name
    about = json.loads((out / "run.json").read_text())
    first, second = about["stages"]
    assert second["test_loss"]["before"] == pytest.approx(first["test_loss"]["after"], rel=1e-3)
    assert about["test"]["loss"] == {"before": first["test_loss"]["before"], "after": second["test_loss"]["after"]}
    assert second["validation_loss"]["best"] < second["validation_loss"]["before"]
    assert {"recipe", "base", "data", "packages", "seed", "git", "licences", "machine"} <= about.keys()
    assert about["data"]["exam"]["manifest_sha256"]
    assert about["licences"] == ["CC0-1.0", "not known"]
    weights = (out / "adapter/adapter_model.safetensors").read_bytes()
    assert weights == (out / "stages/exam/adapter/adapter_model.safetensors").read_bytes()
    assert json.loads((out / "adapter/adapter_config.json").read_text())["base_model_name_or_path"] == str(tiny_base)
    assert (out / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert [record["step"] for record in log_of(out) if "loss" in record] == [1, 2, 3, 4, 1, 2, 3, 4]
    for record in log_of(out):
        if "loss" in record:
            assert record["tokens_per_s"] > record["supervised_tokens_per_s"] > 0
            assert record["resident_mb"] > 100
    assert not list(out.rglob("checkpoint-*"))
    assert not list(out.rglob("*.partial"))


def test_the_best_weights_are_kept_and_a_stage_without_progress_stops(workshop: Path, tiny_base: Path) -> None:
    changes = [f"--base={tiny_base}", "--set=dolly.learning_rate=0.3", "--set=dolly.schedule=constant_with_warmup"]
    changes += ["--set=dolly.epochs=20", "--set=dolly.eval_steps=2", "--set=dolly.patience=2"]
    assert main(*changes) == 0
    (stage,) = json.loads((workshop / "outputs" / RECIPE / "run.json").read_text())["stages"]
    losses = {r["step"]: r["validation_loss"] for r in log_of(workshop / "outputs" / RECIPE) if "validation_loss" in r}
    losses.pop(0)
    best = min(losses, key=lambda step: losses[step])
    assert stage["steps"] < stage["planned_steps"]
    assert stage["steps"] == best + 4  # two validations without a better one
    assert (stage["best_step"], stage["validation_loss"]["best"]) == (best, losses[best])


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_good_checkpoint(
    workshop: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, calls = sft.supervised_loss, [0]

    def breaks(model: Any, inputs: Any) -> Any:
        total, count = plain(model, inputs)
        calls[0] += model.training
        return (total * float("nan") if calls[0] > 2 * 5 else total), count

    monkeypatch.setattr(sft, "supervised_loss", breaks)
    changes = [f"--base={tiny_base}", "--set=dolly.eval_steps=2", "--set=dolly.max_steps=8"]
    assert main(*changes) == 2
    message = capsys.readouterr().err
    assert "The loss became nan in step 6" in message
    assert "checkpoint of step 4 is kept" in message
    kept = checkpoints.newest(workshop / "outputs" / RECIPE / "stages/dolly/checkpoints")
    assert kept is not None
    assert kept.step == 4
    monkeypatch.undo()


@pytest.mark.parametrize(
    "failure", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("I/O error: No space left on device")]
)
def test_a_full_disk_is_named_and_the_same_command_goes_on(
    workshop: Path,
    tiny_base: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    failure: Exception,
) -> None:
    changes = [f"--base={tiny_base}", "--set=dolly.eval_steps=2", "--set=dolly.max_steps=4"]
    plain = transformers.Trainer._save_checkpoint

    def full(self: Any, model: Any, trial: Any) -> None:
        plain(self, model, trial)
        if self.state.global_step == 4:
            raise failure

    with monkeypatch.context() as patched:
        patched.setattr(transformers.Trainer, "_save_checkpoint", full)
        assert main(*changes) == 2
    message = capsys.readouterr().err
    assert "The disk is full: checkpoint 4" in message
    assert "The checkpoint of step 2 is kept" in message
    assert main(*changes) == 0
    assert "going on from step 2" in capsys.readouterr().out


def test_an_adapter_of_another_base_or_shape_is_refused(
    workshop: Path, tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = [f"--base={tiny_base}", "--set=dolly.max_steps=1"]
    assert main(*short, "--out=first") == 0
    other = tmp_path / "other-base"
    shutil.copytree(tiny_base, other)
    for options, complaint in (
        ([f"--base={other}", "--set=dolly.max_steps=1", "--adapter=first/adapter"], "was trained on"),
        ([*short, "--set=lora_r=4", "--adapter=first/adapter"], "r 16, not 4"),
        ([*short, "--set=method=ia3", "--adapter=first/adapter"], "is LORA"),
        ([*short, "--adapter=outputs"], "holds no adapter"),
    ):
        assert main(*options, "--out=second", "--fresh") == 2
        assert complaint in capsys.readouterr().err
    assert main(*short, "--adapter=first/adapter", "--out=third") == 0


def test_the_log_goes_to_trackio_too(workshop: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[dict[str, Any]] = []
    fake = types.ModuleType("trackio")
    monkeypatch.setattr(fake, "init", lambda **options: sent.append(options), raising=False)
    monkeypatch.setattr(fake, "log", sent.append, raising=False)
    monkeypatch.setitem(sys.modules, "trackio", fake)
    assert main(f"--base={tiny_base}", "--set=dolly.max_steps=2", "--track") == 0
    assert sent[0]["name"] == RECIPE
    assert sent[0]["config"]["recipe"]["lora_r"] == 16
    losses = [record["dolly/loss"] for record in sent if "dolly/loss" in record]
    assert losses == [record["loss"] for record in log_of(workshop / "outputs" / RECIPE) if "loss" in record]


def test_tracking_without_trackio_says_how_to_get_it(
    workshop: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "trackio", None)
    assert main(f"--base={tiny_base}", "--track") == 2
    assert "pip install trackio==" in capsys.readouterr().err


def test_an_adapter_that_would_train_the_base_is_refused(model: Any, tmp_path: Path) -> None:
    made = recipe(tmp_path, tmp_path)
    wrapped = adapters.attach(model, made, found(tmp_path), steps=1, start=None)
    next(iter(wrapped.get_base_model().model.norm.parameters())).requires_grad = True
    with pytest.raises(BaseError, match="norm"):
        adapters.check_trainable(wrapped, made)


def test_a_recipe_that_needs_a_gpu_says_what_runs_here(
    workshop: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    monkeypatch.setattr(run, "find_base", lambda name: replace(Base("big", str(tiny_base), ""), needs_gpu=True))
    assert main() == 2
    assert "--base smollm2-135m" in capsys.readouterr().err
    assert not (workshop / "outputs" / RECIPE).exists()
