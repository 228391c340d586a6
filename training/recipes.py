"""What can be trained: one row a recipe, showing only what differs from the row it is made from.

A recipe is a base model, a method, and stages that follow each other with the same adapter. Learning rates, epochs and
batch sizes are those of the original project's logs: general instructions at 2e-4 for 2 epochs of 40,000 rows, the
course at 1e-4 for 2 epochs after them or at 2e-4 for 3 epochs alone, always 16 rows a step.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from typing import Literal

from training.errors import RecipeError

Method = Literal["lora", "qlora", "full", "dora", "rslora", "ia3", "adalora"]
Schedule = Literal["cosine", "linear", "constant_with_warmup"]


@dataclass(frozen=True, slots=True)
class Base:
    """A base model: where it is, under which licence, and the linear layers of its blocks.

    ``source`` is a Hub id, a local folder, or ``catalog:ID``, a GGUF of Iris' catalog that is dequantized once.
    """

    id: str
    source: str
    licence: str
    revision: str = "main"
    gated: bool = False
    needs_gpu: bool = True  # too large to train on a CPU in any patience
    projections: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True, slots=True)
class Stage:
    """One pass of training over one data set.

    ``data`` is a folder of splits: a name under ``outputs/data`` or a path. ``rows`` caps the training rows (0: all),
    ``max_steps`` the optimizer steps (0: all epochs). ``system`` puts a system prompt of Iris before rows that bring
    none; empty leaves that to the chat template.
    """

    name: str
    data: str
    epochs: int
    learning_rate: float
    rows: int = 0
    schedule: Schedule = "cosine"
    warmup: float = 0.03  # share of the steps
    max_steps: int = 0
    eval_steps: int = 250  # steps between two validations, each of which saves a checkpoint
    patience: int = 4  # validations without a better loss after which the stage stops; 0: never
    system: Literal["", "study_chat"] = ""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides what a run computes.

    A step sees ``batch_rows`` rows, in ``micro_batches`` parts (shared out over the devices) that bound its memory.
    Rows of more than ``max_length`` tokens are never cut: they are left out and counted.
    """

    name: str
    base: str
    method: Method
    stages: tuple[Stage, ...]
    lora_r: int = 16
    lora_alpha: int = 32
    lora_dropout: float = 0.05
    batch_rows: int = 16
    micro_batches: int = 4
    max_length: int = 2048
    optimizer: Literal["auto", "adamw", "paged_adamw_8bit"] = "auto"  # auto: paged 8-bit where there is CUDA
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    gradient_checkpointing: bool = True  # a third more arithmetic for a fraction of the activations' memory
    seed: int = 2223
    date: str = "26 Jul 2024"  # what templates that insert today's date are given


FINETOME = Stage("finetome", "finetome", epochs=2, learning_rate=2e-4, rows=40_000)
EXAM = Stage("exam", "id2223", epochs=3, learning_rate=2e-4, eval_steps=50)
EXAM_AFTER = replace(EXAM, epochs=2, learning_rate=1e-4, schedule="linear")
DOLLY = Stage("dolly", "dolly", epochs=2, learning_rate=2e-4)
PHILOSOPHY = Stage("philosophy", "philosophy", epochs=2, learning_rate=2e-4)

BASES: tuple[Base, ...] = (
    Base("llama32-1b", "meta-llama/Llama-3.2-1B-Instruct", "llama3.2", gated=True),
    Base("llama32-3b", "meta-llama/Llama-3.2-3B-Instruct", "llama3.2", gated=True),
    Base("gemma2-2b", "google/gemma-2-2b-it", "gemma", gated=True),
    Base(
        "phi3-mini",
        "microsoft/Phi-3-mini-4k-instruct",
        "mit",
        projections=("qkv_proj", "o_proj", "gate_up_proj", "down_proj"),  # the same seven, fused
    ),
    Base("tinyllama", "TinyLlama/TinyLlama-1.1B-Chat-v1.0", "apache-2.0"),
    Base("smollm2-135m", "catalog:smollm2-135m", "apache-2.0", needs_gpu=False),
)

_ROOT = Recipe("llama32-1b-qlora-finetome", "llama32-1b", "qlora", (FINETOME,))
# One embedded model small enough for two CPU cores: nothing is gained there by computing activations twice.
_SMALL = replace(_ROOT, base="smollm2-135m", gradient_checkpointing=False)

RECIPES: tuple[Recipe, ...] = (
    _ROOT,
    replace(_ROOT, name="llama32-1b-lora-finetome", method="lora"),
    replace(_ROOT, name="llama32-1b-qlora-finetome-exam", stages=(FINETOME, EXAM_AFTER)),
    replace(_ROOT, name="llama32-3b-qlora-finetome", base="llama32-3b", micro_batches=8),
    replace(
        _ROOT,
        name="llama32-3b-qlora-finetome-exam",
        base="llama32-3b",
        micro_batches=8,
        stages=(FINETOME, EXAM_AFTER),
    ),
    replace(_ROOT, name="llama32-3b-qlora-exam", base="llama32-3b", stages=(EXAM,)),
    replace(_ROOT, name="gemma2-2b-lora-finetome", base="gemma2-2b", method="lora"),
    replace(_ROOT, name="phi3-mini-lora-finetome", base="phi3-mini", method="lora"),
    replace(_ROOT, name="phi3-mini-lora-finetome-exam", base="phi3-mini", method="lora", stages=(FINETOME, EXAM_AFTER)),
    replace(_ROOT, name="tinyllama-qlora-philosophy", base="tinyllama", stages=(PHILOSOPHY,)),
    replace(_ROOT, name="tinyllama-lora-dolly", base="tinyllama", method="lora", stages=(DOLLY,)),
    replace(_SMALL, name="smollm2-135m-lora-finetome", method="lora"),
    replace(_SMALL, name="smollm2-135m-qlora-finetome"),
    replace(_SMALL, name="smollm2-135m-qlora-finetome-exam", stages=(FINETOME, EXAM_AFTER)),
    replace(_SMALL, name="smollm2-135m-qlora-exam", stages=(EXAM,)),
    replace(_SMALL, name="smollm2-135m-qlora-philosophy", stages=(PHILOSOPHY,)),
    replace(_SMALL, name="smollm2-135m-lora-dolly", method="lora", stages=(DOLLY,)),
)


def find(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        RecipeError: there is none; the message names the nearest.
    """
    rows = {recipe.name: recipe for recipe in RECIPES}
    if name in rows:
        return rows[name]
    near = difflib.get_close_matches(name, rows, n=3, cutoff=0.4) or list(rows)
    raise RecipeError(f"There is no recipe {name!r}. Near it: {', '.join(near)}. `--list` shows all.")


def find_base(name: str) -> Base:
    """The base of that id; any other name is taken as a Hub id (``owner/name@revision``) or a local folder."""
    for base in BASES:
        if base.id == name:
            return base
    source, _, revision = name.partition("@")
    return Base(source, source, "", revision or "main", needs_gpu=False)
