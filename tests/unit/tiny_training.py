"""A model of two layers, data builds of a few rows, and the training command on them."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from training import recipes, train
from training.recipes import Recipe, Stage

ROOT = Path(__file__).parents[2]
RECIPE = "smollm2-135m-lora-dolly"
Run = Callable[..., dict[str, Any]]

_WORDS = (
    "loss",
    "batch",
    "layer",
    "token",
    "gradient",
    "weight",
    "epoch",
    "feature",
    "drift",
    "cache",
    "prompt",
    "split",
)


def make_base(folder: Path, tokenizer: Any, *, seed: int = 0) -> Path:
    """A random Llama with the embedded model's tokenizer, saved in ``folder``."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.1,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def sentences(count: int, *, seed: int = 0, words: int = 12) -> list[dict[str, Any]]:
    """Rows with questions and answers of some random words; what is asked is answered with the same words."""
    draw = random.Random(seed)
    rows = []
    for number in range(count):
        said = " ".join(draw.choices(_WORDS, k=draw.randint(3, words)))
        rows.append(
            {
                "id": f"row-{seed}-{number}",
                "prompt": [{"role": "user", "content": f"Say: {said}"}],
                "completion": [{"role": "assistant", "content": said.capitalize() + "."}],
            }
        )
    return rows


def write_build(folder: Path, splits: dict[str, Iterable[dict[str, Any]]], **more: Any) -> Path:
    """A folder such as data/build.py writes, of these rows."""
    folder.mkdir(parents=True, exist_ok=True)
    described = {}
    for name, rows in splits.items():
        content = "".join(json.dumps(row) + "\n" for row in rows).encode()
        (folder / f"{name}.jsonl").write_bytes(content)
        described[name] = {"file": f"{name}.jsonl", "sha256": hashlib.sha256(content).hexdigest()}
    about = {"format": 1, "kind": "source", "name": folder.name, "licence": "CC0-1.0", "splits": described, **more}
    (folder / "manifest.json").write_text(json.dumps(about))
    return folder


def tiny_builds(root: Path) -> None:
    """outputs/data with a first-stage and a course build."""
    for seed, name in ((1, "dolly"), (2, "finetome"), (3, "id2223")):
        rows = sentences(60, seed=seed)
        splits = {"train": rows[:40], "validation": rows[40:50], "test": rows[50:]}
        write_build(root / "outputs/data" / name, dict(splits))


def recipe(base: Path, data: Path, **changes: Any) -> Recipe:
    """A one-stage recipe for the tiny model; keys of ``Stage`` change its stage."""
    of_stage = {key: changes.pop(key) for key in list(changes) if key in Stage.__dataclass_fields__}
    stage = replace(
        recipes.DOLLY, data=str(data), **{"learning_rate": 1e-2, "eval_steps": 5, "max_steps": 5, **of_stage}
    )
    row = replace(recipes.find(RECIPE), base=str(base), stages=(stage,), batch_rows=8, max_length=128)
    return replace(row, **changes)


SMALL = ("--set=batch_rows=8", "--set=micro_batches=2", "--set=max_length=128")


def command(*options: object, recipe: str = RECIPE) -> list[str]:
    """The training command, as a user would type it."""
    return [sys.executable, str(ROOT / "training/train.py"), recipe, *SMALL, *map(str, options)]


def environment(**more: str) -> dict[str, str]:
    """This process's environment, without network and with threads that leave room for other tests."""
    return {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", **more}


def run_command(
    arguments: Sequence[str], folder: Path, *, timeout: float = 240, **more: str
) -> subprocess.CompletedProcess[str]:
    """Run in ``folder``, and have the output as text."""
    return subprocess.run(
        arguments, cwd=folder, env=environment(**more), capture_output=True, text=True, timeout=timeout, check=False
    )


def main(*options: object, recipe: str = RECIPE) -> int:
    """The same command in this process; returns the exit status."""
    return train.main(command(*options, recipe=recipe)[2:])


def log_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def curve(folder: Path) -> list[tuple[Any, ...]]:
    """What must be the same in two runs of one recipe: stage, step and every loss."""
    keys = ("stage", "step", "loss", "learning_rate", "grad_norm", "validation_loss", "test_loss")
    return [tuple(record.get(key) for key in keys) for record in log_of(folder)]
