"""What serving as GGUF costs and brings: the trained model in PyTorch beside its GGUF files.

    python evaluation/eval_pytorch_vs_gguf.py outputs/RECIPE                    # the run, and every GGUF in its gguf/
    python evaluation/eval_pytorch_vs_gguf.py pytorch:smollm2-135m smollm2-135m

Each backend is a process of its own, with the same number of threads and the same token ids (those of the first GGUF's
tokenizer). Loading, reading a prompt of 512 tokens and writing 64 are timed apart, the backends taking turns; peak
memory is the process's own, Python and libraries included. The quality is what the same process thinks of the same
held-out answers: perplexity, multiple choice, and how often it would choose the same next token as PyTorch.
GGUFs are measured as they are, not through the fast copy that Iris serves some small files from.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from evaluation import report, runner, speed, summary, tasks
from evaluation.backends import Backend, Request, open_backend
from evaluation.cached import Cached, key
from evaluation.errors import RunError, TargetError
from evaluation.speed import Job, Speed
from evaluation.summary import Values
from evaluation.targets import Target, find_all
from evaluation.tasks import LETTERS, Item, Sources, Task
from evaluation.worker import conversation
from iris import settings
from iris.errors import IrisError
from iris.results import Results, Row

ITEMS = 40
"""Of each task, unless --limit says otherwise."""


@dataclass(frozen=True, slots=True)
class Questions:
    """The token ids that every backend gets, and which item each request is of."""

    ids: tuple[int, ...]
    requests: tuple[Request, ...]
    items: tuple[tuple[Task, Item], ...]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the process's exit status."""
    options = _parser().parse_args(arguments)
    try:
        results = run(options)
        print(report.markdown(results))
        print(f"{options.out / 'report.md'} and results.json are written.", file=sys.stderr)
        if options.publish:
            print(f"The Compare tab shows {runner.publish(options.out / 'results.json')}.", file=sys.stderr)
    except IrisError as error:
        print(f"eval_pytorch_vs_gguf: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nStopped; what is measured is kept. Run the same command again to go on.", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--models", dest="named", nargs="+", default=[], metavar="[LABEL=]MODEL")
    parser.add_argument("models", nargs="*", metavar="[LABEL=]MODEL", help="a run with its GGUFs, or several models")
    parser.add_argument("--out", type=Path, default=runner.OUT / "pytorch-vs-gguf")
    parser.add_argument("--data", type=Path, default=Sources().course, help="folder of the course's splits")
    parser.add_argument("--limit", type=int, default=ITEMS, help="items of each task; 0: all")
    parser.add_argument("--threads", type=int, default=settings.cpu_quota())
    parser.add_argument("--rounds", type=int, default=3, help="timings of each backend, turn about")
    parser.add_argument("--publish", action="store_true", help="show the results in Iris's Compare tab, too")
    return parser


def run(options: argparse.Namespace) -> Results:
    """Measure, and write results and report.

    Raises:
        IrisError: a model cannot be loaded, there is no GGUF among them, or the data is missing.
    """
    for name, low in (("limit", 0), ("threads", 1), ("rounds", 1)):
        if getattr(options, name) < low:
            raise RunError(f"--{name} must be at least {low}, not {getattr(options, name)}.")
    targets = find_all(_with_exports([*options.models, *options.named]))
    first_gguf = next((target for target in targets if target.backend == "gguf"), None)
    if first_gguf is None:
        raise TargetError("There is no GGUF among the models. Export the run: python export/to_gguf.py RUN")
    targets.sort(key=lambda target: target.backend != "pytorch")  # the others are compared with the first
    limits = {"course": options.limit, "mcq": options.limit}
    sources = Sources(course=options.data, limits=limits)
    asked = _questions(first_gguf, tasks.load_all(("course", "mcq"), sources), sources, options.threads)
    measured = _measure(targets, asked, options)
    values = {label: _values(asked, found[0], measured[targets[0].label][0]) for label, found in measured.items()}
    rows = [
        Row(
            target.label,
            target.name,
            target.backend,
            {
                **summary.estimates(values[target.label]),
                **speed.medians(measured[target.label]),
                "size": summary.once(target.bytes / 1e6),
            },
        )
        for target in targets
    ]
    results = Results(
        "pytorch-vs-gguf",
        "PyTorch beside GGUF",
        date.today().isoformat(),
        runner.machine(options.threads),
        tuple(rows),
        summary.compare([target.label for target in targets], values),
        {
            "prompt_tokens": speed.PROMPT,
            "written_tokens": speed.WRITTEN,
            "rounds": options.rounds,
            "items": {"course": [options.limit], "mcq": [options.limit]},
        },
        ("Every backend got the same token ids, in a process of its own; same_token is agreement with the first row.",),
    )
    report.write(options.out, results, values)
    return results


def _with_exports(named: Sequence[str]) -> list[str]:
    """The GGUFs that lie in a run's folder after it, when the run is all that was named."""
    if not named:
        raise TargetError("No model is named. Give the folder of a run, or a PyTorch model and its GGUF files.")
    if len(named) > 1:
        return list(named)
    folder = Path(named[0].partition("=")[2] or named[0])
    found = sorted(
        path
        for path in (folder / "gguf").glob("*.gguf")
        if not path.stem.endswith("_imatrix") and "_adapter_" not in path.stem
    )
    return [named[0], *(str(path) for path in found)]


def _questions(gguf: Target, loaded: Sequence[Task], sources: Sources, threads: int) -> Questions:
    """Token ids of everything, by the GGUF's tokenizer."""
    backend = open_backend(gguf, threads=threads)
    try:
        text = " ".join(text for _, text in tasks.topics(sources)[:40])
        items = [(task, item) for task in loaded for item in task.items]
        requests = tuple(_request(backend, task, item) for task, item in items)
        return Questions(tuple(backend.plain(text)[: speed.PROMPT + speed.WRITTEN]), requests, tuple(items))
    finally:
        backend.close()


def _request(backend: Backend, task: Task, item: Item) -> Request:
    prompt = tuple(backend.encode(conversation("none", item.prompt)))
    following = [LETTERS[number] for number in range(len(item.options))] if task.kind == "choice" else [item.reference]
    return Request(prompt, tuple(tuple(backend.plain(text)) for text in following))


def _measure(targets: Sequence[Target], asked: Questions, options: argparse.Namespace) -> dict[str, list[Speed]]:
    """All rounds, the backends taking turns; the first round also scores."""
    kept = Cached(options.out / "measured.jsonl")
    found: dict[str, list[Speed]] = {target.label: [] for target in targets}
    try:
        for number, target in itertools.product(range(options.rounds), targets):
            requests = asked.requests if number == 0 else ()
            job = Job(target, options.threads, ids=asked.ids, requests=requests)
            name = key("backend", target.sha256, target.backend, options.threads, number, asked.ids, repr(requests))
            if name not in kept.found:
                print(f"{target.label}, round {number + 1} of {options.rounds} …", file=sys.stderr, flush=True)
                one = speed.measure(job)
                kept.add(name, [one.load_s, one.prefill, one.decode, one.loaded, one.peak, one.scored])
            found[target.label].append(Speed(*kept.found[name]))
    finally:
        kept.close()
    return found


def _values(asked: Questions, found: Speed, first: Speed) -> Values:
    """Every measure of every item; ``first`` is the backend that the others are compared with."""
    values: Values = {}
    for (task, item), group, others in zip(asked.items, found.scored, first.scored, strict=True):
        if task.kind == "choice":
            sums = [sum(one["logprobs"]) for one in group]
            right = float(max(range(len(sums)), key=lambda n: sums[n]) == item.right)
            values.setdefault(f"{task.name}.letter", {})[item.id] = (right,)
            continue
        logprobs, choices = group[0]["logprobs"], group[0]["choices"]
        columns = (sum(logprobs), float(len(logprobs)), float(len(item.reference.encode())))
        values.setdefault(f"{task.name}.perplexity", {})[item.id] = columns
        values.setdefault(f"{task.name}.bits_per_byte", {})[item.id] = columns
        same = sum(a == b for a, b in zip(choices, others[0]["choices"], strict=True)) / len(choices)
        values.setdefault(f"{task.name}.same_token", {})[item.id] = (same,)
    return values


if __name__ == "__main__":
    sys.exit(main())
