"""What a run tells while it goes on: a line in log.jsonl for every step and validation, and a progress bar.

Rates count the tokens of this process's own steps over the time that these took: not the steps before a resume, not
validation, not checkpoints. Resident memory is that at the end of the step; memory on the GPU is the peak since the
start, both what was allocated and what the allocator had reserved, which is what the card has to have.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import psutil
import torch
from tqdm import tqdm
from transformers import TrainerCallback

Record = dict[str, Any]
Sink = Callable[[Record], None]


def peak_resident() -> int:
    """The most memory that this process has held, in bytes.

    Linux's own mark for the program, where there is one: ``ru_maxrss`` also counts the process that started it.
    """
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) << 10
    except OSError:
        pass
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used << 10


class Log:
    """The file log.jsonl of a run: one JSON object a line, in the order of stages and steps."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> list[Record]:
        """All whole lines; what a kill cut off in the middle is left out."""
        records = []
        try:
            lines = self._path.read_text(encoding="utf-8").split("\n")
        except FileNotFoundError:
            return []
        for line in lines[:-1]:
            try:
                records.append(json.loads(line))
            except ValueError:
                continue
        return records

    def append(self, record: Record) -> None:
        """Add a line."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def rewind(self, stage: str, step: int) -> None:
        """Forget what came after ``step`` of ``stage``, whose later steps are about to be made again."""
        kept = [record for record in self.read() if record["stage"] != stage or record["step"] <= step]
        beside = self._path.with_name(f"{self._path.name}.partial")
        beside.write_text("".join(json.dumps(record) + "\n" for record in kept), encoding="utf-8")
        os.replace(beside, self._path)


def _short(record: Record) -> str:
    """What fits beside a progress bar: rates are tokens and supervised tokens a second, memory is in GB."""
    gpu = [record[name] for name in ("gpu_peak_allocated_mb", "gpu_peak_reserved_mb") if name in record]
    memory = "/".join(f"{value / 1024:.1f}" for value in (*gpu, record["resident_mb"]))
    return (
        f"loss {record['loss']:.3f}, lr {record['learning_rate']:.1e}, "
        f"{record['tokens_per_s']:.0f}/{record['supervised_tokens_per_s']:.0f} tok/s, {memory} GB"
    )


class Monitor(TrainerCallback):  # type: ignore[misc]
    """Writes the log and moves the bar; one for each stage, on the first process only.

    ``tokens`` and ``supervised`` hold the counts of each step of the plan.
    """

    def __init__(
        self, stage: str, tokens: Sequence[int], supervised: Sequence[int], epochs: float, sinks: Iterable[Sink]
    ) -> None:
        self._stage = stage
        self._tokens = tokens
        self._supervised = supervised
        self._epochs = epochs
        self._sinks = tuple(sinks)
        self._first = 0
        self._seconds = 0.0
        self._began = 0.0
        self._resident = 0
        self._bar: Any = None
        self._process = psutil.Process()

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._first = state.global_step
        total = len(self._tokens)
        self._bar = tqdm(total=total, initial=self._first, desc=self._stage, unit="step", disable=None, smoothing=0.05)

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._began = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._seconds += time.monotonic() - self._began
        self._resident = self._process.memory_info().rss  # before freed memory is given back
        self._bar.update()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        logs, step = logs or {}, state.global_step
        if "loss" in logs:
            record = {
                "step": step,
                "epoch": round(self._epochs * step / len(self._tokens), 4),
                "loss": logs["loss"],
                "grad_norm": logs.get("grad_norm"),
                "learning_rate": logs["learning_rate"],
                "tokens_per_s": round(self._rate(self._tokens, step), 1),
                "supervised_tokens_per_s": round(self._rate(self._supervised, step), 1),
                **self._memory(),
            }
            self._bar.set_postfix_str(_short(record))
        elif "eval_loss" in logs:
            record = {"step": step, "validation_loss": logs["eval_loss"]}
            if self._bar.disable:  # no terminal: a line now and then, for whoever reads the output later
                print(f"{self._stage} {step}/{len(self._tokens)}: validation loss {logs['eval_loss']:.4f}", flush=True)
        else:
            return
        for sink in self._sinks:
            sink({"stage": self._stage, **record})

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._bar.close()

    def _rate(self, counts: Sequence[int], step: int) -> float:
        return sum(counts[self._first : step]) / max(self._seconds, 1e-9)

    def _memory(self) -> dict[str, float]:
        memory: dict[str, float] = {"resident_mb": self._resident >> 20}
        if torch.cuda.is_available():
            memory["gpu_peak_allocated_mb"] = torch.cuda.max_memory_allocated() >> 20
            memory["gpu_peak_reserved_mb"] = torch.cuda.max_memory_reserved() >> 20
        return memory


def tracker(project: str, run: str, config: dict[str, Any]) -> Sink:
    """A sink that sends every record to trackio.

    Raises:
        RunError: trackio is not installed.
    """
    from training.errors import RunError

    try:
        import trackio
    except ImportError:
        raise RunError("--track needs trackio: pip install trackio==0.43.0") from None
    trackio.init(project=project, name=run, config=config)

    def send(record: Record) -> None:
        stage = record["stage"]
        trackio.log({f"{stage}/{key}": value for key, value in record.items() if key != "stage" and value is not None})

    return send


def plot(records: Sequence[Record], path: Path, title: str) -> None:
    """Draw the loss of every step, its running mean, and the validation loss, stage after stage, as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.subplots()
    offset = 0
    for stage in dict.fromkeys(record["stage"] for record in records):
        of_stage = [record for record in records if record["stage"] == stage]
        train = [(offset + record["step"], record["loss"]) for record in of_stage if "loss" in record]
        held_out = [(offset + r["step"], r["validation_loss"]) for r in of_stage if "validation_loss" in r]
        if train:
            steps, losses = zip(*train, strict=True)
            axes.plot(steps, losses, linewidth=0.6, alpha=0.35, color="tab:blue")
            axes.plot(steps, _smooth(losses), linewidth=1.6, color="tab:blue")
        if held_out:
            axes.plot(*zip(*held_out, strict=True), marker="o", markersize=4, color="tab:orange")
        if offset:
            axes.axvline(offset, color="grey", linewidth=0.8, linestyle=":")
        axes.annotate(
            stage, (offset, 1.0), xycoords=("data", "axes fraction"), xytext=(4, -12), textcoords="offset points"
        )
        offset += max((record["step"] for record in of_stage), default=0)
    axes.plot([], [], color="tab:blue", label="training")
    axes.plot([], [], color="tab:orange", marker="o", label="validation")
    axes.set(title=title, xlabel="step", ylabel="loss, nats a supervised token")
    axes.legend()
    axes.grid(alpha=0.25)
    beside = path.with_name(f"{path.name}.partial")
    figure.savefig(beside, dpi=110, format="png")
    os.replace(beside, path)


def _smooth(values: Sequence[float], window: int = 21) -> list[float]:
    half = window // 2
    parts = [values[max(0, at - half) : at + half + 1] for at in range(len(values))]
    return [sum(part) / len(part) for part in parts]
