"""Train: this project's loop against plain trl as the original project used it, on the same model and rows.

    python -m benchmarks.train [--base smollm2-135m] [--rows 160] [--rounds 2] [--json results.json]
    python -m benchmarks.train --shape 3b --method qlora --length 512      a Llama 3.2 3B of random weights, for a GPU

The original pads to the longest row of a batch and takes the loss on everything, prompts too. Activations are
checkpointed by both or by neither. Each measurement is a process of its own; the two take turns. Both see
the same rows in batches of 16 with the same learning rate, so after one pass they have seen the same supervised tokens;
then both are measured on the same held-out answers.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.serve import processor
from iris import settings

SHAPES = {
    "3b": {
        "hidden_size": 3072,
        "intermediate_size": 8192,
        "num_hidden_layers": 28,
        "num_attention_heads": 24,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 128256,
        "tie_word_embeddings": True,
        "max_position_embeddings": 4096,
    }
}
NAMES = {"iris": "this loop", "plain": "plain trl, padded, loss on all"}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--base", default="smollm2-135m", help="as training/train.py takes it")
    parser.add_argument("--shape", choices=sorted(SHAPES), help="random weights of this shape instead of a base")
    parser.add_argument("--data", default="id2223", help="name or folder of a build (default: id2223)")
    parser.add_argument("--method", default="qlora", choices=["lora", "qlora"])
    parser.add_argument("--rows", type=int, default=160, help="training rows, seen once")
    parser.add_argument("--held-out", type=int, default=32, help="validation rows")
    parser.add_argument("--length", type=int, default=2048, help="rows over this many tokens are left out")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", type=Path, default=None, help="write the results here too")
    parser.add_argument("--one", choices=sorted(NAMES), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    if options.one:
        print(json.dumps(measure(options)))
        return 0

    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in NAMES}
    for number in range(options.rounds):
        for name in NAMES:
            print(f"round {number + 1}: {NAMES[name]} …", file=sys.stderr, flush=True)
            rounds[name].append(_apart(name, list(arguments) if arguments is not None else sys.argv[1:]))
    results: dict[str, Any] = {
        "model": options.shape or options.base,
        "method": options.method,
        "data": options.data,
        "rows": options.rows,
        "date": date.today().isoformat(),
        "machine": f"{processor()}, {settings.cpu_quota()} cores",
        "device": rounds["iris"][0].pop("device"),
        "rounds": rounds,
        "median": {
            name: {key: median(row[key] for row in rows) for key in rows[-1] if key != "device"}
            for name, rows in rounds.items()
        },
    }
    print(table(results))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 0


def _apart(name: str, arguments: list[str]) -> dict[str, Any]:
    """One measurement in a fresh process."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.train", *arguments, "--one", name],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-3000:]}")
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return row


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Train once over the rows and measure; rates leave the first step out, memory is the peak of the process."""
    import torch

    from training import adapters, base, batches, monitor, run, sft

    prepared = _prepare(options)
    recipe, part = prepared.recipe, prepared.stages[0]
    rows, held_out = part.train.rows[: options.rows], part.validation.rows[: options.held_out]
    run.seed_all(recipe.seed)
    model = _random(options, recipe) if options.shape else base.model_of(prepared.found, recipe)
    model = adapters.attach(model, recipe, prepared.found, steps=1, start=None)
    plan = batches.plan(
        [len(row.ids) for row in rows],
        epochs=1,
        batch_rows=recipe.batch_rows,
        micro_batches=recipe.micro_batches,
        seed=recipe.seed,
    )
    clock = _Clock()
    with tempfile.TemporaryDirectory() as folder:
        common = {"train": rows, "validation": held_out, "folder": Path(folder), "world": 1, "seed": recipe.seed}
        ours = sft.build(model, prepared.tokenizer, recipe, part.stage, plan, monitor=clock.callback(), **common)
        trainer: Any = ours
        if options.one == "plain":
            trainer = _plain(model, prepared.tokenizer, recipe, part.stage, plan, rows, Path(folder), clock)
        trainer.train()
        loss = ours.measure(held_out).loss
    supervised = sum(rows[row].supervised for step in plan.steps[1:] for micro in step for row in micro)
    count = sum(len(micro) for step in plan.steps[1:] for micro in step)
    cuda = torch.cuda.is_available()
    peak = torch.cuda.max_memory_reserved() if cuda else monitor.peak_resident()
    return {
        "supervised_tokens_per_s": supervised / clock.seconds,
        "rows_per_s": count / clock.seconds,
        "peak_mb": peak / (1 << 20),
        "validation_loss": loss,
        "device": torch.cuda.get_device_name() if cuda else "CPU",
    }


def _prepare(options: argparse.Namespace) -> Any:
    from dataclasses import replace

    from training import recipes, run

    recipe = recipes.find("smollm2-135m-qlora-exam")
    stage = replace(recipe.stages[0], data=options.data, epochs=1, eval_steps=10**6, patience=0)
    recipe = replace(recipe, base=options.base, method=options.method, max_length=options.length, stages=(stage,))
    if options.shape:
        recipe = replace(recipe, gradient_checkpointing=True)
    return run.prepare(recipe)


def _random(options: argparse.Namespace, recipe: Any) -> Any:
    """A model of the shape with random weights, saved first so that it is quantized on the way in like any other."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from training import base
    from training.recipes import Base

    with tempfile.TemporaryDirectory() as folder:
        torch.set_default_dtype(torch.bfloat16)
        with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
            LlamaForCausalLM(LlamaConfig(**SHAPES[options.shape])).save_pretrained(folder)
        torch.set_default_dtype(torch.float32)
        return base.model_of(base.BaseFiles(Base("random", folder, ""), folder, ""), recipe)


def _plain(
    model: Any, tokenizer: Any, recipe: Any, stage: Any, plan: Any, rows: Any, folder: Path, clock: _Clock
) -> Any:
    """trl's trainer as the original set it up, on the same rows in the same order."""
    import datasets
    from trl import SFTConfig, SFTTrainer

    order = [row for micro in plan.micro_batches for row in micro]
    size = recipe.batch_rows // recipe.micro_batches
    config = SFTConfig(
        output_dir=str(folder),
        max_steps=len(plan.steps),
        per_device_train_batch_size=size,
        gradient_accumulation_steps=recipe.micro_batches,
        train_sampling_strategy="sequential",
        learning_rate=stage.learning_rate,
        lr_scheduler_type=stage.schedule,
        warmup_steps=max(1, round(stage.warmup * len(plan.steps))),
        max_length=recipe.max_length,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=recipe.seed,
        activation_checkpointing=recipe.gradient_checkpointing,
        **_device_options(),
    )
    data = datasets.Dataset.from_dict({"input_ids": [list(rows[row].ids) for row in order]})
    return SFTTrainer(
        model=model, args=config, train_dataset=data, processing_class=tokenizer, callbacks=[clock.callback()]
    )


def _device_options() -> dict[str, Any]:
    import torch

    cuda = torch.cuda.is_available()
    return {"use_cpu": not cuda, "optim": "paged_adamw_8bit" if cuda else "adamw_torch"}


class _Clock:
    """The time that steps took, the first one left out: it warms caches up."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def callback(self) -> Any:
        from transformers import TrainerCallback

        clock = self

        class Timer(TrainerCallback):  # type: ignore[misc]
            began = 0.0

            def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                Timer.began = time.monotonic()

            def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                if state.global_step > 1:
                    clock.seconds += time.monotonic() - Timer.began

        return Timer()


def table(results: dict[str, Any]) -> str:
    """The medians as Markdown, and their ratios."""
    rows = results["median"]
    lines = [
        f"{results['model']}, {results['method']}, {results['rows']} rows of {results['data']}, {results['device']}, "
        f"{results['machine']}, {results['date']}",
        "",
        "| loop | supervised tokens/s | rows/s | peak memory | validation loss |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, row in rows.items():
        lines.append(
            f"| {NAMES[name]} | {row['supervised_tokens_per_s']:.1f} | {row['rows_per_s']:.2f} | "
            f"{row['peak_mb']:,.0f} MB | {row['validation_loss']:.4f} |"
        )
    ours, plain = rows["iris"], rows["plain"]
    lines += [
        "",
        f"{ours['supervised_tokens_per_s'] / plain['supervised_tokens_per_s']:.2f} × supervised tokens/s, "
        f"{ours['peak_mb'] / plain['peak_mb']:.2f} × memory, "
        f"validation loss {ours['validation_loss'] - plain['validation_loss']:+.4f}",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
