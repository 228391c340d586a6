"""From what a person names (a run, an adapter, a model; a base) to files at hand, and what is known of them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from export import adapter, outputs
from export.errors import SourceError
from iris import catalog
from iris.errors import IrisError

_HUB = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
_WANTED = ["*.safetensors", "*.json", "*.jinja", "tokenizer.model"]


@dataclass(frozen=True, slots=True)
class Source:
    """What is exported. ``run`` is the content of run.json, empty where there is none.

    ``base`` is a folder or a GGUF; ``base_id`` names it without saying where this machine keeps it; ``base_revision``
    is a Hub commit or a sha256; ``folder`` is where the results go unless told otherwise; ``base_note`` is what one
    should know of the base.
    """

    name: str
    base: Path
    base_id: str
    base_revision: str
    base_licence: str
    adapter: Path | None
    folder: Path
    run: Mapping[str, Any] = field(default_factory=dict)
    base_note: str = ""


def find(target: str, base: str = "") -> Source:
    """The files behind ``target``: the folder of a run or an adapter, a model folder, a GGUF, or a Hub id.

    ``base`` replaces the base that the adapter names: a folder, a GGUF, an id of Iris' catalog, or a Hub id.

    Raises:
        SourceError: something does not exist, or the adapter was trained on another base.
    """
    path = Path(target)
    run = _run(path)
    if run:
        path = path / str(run.get("output", "adapter"))
    if path.is_file():
        if base:
            raise SourceError(f"{path} is a whole model, not an adapter; --base has no meaning for it.")
        return _plain(path, path.stem, path.parent)
    if (path / adapter.CONFIG).is_file():
        return _adapted(path, base, run or _run(path.parent), target)
    if (path / "config.json").is_file():
        if base:
            raise SourceError(f"{path} is a whole model, not an adapter; --base has no meaning for it.")
        name = _name(path, run)
        return _plain(path, name, path.parent if run else path, run)
    if path.exists():
        raise SourceError(
            f"{path} is neither a run (run.json), an adapter ({adapter.CONFIG}) nor a model (config.json). "
            "If a training is still going on there, wait for it."
        )
    if _HUB.fullmatch(target) and not target.endswith(".gguf"):
        folder, revision = _download(target)
        name = target.partition("@")[0]
        return Source(name.split("/")[1], folder, name, revision, "", None, Path("outputs") / name.split("/")[1])
    raise SourceError(
        f"There is no {target}. Give the folder of a run, an adapter or a model, or owner/name on the Hub."
    )


def _plain(path: Path, name: str, folder: Path, run: Mapping[str, Any] | None = None) -> Source:
    identity = (run or {}).get("base", {})
    revision = str(identity.get("revision") or fingerprint(path))
    return Source(
        name,
        path,
        str(identity.get("source") or path.name),
        revision,
        str(identity.get("licence") or ""),
        None,
        folder,
        run or {},
    )


def _adapted(path: Path, base: str, run: Mapping[str, Any], target: str) -> Source:
    about = adapter.config(path)
    named = str(about.get("base_model_name_or_path") or "")
    wanted = base or named
    if not wanted:
        raise SourceError(f"{path} does not name its base. Give it with --base.")
    revision = str(about.get("revision") or "")
    found, at = _base(wanted, revision if not base or base == named else "")
    same = not base or base == named or named == f"catalog:{base}"
    if same and revision.startswith("sha256:") and at.startswith("sha256:") and revision != at and found.is_file():
        raise SourceError(
            f"{path} was trained on {named} with {revision[:19]}…, and the file there has {at[:19]}…: another base. "
            "Give the right one with --base."
        )
    identity = run.get("base", {})
    folder = path.parent if path.name == "adapter" else path
    base_id = str(identity.get("source") or wanted) if same else wanted
    if Path(base_id).exists():
        base_id = Path(base_id).resolve().name  # where this machine keeps it is nobody's business
    licence = str(identity.get("licence") or "") if same else ""
    note = f"{path} was trained on {named}. That {base} holds the same weights cannot be checked." if not same else ""
    return Source(_name(path, run), found, base_id, at, licence, path, folder, run, note if named else "")


def _base(wanted: str, revision: str) -> tuple[Path, str]:
    """The files of a base, and the revision they are."""
    path = Path(wanted)
    if path.exists():
        return path, fingerprint(path)
    name = wanted.removeprefix("catalog:")
    if name != wanted or name in catalog.models():
        try:
            found = catalog.resolve(name).path
        except IrisError as error:
            raise SourceError(f"The base {wanted} is not at hand: {error}") from error
        return found, fingerprint(found)
    if _HUB.fullmatch(wanted):
        return _download(f"{wanted}@{revision}" if revision and not revision.startswith("sha256:") else wanted)
    raise SourceError(f"There is no base {wanted}: no folder, no GGUF, no id of the catalog, no owner/name on the Hub.")


def _download(address: str) -> tuple[Path, str]:
    """A snapshot from the Hub or its cache, and its commit."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    name, _, revision = address.partition("@")
    try:
        folder = Path(snapshot_download(name, revision=revision or None, allow_patterns=_WANTED))
    except (OSError, HfHubHTTPError, ValueError) as error:
        raise SourceError(
            f"{address} cannot be had: {str(error).splitlines()[0]} If it is gated, accept its licence on "
            f"https://huggingface.co/{name} and set HF_TOKEN; offline, give a folder with --base."
        ) from error
    return folder, folder.name


def _run(folder: Path) -> dict[str, Any]:
    try:
        about = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise SourceError(f"{folder / 'run.json'} cannot be read: {error}") from error
    return about if isinstance(about, dict) else {}


def _name(path: Path, run: Mapping[str, Any]) -> str:
    """The recipe's name; without a run the folder's, or that above a folder called adapter or model."""
    recipe = run.get("recipe", {}).get("name")
    if recipe:
        return str(recipe)
    real = path.resolve()
    return real.parent.name if real.name in ("adapter", "model") else real.name


def fingerprint(path: Path) -> str:
    """What tells these weights from others: the sha256 of a GGUF; of a folder that over config.json, and the header,
    size and first megabyte of every weights file (hashing gigabytes each time would cost more than it proves)."""
    if path.is_file():
        return f"sha256:{outputs.sha256(path)}"
    digest = hashlib.sha256()
    for file in sorted([*path.glob("config.json"), *path.glob("*.safetensors")]):
        with file.open("rb") as opened:
            size = int.from_bytes(opened.read(8), "little") if file.suffix == ".safetensors" else 0
            opened.seek(0)
            digest.update(opened.read(min(size, 64 << 20) + (1 << 20)))
        digest.update(json.dumps([file.name, file.stat().st_size]).encode())
    return f"sha256:{digest.hexdigest()}"
