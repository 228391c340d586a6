"""The training loop: supervised fine-tuning of one stage, on trl's SFTTrainer.

What is added to it: the loss is computed at the supervised positions only, over batches planned ahead (batches.py);
validation is weighted by token; a checkpoint counts when it is complete (checkpoints.py), so a run can be killed at any
moment; a loss that is no number and a full disk end the run with the last good checkpoint kept.
"""

from __future__ import annotations

import errno
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import torch
from accelerate.utils import send_to_device
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence
from transformers import EarlyStoppingCallback, PreTrainedTokenizerBase, PrinterCallback, Trainer, TrainerCallback
from trl import SFTConfig, SFTTrainer

from training import adapters, base, checkpoints, cpu
from training.batches import Plan, by_length, chunks
from training.errors import RunError
from training.recipes import Recipe, Stage
from training.rows import Encoded

IGNORED = -100
_GRAIN = 64
"""Lengths are rounded up to it. On CPUs every new shape leaves kernels behind in oneDNN's cache, some 30 MB for each
length, and gaps in the heap; with lengths as they come, a small model grew by gigabytes within a hundred steps."""
_MEASURED = 1024
"""Tokens measured together at most, a longer row alone: the logits of many take more memory than a training step."""
_LEAK = 0.1  # packing is exact if it moves logits by less than this share of what seeing the neighbour would


@dataclass(frozen=True, slots=True)
class Measured:
    """The loss of a model on a split, in nats a supervised token."""

    loss: float
    tokens: int

    @property
    def perplexity(self) -> float:
        return math.exp(self.loss)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished stage. ``best_step`` is the step whose weights the model now has."""

    steps: int
    best_step: int
    best_loss: float
    packed: bool


@dataclass(frozen=True, slots=True)
class Collator:
    """Turns the rows of a micro-batch into tensors: one sequence without padding, or one padded row each."""

    rows: Sequence[Encoded]
    pad: int
    packed: bool

    def __call__(self, batch: Sequence[dict[str, Any]]) -> dict[str, Any]:
        (item,) = batch
        return self.tensors(item["rows"])

    def tensors(self, chosen: Sequence[int]) -> dict[str, Any]:
        """``input_ids`` and ``labels`` [sequences, tokens], with ``position_ids`` (packed) or ``attention_mask``.

        Where one row ends, masks know from positions that begin at zero again, and kernels for rows of different
        lengths from the running sums of lengths and the longest.
        """
        ids = [torch.tensor(self.rows[number].ids) for number in chosen]
        labels = [torch.tensor(self.rows[number].labels) for number in chosen]
        if self.packed:
            fill = -sum(map(len, ids)) % _GRAIN  # a last row that nobody sees and nothing is learned from
            ids.append(torch.full((fill,), self.pad))
            labels.append(torch.full((fill,), IGNORED))
            lengths = [len(row) for row in ids if len(row)]
            ends = torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)
            return {
                "input_ids": torch.cat(ids)[None],
                "labels": torch.cat(labels)[None],
                "position_ids": torch.cat([torch.arange(length) for length in lengths])[None],
                "cu_seq_lens_q": ends,
                "cu_seq_lens_k": ends,
                "max_length_q": max(lengths),
                "max_length_k": max(lengths),
            }
        return {
            "input_ids": pad_sequence(ids, batch_first=True, padding_value=self.pad),
            "labels": pad_sequence(labels, batch_first=True, padding_value=IGNORED),
            "attention_mask": pad_sequence([torch.ones_like(row) for row in ids], batch_first=True),
        }


class StageTrainer(SFTTrainer):  # type: ignore[misc]
    """trl's trainer with this project's loss, validation and checkpoints."""

    def __init__(self, *, recipe: Recipe, validation: Sequence[Encoded], collator: Collator, **options: Any) -> None:
        self.control: Any
        self._recipe = recipe
        self._validation = validation
        self._collator = collator
        super().__init__(data_collator=collator, **options)
        for weight in self.model.parameters():
            # trl rounds the adapter of a quantized model to bfloat16, whose steps are coarser than the updates at the
            # end of the schedule. In float32 it costs 4 bytes a parameter of some millions.
            if weight.requires_grad:
                weight.data = weight.data.float()
        for layer in self.model.modules():
            # Under autocast the adapter multiplies in bfloat16 anyway; peft would first blow its inputs up to float32.
            if hasattr(layer, "cast_input_dtype_enabled"):
                layer.cast_input_dtype_enabled = not self.args.bf16

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Cross entropy summed over supervised tokens, over their number in the whole step, in nats."""
        if self.accelerator.device.type == "cuda":
            # trl's kernel does the same there, in tiles: it takes the head at supervised positions only.
            loss = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        else:
            total, count = supervised_loss(model, inputs)
            loss = total / (count.clamp(min=1) if num_items_in_batch is None else num_items_in_batch)
            if num_items_in_batch is not None:
                loss = loss * self.accelerator.num_processes  # averaged over processes afterwards, with the gradients
        if self._recipe.method == "adalora" and model.training:
            loss = loss + adapters.orthogonality(self.model) / self._recipe.micro_batches * self.args.world_size
        return loss

    def training_step(self, *args: Any, **options: Any) -> torch.Tensor:
        """One micro-batch; a loss that is no number ends the run before the weights have moved."""
        loss: torch.Tensor = super().training_step(*args, **options)
        if not torch.isfinite(loss):
            kept = checkpoints.newest(Path(self.args.output_dir))
            raise RunError(
                f"The loss became {loss.item()} in step {self.state.global_step + 1}. "
                + (f"The checkpoint of step {kept.step} is kept ({kept.folder}). " if kept else "")
                + "A smaller learning rate usually helps (--set STAGE.learning_rate=…, with --fresh)."
            )
        return loss

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Validation loss over supervised tokens, each of the same weight."""
        metrics = {f"{metric_key_prefix}_loss": self.measure(self._validation).loss}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def measure(self, rows: Sequence[Encoded]) -> Measured:
        """The loss of the model on rows, shared out over the processes."""
        collator = Collator(rows, self._collator.pad, self._collator.packed)
        lengths = [len(row.ids) for row in rows]
        parts = chunks(lengths, _MEASURED if collator.packed else 0)
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        sums = torch.zeros(2, dtype=torch.float64)
        model = self.model_wrapped
        was_training = model.training
        model.eval()
        for start in range(0, len(parts), world):
            # Every process takes part in each round, as sharded weights demand; one too many counts nothing.
            mine = min(start + rank, len(parts) - 1)
            inputs = self._prepare_inputs(collator.tensors(parts[mine]))
            # Accelerate adds autocast to the model when training begins; a measurement may come before.
            autocast = torch.autocast(self.accelerator.device.type, torch.bfloat16, enabled=self.args.bf16)
            with torch.no_grad(), autocast:
                total, count = supervised_loss(model, inputs)
            if start + rank < len(parts):
                sums += torch.stack([total.double(), count.double()]).cpu()
        model.train(was_training)
        total, count = self.accelerator.reduce(sums.to(self.accelerator.device, torch.float32), "sum").tolist()
        return Measured(total / count, round(count))

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        root = Path(self._get_output_dir(trial))
        folder = root / f"checkpoint-{self.state.global_step}"
        try:
            if self.args.should_save and folder.exists():
                shutil.rmtree(folder)  # of a run that was killed while it wrote this
            self.accelerator.wait_for_everyone()
            Trainer._save_checkpoint(self, model, trial)  # trl's own would add a model card to each
            self.accelerator.wait_for_everyone()
            if self.args.should_save:
                last = self.control.should_training_stop
                checkpoints.complete(folder, step=self.state.global_step, last=last)
        except Exception as error:
            if not _disk_is_full(error, root):
                raise
            kept = checkpoints.newest(root)
            raise RunError(
                f"The disk is full: checkpoint {self.state.global_step} could not be written to {root} "
                f"({shutil.disk_usage(root).free >> 20:,} MB free). "
                + (f"The checkpoint of step {kept.step} is kept. " if kept else "")
                + "Make room, or move the run with --out; the same command goes on."
            ) from error
        if self.args.should_save:
            checkpoints.prune(root, keep={self.state.global_step, self.state.best_global_step or 0})


def supervised_loss(model: Any, inputs: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """Summed cross entropy in nats (float32), and the number of supervised tokens.

    The language model head, which over a vocabulary of 49,152 costs a third of a small model, is applied where some
    row has a label and nowhere else. Through ``logits_to_keep`` this works inside any wrapper of the model.
    """
    labels = inputs["labels"][:, 1:]
    wanted_at = (labels != IGNORED).any(0)
    count = int(wanted_at.sum())
    # Those with a label first, then others, which are ignored, up to a round number.
    order = wanted_at.byte().argsort(descending=True, stable=True)
    kept = order[: count + -count % _GRAIN]
    given = {key: value for key, value in inputs.items() if key != "labels"}
    logits = model(**given, use_cache=False, logits_to_keep=kept).logits
    wanted = labels[:, kept]
    total = cross_entropy(logits.float().flatten(0, 1), wanted.flatten(), ignore_index=IGNORED, reduction="sum")
    return total, (wanted != IGNORED).sum()


def packing_is_exact(model: Any, first: Encoded, second: Encoded) -> bool:
    """Whether ``second`` gets the same logits behind ``first`` in one sequence as alone.

    Measured on the model at hand, because it depends on architecture and attention kernel. The yardstick is how far
    logits move when the rows are not told apart.
    """
    packed = Collator((first, second), 0, packed=True).tensors((0, 1))
    alone = Collator((second,), 0, packed=True).tensors((0,))
    joined = {
        "input_ids": packed["input_ids"],
        "position_ids": torch.arange(packed["input_ids"].shape[1])[None],
    }
    size, both, device = len(second.ids), len(first.ids) + len(second.ids), next(model.parameters()).device
    was_training = model.training
    model.eval()
    with torch.no_grad():
        found = []
        for inputs, end in ((alone, size), (packed, both), (joined, both)):
            given = send_to_device({key: value for key, value in inputs.items() if key != "labels"}, device)
            found.append(model(**given, use_cache=False).logits[0, end - size : end].float())
    model.train(was_training)
    moved, leaked = (found[1] - found[0]).abs().mean(), (found[2] - found[0]).abs().mean()
    return bool(moved < _LEAK * leaked)


def build(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    recipe: Recipe,
    stage: Stage,
    plan: Plan,
    *,
    train: Sequence[Encoded],
    validation: Sequence[Encoded],
    folder: Path,
    monitor: TrainerCallback | None,
    world: int,
    seed: int,
) -> StageTrainer:
    """The trainer of a stage: ``plan`` over ``train`` rows, checkpoints in ``folder``.

    Raises:
        RunError: the micro-batches of a step cannot be shared out over ``world`` processes.
    """
    if recipe.micro_batches % world:
        raise RunError(
            f"{recipe.micro_batches} micro-batches a step cannot be shared out over {world} processes. "
            f"--set micro_batches={math.ceil(recipe.micro_batches / world) * world}"
        )
    cuda = torch.cuda.is_available()
    moves_ranks = recipe.method == "adalora"
    config = SFTConfig(
        output_dir=str(folder),
        max_steps=len(plan.steps),
        per_device_train_batch_size=1,
        gradient_accumulation_steps=recipe.micro_batches // world,
        train_sampling_strategy="sequential",
        learning_rate=stage.learning_rate,
        lr_scheduler_type=stage.schedule,
        warmup_steps=math.ceil(stage.warmup * len(plan.steps)),
        weight_decay=recipe.weight_decay,
        max_grad_norm=recipe.max_grad_norm,
        optim=_optimizer(recipe, cuda),
        bf16=base.compute_dtype(recipe) == torch.bfloat16,
        use_cpu=not cuda,
        activation_checkpointing=recipe.gradient_checkpointing,
        ddp_find_unused_parameters=False,
        logging_steps=1,
        logging_nan_inf_filter=False,  # it would put the mean of earlier losses in place of a NaN
        eval_strategy="steps",
        eval_steps=stage.eval_steps,
        # AdaLoRA has its target rank only at the end, so no earlier weights can be the best, and the importance
        # scores that decide on ranks are in no checkpoint: an interrupted stage begins again.
        save_strategy="no" if moves_ranks else "steps",
        save_steps=stage.eval_steps,
        load_best_model_at_end=not moves_ranks,
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        seed=seed,
        data_seed=seed,
        dataset_kwargs={"skip_prepare_dataset": True},
        remove_unused_columns=False,
        max_length=None,
        dataloader_pin_memory=cuda,
        report_to="none",
        disable_tqdm=True,
    )
    by_size = sorted(train, key=lambda row: len(row.ids))[:2]
    if not cuda:
        cpu.prepare(model)
    packed = packing_is_exact(model, by_size[0], by_size[-1])
    if not packed:
        cpu.restore(model)
    lengths = [len(row.ids) for row in train]
    parts = (plan if packed else by_length(plan, lengths)).micro_batches
    callbacks: list[TrainerCallback] = [monitor] if monitor else []
    if not cuda:
        callbacks.append(_GiveBack())
    if moves_ranks:
        callbacks.append(_MoveRanks())
    elif stage.patience:
        callbacks.append(EarlyStoppingCallback(early_stopping_patience=stage.patience))
    trainer = StageTrainer(
        recipe=recipe,
        validation=validation,
        collator=Collator(train, _pad(tokenizer), packed),
        model=model,
        args=config,
        train_dataset=datasets.Dataset.from_dict({"rows": [list(part) for part in parts]}),
        eval_dataset=datasets.Dataset.from_dict({"rows": [[0]]}),  # `evaluate` reads the rows themselves
        processing_class=tokenizer,
        callbacks=callbacks,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def run(trainer: StageTrainer, found: checkpoints.Checkpoint | None) -> Outcome:
    """Train, from ``found`` if there is a checkpoint; afterwards the model has its best weights."""
    if found and found.last:  # by its plan or early, it ended there: nothing is left but to load the best
        trainer.args.max_steps = found.step
        done = found.step * trainer.args.gradient_accumulation_steps * trainer.args.world_size
        trainer.train_dataset = trainer.train_dataset.select(range(done))
    trainer.train(resume_from_checkpoint=str(found.folder) if found else None)
    state = trainer.state
    best = state.best_global_step if trainer.args.load_best_model_at_end else state.global_step
    return Outcome(
        state.global_step, best or state.global_step, float(state.best_metric or math.nan), trainer._collator.packed
    )


class _GiveBack(TrainerCallback):  # type: ignore[misc]
    """Freed memory goes back to the system after every step and validation."""

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        cpu.give_back()

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        cpu.give_back()


class _MoveRanks(TrainerCallback):  # type: ignore[misc]
    """AdaLoRA's own step, which Trainer never makes: it needs the gradients, between the update and their reset."""

    def on_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        model.base_model.update_and_allocate(state.global_step)


def _optimizer(recipe: Recipe, cuda: bool) -> str:
    if recipe.optimizer == "auto":
        return "paged_adamw_8bit" if cuda else "adamw_torch"
    return {"adamw": "adamw_torch", "paged_adamw_8bit": "paged_adamw_8bit"}[recipe.optimizer]


def _pad(tokenizer: PreTrainedTokenizerBase) -> int:
    """What fills padded rows; the mask hides it, so any id will do where the tokenizer has none."""
    pad = tokenizer.pad_token_id
    return pad if isinstance(pad, int) else 0


def _disk_is_full(error: BaseException, folder: Path) -> bool:
    """Whether a failed save failed for want of room; torch and safetensors raise kinds of their own for it."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    text = str(error).lower()
    return "no space left" in text or ("write" in text and shutil.disk_usage(folder).free < 16 << 20)
