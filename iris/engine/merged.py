"""A small model with its adapter worked in: made once, served at the speed of the model alone.

llama.cpp can add a LoRA while it computes, but a small model pays dearly for it: four more operations for each of its
matrices, each of which its threads wait for. So the sum ``W + alpha / rank * B @ A`` is computed here, on the weights
as they come out of the base's own format, and kept as Q8_0, whose rounding is far below what the base has lost already.
Only for small models: of a large one the copy would cost gigabytes of disk, and the adapter's share of the work is
small.
"""

from __future__ import annotations

import hashlib
import logging
import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from iris import gguf_file
from iris.engine import fastcopy
from iris.errors import ModelFileError
from iris.gguf_file import padded

log = logging.getLogger(__name__)


def merged_copy(base: Path, adapter: Path, folder: Path, *, threads: int) -> Path | None:
    """The path of the merged Q8_0 in ``folder``, made on first use; None where the adapter is better served beside.

    A failure to make one (a full disk, say) is logged and costs only speed.

    Raises:
        ModelFileError: the adapter is not for this base.
    """
    if base.stat().st_size > fastcopy.LARGEST:
        return None
    digest = hashlib.sha256(adapter.read_bytes()).hexdigest()[:16]
    about = base.stat()
    copy = folder / f"{base.stem}-{about.st_size:x}-{about.st_mtime_ns:x}+{digest}-q8_0.gguf"
    if copy.is_file():
        return copy
    try:
        with fastcopy.beside(copy) as fresh:
            full = fresh.with_suffix(".f16")
            try:
                merge(base, adapter, full)
                fastcopy.quantize(full, fresh, threads=threads)
            finally:
                full.unlink(missing_ok=True)
    except (OSError, ValueError, NotImplementedError) as error:  # the latter: a format that cannot be unpacked
        log.warning("%s could not be worked into %s (%s); it is added at each step", adapter.name, base.name, error)
        return None
    return copy


def merge(base: Path, adapter: Path, target: Path) -> None:
    """Write ``base`` with ``adapter`` added to ``target``: matrices in F16, vectors in F32, the base's metadata.

    Raises:
        ModelFileError: the adapter is of another kind, or its matrices do not fit those of the base.
        OSError: the file cannot be written.
    """
    import gguf

    read = gguf_file.layout(base)
    changes = _Changes(adapter, read.architecture)
    changes.check({tensor.name: tensor.shape[::-1] for tensor in read.tensors}, base)
    blocks = np.memmap(base, np.uint8, "r").view(np.ndarray)  # the plain kind: each slice of a memmap costs
    with target.open("wb") as file:
        # The base's metadata as it stands: parsing it and writing it anew takes twice as long as all the sums.
        file.write(struct.pack("<4sIQQ", b"GGUF", 3, len(read.tensors), read.pairs) + read.metadata)
        offset = 0
        for tensor in read.tensors:
            wide = _wide(tensor)
            name = tensor.name.encode()
            dimensions = struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *tensor.shape)
            kind = gguf.GGMLQuantizationType[wide.__name__.replace("float", "F")]
            file.write(struct.pack("<Q", len(name)) + name + dimensions + struct.pack("<IQ", kind, offset))
            offset += padded(math.prod(tensor.shape) * np.dtype(wide).itemsize, read.alignment)
        for tensor in read.tensors:  # one at a time: the model as float32 is seven times the file
            file.write(bytes(padded(file.tell(), read.alignment) - file.tell()))
            rows = blocks[tensor.start : tensor.start + tensor.size].reshape(math.prod(tensor.shape[1:]), -1)
            values = gguf.dequantize(rows, gguf.GGMLQuantizationType(tensor.kind)).reshape(tensor.shape[::-1])
            file.write((values + changes.of(tensor.name)).astype(_wide(tensor)).data)
        file.write(bytes(padded(file.tell(), read.alignment) - file.tell()))


def _wide(tensor: gguf_file.Tensor) -> type[np.float32] | type[np.float16]:
    return np.float32 if len(tensor.shape) == 1 else np.float16


class _Changes:
    """What an adapter GGUF adds to which tensor."""

    def __init__(self, path: Path, architecture: str) -> None:
        import gguf

        self._path = path
        read: Any = gguf.GGUFReader(path)
        fields = {key: field.contents() for key, field in read.fields.items()}
        if fields.get("adapter.type") != "lora" or fields.get("general.architecture") != architecture:
            raise ModelFileError(f"{path.name} is not a LoRA adapter for a model of the kind {architecture!r}.")
        self._alpha = float(fields["adapter.lora.alpha"])
        self._parts = {
            tensor.name: gguf.dequantize(tensor.data, tensor.tensor_type).reshape(tuple(reversed(tensor.shape)))
            for tensor in read.tensors
        }

    def check(self, shapes: dict[str, tuple[int, ...]], base: Path) -> None:
        """Raises ModelFileError when a matrix has no counterpart of its shape in the base."""
        for part, values in self._parts.items():
            name, _, side = part.rpartition(".")
            other = self._parts.get(f"{name}.lora_{'b' if side == 'lora_a' else 'a'}")
            if side not in ("lora_a", "lora_b") or other is None or name not in shapes:
                raise ModelFileError(f"The adapter {self._path.name} changes {part}, which {base.name} does not have.")
            a, b = (values, other) if side == "lora_a" else (other, values)
            if (b.shape[0], a.shape[1]) != shapes[name] or a.shape[0] != b.shape[1]:
                raise ModelFileError(
                    f"The adapter {self._path.name} does not fit {base.name}: {name} is {shapes[name]} there, the "
                    f"adapter is for {(b.shape[0], a.shape[1])}."
                )

    def of(self, name: str) -> npt.NDArray[np.float32] | float:
        """What is added to the tensor ``name``: a matrix of its shape, or 0."""
        a, b = self._parts.get(f"{name}.lora_a"), self._parts.get(f"{name}.lora_b")
        if a is None or b is None:
            return 0.0
        # llama.cpp divides by the rank of this very matrix.
        product: npt.NDArray[np.float32] = (b @ a) * np.float32(self._alpha / a.shape[0])
        return product
