"""Publish a trained model on the Hugging Face Hub: GGUFs that passed the gate, adapter, and a card of what is known.

    python spaces/publish_model.py outputs/llama32-1b-qlora-finetome-exam                 # to you/NAME-gguf
    python spaces/publish_model.py outputs/RECIPE --to our-school/tutor-1b --private
    python spaces/publish_model.py outputs/RECIPE --results outputs/evaluation/domain/results.json
    python spaces/publish_model.py outputs/RECIPE --dry-run out/                          # only write card and list

What the gate (export/verify.py) did not pass is not published, nor what its base's or data's licence keeps back.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import model_card
from deploy import name
from model_card import Facts
from space_folder import SpaceError

from iris.errors import IrisError
from iris.results import FORMAT, KIND

EVALUATIONS = Path("outputs/evaluation")
_ADAPTER = ("adapter_config.json", "adapter_model.safetensors")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        return _publish(options)
    except IrisError as error:
        print(f"publish_model: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("run", type=Path, help="the run's folder, outputs/RECIPE")
    parser.add_argument("--to", type=name, help="the repository, owner/name (you/RECIPE-gguf)")
    parser.add_argument("--results", nargs="+", type=Path, help="evaluation results (those of this model in outputs/)")
    parser.add_argument("--datasets", nargs="+", type=name, default=[], help="the data sets on the Hub, owner/name")
    parser.add_argument("--private", action="store_true", help="only for its owner")
    parser.add_argument("--dry-run", type=Path, metavar="DIR", help="write the card there and send nothing")
    return parser


def _publish(options: argparse.Namespace) -> int:
    folder: Path = options.run.resolve()
    run = _json(folder / "run.json", "Training writes it when it is finished")
    recipe = str(dict(run.get("recipe", {})).get("name") or folder.name)
    report, entries = _gate(folder / "gguf")
    weights = _adapter(folder, run)
    repo = options.to or f"you/{recipe}-gguf"
    model_card.licence(run, repo)
    if not options.dry_run:
        from hub_session import Session

        session = Session()
        repo = options.to or f"{session.name}/{recipe}-gguf"
        session.own(repo)
    results = tuple(_results(options.results, recipe, folder))
    facts = Facts(recipe, repo, run, report, entries, bool(weights), results, options.datasets)
    card = model_card.text(facts)
    files: dict[str, Path | bytes] = {
        "README.md": card.encode(),
        "run.json": (json.dumps(_portable(run), ensure_ascii=False, indent=1) + "\n").encode(),
        **_uploaded(weights, model_card.base_model(run)),
        **{str(entry["file"]): folder / "gguf" / entry["file"] for entry in entries},
        **{path.name: path for path in sorted((folder / "gguf").glob("*.report.json"))},
    }
    if options.dry_run:
        options.dry_run.mkdir(parents=True, exist_ok=True)
        (options.dry_run / "README.md").write_text(card, encoding="utf-8")
        print("\n".join(files))
        return 0
    session.call(f"making {repo}", session.api.create_repo, repo, private=options.private or None, exist_ok=True)
    done = session.upload(repo, "model", files, f"{recipe}: {len(entries)} files", tidy=False)
    print(f"{done.sent} files sent, {done.same} as before: {session.api.endpoint}/{repo}")
    whole = next((str(entry["file"]) for entry in entries if "_adapter" not in entry["file"]), "")
    if whole:
        print(f"Next: python spaces/deploy.py OWNER/NAME --models hf:{repo}/{whole}@main")
    return 0


def _gate(folder: Path) -> tuple[Mapping[str, Any], list[Mapping[str, Any]]]:
    """The gate's report and its entries for the files at hand, each of which must have passed.

    Raises:
        SpaceError: a file did not pass, was not held against anything, or is another one now.
    """
    reports = [_json(path, "") for path in sorted(folder.glob("*.report.json"))]
    judged = {str(entry["file"]): entry for report in reports for entry in report["files"]}
    files = [
        path for path in sorted(folder.glob("*.gguf")) if not path.stem.endswith(("_imatrix", ".rejected", ".plain"))
    ]
    if not files:
        failed = [entry["file"] for entry in judged.values() if not entry["passed"]]
        more = f" The gate refused {', '.join(failed)}." if failed else ""
        raise SpaceError(f"There is no GGUF in {folder} to publish.{more} Make one with export/to_gguf.py.")
    for path in files:
        entry = judged.get(path.name)
        if entry is None:
            raise SpaceError(
                f"{path.name} has not been through the gate, so it is not published. Run: "
                f"python export/verify.py {path}"
            )
        if not entry["passed"]:
            reasons = "; ".join(entry["failures"])
            raise SpaceError(f"{path.name} did not pass the gate ({reasons}), so it is not published.")
        beside = path.with_name(f"{path.name}.sha256")
        known = beside.read_text(encoding="utf-8").split()[:1] if beside.is_file() else []
        if path.stat().st_size != entry["bytes"] or known != [_sha256(path)]:
            raise SpaceError(
                f"{path.name} is not the file that passed the gate: it has changed since. Export it again."
            )
    return reports[0], [judged[path.name] for path in files]


def _adapter(folder: Path, run: Mapping[str, Any]) -> list[Path]:
    adapter = folder / str(run.get("output") or "adapter")
    paths = [adapter / part for part in _ADAPTER]
    return paths if all(path.is_file() for path in paths) else []


def _uploaded(weights: Sequence[Path], base: str) -> dict[str, Path | bytes]:
    """The adapter's files, naming the base as it is called on the Hub."""
    files: dict[str, Path | bytes] = {f"adapter/{path.name}": path for path in weights}
    for path in weights:
        if path.name == _ADAPTER[0]:
            config = _json(path, "Training writes it") | {"base_model_name_or_path": base}
            if str(config.get("revision") or "").startswith("sha256:"):
                config["revision"] = None  # of a GGUF, which the Hub does not know
            files[f"adapter/{path.name}"] = (json.dumps(config, indent=2) + "\n").encode()
    return files


def _results(
    named: Sequence[Path] | None, recipe: str, folder: Path
) -> Iterator[tuple[Mapping[str, Any], tuple[str, ...]]]:
    """Evaluation files with rows of this model, and the labels of those rows.

    Raises:
        SpaceError: a file that was named is none, or is not about this model.
    """
    named_so = re.compile(rf"(?<![A-Za-z0-9-]){re.escape(recipe)}(?![A-Za-z0-9-])")
    found = named or sorted([*folder.glob("results*.json"), *EVALUATIONS.glob("*/results.json")])
    for path in found:
        about = _json(path, "evaluation/ writes it")
        right = about.get("kind") == KIND and about.get("format") == FORMAT
        rows = about.get("rows", []) if right else []
        labels = tuple(row["label"] for row in rows if named_so.search(f"{row['label']} {row['model']}"))
        if labels:
            yield about, labels
        elif named:
            raise SpaceError(f"{path} holds no evaluation of {recipe}.")


def _json(path: Path, remedy: str) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SpaceError(f"There is no {path}. {remedy}.") from None
    except (OSError, ValueError) as error:
        raise SpaceError(f"{path} cannot be read: {error}.") from error
    if not isinstance(value, dict):
        raise SpaceError(f"{path} is not what it should be: an object was expected.")
    return value


def _portable(value: Any) -> Any:
    """The record without the places where this machine keeps things."""
    if isinstance(value, dict):
        return {key: _portable(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_portable(entry) for entry in value]
    return Path(value).name if isinstance(value, str) and value.startswith(("/", "~")) else value


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    sys.exit(main())
