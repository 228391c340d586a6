"""The importance matrix: how strongly each input of each matrix is used, so that quantizing rounds the others first.

llama.cpp computes the model on texts of the training split, through the template it was trained with, and shows each
product before it goes on (``cb_eval``); the mean square of every input is kept. The file is llama.cpp's own format.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from export.errors import ExportError, SourceError
from export.quantized import Importance
from export.served import WINDOW
from export.texts import Row
from iris.engine import llama
from iris.engine.llama import Batch, Model
from iris.engine.template import ChatTemplate

C = llama.library

TOKENS = 16_384
"""Places the squares are averaged over."""

_F32 = 0  # ggml_type


class _Tensor(ctypes.Structure):
    """``ggml_tensor`` (ggml.h), as far as its name."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("buffer", ctypes.c_void_p),
        ("ne", ctypes.c_int64 * 4),
        ("nb", ctypes.c_size_t * 4),
        ("op", ctypes.c_int),
        ("op_params", ctypes.c_int32 * 16),
        ("flags", ctypes.c_int32),
        ("src", ctypes.c_void_p * 10),
        ("view_src", ctypes.c_void_p),
        ("view_offs", ctypes.c_size_t),
        ("data", ctypes.c_void_p),
        ("name", ctypes.c_char * 64),
    )


class _Squares:
    """Adds up the squares of what goes into every matrix of the blocks."""

    def __init__(self) -> None:
        self.sums: dict[str, npt.NDArray[np.float64]] = {}
        self.counts: dict[str, int] = {}

    def see(self, pointer: int, ask: bool, _: object) -> bool:
        node = _Tensor.from_address(pointer)
        if not node.src[0] or not node.src[1]:
            return not ask
        matrix, given = _Tensor.from_address(node.src[0]), _Tensor.from_address(node.src[1])
        name = matrix.name
        # The embedding and the output are left out, as llama.cpp's own tool does: they are quantized more finely.
        wanted = name.startswith(b"blk.") and name.endswith(b".weight") and given.type == _F32 and matrix.ne[1] > 1
        if ask or not wanted:
            return bool(wanted) or not ask
        width, places = given.ne[0], given.ne[1] * given.ne[2] * given.ne[3]
        values = np.ctypeslib.as_array((ctypes.c_float * (width * places)).from_address(given.data))
        squares = np.square(values.reshape(places, width), dtype=np.float32).sum(axis=0, dtype=np.float64)
        key = name.decode()
        self.sums[key] = self.sums.get(key, 0.0) + squares
        self.counts[key] = self.counts.get(key, 0) + places
        return True


def collect(path: Path, found: Iterable[Row], *, threads: int, step: Callable[[int], None]) -> Importance:
    """The importance of every input, from ``TOKENS`` tokens of the rows ``found``.

    Raises:
        ModelFileError: llama.cpp cannot load the model.
        ExportError: it computed nothing that could be seen.
    """
    model = Model(path)
    squares = _Squares()
    callback = C.ggml_backend_sched_eval_callback(squares.see)
    parameters = C.llama_context_default_params()
    parameters.n_ctx = parameters.n_batch = parameters.n_ubatch = WINDOW
    parameters.n_threads = parameters.n_threads_batch = threads
    parameters.cb_eval = callback
    context = C.llama_init_from_model(model.handle, parameters)
    try:
        if not context:
            raise ExportError("There is not enough memory to collect the importance matrix.")
        batch = Batch(WINDOW)
        for ids in _windows(model, found):
            C.llama_memory_clear(C.llama_get_memory(context), True)
            batch.clear()
            batch.add(ids, 0, 0, output_last=True)
            if C.llama_decode(context, batch.struct) != 0:
                raise ExportError("llama.cpp could not compute the texts for the importance matrix.")
            step(len(ids))
    finally:
        if context:
            C.llama_free(context)
        model.close()
    if not squares.sums:
        raise ExportError("llama.cpp showed no products, so there is no importance matrix. Export without --imatrix.")
    return {name: (total / squares.counts[name]).astype(np.float32) for name, total in squares.sums.items()}


def _windows(model: Model, found: Iterable[Row]) -> Iterable[list[int]]:
    source = model.chat_template()
    if not source:
        raise ExportError("The model has no chat template, so the course's texts cannot be put to it.")
    template = ChatTemplate(
        source,
        bos=model.bos,
        eos=model.eos,
        tokenize=lambda text, special: model.tokenize(text, special=special),
        bos_token=model.bos_token if model.adds_bos else None,
    )
    left = TOKENS
    for row in found:
        ids = (template.encode(row.prompt) + model.tokenize(row.answer, special=False))[: min(WINDOW, left)]
        yield ids
        left -= len(ids)
        if left <= 0:
            return


def write(path: Path, matrix: Importance, data: str) -> None:
    """Save it in llama.cpp's format; ``data`` names the texts."""
    import gguf

    writer: Any = gguf.GGUFWriter(path, "")
    writer.add_type("imatrix")
    writer.add_array("imatrix.datasets", [data])
    writer.add_uint32("imatrix.chunk_count", TOKENS // WINDOW)
    writer.add_uint32("imatrix.chunk_size", WINDOW)
    for name, values in matrix.items():
        writer.add_tensor(f"{name}.in_sum2", values.reshape(1, -1))
        writer.add_tensor(f"{name}.counts", np.ones((1, 1), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def read(path: Path, shapes: Sequence[tuple[str, int]]) -> Importance:
    """A matrix in llama.cpp's GGUF format, for a model with matrices of these names and numbers of inputs.

    Raises:
        SourceError: the file is of another format, or of another model.
    """
    import gguf

    try:
        tensors = {tensor.name: np.array(tensor.data, np.float32) for tensor in gguf.GGUFReader(path).tensors}
    except (OSError, ValueError, IndexError) as error:
        raise SourceError(f"{path} is no importance matrix in llama.cpp's GGUF format: {error}") from error
    widths = dict(shapes)
    matrix = {}
    for name, values in tensors.items():
        if name.endswith(".in_sum2"):
            key = name.removesuffix(".in_sum2")
            counts = tensors.get(f"{key}.counts")
            if key not in widths or values.size != widths[key] or counts is None:
                raise SourceError(f"{path} is of another model: it has {key} with {values.size} inputs.")
            matrix[key] = values.reshape(-1) / max(float(counts.reshape(-1)[0]), 1.0)
    if not matrix:
        raise SourceError(f"{path} is no importance matrix: it holds no .in_sum2 tensors.")
    return matrix


def collected_on(path: Path) -> str:
    """The data that the matrix in this file was collected on; the file's name where it does not say."""
    import gguf

    reader: Any = gguf.GGUFReader(path)
    field = reader.fields.get("imatrix.datasets")
    return ", ".join(field.contents()) if field else path.name
