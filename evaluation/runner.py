"""What the runners share: options, one worker process a model, and from records to results.json and report.md."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from evaluation import judging, report, speed, summary, tasks, worker
from evaluation.cached import Cached, key
from evaluation.errors import RunError
from evaluation.likeness import Likeness
from evaluation.targets import Target, find_all
from evaluation.tasks import Sources, Task
from iris import settings
from iris.results import Estimate, Results, Row

OUT = Path("outputs/evaluation")


@dataclass(frozen=True, slots=True)
class Plan:
    """A run: what is asked of which models, and where it goes."""

    name: str
    title: str
    targets: tuple[Target, ...]
    tasks: tuple[str, ...]
    sources: Sources
    out: Path
    system: str
    max_tokens: int
    threads: int
    jobs: int
    rounds: int
    bertscore: bool
    judge: judging.Choice | None = None


def parser(doc: str, *, models: Sequence[str], wanted: Sequence[str]) -> argparse.ArgumentParser:
    """The options of a runner whose default models and tasks are these."""
    made = argparse.ArgumentParser(
        description=doc.split("\n", 1)[0], epilog=doc.partition("\n")[2], formatter_class=argparse.RawTextHelpFormatter
    )
    made.add_argument(
        "--models",
        nargs="+",
        default=list(models),
        metavar="[LABEL=]MODEL",
        help="catalog ids, runs or adapters, Hugging Face folders, GGUF files, a.gguf+lora.gguf (a LoRA over it),\n"
        "pytorch:BASE; the first is what the others are compared with (default: %(default)s)",
    )
    made.add_argument(
        "--tasks", nargs="+", default=list(wanted), help=f"{', '.join(tasks.READERS)}, or files of prompts"
    )
    made.add_argument("--out", type=Path, default=None, help="folder of the results; the same one goes on")
    made.add_argument("--fresh", action="store_true", help="remove what is in that folder first")
    made.add_argument("--data", type=Path, default=Sources().course, help="folder of the course's splits")
    made.add_argument("--dolly", type=Path, default=Sources().dolly, help="held-out rows of Dolly")
    made.add_argument("--wikitext", type=Path, default=Sources().wikitext, help="WikiText-2's raw test file")
    made.add_argument("--limit", type=int, default=0, help="items of each task at most, evenly from all over")
    made.add_argument("--max-tokens", type=int, default=256, help="of an answer")
    made.add_argument(
        "--system",
        choices=("none", "study_chat"),
        default="none",
        help="none: what the chat template puts there, as in training; study_chat: Iris's own instructions",
    )
    made.add_argument("--threads", type=int, default=settings.cpu_quota())
    made.add_argument(
        "--jobs", type=int, default=1, help="models at the same time; the threads, and so the speeds, are shared out"
    )
    made.add_argument("--rounds", type=int, default=1, help="timings of each model, turn about; 0: none")
    made.add_argument("--no-bertscore", dest="bertscore", action="store_false")
    made.add_argument(
        "--judge", default="", help="a model as for --models, or the http address of an OpenAI-compatible server"
    )
    made.add_argument("--judge-model", default="", help="the name of the judge on that server")
    made.add_argument("--judge-timeout", type=float, default=60.0, help="seconds for one verdict")
    made.add_argument("--publish", action="store_true", help="show the results in Iris's Compare tab, too")
    return made


def plan(options: argparse.Namespace, name: str, title: str) -> Plan:
    """The run that the options ask for.

    Raises:
        IrisError: a model or the judge does not exist, or a number makes no sense.
    """
    for number, low in (("limit", 0), ("max_tokens", 1), ("threads", 1), ("jobs", 1), ("rounds", 0)):
        if getattr(options, number) < low:
            raise RunError(f"--{number.replace('_', '-')} must be at least {low}, not {getattr(options, number)}.")
    targets = find_all(options.models)
    limits = dict(Sources().limits)
    if options.limit:
        limits = dict.fromkeys((*tasks.READERS, *(Path(task).stem for task in options.tasks)), options.limit)
    out = options.out or OUT / name
    if options.fresh and out.exists():
        if not (out / "items").is_dir() and any(out.iterdir()):
            raise RunError(f"{out} holds no evaluation; it is not removed. Name another folder with --out.")
        shutil.rmtree(out)
    judge = (
        judging.choose(options.judge, options.judge_model, options.judge_timeout, targets) if options.judge else None
    )
    return Plan(
        name,
        title,
        tuple(targets),
        tuple(options.tasks),
        Sources(options.data, options.dolly, options.wikitext, limits),
        out,
        options.system,
        options.max_tokens,
        options.threads,
        options.jobs,
        options.rounds,
        options.bertscore,
        judge,
    )


def execute(made: Plan) -> Results:
    """Ask every model what is not answered yet, and write results.json, report.md and the plots into the folder.

    Raises:
        IrisError: a task's data is missing; a model failed (what is done is kept); the folder is another run's.
    """
    loaded = tasks.load_all(made.tasks, made.sources)
    _ask(made)
    found = {target.label: worker.records_of(_job(made, target), loaded) for target in made.targets}
    for records in found.values():
        records.close()
    likenesses = _likenesses(made, loaded, {label: records.found for label, records in found.items()})
    values = {
        label: summary.values_of(loaded, records.found, likenesses.get(label, {})) for label, records in found.items()
    }
    notes: list[str] = []
    if made.judge:
        judged, said = judging.judge(made.judge, made.out, loaded, found, threads=made.threads)
        notes += said
        for label, scores in judged.items():
            values[label] |= scores
    speeds = _speeds(made)
    rows = [
        Row(
            target.label,
            target.name,
            target.backend,
            {
                **summary.estimates(values[target.label]),
                **summary.speeds_of(found[target.label]),
                **speeds.get(target.label, {}),
                "size": summary.once(target.bytes / 1e6),
            },
        )
        for target in made.targets
    ]
    results = Results(
        made.name,
        made.title,
        date.today().isoformat(),
        machine(made.threads),
        tuple(rows),
        summary.compare([target.label for target in made.targets], values),
        {
            "system": made.system,
            "max_tokens": made.max_tokens,
            "items": {task.name: [len(task.items), task.sha256[:12]] for task in loaded},
        },
        tuple(notes),
    )
    report.write(made.out, results, values)
    return results


def _job(made: Plan, target: Target) -> worker.Job:
    threads = max(1, made.threads // made.jobs)
    return worker.Job(target, made.tasks, made.sources, made.out, made.system, made.max_tokens, threads)


def _ask(made: Plan) -> None:
    """One process a model, ``jobs`` of them at a time."""

    def ask(target: Target) -> int:
        text = _job(made, target).to_json()
        return subprocess.run(
            [sys.executable, "-m", "evaluation.worker"], input=text, text=True, check=False
        ).returncode

    with ThreadPoolExecutor(made.jobs) as pool:
        codes = list(pool.map(ask, made.targets))
    if any(code == 130 for code in codes):
        raise KeyboardInterrupt
    failed = [target.label for target, code in zip(made.targets, codes, strict=True) if code]
    if failed:
        raise RunError(
            f"{', '.join(failed)} could not be evaluated (see above). What is done is kept in {made.out}; run the same "
            "command again to go on."
        )


def _likenesses(
    made: Plan, loaded: Sequence[Task], found: Mapping[str, Mapping[Any, Mapping[str, Any]]]
) -> dict[str, dict[tuple[str, str], Likeness]]:
    """Rescaled BERTScore of every answer that has a reference, by model."""
    wanted = [
        (label, task.name, item.id, str(record["answer"]), item.reference)
        for label, records in found.items()
        for task in loaded
        if task.kind == "answer"
        for item in task.items
        if item.reference and (record := records.get((task.name, item.id, "answer")))
    ]
    if not made.bertscore or not wanted:
        return {}
    from tqdm import tqdm

    from evaluation.likeness import BertScore

    scorer: BertScore | None = None
    kept = Cached(made.out / "likeness.jsonl")
    try:
        texts = tasks.topics(made.sources)
        name = key("baseline", texts)
        if name not in kept.found:
            scorer = BertScore(threads=made.threads)
            raw = scorer.baseline(texts)
            kept.add(name, [raw.precision, raw.recall, raw.f1])
        baseline = Likeness(*kept.found[name])
        todo = {key(answer, reference): (answer, reference) for *_, answer, reference in wanted}
        left = [(name, pair) for name, pair in todo.items() if name not in kept.found]
        for start in tqdm(range(0, len(left), 32), desc="BERTScore", disable=None if left else True):
            scorer = scorer or BertScore(threads=made.threads)
            part = left[start : start + 32]
            scored = scorer.score([answer for _, (answer, _) in part], [reference for _, (_, reference) in part])
            for (name, _), one in zip(part, scored, strict=True):
                kept.add(name, [one.precision, one.recall, one.f1])
    finally:
        kept.close()
    likenesses: dict[str, dict[tuple[str, str], Likeness]] = {}
    for label, task, item, answer, reference in wanted:
        raw = Likeness(*kept.found[key(answer, reference)])
        likenesses.setdefault(label, {})[task, item] = raw.over(baseline)
    return likenesses


def _speeds(made: Plan) -> dict[str, dict[str, Estimate]]:
    """Timings, the models taking turns, so that a slow minute of the machine hits all of them. Kept, like the items."""
    if not made.rounds:
        return {}
    kept = Cached(made.out / "speed.jsonl")
    text = " ".join(text for _, text in tasks.topics(made.sources)[:40])
    measured: dict[str, list[speed.Speed]] = {}
    try:
        for number in range(made.rounds):
            for target in made.targets:
                name = key("speed", target.sha256, target.backend, made.threads, number, text)
                if name not in kept.found:
                    print(f"Timing {target.label}, round {number + 1} of {made.rounds} …", file=sys.stderr, flush=True)
                    one = speed.measure(speed.Job(target, made.threads, text))
                    kept.add(name, [one.load_s, one.prefill, one.decode, one.loaded, one.peak])
                measured.setdefault(target.label, []).append(speed.Speed(*kept.found[name]))
    finally:
        kept.close()
    return {label: speed.medians(found) for label, found in measured.items()}


def machine(threads: int) -> str:
    """Processor and threads, for whoever reads the numbers."""
    name = "unknown processor"
    for line in _cpuinfo().splitlines():
        if line.startswith("model name"):
            name = line.partition(":")[2].strip()
            break
    amx = " with AMX" if " amx_int8" in _cpuinfo() else ""
    return f"{name}{amx}, {threads} threads"


def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return ""


def publish(results: Path) -> Path:
    """Copy a results file, without the items' values, to where the Compare tab looks for it.

    Raises:
        SettingsError, RunError: the state folder cannot be written.
    """
    folder = settings.writable_home() / "results"
    about = json.loads(results.read_text(encoding="utf-8"))
    about.pop("values", None)
    path = folder / f"{about['name']}.json"
    beside = path.with_name(f"{path.name}.partial")
    try:
        folder.mkdir(exist_ok=True)
        beside.write_text(json.dumps(about, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        beside.replace(path)
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror or error}.") from error
    return path
