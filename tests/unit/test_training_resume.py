"""Killed at any moment, a run goes on and ends as if nothing had happened; and it never goes on with something else."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.unit.tiny_training import RECIPE, command, curve, environment, log_of, main, run_command
from training import checkpoints
from training.monitor import Log

NAME = "smollm2-135m-qlora-finetome-exam"
STAGES = (
    "--set=method=lora",
    "--set=finetome.max_steps=6",
    "--set=exam.max_steps=6",
    "--set=finetome.eval_steps=2",
    "--set=exam.eval_steps=2",
)

# Kills itself with SIGKILL at the n-th time that a certain function is entered or left.
ASSASSIN = """
import os, signal, sys
from training import checkpoints, sft, train
target, when, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
owner, name = {
    "save": (sft.Trainer, "_save_checkpoint"),
    "optimizer": (sft.Trainer, "_save_optimizer_and_scheduler"),
    "marker": (checkpoints, "complete"),
    "prune": (checkpoints, "prune"),
    "evaluate": (sft.StageTrainer, "evaluate"),
    "step": (sft.StageTrainer, "training_step"),
    "adapter": (sft.adapters, "save"),
}[target]
plain, calls = getattr(owner, name), [0]
def deadly(*args, **options):
    calls[0] += 1
    if calls[0] == count and when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    result = plain(*args, **options)
    if calls[0] == count and when == "after":
        os.kill(os.getpid(), signal.SIGKILL)
    return result
setattr(owner, name, deadly)
sys.exit(train.main(sys.argv[4:]))
"""


@pytest.fixture(scope="module")
def undisturbed(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[object, ...]]:
    """The curve of a run that nothing happened to."""
    from tests.unit.tiny_training import tiny_builds

    folder = tmp_path_factory.mktemp("undisturbed")
    tiny_builds(folder)
    done = run_command(command(f"--base={tiny_base}", *STAGES, recipe=NAME), folder, IRIS_HOME=str(folder / "home"))
    assert done.returncode == 0, done.stderr
    return curve(folder / "outputs" / NAME)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_at_every_weak_spot_the_curve_is_that_of_an_undisturbed_run(
    workshop: Path, tiny_base: Path, undisturbed: list[tuple[object, ...]]
) -> None:
    arguments = command(f"--base={tiny_base}", *STAGES, recipe=NAME)
    spots = [
        ("step", "after", 3),  # before there is any checkpoint
        ("optimizer", "before", 1),  # in the middle of a checkpoint
        ("save", "after", 2),  # all files written, not vouched for
        ("marker", "after", 1),  # vouched for, the older ones not yet removed
        ("evaluate", "after", 1),
        ("adapter", "before", 1),  # trained to the end, the adapter not written
        ("adapter", "after", 1),  # the adapter written, the stage not closed
        ("step", "before", 2),  # in the second stage
        ("prune", "before", 2),
    ]
    for target, when, count in spots:
        killer = [arguments[0], "-c", ASSASSIN, target, when, str(count), *arguments[2:]]
        done = run_command(killer, workshop)
        assert done.returncode == -signal.SIGKILL, (target, when, done.stderr)
        assert not (workshop / "outputs" / NAME / "run.json").exists()
    done = run_command(arguments, workshop)
    assert done.returncode == 0, done.stderr
    assert "finetome: finished earlier, not run again." in done.stdout
    assert curve(workshop / "outputs" / NAME) == undisturbed


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_from_outside_at_random_moments_too(
    workshop: Path, tiny_base: Path, undisturbed: list[tuple[object, ...]]
) -> None:
    arguments = command(f"--base={tiny_base}", *STAGES, recipe=NAME)
    log = workshop / "outputs" / NAME / "log.jsonl"
    draw = random.Random(4)
    for _ in range(3):
        lines = len(log.read_text().splitlines()) if log.exists() else 0
        process = subprocess.Popen(
            arguments, cwd=workshop, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and process.poll() is None:
            if log.exists() and len(log.read_text().splitlines()) > lines + 2:
                time.sleep(draw.random() / 5)
                break
            time.sleep(0.01)
        process.kill()
        process.wait()
    done = run_command(arguments, workshop)
    assert done.returncode == 0, done.stderr
    assert curve(workshop / "outputs" / NAME) == undisturbed


def test_a_stage_that_stopped_early_is_not_trained_on_when_it_was_killed_after(
    workshop: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from training import adapters

    changes = [f"--base={tiny_base}", "--set=dolly.learning_rate=0.3", "--set=dolly.schedule=constant_with_warmup"]
    changes += ["--set=dolly.epochs=20", "--set=dolly.eval_steps=2", "--set=dolly.patience=1"]
    with monkeypatch.context() as patched:
        patched.setattr(adapters, "save", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert main(*changes) == 130
    before = curve(workshop / "outputs" / RECIPE)
    assert main(*changes) == 0
    assert curve(workshop / "outputs" / RECIPE) == before


def test_a_finished_run_is_not_run_again(
    workshop: Path, tiny_base: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from training import base

    options = [f"--base={tiny_base}", "--set=dolly.max_steps=2"]
    assert main(*options) == 0
    first = capsys.readouterr().out
    monkeypatch.setattr(base, "model_of", lambda *_: pytest.fail("weights were loaded"))
    assert main(*options) == 0
    assert first.endswith(capsys.readouterr().out)


def test_a_changed_recipe_or_data_refuses_to_go_on_and_says_what_changed(
    workshop: Path, tiny_base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [f"--base={tiny_base}", "--set=dolly.max_steps=2"]
    assert main(*options) == 0
    assert main(*options, "--set=dolly.learning_rate=1e-3", "--set=lora_r=4") == 2
    message = capsys.readouterr().err
    assert "recipe.stages.dolly.learning_rate was 0.0002, now 0.001" in message
    assert "recipe.lora_r was 16, now 4" in message
    assert "--fresh" in message
    manifest = workshop / "outputs/data/dolly/manifest.json"
    manifest.write_text(manifest.read_text().replace("CC0-1.0", "MIT"))
    assert main(*options) == 2
    assert "data.dolly.manifest_sha256 was" in capsys.readouterr().err
    assert main(*options, "--fresh") == 0


def test_a_folder_of_other_things_is_not_touched(
    workshop: Path, tiny_base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (workshop / "mine").mkdir()
    (workshop / "mine/thesis.txt").write_text("precious")
    assert main(f"--base={tiny_base}", "--out=mine") == 2
    assert "--out" in capsys.readouterr().err
    assert main(f"--base={tiny_base}", "--out=mine", "--fresh") == 2
    assert (workshop / "mine/thesis.txt").read_text() == "precious"


def test_only_a_complete_checkpoint_counts(tmp_path: Path) -> None:
    for step in (2, 4, 6, 8):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}/weights").write_text("x")
    for step in (2, 4, 6):
        checkpoints.complete(tmp_path / f"checkpoint-{step}", step=step, last=step == 6)
    (tmp_path / "checkpoint-8/complete.json").write_text('{"step": ')
    newest = checkpoints.newest(tmp_path)
    assert newest is not None
    assert (newest.step, newest.last) == (6, True)
    checkpoints.prune(tmp_path, keep={2, 6, 8})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-2", "checkpoint-6"]
    assert checkpoints.newest(tmp_path / "nowhere") is None


def test_the_log_forgets_what_will_be_made_again_and_half_a_line(tmp_path: Path) -> None:
    log = Log(tmp_path / "log.jsonl")
    for stage, step in (("one", 1), ("one", 2), ("two", 1), ("two", 2), ("two", 3)):
        log.append({"stage": stage, "step": step})
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"stage": "two", "st')
    log.rewind("two", 1)
    assert log_of(tmp_path) == [{"stage": "one", "step": 1}, {"stage": "one", "step": 2}, {"stage": "two", "step": 1}]


@pytest.mark.slow
def test_rates_count_from_the_resume(workshop: Path, tiny_base: Path) -> None:
    """The original divided all steps since the beginning by the time since the resume."""
    options = [f"--base={tiny_base}", "--set=dolly.epochs=3", "--set=dolly.max_steps=12", "--set=dolly.eval_steps=10"]
    arguments = command(*options)
    killer = [arguments[0], "-c", ASSASSIN, "prune", "before", "1", *arguments[2:]]
    assert run_command(killer, workshop).returncode == -signal.SIGKILL
    out = workshop / "outputs" / RECIPE
    before = log_of(out)[-2]["tokens_per_s"]
    assert run_command(arguments, workshop).returncode == 0
    after = [record["tokens_per_s"] for record in log_of(out) if record["step"] == 11 and "loss" in record]
    assert after[0] < 4 * before  # counted from zero it would be eleven times as much
    assert json.loads((out / "run.json").read_text())["stages"][0]["resumed_from_step"] == 10
