"""What is told about a model: its card, from run.json, the gate's report and evaluation results; and its licence."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import yaml
from space_folder import SpaceError

# What of the catalog is which model on the Hub.
CATALOG_BASES = {"smollm2-135m": "HuggingFaceTB/SmolLM2-135M-Instruct"}

# Licences under which what is made of a model or data may be passed on.
_FREE = re.compile(
    r"apache-2\.0|mit|bsd-[23]-clause|cc0-1\.0|odc-by|cc-by-\d\.\d|cc-by-sa-\d\.\d|cc-by-nc-\d\.\d|cc-by-nc-sa-\d\.\d"
    r"|llama3(\.\d)?|gemma"
)
_LLAMA = "llama3"

# The measures that the Hub shows beside a model; all are in the card's table.
_SHOWN = {"letter", "generated", "bertscore_f1", "rouge_l", "key_facts", "perplexity"}


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that a card says. ``files`` are the gate's entries of the files that go up; ``results`` whole
    evaluation files, with the labels of this model's rows."""

    name: str
    repo: str
    run: Mapping[str, Any]
    report: Mapping[str, Any]
    files: Sequence[Mapping[str, Any]]
    adapter: bool
    results: Sequence[tuple[Mapping[str, Any], tuple[str, ...]]] = ()
    datasets: Sequence[str] = ()


def licence(run: Mapping[str, Any], repo: str) -> str:
    """The licence under which the model may go up, as the Hub writes it.

    Raises:
        SpaceError: base or data do not allow it, or do not say.
    """
    base = _plain(str(dict(run.get("base", {})).get("licence") or ""))
    named = {f"the base {dict(run.get('base', {})).get('id', '')}": base}
    for about in dict(run.get("data", {})).values():
        named[f"the data {about.get('name', '')}"] = _plain(str(about.get("licence") or ""))
    for what, found in named.items():
        free(what, found)
    if base.startswith(_LLAMA) and not repo.split("/")[1].lower().startswith("llama"):
        raise SpaceError(
            f"Meta's licence wants the names of models made from Llama to begin with Llama; {repo} does not. Name "
            "another repository with --to."
        )
    # The strictest of them holds for the whole.
    return next((found for part in ("-nc-", "-sa-") for found in named.values() if part in found), base)


def free(what: str, licence: str) -> None:
    """Refuse what may not be passed on.

    Raises:
        SpaceError: the licence keeps it back, is not known, or is not said.
    """
    found = _plain(licence)
    if not found:
        raise SpaceError(
            f"It is not said under which licence {what} is, so neither it nor what is made of it can be published."
        )
    if not _FREE.fullmatch(found):
        raise SpaceError(
            f"{what[0].upper()}{what[1:]} is under {found}, which is not known to allow that it, or what is made of "
            "it, is published. Nothing was sent."
        )


def _plain(licence: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", licence.lower()).strip("-.")


def base_model(run: Mapping[str, Any]) -> str:
    """The base's name on the Hub.

    Raises:
        SpaceError: it is a folder of this machine.
    """
    source = str(dict(run.get("base", {})).get("source") or "")
    name = CATALOG_BASES.get(source.removeprefix("catalog:"), source)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise SpaceError(
            f"The base of this run, {PurePath(source).name or 'unknown'}, has no name on the Hub, so nobody could tell "
            "what the model was made from. Train on a base that is there."
        )
    return name


def text(facts: Facts) -> str:
    """README.md of the model: front matter, results, files, how to run it."""
    front = yaml.safe_dump(_front(facts), sort_keys=False, allow_unicode=True, width=1000)
    parts = [f"---\n{front}---\n", f"# {facts.name}\n", _about(facts), _files(facts), _results(facts), _run(facts)]
    return "\n".join(part for part in parts if part)


def _front(facts: Facts) -> dict[str, Any]:
    about: dict[str, Any] = {
        "license": licence(facts.run, facts.repo),
        "base_model": base_model(facts.run),
        "base_model_relation": "finetune"
        if any("_adapter" not in entry["file"] for entry in facts.files)
        else "adapter",
        "language": ["en"],
        "library_name": "gguf",
        "pipeline_tag": "text-generation",
        "tags": ["gguf", "llama.cpp", "education", "tutoring", "iris-tutor"],
    }
    if facts.datasets:
        about["datasets"] = list(facts.datasets)
    index = [entry for found, labels in facts.results for entry in _index(found, labels)]
    if index:
        about["model-index"] = [{"name": facts.name, "results": index}]
    return about


def _index(found: Mapping[str, Any], labels: tuple[str, ...]) -> list[dict[str, Any]]:
    tasks: dict[str, list[dict[str, Any]]] = {}
    row = next(row for row in found["rows"] if row["label"] == labels[0])
    for name, measure in row["measures"].items():
        task, _, kind = name.rpartition(".")
        if task and kind in _SHOWN:
            tasks.setdefault(task, []).append({"type": kind, "value": round(measure["value"], 4), "name": name})
    return [
        {
            "task": {"type": "text-generation"},
            "dataset": {"type": task, "name": f"{found['title']}: {task}"},
            "metrics": metrics,
        }
        for task, metrics in tasks.items()
    ]


def _about(facts: Facts) -> str:
    recipe, run = dict(facts.run.get("recipe", {})), facts.run
    stages = ", then ".join(
        f"{stage.get('epochs', '?')} epochs of `{stage.get('data', '?')}`" for stage in recipe.get("stages", [])
    )
    lines = [
        f"{base_model(run)}, trained as a course tutor with Iris: {recipe.get('method', 'lora')}, rank "
        f"{recipe.get('lora_r', '?')}, {stages or 'see run.json'}. `run.json` has the recipe, the hashes of base and "
        "data, and the versions of all tools.",
        "",
    ]
    if str(dict(run.get("base", {})).get("licence", "")).startswith("llama"):
        lines += ["**Built with Llama.** The Llama Community License applies.", ""]
    named = sorted({f"{about.get('name')} ({about.get('licence')})" for about in dict(run.get("data", {})).values()})
    if named:
        lines += [f"Data: {', '.join(named)}.", ""]
    lines.append("It is a small model: it gets facts wrong. Check what matters.\n")
    return "\n".join(lines)


def _files(facts: Facts) -> str:
    held = dict(facts.report.get("held_out", {}))
    lines = [
        "## Files",
        "",
        "Every file was held against the trained model in float32: token ids, chat template, end of turn, and the "
        f"logits on {held.get('tokens', 0):,} held-out tokens ({held.get('data', '')}, {held.get('split', '')}).",
        "",
        "| file | kind | MB | mean KL | same first choice | perplexity (original) |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for entry in facts.files:
        d = entry["distance"]
        lines.append(
            f"| `{entry['file']}` | {entry['kind']} | {entry['bytes'] / 1e6:.1f} | {d['kl']:.4f} | {d['top1']:.1%} | "
            f"{d['perplexity']:.2f} ({d['reference_perplexity']:.2f}) |"
        )
    if facts.adapter:
        lines += ["", "`adapter/` is the adapter as peft reads it."]
    return "\n".join([*lines, ""])


def _results(facts: Facts) -> str:
    parts = []
    for found, labels in facts.results:
        rows = found["rows"]
        names = list(dict.fromkeys(name for row in rows for name in row["measures"]))
        lines = [
            f"## {found['title']}",
            "",
            f"{found['date']}, {found['machine']}; mean and 95 % interval. This model: {', '.join(labels)}.",
            "",
            "| measure | " + " | ".join(str(row["label"]) for row in rows) + " |",
            "|---|" + "---:|" * len(rows),
        ]
        for name in names:
            cells = [_cell(row["measures"].get(name)) for row in rows]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        parts.append("\n".join([*lines, ""]))
    return "\n".join(parts)


def _cell(measure: Mapping[str, Any] | None) -> str:
    if measure is None:
        return ""
    value, low, high = (f"{measure[key]:.4g}" for key in ("value", "low", "high"))
    return value if low == high else f"{value} ({low} to {high})"


def _run(facts: Facts) -> str:
    whole = [str(entry["file"]) for entry in facts.files if "_adapter" not in entry["file"]]
    lines = ["## Run it", ""]
    if whole:
        first = min(whole, key=lambda name: ("q4_k_m" not in name, name))
        lines += [
            "```sh",
            f"python -m iris --model hf:{facts.repo}/{first}@main   # the tutor, in a browser",
            f"llama-server -hf {facts.repo} --hf-file {first}       # an OpenAI-compatible server",
            "```",
            "",
        ]
    if facts.adapter:
        lines += [
            "```python",
            "from peft import PeftModel",
            "from transformers import AutoModelForCausalLM",
            "",
            f'base = AutoModelForCausalLM.from_pretrained("{base_model(facts.run)}")',
            f'model = PeftModel.from_pretrained(base, "{facts.repo}", subfolder="adapter")',
            "```",
            "",
        ]
    return "\n".join(lines)
