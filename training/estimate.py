"""What a run would take, before it takes it: rows, tokens, steps, memory, and time if a few steps may be timed.

No weights are loaded: the model is built without storage to count its parameters. The memory is that of the largest
micro-batch of the plan, by a formula whose terms are printed; tests hold it against a real run.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from training import adapters, base, run
from training.recipes import Recipe
from training.run import Prepared

# NF4 with double quantization (Dettmers et al., 2023, section 3): 4 bits, one 8-bit scale for 64 weights, and one
# 32-bit scale for 256 of those.
_NF4 = (4 + 8 / 64 + 32 / (64 * 256)) / 8
# What the C library's heap holds over the tensors in it: gaps between them, kernels and their scratch memory. Measured
# on the embedded model: 1.24 (QLoRA, long rows) to 1.33 (LoRA with checkpointing).
_HEAP = 1.25
_LIBRARIES = 700 << 20  # torch, transformers and trl in memory before any model


@dataclass(frozen=True, slots=True)
class Sizes:
    """Parameters of a model by what becomes of them."""

    quantizable: int  # weights of the linear layers in its blocks
    other: int  # embeddings, norms, an output layer of its own
    trainable: int
    layers: int
    hidden: int
    inner: int
    vocabulary: int

    @property
    def all(self) -> int:
        return self.quantizable + self.other


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes at the peak of a step, by what they are for."""

    weights: int
    trained: int  # adapter, gradients, optimizer
    activations: int
    logits: int

    @property
    def total(self) -> int:
        return self.weights + self.trained + self.activations + self.logits


def sizes(prepared: Prepared) -> Sizes:
    """Count the parameters of base and adapter without loading either."""
    import torch
    from transformers import AutoModelForCausalLM

    config: Any = base.config_of(prepared.found)
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(config)
        model.tie_weights()
        total = sum(weight.numel() for weight in model.parameters())
        names = prepared.found.base.projections
        quantizable = sum(
            layer.weight.numel() for name, layer in model.named_modules() if name.rpartition(".")[2] in names
        )
        model = adapters.attach(model, prepared.recipe, prepared.found, steps=len(prepared.plan(0).steps), start=None)
        trainable = adapters.check_trainable(model, prepared.recipe)
    return Sizes(
        quantizable,
        total - quantizable,
        trainable,
        config.num_hidden_layers,
        config.hidden_size,
        config.intermediate_size,
        config.vocab_size,
    )


def memory(recipe: Recipe, about: Sizes, *, tokens: int, supervised: int, gpu: bool, wide: int) -> Memory:
    """The peak of a step over a micro-batch of ``tokens``, of which ``supervised`` have a label.

    ``wide`` is the size in bytes of the type that is computed in. A block keeps for its backward pass, in bytes a token
    with hidden size h and inner size i: the two norms' inputs in float32, 8h; queries, keys, values and attention
    output, 4h·wide; gate, its activation and up, 3i·wide; and for each of the seven adapted layers the input after
    dropout and the dropout mask, whose inputs are 6h + i together. With checkpointing only the input of each block is
    kept, and one block at a time is computed again. On a CPU a quarter is added for the heap.
    """
    frozen = recipe.method != "full"
    packed = recipe.method == "qlora"
    weights = about.quantizable * (_NF4 if packed else wide) + about.other * wide if frozen else 0
    eight_bit = recipe.optimizer == "paged_adamw_8bit" or (recipe.optimizer == "auto" and gpu)
    trained = about.trainable * (4 + 4 + (2 if eight_bit else 8))
    h, i = about.hidden, about.inner
    mask = 1 if gpu else wide  # the CPU keeps the mask in the type of the input
    kept_input = wide + mask if frozen and recipe.lora_dropout else wide
    block = 8 * h + 4 * h * wide + 3 * i * wide + kept_input * (6 * h + i)
    if recipe.gradient_checkpointing:
        activations = tokens * (about.layers * h * wide + block)
    else:
        activations = tokens * about.layers * block
    if gpu:
        logits = 4 * 1024 * about.vocabulary  # a tile of trl's kernel
    else:
        # Logits and their gradient in the computed type, and in float32: a copy, its softmax, its gradient.
        logits = supervised * about.vocabulary * (2 * wide + 3 * 4)
        activations, logits = round(_HEAP * activations), round(_HEAP * logits)
    return Memory(round(weights), trained, activations, logits)


def report(recipe: Recipe, *, calibrate: bool = False) -> str:
    """The dry run's text.

    Raises:
        TrainingError: base, data or recipe cannot be used.
    """
    prepared = run.prepare(recipe)
    about = sizes(prepared)
    lines = [
        f"recipe     {recipe.name}: {recipe.method} on {prepared.found.base.id} ({prepared.found.base.source})",
        f"model      {about.all / 1e6:,.1f} M parameters, {about.trainable / 1e6:,.2f} M trained",
    ]
    largest = (0, 0)
    for number, part in enumerate(prepared.stages):
        plan, rows = prepared.plan(number), part.train.rows
        seen = [row for micro in plan.micro_batches for row in micro]
        tokens = sum(len(rows[row].ids) for row in seen)
        supervised = sum(rows[row].supervised for row in seen)
        for micro in plan.micro_batches:
            size = (sum(len(rows[row].ids) for row in micro), sum(rows[row].supervised for row in micro))
            largest = max(largest, size)
        left = ", ".join(f"{count:,} left out: {reason}" for reason, count in part.train.left_out.items())
        lines += [
            f"stage      {part.stage.name}: {len(rows):,} rows of {part.build.folder}, "
            f"{len(part.validation.rows):,} to validate on",
            f"           {left or 'no row is over the length limit or left out'}",
            f"           {len(plan.steps):,} steps of {recipe.batch_rows} rows in {recipe.micro_batches} micro-batches",
            f"           {tokens:,} tokens, {supervised / tokens:.0%} of them supervised",
        ]
    lines += _memory_lines(prepared, about, largest)
    if calibrate:
        lines.append(_time_line(prepared))
    return "\n".join([*lines, *(f"note       {warning}" for warning in prepared.warnings)])


def _memory_lines(prepared: Prepared, about: Sizes, largest: tuple[int, int]) -> list[str]:
    tokens, supervised = largest
    recipe = prepared.recipe
    wide = 2 if str(base.compute_dtype(recipe)) == "torch.bfloat16" else 4
    lines = [f"memory     = weights + trained + activations + logits, for the largest micro-batch ({tokens:,} tokens):"]
    for name, gpu, extra in (("GPU", True, 0), ("CPU", False, _LIBRARIES)):
        part = memory(recipe, about, tokens=tokens, supervised=supervised, gpu=gpu, wide=2 if gpu else wide)
        terms = " + ".join(f"{value >> 20:,}" for value in (part.weights, part.trained, part.activations, part.logits))
        more = f" + {extra >> 20:,} for the libraries" if extra else ""
        lines.append(f"           {name}: {terms}{more} = {(part.total + extra) >> 20:,} MB")
    return lines


def _time_line(prepared: Prepared) -> str:
    """Time a few micro-batches on the real weights and scale by tokens."""
    from accelerate.utils import send_to_device

    from training import cpu, sft

    run.check_device(prepared)
    recipe, part = prepared.recipe, prepared.stages[0]
    model = adapters.attach(
        base.model_of(prepared.found, recipe), recipe, prepared.found, steps=len(prepared.plan(0).steps), start=None
    )
    rows = part.train.rows
    collator = sft.Collator(rows, 0, packed=True)
    device = next(model.parameters()).device
    if device.type == "cpu":
        cpu.prepare(model)
    first, *timed = prepared.plan(0).micro_batches[:4]
    seconds = tokens = 0.0
    for micro in (first, *timed):
        inputs = send_to_device(collator.tensors(micro), device)
        began = time.monotonic()
        total, count = sft.supervised_loss(model, inputs)
        (total / count).backward()
        if micro is not first:  # which warms up
            seconds += time.monotonic() - began
            tokens += inputs["input_ids"].numel()
    rate = tokens / max(seconds, 1e-9)
    planned = sum(
        len(stage.train.rows[row].ids)
        for number, stage in enumerate(prepared.stages)
        for micro in prepared.plan(number).micro_batches
        for row in micro
    )
    return f"time       about {planned / rate / 60:,.0f} minutes at {rate:,.0f} tokens/s, without validation"
