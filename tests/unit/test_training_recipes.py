"""Recipes and what the command line makes of them, without a model."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.tiny_training import ROOT
from training import override, recipes, train, train_3b_exam
from training.errors import RecipeError
from training.recipes import RECIPES, Recipe, Stage

NAMES = (
    "llama32-1b-lora-finetome",
    "llama32-1b-qlora-finetome",
    "llama32-3b-qlora-finetome",
    "llama32-1b-qlora-finetome-exam",
    "llama32-3b-qlora-finetome-exam",
    "llama32-3b-qlora-exam",
    "gemma2-2b-lora-finetome",
    "phi3-mini-lora-finetome",
    "phi3-mini-lora-finetome-exam",
    "tinyllama-qlora-philosophy",
    "tinyllama-lora-dolly",
    "smollm2-135m-qlora-finetome-exam",
    "smollm2-135m-qlora-exam",
)


def test_every_recipe_of_the_original_is_there_and_says_in_its_name_what_it_does() -> None:
    names = [recipe.name for recipe in RECIPES]
    assert set(NAMES) <= set(names)
    assert len(names) == len(set(names))
    for recipe in RECIPES:
        stages = "-".join(stage.name for stage in recipe.stages)
        assert recipe.name == f"{recipe.base}-{recipe.method}-{stages}"
        assert recipe.base in {base.id for base in recipes.BASES}


def test_the_original_s_settings() -> None:
    two_stage = recipes.find("llama32-3b-qlora-finetome-exam")
    assert (two_stage.lora_r, two_stage.lora_alpha, two_stage.lora_dropout) == (16, 32, 0.05)
    first, second = two_stage.stages
    assert (first.learning_rate, first.epochs, first.rows, first.schedule) == (2e-4, 2, 40_000, "cosine")
    assert (second.learning_rate, second.epochs) == (1e-4, 2)
    (direct,) = recipes.find("llama32-3b-qlora-exam").stages
    assert (direct.learning_rate, direct.epochs) == (2e-4, 3)
    assert len(recipes.find_base("llama32-3b").projections) == 7


def test_the_list_is_instant_because_it_loads_no_library() -> None:
    began = time.monotonic()
    code = "import sys; from training import train; train.main(['--list']); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.endswith("False\n")
    assert all(recipe.name in done.stdout for recipe in RECIPES)
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("script", ["train.py", "train_3b_exam.py"])
def test_the_scripts_run_from_anywhere(tmp_path: Path, script: str) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "training" / script), "--help"],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "--dry-run" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "name"),
    [([], "llama32-3b-qlora-finetome-exam"), (["--direct"], "llama32-3b-qlora-exam")],
)
def test_the_engineer_s_door(monkeypatch: pytest.MonkeyPatch, arguments: list[str], name: str) -> None:
    started: list[Recipe] = []

    def start(recipe: Recipe, options: object) -> int:
        started.append(recipe)
        return 0

    monkeypatch.setattr(train, "start", start)
    assert train_3b_exam.main(arguments) == 0
    assert [recipe.name for recipe in started] == [name]


def test_fields_are_set_with_their_types() -> None:
    recipe = override.apply(
        recipes.find("llama32-3b-qlora-finetome-exam"),
        ["lora_r=8", "exam.learning_rate=5e-5", "finetome.data=dolly", "gradient_checkpointing=false", "method=dora"],
    )
    assert (recipe.lora_r, recipe.gradient_checkpointing, recipe.method) == (8, False, "dora")
    assert [stage.learning_rate for stage in recipe.stages] == [2e-4, 5e-5]
    assert [stage.data for stage in recipe.stages] == ["dolly", "id2223"]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("lora_rank=8", "did you mean lora_r"),
        ("exam.learning_rat=1", "did you mean exam.learning_rate"),
        ("finetome.epochs=1", "no such field"),  # of a stage that this recipe does not have
        ("name=x", "no such field"),
        ("lora_r", "key=value"),
        ("lora_r=8.5", "whole number"),
        ("lora_r=0", "more than 0"),
        ("exam.learning_rate=nan", "more than 0"),
        ("exam.learning_rate=-1", "more than 0"),
        ("lora_dropout=1", "below 1"),
        ("method=prefix", "'lora', 'qlora', 'full'"),
        ("gradient_checkpointing=yes", "true or false"),
        ("base=", "missing"),
        ("micro_batches=17", "more than batch_rows"),
    ],
)
def test_a_change_that_cannot_be_is_refused_with_the_reason(change: str, complaint: str) -> None:
    with pytest.raises(RecipeError, match=complaint):
        override.apply(recipes.find("llama32-3b-qlora-exam"), [change])


KEYS = [field.name for field in fields(Recipe)] + [f"exam.{field.name}" for field in fields(Stage)]


@given(st.sampled_from(KEYS), st.text(max_size=8) | st.integers().map(str) | st.floats().map(str))
def test_any_change_gives_a_recipe_of_the_right_types_or_a_refusal(key: str, value: str) -> None:
    before = recipes.find("llama32-3b-qlora-exam")
    try:
        after = override.apply(before, [f"{key}={value}"])
    except RecipeError:
        return
    for old, new in ((before, after), (before.stages[0], after.stages[0])):
        for field in fields(old):
            assert type(getattr(new, field.name)) is type(getattr(old, field.name))


def test_an_unknown_recipe_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main(["llama32-3b-qlora-exma"]) == 2
    assert "llama32-3b-qlora-exam" in capsys.readouterr().err
