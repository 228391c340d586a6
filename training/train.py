"""Fine-tune a model by a recipe; killed and started again, it goes on where it was.

    python training/train.py --list                            the recipes
    python training/train.py smollm2-135m-qlora-exam           runs anywhere
    python training/train.py llama32-3b-qlora-finetome-exam --dry-run
    python training/train.py llama32-3b-qlora-exam --base smollm2-135m --set exam.epochs=1
    accelerate launch --config_file training/accelerate/ddp.yaml training/train.py llama32-1b-lora-finetome

Data is made before by data/build.py. Everything of a run is in outputs/<recipe>/.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from iris.errors import IrisError
from training import override, recipes
from training.recipes import Recipe


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    options = parser().parse_args(arguments)
    if options.list:
        print(listing())
        return 0
    if not options.recipe:
        parser().error("a recipe is needed; --list shows them")
    try:
        return start(recipes.find(options.recipe), options)
    except IrisError as error:
        print(error, file=sys.stderr)
        return 2


def parser() -> argparse.ArgumentParser:
    """The options, but for the recipe's name shared with train_3b_exam.py."""
    made = argparse.ArgumentParser(
        prog="training/train.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("recipe", nargs="?", help="a name from --list")
    made.add_argument("--list", action="store_true", help="show the recipes and stop")
    add_options(made)
    return made


def add_options(made: argparse.ArgumentParser) -> None:
    """The options of a run."""
    made.add_argument("--base", help="another base: an id of --list, a local folder, or a Hub id (owner/name@revision)")
    made.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a field: lora_r=8, …")
    made.add_argument("--adapter", type=Path, help="folder of an adapter to go on from")
    made.add_argument("--out", type=Path, help="folder of the run (default: outputs/<recipe>)")
    made.add_argument("--fresh", action="store_true", help="delete an earlier run in that folder first")
    made.add_argument("--track", action="store_true", help="send the log to trackio too")
    made.add_argument("--dry-run", action="store_true", help="say what the run would take, without loading weights")
    made.add_argument("--calibrate", action="store_true", help="with --dry-run: time a few steps on the real weights")


def start(recipe: Recipe, options: argparse.Namespace) -> int:
    """Run ``recipe`` as the options say; returns the exit status.

    Raises:
        IrisError: the run cannot start or go on.
    """
    if options.base:
        recipe = replace(recipe, base=options.base)
    recipe = override.apply(recipe, options.set)
    quiet_libraries()
    try:
        if options.dry_run:
            from training import estimate

            print(estimate.report(recipe, calibrate=options.calibrate))
            return 0
        from training import run

        prepared = run.prepare(recipe)
        out = options.out or Path("outputs") / recipe.name
        if run.is_main():
            for warning in prepared.warnings:
                print(f"note: {warning}", file=sys.stderr)
        about = run.execute(prepared, out, fresh=options.fresh, start=options.adapter, track=options.track)
        if about:
            print(summary(about, out))
    except KeyboardInterrupt:
        print("\nStopped. The same command goes on from the last checkpoint.", file=sys.stderr)
        return 130
    return 0


def listing() -> str:
    """The recipes, one a line."""
    lines = [f"{'recipe':<36} {'base':<13} {'method':<7} stages (epochs, learning rate)"]
    for recipe in recipes.RECIPES:
        stages = ", then ".join(f"{row.name} ({row.epochs}, {row.learning_rate:.0e})" for row in recipe.stages)
        lines.append(f"{recipe.name:<36} {recipe.base:<13} {recipe.method:<7} {stages}")
    return "\n".join(lines)


def summary(about: dict[str, object], out: Path) -> str:
    """What a finished run came to."""
    test, stages = about["test"], about["stages"]
    assert isinstance(test, dict)
    assert isinstance(stages, list)
    lines = []
    for stage in stages:
        loss = stage["validation_loss"]
        lines.append(
            f"{stage['name']}: {stage['steps']} steps, validation loss {_number(loss['before'])} -> "
            f"{_number(loss['best'])} (step {stage['best_step']})"
        )
    values = test["perplexity"]
    lines.append(
        f"test split ({test['tokens']:,} tokens): perplexity {_number(values['before'])} -> {_number(values['after'])}"
    )
    lines.append(f"in {out / str(about['output'])}; all about it in {out / 'run.json'}")
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:.3f}"


def quiet_libraries() -> None:
    """Before the libraries are imported: no usage reports to their makers, and no bars and notes beside our own."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|trl|peft|torch)\b")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # optional kernels that are not installed


if __name__ == "__main__":
    sys.exit(main())
