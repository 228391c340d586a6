"""How fast a model is and what memory it takes: one measurement, in a process of its own.

    python -m evaluation.speed < job.json

A process of its own, because memory that another model or library took before would be counted, and never given back.
Loading, reading a prompt and writing are timed apart. The runners start it.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from evaluation.backends import Request, open_backend
from evaluation.errors import RunError
from evaluation.targets import Target
from evaluation.worker import peak_memory
from iris.errors import IrisError
from iris.results import Estimate

PROMPT, WRITTEN = 512, 64
"""Tokens that are read at once, and tokens that are then written one by one."""


@dataclass(frozen=True, slots=True)
class Job:
    """``ids`` are the tokens to time with, or empty for those of ``text``; ``requests`` are scored as well."""

    target: Target
    threads: int
    text: str = ""
    ids: tuple[int, ...] = ()
    requests: tuple[Request, ...] = ()


@dataclass(frozen=True, slots=True)
class Speed:
    """Seconds to load; tokens a second read and written; peak memory in bytes after loading and over all of the timing.

    ``scored`` are the log-probabilities and choices of every requested text.
    """

    load_s: float
    prefill: float
    decode: float
    loaded: int
    peak: int
    scored: list[list[dict[str, list[float]]]] = field(default_factory=list)


def measure(job: Job) -> Speed:
    """Start a process that measures.

    Raises:
        RunError: the process failed; with what it said.
    """
    text = json.dumps(asdict(job), default=str)
    done = subprocess.run(
        [sys.executable, "-m", "evaluation.speed"], input=text, capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1].removeprefix("error: ")
        raise RunError(f"{job.target.label} could not be timed: {said}")
    return Speed(**json.loads(done.stdout.splitlines()[-1]))


def medians(found: Sequence[Speed]) -> dict[str, Estimate]:
    """The middle of several measurements, with the lowest and highest as its range."""

    def of(values: Sequence[float]) -> Estimate:
        return Estimate(statistics.median(values), min(values), max(values), len(values))

    return {
        "load": of([one.load_s for one in found]),
        "prefill": of([one.prefill for one in found]),
        "decode": of([one.decode for one in found]),
        "memory": of([one.peak / 1e6 for one in found]),
    }


def _run(about: dict[str, Any]) -> Speed:
    raw = about["target"]
    for key in ("path", "adapter"):
        raw[key] = Path(raw[key]) if raw[key] else None
    backend = open_backend(Target(**raw), threads=about["threads"])
    try:
        loaded = peak_memory()
        ids = about["ids"] or backend.plain(about["text"])
        if len(ids) < 32:
            raise RunError("There is too little text to time a model with.")
        cut = min(PROMPT, 3 * len(ids) // 4)
        prompt, following = ids[:cut], ids[cut : cut + WRITTEN]
        read, written = backend.timed(prompt, following)
        peak = peak_memory()  # before scoring, which holds the logits of many tokens
        requests = [
            Request(tuple(one["prompt"]), tuple(tuple(following) for following in one["following"]))
            for one in about["requests"]
        ]
        scored = backend.score(requests) if requests else []
        return Speed(
            backend.load_s,
            len(prompt) / read,
            len(following) / written,
            loaded,
            peak,
            [[{"logprobs": list(one.logprobs), "choices": list(one.choices)} for one in group] for group in scored],
        )
    finally:
        backend.close()


def main() -> int:
    """Measure the job on standard input and print it as JSON; returns the process's exit status."""
    try:
        print(json.dumps(asdict(_run(json.loads(sys.stdin.read())))))
    except IrisError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
