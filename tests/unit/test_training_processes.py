"""More than one process: the same losses as one, with the engines that accelerate brings."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.unit.tiny_training import RECIPE, ROOT, SMALL, curve, log_of, main, run_command

DDP = ROOT / "training/accelerate/ddp.yaml"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_processes_have_the_losses_of_one(workshop: Path, tiny_base: Path) -> None:
    options = [f"--base={tiny_base}", "--set=dolly.max_steps=6", "--set=dolly.eval_steps=3", "--set=lora_dropout=0"]
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(DDP)]
    launcher += ["--num_processes=2", "--main_process_port=0"]
    arguments = [*launcher, str(ROOT / "training/train.py"), RECIPE, *SMALL, *options, "--out=two"]
    done = run_command(arguments, workshop)
    assert done.returncode == 0, done.stderr
    assert main(*options, "--out=one") == 0
    one, two = curve(workshop / "one"), curve(workshop / "two")
    assert [row[:2] for row in one] == [row[:2] for row in two]  # one process speaks
    for first, second in zip(one, two, strict=True):
        assert [v for v in first[2:] if v is not None] == pytest.approx(
            [v for v in second[2:] if v is not None], rel=1e-2
        )
    about = json.loads((workshop / "two/run.json").read_text())
    assert about["processes"] == 2
    assert len([record for record in log_of(workshop / "two") if "loss" in record]) == 6


def test_micro_batches_that_cannot_be_shared_out_are_refused(
    workshop: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from training import run

    monkeypatch.setattr(run, "world_size", lambda: 3)
    assert main(f"--base={tiny_base}", "--set=micro_batches=4") == 2
    assert "--set micro_batches=6" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["ddp", "fsdp"])
def test_the_launch_files_are_what_accelerate_reads(name: str) -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    config = load_config_from_file(str(ROOT / f"training/accelerate/{name}.yaml"))
    assert config.num_processes == 2
    assert str(config.distributed_type).lower().endswith({"ddp": "multi_gpu", "fsdp": "fsdp"}[name])
