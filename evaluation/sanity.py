"""Can the harness tell good from bad? Checks with answers and models whose worth is known beforehand.

    python evaluation/sanity.py
    python evaluation/sanity.py --base path/to/model-folder --limit 20

The references themselves must score near the ceiling, those of other questions near the floor, their first thirds must
lose against them, and an adapter that was never trained must equal its base. Status 1 when one of that is not so.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evaluation import intervals, summary, tasks
from evaluation.backends import Request, open_backend
from evaluation.errors import TargetError
from evaluation.likeness import BertScore, Likeness
from evaluation.summary import Values
from evaluation.targets import Target, find
from evaluation.tasks import LETTERS, Sources, Task
from iris import settings
from iris.errors import IrisError

CEILING, FLOOR = 0.95, 0.10
"""Where "near" begins, on scales from 0 to 1. Shuffled answers of one course share its words, so its floor is not 0."""


@dataclass(frozen=True, slots=True)
class Check:
    """One statement about the harness, and what was found."""

    what: str
    ok: bool
    detail: str


def answers(task: Task, scorer: BertScore | None, texts: Sequence[tuple[str, str]]) -> list[Check]:
    """The checks of what rates answers: ``task`` has free answers with references.

    ``texts`` are (topic, text) pairs for BERTScore's baseline; without a ``scorer`` BERTScore is left out.
    """
    references = [item.reference for item in task.items]
    # Half the list away, so that neighbours, which are on one topic, do not swap.
    half = len(references) // 2
    systems = {
        "reference": references,
        "shuffled": references[half:] + references[:half],
        "truncated": [text[: len(text) // 3].rpartition(" ")[0] or text[:1] for text in references],
    }
    baseline = scorer.baseline(texts) if scorer else None
    values: dict[str, Values] = {}
    for name, said in systems.items():
        found = {
            (task.name, item.id, "answer"): {"answer": answer, "stopped": True}
            for item, answer in zip(task.items, said, strict=True)
        }
        likenesses: Mapping[tuple[str, str], Likeness] = {}
        if scorer and baseline:
            raw = scorer.score(said, references)
            likenesses = {(task.name, item.id): one.over(baseline) for item, one in zip(task.items, raw, strict=True)}
        values[name] = summary.values_of([task], found, likenesses)
    checks = []
    for measure in ("rouge_l", "key_facts", "bertscore_f1"):
        name = f"{task.name}.{measure}"
        if name not in values["reference"]:
            continue
        of = {system: summary.estimates({name: found[name]})[name].value for system, found in values.items()}
        checks.append(Check(f"{measure}: references are near the ceiling", of["reference"] >= CEILING, _said(of)))
        # Key facts and ROUGE of other answers on the same course are what its common words give: the floor is theirs.
        limit = FLOOR if measure == "bertscore_f1" else 3 * FLOOR
        checks.append(Check(f"{measure}: shuffled references are near the floor", of["shuffled"] <= limit, _said(of)))
        checks.append(_loses(values["reference"][name], values["truncated"][name], measure, of))
    return checks


def _loses(
    whole: Mapping[str, tuple[float, ...]], cut: Mapping[str, tuple[float, ...]], measure: str, of: Mapping[str, float]
) -> Check:
    found = intervals.paired(list(whole.values()), list(cut.values()))
    ok = found.high < 0 and found.p < 0.05
    return Check(
        f"{measure}: truncated answers lose", ok, f"{_said(of)}; difference {found.value:.3f}, p = {found.p:.3f}"
    )


def _said(of: Mapping[str, float]) -> str:
    return ", ".join(f"{system} {value:.3f}" for system, value in of.items())


def choices(task: Task) -> list[Check]:
    """The checks of multiple choice: who knows is always right, who does not is right as often as chance."""
    knows = {
        (task.name, item.id, "options"): _options([1.0 if n == item.right else 0.0 for n in range(len(item.options))])
        | {"sizes": [1] * len(item.options)}
        for item in task.items
    }
    says = {
        (task.name, item.id, "answer"): {"answer": f"{LETTERS[item.right]}. {item.reference}", "stopped": True}
        for item in task.items
    }
    dice = random.Random(1)
    thrown = {item.id: dice.randrange(len(item.options)) for item in task.items}
    guesses = {
        (task.name, item.id, "options"): _options(
            [1.0 if n == thrown[item.id] else 0.0 for n in range(len(item.options))]
        )
        | {"sizes": [1] * len(item.options)}
        for item in task.items
    }
    right = summary.estimates(summary.values_of([task], {**knows, **says}, {}))
    guessed = summary.estimates(summary.values_of([task], guesses, {}))[f"{task.name}.letter"]
    chance = 1 / len(task.items[0].options)
    return [
        Check(
            "multiple choice: the right letters are all counted",
            all(right[f"{task.name}.{name}"].value == 1.0 for name in ("letter", "text", "generated")),
            ", ".join(f"{name} {one.value:.3f}" for name, one in right.items()),
        ),
        Check(
            "multiple choice: guessing is chance",
            guessed.low <= chance <= guessed.high,
            f"{guessed.value:.3f} [{guessed.low:.3f}, {guessed.high:.3f}], chance {chance:.2f}",
        ),
    ]


def _options(values: Sequence[float]) -> dict[str, Any]:
    return {"letters": list(values), "texts": list(values)}


def untrained(base: Target, task: Task, *, threads: int) -> Check:
    """An adapter fresh from peft (its B is zero) over ``base`` must think the same of every reference."""
    with tempfile.TemporaryDirectory(prefix="iris-sanity-") as folder:
        fresh = replace(base, label="untrained", adapter=_adapter(base, Path(folder) / "adapter"))
        one, other = (_likelihoods(target, task, threads) for target in (base, fresh))
    found = intervals.paired(one, other, intervals.bits_of)
    size = intervals.estimate(one, intervals.bits_of)
    ok = found.p >= 0.05 and abs(found.value) < 0.1 * (size.high - size.low)
    return Check(
        "an untrained adapter equals its base",
        ok,
        f"bits per byte {size.value:.4f} [{size.low:.4f}, {size.high:.4f}], difference {found.value:.6f}, "
        f"p = {found.p:.2f}",
    )


def _adapter(base: Target, folder: Path) -> Path:
    import peft
    import torch

    from evaluation.torch_backend import weights_of

    _, model = weights_of(base, torch.float32)
    made: Any = peft.get_peft_model(
        model, peft.LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM", lora_alpha=16)
    )
    made.save_pretrained(folder, save_embedding_layers=False)
    return folder


def _likelihoods(target: Target, task: Task, threads: int) -> list[tuple[float, float, float]]:
    backend = open_backend(target, threads=threads)
    try:
        requests = [
            Request(tuple(backend.encode(item.prompt)), (tuple(backend.plain(item.reference)),)) for item in task.items
        ]
        scored = backend.score(requests)
    finally:
        backend.close()
    return [
        (group[0].logprob, float(len(group[0].logprobs)), float(len(item.reference.encode())))
        for group, item in zip(scored, task.items, strict=True)
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the process's exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--data", type=Path, default=Sources().course, help="folder of the course's splits")
    parser.add_argument("--base", default="pytorch:smollm2-135m", help="what the untrained adapter is put over")
    parser.add_argument("--limit", type=int, default=0, help="items at most; 0: all")
    parser.add_argument("--threads", type=int, default=settings.cpu_quota())
    options = parser.parse_args(arguments)
    try:
        sources = Sources(course=options.data, limits={"course": options.limit, "mcq": options.limit})
        course, mcq = tasks.load_all(("course", "mcq"), sources)
        base = find(options.base)
        if base.backend != "pytorch":
            raise TargetError(f"--base {options.base} must be a PyTorch model: a folder, or pytorch:NAME.")
        checks = answers(course, BertScore(threads=options.threads), tasks.topics(sources)) + choices(mcq)
        checks.append(untrained(base, course, threads=options.threads))
    except IrisError as error:
        print(f"sanity: {error}", file=sys.stderr)
        return 2
    for check in checks:
        print(f"{'ok   ' if check.ok else 'WRONG'} {check.what}: {check.detail}")
    return int(not all(check.ok for check in checks))


if __name__ == "__main__":
    sys.exit(main())
