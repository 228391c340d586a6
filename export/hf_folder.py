"""The merged model as a Hugging Face folder, for vLLM: the base's files with the adapter added, shard by shard."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from export.adapter import Adapter, Delta
from export.errors import OutputError, SourceError, UnsupportedError
from export.model_file import BLOCK, bfloat16
from export.shards import Place, Shards

_BESIDE = ("*.json", "*.jinja", "tokenizer.model", "LICENSE*")


def write(
    folder: Path, base: Path, adapter: Adapter | None, advance: Callable[[int], None] = lambda count: None
) -> None:
    """Write the merged model to ``folder``, which must exist, in the types and files of ``base``.

    Raises:
        UnsupportedError: the base is a GGUF.
        SourceError: the adapter does not fit.
        OutputError: the folder cannot be written.
    """
    if base.is_file():
        raise UnsupportedError(
            f"{base.name} is a GGUF; a Hugging Face folder can be made from a Hugging Face base only (--base FOLDER)."
        )
    shards = Shards.of(base)
    deltas = {f"{module}.weight": delta for module, delta in (adapter.deltas if adapter else {}).items()}
    for name, delta in deltas.items():
        place = shards.places.get(name)
        if place is None or place.shape != delta.shape:
            raise SourceError(f"The adapter belongs to another base: {base} has no {name} of shape {delta.shape}.")
    files: dict[Path, dict[str, Place]] = {}
    for name, place in shards.places.items():
        files.setdefault(place.file, {})[name] = place
    try:
        for path, places in files.items():
            _file(folder / path.name, places, shards, deltas, advance)
        for pattern in _BESIDE:
            for path in base.glob(pattern):
                shutil.copyfile(path, folder / path.name)
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {error.strerror or error}.") from error
    finally:
        shards.close()


def _file(
    path: Path, places: dict[str, Place], shards: Shards, deltas: dict[str, Delta], advance: Callable[[int], None]
) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, place in places.items():
        size = math.prod(place.shape) * {"F64": 8, "F32": 4}.get(place.kind, 2)
        header[name] = {"dtype": place.kind, "shape": place.shape, "data_offsets": [end, end + size]}
        end += size
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    with path.open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        for name, place in places.items():
            step = max(1, BLOCK // max(1, math.prod(place.shape[1:])))
            for start in range(0, place.shape[0] if place.shape else 1, step):
                rows = shards.rows(name, start, min(start + step, place.shape[0]))
                if name in deltas:
                    rows = deltas[name].apply(rows, start)
                block = _stored(rows, place.kind, name)
                file.write(block.data)
                advance(block.nbytes)


def _stored(rows: npt.NDArray[np.float32], kind: str, name: str) -> npt.NDArray[Any]:
    if kind == "BF16":
        return bfloat16(rows)
    stored = rows.astype({"F64": np.float64, "F32": np.float32, "F16": np.float16}[kind])
    if not np.isfinite(stored).all():
        raise SourceError(f"{name} holds values that are not finite, or too large for {kind}.")
    return stored
