"""One run of a recipe and the folder it leaves behind.

outputs/<recipe>/
  begun.json        the recipe, base and data it was begun with; a run of anything else is refused
  log.jsonl         a line for each step and each validation
  loss.png          the same as a picture
  stages/<name>/    checkpoints while it runs, then adapter/ and result.json
  adapter/          the finished adapter (full fine-tuning: model/)
  run.json          written last: what was trained on what, with what, and how it went
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from iris import settings
from training import adapters, base, batches, checkpoints, monitor, rows, sft
from training.base import BaseFiles
from training.checkpoints import as_json, write_json
from training.errors import RecipeError, RunError
from training.recipes import Recipe, Stage, find_base
from training.rows import Build, Split

FORMAT = 1
_PACKAGES = ("torch", "transformers", "trl", "peft", "bitsandbytes", "accelerate", "datasets", "tokenizers")


@dataclass(frozen=True, slots=True)
class StageRows:
    """A stage with its rows as tokens."""

    stage: Stage
    build: Build
    train: Split
    validation: Split


@dataclass(frozen=True, slots=True)
class Prepared:
    """A recipe with everything it needs, before weights are loaded."""

    recipe: Recipe
    found: BaseFiles
    tokenizer: Any
    stages: tuple[StageRows, ...]
    test: Split
    warnings: tuple[str, ...]

    def plan(self, number: int) -> batches.Plan:
        """The batches of stage ``number``."""
        stage, recipe = self.stages[number].stage, self.recipe
        return batches.plan(
            [len(row.ids) for row in self.stages[number].train.rows],
            epochs=stage.epochs,
            batch_rows=recipe.batch_rows,
            micro_batches=recipe.micro_batches,
            seed=recipe.seed + number,
            max_steps=stage.max_steps,
        )

    @property
    def begun(self) -> dict[str, Any]:
        """What decides the result; a run that differs in any of it is another run."""
        return {
            "format": FORMAT,
            "recipe": as_json(self.recipe),
            "base": self.found.identity,
            "data": {part.stage.name: part.build.identity for part in self.stages},
        }


def prepare(recipe: Recipe) -> Prepared:
    """Find base and data and encode the rows; no weights are loaded.

    Raises:
        TrainingError: base, data or recipe cannot be used.
    """
    if recipe.method == "adalora" and len(recipe.stages) > 1:
        raise RecipeError("AdaLoRA spends its schedule of ranks in one stage. Take a recipe of one stage.")
    found = base.locate(find_base(recipe.base))
    tokenizer = base.tokenizer_of(found)
    stages = []
    for stage in recipe.stages:
        build = rows.find(stage.data)
        train = rows.encode(tokenizer, build, "train", recipe, stage, cap=stage.rows)
        stages.append(StageRows(stage, build, train, rows.encode(tokenizer, build, "validation", recipe, stage)))
    last = stages[-1]
    test = rows.encode(tokenizer, last.build, "test", recipe, last.stage)
    warnings = [warning for part in stages[:-1] if (warning := rows.unchecked_against(part.build, last.build))]
    return Prepared(recipe, found, tokenizer, tuple(stages), test, tuple(warnings))


def execute(
    prepared: Prepared, out: Path, *, fresh: bool = False, start: Path | None = None, track: bool = False
) -> dict[str, Any]:
    """Run what is left of a recipe in ``out``, and return the content of run.json.

    ``start`` is the folder of an adapter to begin with; ``fresh`` removes what is in ``out`` first.

    Raises:
        TrainingError: the run cannot start or go on; started again, it continues where it can.
    """
    world, main = world_size(), is_main()
    recipe = prepared.recipe
    check_device(prepared)
    begun = {**prepared.begun, "start": str(start) if start else None}
    if main:
        _begin(out, begun, fresh)
    _wait(world)
    finished = out / "run.json"
    if finished.is_file() and not fresh:
        about: dict[str, Any] = json.loads(finished.read_text(encoding="utf-8"))
        return about
    log = monitor.Log(out / "log.jsonl")
    sinks: list[monitor.Sink] = [log.append] if main else []
    if main and track:
        sinks.append(monitor.tracker("iris", recipe.name, begun))
    results = []
    for number in range(len(prepared.stages)):
        result, adapter = _stage(prepared, number, out, start, log, sinks, world=world, main=main)
        results.append(result)
        start = adapter
    if not main:
        return {}
    assert start is not None
    final = out / start.name
    _copy(start, final)
    monitor.plot(log.read(), out / "loss.png", recipe.name)
    about = {
        **begun,
        "licences": sorted({begun["base"]["licence"], *(part["licence"] for part in begun["data"].values())} - {""}),
        "seed": recipe.seed,
        "stages": results,
        "test": {"data": prepared.stages[-1].build.identity, **_test_of(results)},
        "output": final.name,
        "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "python": platform.python_version(),
        "machine": _machine(),
        "processes": world,
        "git": _commit(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_json(finished, about)
    return about


def _stage(
    prepared: Prepared,
    number: int,
    out: Path,
    start: Path | None,
    log: monitor.Log,
    sinks: Sequence[monitor.Sink],
    *,
    world: int,
    main: bool,
) -> tuple[dict[str, Any], Path]:
    """Train stage ``number`` unless it is finished; its result, and the folder of its adapter."""
    recipe, part = prepared.recipe, prepared.stages[number]
    stage = part.stage
    folder = out / "stages" / stage.name
    made = folder / ("model" if recipe.method == "full" else "adapter")
    done = folder / "result.json"
    if done.is_file():
        if main:
            print(f"{stage.name}: finished earlier, not run again.", flush=True)
        return json.loads(done.read_text(encoding="utf-8")), made

    plan = prepared.plan(number)
    found = checkpoints.newest(folder / "checkpoints")
    if main:
        folder.mkdir(parents=True, exist_ok=True)
        log.rewind(stage.name, found.step if found else -1)
        if found:
            print(f"{stage.name}: going on from step {found.step} of {len(plan.steps)}.", flush=True)
    began = time.monotonic()
    train = part.train.rows
    watch = monitor.Monitor(
        stage.name,
        [sum(len(train[row].ids) for micro in step for row in micro) for step in plan.steps],
        [sum(train[row].supervised for micro in step for row in micro) for step in plan.steps],
        stage.epochs if not stage.max_steps else stage.epochs * _share(prepared, number, plan),
        sinks,
    )
    seed_all(recipe.seed + number)  # the new adapter's first values
    model = adapters.attach(_load(prepared, start), recipe, prepared.found, steps=len(plan.steps), start=start)
    trainable = adapters.check_trainable(model, recipe)
    trainer = sft.build(
        model,
        prepared.tokenizer,
        recipe,
        stage,
        plan,
        train=train,
        validation=part.validation.rows,
        folder=folder / "checkpoints",
        monitor=watch if main else None,
        world=world,
        seed=recipe.seed + number,
    )
    if not found:
        before = {"validation": trainer.measure(part.validation.rows), "test": trainer.measure(prepared.test.rows)}
        for sink in sinks:
            losses = {f"{name}_loss": measured.loss for name, measured in before.items()}
            sink({"stage": stage.name, "step": 0, **losses})
    outcome = sft.run(trainer, found)
    after = trainer.measure(prepared.test.rows)
    trainer.accelerator.wait_for_everyone()
    first = next((record for record in log.read() if record["stage"] == stage.name and record["step"] == 0), {})
    result = {
        "name": stage.name,
        "rows": len(train),
        "left_out": dict(part.train.left_out),
        "tokens": part.train.tokens,
        "supervised_tokens": part.train.supervised,
        "steps": outcome.steps,
        "planned_steps": len(plan.steps),
        "best_step": outcome.best_step,
        "packed": outcome.packed,
        "trainable_parameters": trainable,
        "validation_loss": {"before": first.get("validation_loss"), "best": outcome.best_loss},
        "test_loss": {"before": first.get("test_loss"), "after": after.loss},
        "test_tokens": after.tokens,
        "seconds": round(time.monotonic() - began, 1),  # of this start; less than the whole if it was resumed
        "resumed_from_step": found.step if found else None,
        "peak_resident_mb": monitor.peak_resident() >> 20,
        **_gpu_peak(),
    }
    if main:
        adapters.save(trainer.accelerator.unwrap_model(trainer.model), prepared.tokenizer, made, prepared.found)
        write_json(done, result)
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    trainer.accelerator.wait_for_everyone()
    trainer.accelerator.free_memory()
    return result, made


def _load(prepared: Prepared, start: Path | None) -> Any:
    """The base, or for full fine-tuning what the stage before made of it."""
    found = prepared.found
    if prepared.recipe.method == "full" and start is not None:
        found = BaseFiles(found.base, str(start), found.revision)
    return base.model_of(found, prepared.recipe)


def _share(prepared: Prepared, number: int, plan: batches.Plan) -> float:
    """The part of its epochs that a stage cut off by ``max_steps`` sees."""
    part = prepared.stages[number]
    return sum(len(micro) for micro in plan.micro_batches) / (len(part.train.rows) * part.stage.epochs)


def _begin(out: Path, begun: dict[str, Any], fresh: bool) -> None:
    """Claim ``out`` for this run.

    Raises:
        RunError: another recipe, base or data began the run there; the message says what differs.
    """
    path = out / "begun.json"
    if fresh and path.is_file():  # a run's folder and nothing else
        shutil.rmtree(out)
    try:
        earlier = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if out.is_dir() and any(out.iterdir()):
            raise RunError(f"{out} holds other files than a run. Choose another folder with --out.") from None
        try:
            out.mkdir(parents=True, exist_ok=True)
            write_json(path, begun)
        except OSError as error:
            raise RunError(f"{out} cannot be written: {error.strerror or error}. Choose another with --out.") from error
        return
    changes = differences(earlier, begun)
    if changes:
        raise RunError(
            f"{out} was begun with something else: {'; '.join(changes)}. Undo that to go on with it, give this run a "
            "folder of its own with --out, or start over with --fresh, which deletes the earlier one."
        )


def differences(earlier: Any, now: Any, where: str = "") -> list[str]:
    """What changed between two JSON values, one line each, named by its path."""
    if isinstance(earlier, dict) and isinstance(now, dict):
        keys = [*earlier, *(key for key in now if key not in earlier)]
        return [
            line
            for key in keys
            for line in differences(earlier.get(key), now.get(key), f"{where}.{key}" if where else str(key))
        ]
    if isinstance(earlier, list) and isinstance(now, list) and len(earlier) == len(now):
        names = [item.get("name", number) if isinstance(item, dict) else number for number, item in enumerate(now)]
        pairs = zip(names, earlier, now, strict=True)
        return [line for name, old, new in pairs for line in differences(old, new, f"{where}.{name}")]
    return [] if earlier == now else [f"{where} was {json.dumps(earlier)}, now {json.dumps(now)}"]


def check_device(prepared: Prepared) -> None:
    """Refuse a large base without a GPU.

    Raises:
        RunError: with what would run here.
    """
    import torch

    if prepared.found.base.needs_gpu and not torch.cuda.is_available():
        raise RunError(
            f"{prepared.recipe.name} needs a GPU, and there is none here. What runs on this machine: any smollm2-135m "
            f"recipe (--list), or this one on the small base: --base smollm2-135m. --dry-run shows what it would take."
        )


def _test_of(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Test loss and perplexity of the base (before the first stage) and of the result, by token."""
    import math

    losses = {"before": results[0]["test_loss"]["before"], "after": results[-1]["test_loss"]["after"]}
    return {
        "tokens": results[-1]["test_tokens"],
        "loss": losses,
        "perplexity": {name: loss and math.exp(loss) for name, loss in losses.items()},
    }


def _copy(source: Path, target: Path) -> None:
    beside = target.with_name(f"{target.name}.partial")
    shutil.rmtree(beside, ignore_errors=True)
    shutil.copytree(source, beside)
    shutil.rmtree(target, ignore_errors=True)
    beside.rename(target)


def seed_all(seed: int) -> None:
    """Seed every generator that training draws from."""
    from transformers import set_seed

    set_seed(seed)


def _wait(world: int) -> None:
    """Until all processes are here: what the first one did to the folder, the others must see."""
    if world > 1:
        import torch
        from accelerate import PartialState

        PartialState(cpu=not torch.cuda.is_available()).wait_for_everyone()


def world_size() -> int:
    """How many processes share the work."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main() -> bool:
    """Whether this is the process that writes and speaks."""
    return int(os.environ.get("RANK", "0")) == 0


def _gpu_peak() -> dict[str, int]:
    import torch

    if not torch.cuda.is_available():
        return {}
    return {
        "gpu_peak_allocated_mb": torch.cuda.max_memory_allocated() >> 20,
        "gpu_peak_reserved_mb": torch.cuda.max_memory_reserved() >> 20,
    }


def _machine() -> dict[str, Any]:
    import torch

    about: dict[str, Any] = {"cpus": settings.cpu_quota(), "system": f"{platform.system()} {platform.machine()}"}
    if torch.cuda.is_available():
        about["gpu"] = torch.cuda.get_device_name()
    return about


def _commit() -> str | None:
    """The commit of the code, with ``+`` where files were changed since; None outside a repository."""
    place = Path(__file__).parent
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=place, capture_output=True, text=True, check=True)
        dirty = subprocess.run(["git", "status", "--porcelain"], cwd=place, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + ("+" if dirty.stdout.strip() else "")
