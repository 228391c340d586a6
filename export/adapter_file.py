"""A LoRA adapter as GGUF, which llama.cpp adds to a base while it computes: several tutors over one base in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from export.adapter import Adapter
from export.base import Base, Field
from export.errors import OutputError, UnsupportedError


def write(path: Path, base: Base, adapter: Adapter, metadata: dict[str, Field]) -> None:
    """Write the adapter for ``base`` to ``path``, its matrices in F16.

    llama.cpp multiplies ``B @ A`` by alpha / rank, with one alpha for all. So the alpha that is written is what gives
    the first matrix its scaling, also under rsLoRA; where others have another one, their B is scaled.

    Raises:
        UnsupportedError: the adapter is DoRA, or its values do not fit into F16.
        OutputError: the file cannot be written.
    """
    import gguf

    if adapter.dora:
        raise UnsupportedError(
            f"{adapter.folder} is DoRA: it also rescales the rows of the base, which an adapter GGUF cannot express. "
            "Export the merged model, without --adapter-only."
        )
    deltas = base.deltas(adapter)
    first = next(iter(deltas.values()))
    alpha = first.scaling * first.rank
    writer: Any = gguf.GGUFWriter(None, base.architecture)
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", alpha)
    for key, entry in metadata.items():
        writer.add_key_value(
            key, entry.value, gguf.GGUFValueType(entry.kind), entry.item and gguf.GGUFValueType(entry.item)
        )
    largest = float(np.finfo(np.float16).max)
    for name, delta in deltas.items():
        b = delta.b * np.float32(delta.scaling * delta.rank / alpha)
        if max(np.abs(delta.a).max(), np.abs(b).max()) > largest:
            raise UnsupportedError(
                f"The adapter's values for {delta.module} do not fit into F16. The training diverged."
            )
        writer.add_tensor(f"{name}.lora_a", delta.a.astype(np.float16))
        writer.add_tensor(f"{name}.lora_b", b.astype(np.float16))
    try:
        writer.write_header_to_file(path)
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    except OSError as error:
        raise OutputError(f"{path.name} cannot be written: {error.strerror or error}.") from error
    finally:
        writer.close()
