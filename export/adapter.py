"""A LoRA adapter as peft saves it: which rows of which matrix change, and by how much.

``W' = W + scaling * B @ A`` with scaling ``alpha / r``, or ``alpha / sqrt(r)`` for rsLoRA (Kalajdzievski, 2023). DoRA
(Liu et al., 2024) then gives every row of W' the length of its trained magnitude.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from export.errors import SourceError, UnsupportedError
from export.shards import Floats, Shards

_KEY = re.compile(r"base_model\.model\.(?P<module>.+)\.(?P<part>lora_A|lora_B|lora_magnitude_vector)(?:\.weight)?")
WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"


@dataclass(frozen=True, slots=True)
class Delta:
    """What an adapter adds to the matrix of one module.

    ``a``: (rank, inputs), ``b``: (outputs, rank), ``magnitude``: (outputs,) for DoRA.
    """

    module: str
    a: Floats
    b: Floats
    scaling: float
    magnitude: Floats | None = None

    @property
    def rank(self) -> int:
        return len(self.a)

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.b), self.a.shape[1]

    def reordered(self, order: npt.NDArray[np.int64]) -> Delta:
        """The same change for a matrix whose row ``i`` is row ``order[i]`` of this one's."""
        magnitude = None if self.magnitude is None else self.magnitude[order]
        return replace(self, b=self.b[order], magnitude=magnitude)

    def apply(self, rows: Floats, start: int) -> Floats:
        """The rows from ``start`` on of W', computed from those of W (which are overwritten)."""
        rows += (self.scaling * self.b[start : start + len(rows)]) @ self.a
        if self.magnitude is not None:
            length = np.linalg.norm(rows, axis=1)
            rows *= (self.magnitude[start : start + len(rows)] / length)[:, None]
        return rows


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter folder, read and checked. ``base`` and ``revision`` are what it says it was trained on."""

    folder: Path
    base: str
    revision: str
    rslora: bool
    deltas: dict[str, Delta]

    @property
    def dora(self) -> bool:
        return any(delta.magnitude is not None for delta in self.deltas.values())


def read(folder: Path) -> Adapter:
    """The adapter in ``folder``; it is small and held in memory.

    Raises:
        SourceError: a file is missing or damaged, or a matrix lacks its partner.
        UnsupportedError: it is of a kind whose change to the weights is not ``B @ A``.
    """
    about = config(folder)
    _refuse(folder, about)
    path = folder / WEIGHTS
    if not path.is_file():
        raise SourceError(f"{folder} lacks {WEIGHTS}. (An adapter_model.bin is a pickle, which is not read.)")
    shards = Shards([path])
    parts: dict[str, dict[str, Floats]] = {}
    for name, place in shards.places.items():
        match = _KEY.fullmatch(name)
        if not match:
            raise UnsupportedError(_stray(path, name))
        parts.setdefault(match["module"], {})[match["part"]] = shards.rows(name, 0, place.shape[0])
    shards.close()
    if not parts:
        raise SourceError(f"{path} holds no LoRA matrices.")
    deltas = {module: _delta(module, found, about, path) for module, found in sorted(parts.items())}
    return Adapter(
        folder,
        str(about.get("base_model_name_or_path") or ""),
        str(about.get("revision") or ""),
        bool(about.get("use_rslora")),
        deltas,
    )


def config(folder: Path) -> dict[str, Any]:
    """The adapter_config.json of a folder.

    Raises:
        SourceError: there is none, or it is broken.
    """
    try:
        about = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SourceError(f"{folder} is no adapter: {CONFIG} is missing or broken.") from error
    if not isinstance(about, dict):
        raise SourceError(f"{folder / CONFIG} is broken: it holds no object.")
    return about


def _refuse(folder: Path, about: dict[str, Any]) -> None:
    kind = about.get("peft_type")
    remedy = "Merge it with peft's merge_and_unload, save the model, and export that folder."
    if kind != "LORA":
        raise UnsupportedError(f"{folder} is a {kind} adapter; only LoRA, rsLoRA and DoRA are merged here. {remedy}")
    if about.get("modules_to_save"):
        names = ", ".join(about["modules_to_save"])
        raise UnsupportedError(f"{folder} also trained whole modules ({names}), which no delta expresses. {remedy}")
    if about.get("bias", "none") != "none":
        raise UnsupportedError(f"{folder} also trained biases (bias={about['bias']!r}). {remedy}")
    for key in ("fan_in_fan_out", "layer_replication", "trainable_token_indices", "target_parameters", "lora_bias"):
        if about.get(key):
            raise UnsupportedError(f"{folder} uses {key}, which is not merged here. {remedy}")


def _stray(path: Path, name: str) -> str:
    if "lora_embedding" in name:
        return f"{path}: {name} adapts the embedding, which also decides the output; train without embed_tokens."
    return f"{path}: {name} is no LoRA matrix. Merge the adapter with peft's merge_and_unload and export that folder."


def _delta(module: str, parts: dict[str, Floats], about: dict[str, Any], path: Path) -> Delta:
    if "lora_A" not in parts or "lora_B" not in parts:
        raise SourceError(f"{path}: of {module} only {', '.join(parts)} is there. The file is incomplete.")
    a, b = parts["lora_A"], parts["lora_B"]
    if a.ndim != 2 or b.ndim != 2 or len(a) != b.shape[1]:
        raise SourceError(f"{path}: the matrices of {module} do not fit together: A {a.shape}, B {b.shape}.")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise SourceError(f"{path}: the matrices of {module} hold values that are not finite. The training diverged.")
    if bool(about.get("use_dora")) != ("lora_magnitude_vector" in parts):
        raise SourceError(f"{path}: {CONFIG} and the matrices of {module} disagree about DoRA.")
    alpha = float(_pattern(about.get("alpha_pattern"), module, about.get("lora_alpha", 8)))
    rank = _pattern(about.get("rank_pattern"), module, about.get("r", 8))
    if rank != len(a):
        raise SourceError(f"{path}: {module} has rank {len(a)}, and {CONFIG} says {rank}. They are of two trainings.")
    scaling = alpha / math.sqrt(rank) if about.get("use_rslora") else alpha / rank
    magnitude = parts.get("lora_magnitude_vector")
    return Delta(module, a, b, scaling, None if magnitude is None else magnitude.reshape(-1))


def _pattern(patterns: dict[str, Any] | None, module: str, default: Any) -> Any:
    """The value of the first pattern that matches the end of a module's name, as peft looks them up."""
    for pattern, value in (patterns or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return default
