"""One model, in a process of its own: everything it is asked, written to its records as it comes.

    python -m evaluation.worker < job.json

The runners start it. A process of its own keeps the memory of one model out of another's, and a crash from the rest.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from evaluation.backends import Backend, Request, open_backend
from evaluation.records import Records
from evaluation.targets import Target
from evaluation.tasks import LETTERS, Item, Sources, Task, load_all
from iris import prompts
from iris.engine import Message, Sampling
from iris.errors import IrisError

LETTER_TOKENS = 12
"""Tokens of an answer to a multiple-choice item: enough for "The correct answer is B"."""
STEP = 16
"""Items whose probabilities are computed between two writes."""

ASK_LETTER = "Answer with the letter of the right option."


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker is told. ``system``: "none" leaves it to the template, "study_chat" is as Iris asks."""

    target: Target
    tasks: tuple[str, ...]
    sources: Sources
    out: Path
    system: str = "none"
    max_tokens: int = 256
    threads: int = 2

    def to_json(self) -> str:
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> Job:
        about = json.loads(text)
        target, sources = about.pop("target"), about.pop("sources")
        for key in ("path", "adapter"):
            target[key] = Path(target[key]) if target[key] else None
        for key in ("course", "dolly", "wikitext"):
            sources[key] = Path(sources[key])
        about["tasks"] = tuple(about["tasks"])
        return cls(Target(**target), sources=Sources(**sources), **{**about, "out": Path(about["out"])})


def sampling(max_tokens: int) -> Sampling:
    """As Study Chat asks, without chance: the likeliest token after the same penalty."""
    return replace(prompts.STUDY_CHAT_SAMPLING, temperature=0.0, max_tokens=max_tokens)


def header(job: Job, tasks: Sequence[Task]) -> dict[str, Any]:
    """What the records belong to."""
    return {
        "model": job.target.sha256,
        "backend": job.target.backend,
        "settings": {"system": job.system, "max_tokens": job.max_tokens},
        "items": {task.name: task.sha256 for task in tasks},
    }


def records_of(job: Job, tasks: Sequence[Task]) -> Records:
    """The records of this job, begun or continued. Raises RunError."""
    return Records(job.out / "items" / f"{job.target.label}.jsonl", header(job, tasks))


def units(tasks: Sequence[Task]) -> list[tuple[Task, Item, str]]:
    """Everything there is to do, cheap things first."""
    found: list[tuple[Task, Item, str]] = []
    for task in tasks:
        for item in task.items:
            if task.kind == "choice":
                found += [(task, item, "options"), (task, item, "answer")]
            elif task.kind == "text" or item.reference:
                found.append((task, item, "reference"))
            if task.kind == "answer":
                found.append((task, item, "answer"))
    return sorted(found, key=lambda unit: ("options", "reference", "answer").index(unit[2]))


def run(job: Job) -> None:
    """Do what is not done yet.

    Raises:
        IrisError: the model cannot be loaded, or its records belong to another run.
    """
    tasks = load_all(job.tasks, job.sources)
    records = records_of(job, tasks)
    try:
        wanted = units(tasks)
        todo = [unit for unit in wanted if (unit[0].name, unit[1].id, unit[2]) not in records.found]
        if not todo:
            return
        with tqdm(
            total=len(wanted), initial=len(wanted) - len(todo), desc=job.target.label, unit="item", disable=None
        ) as bar:
            backend = open_backend(job.target, threads=job.threads)
            try:
                scoring = [unit for unit in todo if unit[2] != "answer"]
                for start in range(0, len(scoring), STEP):
                    _score(backend, job, scoring[start : start + STEP], records)
                    bar.update(min(STEP, len(scoring) - start))
                _answer(backend, job, [unit for unit in todo if unit[2] == "answer"], records, bar)
                records.add_speed(load=round(backend.load_s, 3), memory=peak_memory())
            finally:
                backend.close()
    finally:
        records.close()


def _score(backend: Backend, job: Job, chosen: Sequence[tuple[Task, Item, str]], records: Records) -> None:
    requests: list[Request] = []
    for _, item, what in chosen:
        requests += _choices(backend, job, item) if what == "options" else [_reference(backend, job, item)]
    scored = iter(backend.score(requests))
    for task, item, what in chosen:
        if what == "options":
            letters, texts = next(scored), next(scored)
            records.add(
                task.name,
                item.id,
                what,
                letters=[round(found.logprob, 4) for found in letters],
                texts=[round(found.logprob, 4) for found in texts],
                sizes=[len(option.encode()) for option in item.options],
            )
        else:
            (found,) = next(scored)
            records.add(
                task.name,
                item.id,
                what,
                logprob=round(found.logprob, 4),
                tokens=len(found.logprobs),
                bytes=len(item.reference.encode()),
            )


def _reference(backend: Backend, job: Job, item: Item) -> Request:
    prompt = backend.encode(conversation(job.system, item.prompt)) if item.prompt else backend.first
    return Request(tuple(prompt), (tuple(backend.plain(item.reference)),))


def _choices(backend: Backend, job: Job, item: Item) -> list[Request]:
    """The letters after the question with its options; the options' texts after the question alone."""
    listed = backend.encode(conversation(job.system, _listed(item)))
    alone = backend.encode(conversation(job.system, (Message("user", item.question),)))
    letters = tuple(tuple(backend.plain(LETTERS[number])) for number in range(len(item.options)))
    texts = tuple(tuple(backend.plain(option)) for option in item.options)
    return [Request(tuple(listed), letters), Request(tuple(alone), texts)]


def _listed(item: Item) -> tuple[Message, ...]:
    last = item.prompt[-1]
    return (*item.prompt[:-1], Message(last.role, f"{last.content}\n\n{ASK_LETTER}"))


def conversation(system: str, turns: Sequence[Message]) -> tuple[Message, ...]:
    """The turns, with the system prompt that the run asks for unless they bring one."""
    if system == "study_chat" and turns and turns[0].role != "system":
        return (Message("system", prompts.STUDY_CHAT_SYSTEM), *turns)
    return tuple(turns)


def _answer(backend: Backend, job: Job, chosen: Sequence[tuple[Task, Item, str]], records: Records, bar: Any) -> None:
    """Short answers first, then long ones, so that the pace of the long ones is that of full batches."""
    for kind in ("choice", "answer"):
        part = [(task, item) for task, item, _ in chosen if task.kind == kind]
        limit = LETTER_TOKENS if kind == "choice" else job.max_tokens
        turns = [_listed(item) if kind == "choice" else item.prompt for _, item in part]
        started, tokens = time.perf_counter(), 0
        for number, answer in backend.generate(
            [conversation(job.system, one) for one in turns], [sampling(limit)] * len(part)
        ):
            task, item = part[number]
            records.add(task.name, item.id, "answer", answer=answer.text, tokens=answer.tokens, stopped=answer.stopped)
            tokens += answer.tokens
            bar.update(1)
        if kind == "answer" and part:
            records.add_speed(tokens=tokens, seconds=round(time.perf_counter() - started, 3))


def peak_memory() -> int:
    """The most memory that this process has had, in bytes; ``ru_maxrss`` would count what its parent had before."""
    for line in _status():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def _status() -> Iterator[str]:
    try:
        yield from Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        import resource

        yield f"VmHWM: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss} kB"


def main(arguments: Mapping[str, str] | None = None) -> int:
    """Run the job on standard input; returns the process's exit status."""
    try:
        run(Job.from_json(sys.stdin.read()))
    except IrisError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
