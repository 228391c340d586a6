"""From what a person names after ``--models`` to files at hand.

    smollm2-135m                         a row of the catalog
    path/to/model.gguf                   a GGUF; ``model.gguf+adapter.gguf`` puts an adapter over it
    outputs/RECIPE, path/to/adapter      a finished run or a LoRA folder, over its base, in PyTorch
    path/to/folder                       a Hugging Face folder, in PyTorch
    pytorch:smollm2-135m                 a base of training, in PyTorch (a GGUF of the catalog is dequantized)

``label=`` before any of them is how it is called in tables.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from evaluation.errors import TargetError
from iris import catalog
from iris.errors import IrisError

Backend = Literal["gguf", "pytorch"]

_CONFIG = "adapter_config.json"


@dataclass(frozen=True, slots=True)
class Target:
    """A model to evaluate.

    ``path`` is a GGUF or a folder; ``adapter`` a GGUF or a LoRA folder over it. ``base`` names the base of training
    that an adapter folder belongs to, whose files are found when they are needed. ``sha256`` names the weights.
    """

    label: str
    name: str
    backend: Backend
    path: Path | None
    adapter: Path | None
    base: str
    sha256: str

    @property
    def bytes(self) -> int:
        """All weights that must be at hand, the base of an adapter folder among them where it is on this machine."""
        paths = [path for path in (self.path, self.adapter) if path]
        if self.path is None:
            from training import base, recipes

            with suppress(IrisError):  # of a base on the Hub the files are not counted
                paths.append(Path(base.locate(recipes.find_base(self.base.removeprefix("catalog:"))).location))
        return sum(_size(path) for path in paths)


def find_all(named: Sequence[str]) -> list[Target]:
    """The targets of these names, with labels that differ.

    Raises:
        TargetError: one of them is no model, or two have one label.
        UnknownModel, ModelFileError, DownloadError: see ``iris.catalog.resolve``.
    """
    if not named:
        raise TargetError("No model is named. Give at least one after --models.")
    targets = [find(name) for name in named]
    twice = [label for label, count in Counter(target.label for target in targets).items() if count > 1]
    if twice:
        raise TargetError(f"Two models are called {twice[0]!r}. Write label=model to tell them apart.")
    return targets


def find(named: str) -> Target:
    """The target of one name. Raises what ``find_all`` raises."""
    label, sign, spec = named.partition("=")
    if not sign or "/" in label or not label.strip():
        label, spec = "", named
    label, spec = label.strip(), spec.strip()
    if any(sign in label for sign in "|/\\\n"):
        raise TargetError(f"The label {label!r} cannot stand in a table and a file name. Take letters and digits.")
    if spec.startswith("pytorch:"):
        return _trainable(label, spec.removeprefix("pytorch:"))
    model, _, over = spec.partition(".gguf+")
    if over:
        return _gguf(label, spec, Path(f"{model}.gguf"), Path(over))
    folder = Path(spec).expanduser()
    if folder.is_dir():
        return _folder(label, folder)
    if spec.startswith("outputs/") and not folder.exists():
        raise TargetError(f"There is no {spec}: train or export it first, or name other models with --models.")
    files = catalog.resolve(spec)
    name = files.path.stem if spec.endswith(".gguf") and not spec.startswith("hf:") else files.spec.id
    return _gguf(label, name, files.path, files.adapter)


def _gguf(label: str, name: str, path: Path, adapter: Path | None) -> Target:
    for file in filter(None, (path, adapter)):
        if not file.is_file():
            raise TargetError(f"There is no file {file}.")
    name = name if "/" not in name else "+".join(part.stem for part in (path, adapter) if part)
    return Target(label or name, name, "gguf", path, adapter, "", _hash(path, adapter))


def _folder(label: str, folder: Path) -> Target:
    name = folder.resolve().name
    if name in ("adapter", "model"):
        name = folder.resolve().parent.name
    if (folder / "run.json").is_file():
        folder = folder / str(_read(folder / "run.json").get("output", "adapter"))
    if (folder / _CONFIG).is_file():
        base = str(_read(folder / _CONFIG).get("base_model_name_or_path") or "")
        if not base:
            raise TargetError(f"{folder / _CONFIG} does not name the base model.")
        return Target(label or name, name, "pytorch", None, folder, base, _hash(folder))
    if (folder / "config.json").is_file():
        return Target(label or name, name, "pytorch", folder, None, "", _hash(folder))
    raise TargetError(
        f"{folder} holds neither a finished run (run.json), an adapter ({_CONFIG}) nor a model (config.json). "
        "If a training is still going on there, wait for it."
    )


def _trainable(label: str, name: str) -> Target:
    if not name:
        raise TargetError("Write the base's name after pytorch:, such as pytorch:smollm2-135m.")
    # Its files are found, and dequantized if need be, by the process that loads them.
    digest = hashlib.sha256(name.encode()).hexdigest()
    return Target(label or f"{name}-pytorch", name, "pytorch", None, None, name, digest)


def _read(path: Path) -> dict[str, object]:
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TargetError(f"{path} cannot be read: {error}") from error
    return about if isinstance(about, dict) else {}


def _size(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.glob("*.safetensors"))


def _hash(*paths: Path | None) -> str:
    """sha256 over the files; of folders over their configuration and weights."""
    digest = hashlib.sha256()
    for path in filter(None, paths):
        names = ("*config.json", "*.safetensors", "tokenizer.json")
        files = [path] if path.is_file() else sorted(file for name in names for file in path.glob(name))
        for file in files:
            with file.open("rb") as opened:
                digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()
