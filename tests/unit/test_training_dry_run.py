"""The dry run, held against what a run then does."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from tests.unit.tiny_training import RECIPE, command, main, run_command, sentences, write_build


def test_it_says_what_the_run_then_does(workshop: Path, tiny_base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(f"--base={tiny_base}", "--dry-run", "--set=dolly.epochs=1") == 0
    text = capsys.readouterr().out
    assert not (workshop / "outputs" / RECIPE).exists()
    assert main(f"--base={tiny_base}", "--set=dolly.epochs=1") == 0
    (stage,) = json.loads((workshop / "outputs" / RECIPE / "run.json").read_text())["stages"]
    assert f"{stage['rows']} rows of" in text
    assert f"{stage['steps']} steps of 8 rows in 2 micro-batches" in text
    assert f"{stage['tokens']:,} tokens, {stage['supervised_tokens'] / stage['tokens']:.0%} of them supervised" in text
    assert f"{stage['trainable_parameters'] / 1e6:.2f} M trained" in text
    assert re.search(r"GPU: .* MB", text)
    assert re.search(r"CPU: .* MB", text)


def test_it_loads_no_weights_and_needs_no_gpu(
    workshop: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import dataclasses

    from training import base, run
    from training.recipes import Base

    monkeypatch.setattr(run, "find_base", lambda name: Base("big", str(tiny_base), "", needs_gpu=True))
    monkeypatch.setattr(base, "model_of", lambda *_: pytest.fail("weights were loaded"))
    assert main("--dry-run") == 0
    assert dataclasses.is_dataclass(Base)
    assert "memory" in capsys.readouterr().out


def test_a_calibrated_time_is_given_for_the_whole_run(
    workshop: Path, tiny_base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(f"--base={tiny_base}", "--dry-run", "--calibrate") == 0
    assert re.search(r"about [\d,]+ minutes at [\d,]+ tokens/s", capsys.readouterr().out)


IMPORTS = "import training.run, training.sft; from training.monitor import peak_resident; print(peak_resident() >> 20)"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "changes",
    [
        pytest.param(["--set=method=qlora"], id="qlora"),
        pytest.param(["--set=method=lora", "--set=gradient_checkpointing=true"], id="checkpointing"),
    ],
)
def test_the_memory_is_within_a_fifth_of_a_real_run(workshop: Path, changes: list[str]) -> None:
    """On the embedded model, and long rows so that activations weigh as they do in earnest."""
    rows = [
        {**row, "completion": [{"role": "assistant", "content": "gradient descent " * 300}]} for row in sentences(6)
    ]
    write_build(workshop / "outputs/data/long", {"train": rows[:4], "validation": rows[4:5], "test": rows[5:]})
    options = [
        "--set=dolly.data=long",
        "--set=dolly.max_steps=1",
        "--set=max_length=2048",
        "--set=batch_rows=4",
        *changes,
    ]
    arguments = command(*options)
    dry = run_command([*arguments, "--dry-run"], workshop)
    assert dry.returncode == 0, dry.stderr
    found = re.search(r"CPU: .* \+ ([\d,]+) for the libraries = ([\d,]+) MB", dry.stdout)
    assert found, dry.stdout
    libraries, total = (int(value.replace(",", "")) for value in found.groups())
    real = run_command(arguments, workshop, timeout=600)
    assert real.returncode == 0, real.stderr
    imported = run_command([sys.executable, "-c", IMPORTS], workshop)
    (stage,) = json.loads((workshop / "outputs" / RECIPE / "run.json").read_text())["stages"]
    measured = stage["peak_resident_mb"] - int(imported.stdout)
    print(f"estimated {total - libraries} MB, measured {measured} MB")
    assert total - libraries == pytest.approx(measured, rel=0.2)
