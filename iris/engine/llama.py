"""A small typed wrapper over the llama.cpp C calls that the batch engine needs.

Nothing here knows of requests or slots. Short calls go through ``ctypes.PyDLL``, which keeps the interpreter lock:
giving it up for a call of microseconds would cost up to a thread switch interval each time other threads are busy.
Only ``llama_decode`` and the loaders let other threads run meanwhile.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from iris.errors import ModelFileError

# Between two operations of a step, a thread of llama.cpp that is done waits for the others. OpenMP's default is to spin
# for milliseconds, which steals the core from the very thread that is waited for as soon as anything else (the web
# server, a browser) wants to run: with one other busy process, answers came at a tenth of the speed. To sleep at once
# is no better: waking up takes longer than most operations. Spinning for some ten microseconds, then sleeping, costs
# next to nothing on an idle machine and little on a busy one. "active" is for more threads than cores (two models in
# memory), where OpenMP would else hardly spin at all. Read when the library is loaded, so set before.
if not os.environ.keys() & {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"}:
    os.environ.update(OMP_WAIT_POLICY="active", GOMP_SPINCOUNT="2000")

import llama_cpp as C

library: Any = C
"""The C API, loaded with the settings above; other modules of this package take it from here."""

Tokens = npt.NDArray[np.int32]

_held = ctypes.PyDLL(C.llama_cpp._lib._name)


def short(name: str) -> Callable[..., Any]:
    """The C function ``name``, called without giving up the interpreter lock."""
    function = getattr(_held, name)
    declared = getattr(C, name)
    function.argtypes, function.restype = declared.argtypes, declared.restype
    return function  # type: ignore[no-any-return]


_get_logits_ith = short("llama_get_logits_ith")
_seq_rm = short("llama_memory_seq_rm")
_seq_cp = short("llama_memory_seq_cp")
_token_to_piece = short("llama_token_to_piece")
_tokenize = C.llama_tokenize  # may take long for a megabyte of text: other threads go on

_log: deque[str] = deque(maxlen=40)
_log_lock = threading.Lock()


def _remember(level: int, text: bytes, _: object) -> None:
    # Levels 3 (warning), 4 (error) and 5 (continuation of the line before) explain a failed load.
    if level >= 2:
        _log.append(text.decode("utf-8", "replace"))


def _amx(system_info: bytes, library: object) -> Literal["none", "works", "crashes"]:
    """What becomes of a matrix that is handed to the AMX unit of Intel's server processors.

    "crashes": llama.cpp was compiled for AMX, but not with native/amx_tile_config.h.
    """
    if b"AMX_INT8 = 1" not in system_info:
        return "none"
    return "works" if hasattr(library, "iris_amx_tile_config") else "crashes"


AMX = _amx(C.llama_print_system_info(), C.llama_cpp._lib)
if AMX == "crashes":
    logging.getLogger(__name__).warning(
        "this llama.cpp was compiled without Iris's fix for AMX, which is left unused: answers come at about a third "
        "of the speed. Run `make run` once, which compiles it anew."
    )


_callback = C.llama_log_callback(_remember)  # kept: llama.cpp calls it for as long as the process lives
C.llama_log_set(_callback, ctypes.c_void_p(0))
C.llama_backend_init()


@contextlib.contextmanager
def log_to(callback: Any) -> Iterator[None]:
    """Let ``callback``, a ``llama_log_callback``, hear llama.cpp's log meanwhile, for the whole process."""
    C.llama_log_set(callback, ctypes.c_void_p(0))
    try:
        yield
    finally:
        C.llama_log_set(_callback, ctypes.c_void_p(0))


def relaid() -> bool:
    """Whether weights may be laid out anew for this processor's fastest kernels.

    Weights that are laid out for AMX are multiplied by AMX. Not beside torch, which uses it, too (in the gate of
    export, in tests): each library takes it for granted that a thread's tiles are as it left them, and whoever comes
    second dies of an illegal instruction.
    """
    return AMX != "crashes" and "torch" not in sys.modules


class Model:
    """A GGUF loaded for inference, with its vocabulary and, if given, a LoRA adapter.

    Raises:
        ModelFileError: llama.cpp refuses the file (broken, truncated, unsupported architecture), or the adapter
            belongs to another model.
    """

    def __init__(self, path: Path, adapter: Path | None = None) -> None:
        params = C.llama_model_default_params()
        params.use_extra_bufts = relaid()
        with _log_lock:
            _log.clear()
            self.handle = C.llama_model_load_from_file(os.fsencode(path), params)
            if not self.handle:
                raise ModelFileError(f"{path.name} cannot be loaded: {_why()}")
            self.adapter = C.llama_adapter_lora_init(self.handle, os.fsencode(adapter)) if adapter else None
            if adapter and not self.adapter:
                C.llama_model_free(self.handle)
                self.handle = None
                raise ModelFileError(f"The adapter {adapter.name} cannot be used with {path.name}: {_why()}")
        kind = self._other_kind()
        if kind:
            self.close()
            raise ModelFileError(f"{path.name} is {kind}; Iris serves decoder-only transformers.")
        self.vocab = C.llama_model_get_vocab(self.handle)
        self.n_vocab: int = C.llama_vocab_n_tokens(self.vocab)
        self.n_ctx_train: int = C.llama_model_n_ctx_train(self.handle)
        self._pieces: dict[int, bytes] = {}
        self._buffer = ctypes.create_string_buffer(256)
        self.end_tokens = frozenset(t for t in range(self.n_vocab) if C.llama_vocab_is_eog(self.vocab, t))

    def _other_kind(self) -> str:
        """What the model is, when it is none that shares prefixes and generates token by token; else empty."""
        if C.llama_model_has_encoder(self.handle):
            return "an encoder or encoder-decoder model"
        if not C.llama_model_has_decoder(self.handle):
            return "a model without a decoder"
        if C.llama_model_is_recurrent(self.handle) or C.llama_model_is_hybrid(self.handle):
            return "a recurrent model, whose memory cannot be shared in part"
        if C.llama_model_is_diffusion(self.handle):
            return "a diffusion model"
        return ""

    @property
    def kv_bytes_per_token(self) -> int:
        """Memory of one cached token, keys and values in 16 bit, over all layers (grouped-query heads counted)."""
        heads = C.llama_model_n_head(self.handle)
        per_head = C.llama_model_n_embd(self.handle) // max(1, heads)
        return int(4 * C.llama_model_n_layer(self.handle) * C.llama_model_n_head_kv(self.handle) * per_head)

    def metadata(self, key: str) -> str | None:
        """A metadata value of the GGUF as text, or None."""
        size = C.llama_model_meta_val_str(self.handle, key.encode(), None, 0)
        if size < 0:
            return None
        buffer = ctypes.create_string_buffer(size + 1)
        C.llama_model_meta_val_str(self.handle, key.encode(), buffer, size + 1)
        return buffer.value.decode("utf-8", "replace")

    def chat_template(self) -> str | None:
        """The Jinja chat template that the GGUF carries, or None."""
        text = C.llama_model_chat_template(self.handle, None)
        return text.decode("utf-8") if text else None

    def token_text(self, token: int) -> str:
        """The vocabulary's own spelling of a token (``<|im_end|>``), empty for none."""
        return C.llama_vocab_get_text(self.vocab, token).decode("utf-8", "replace") if token >= 0 else ""

    @property
    def bos(self) -> str:
        return self.token_text(C.llama_vocab_bos(self.vocab))

    @property
    def eos(self) -> str:
        return self.token_text(C.llama_vocab_eos(self.vocab))

    @property
    def adds_bos(self) -> bool:
        return bool(C.llama_vocab_get_add_bos(self.vocab))

    @property
    def bos_token(self) -> int:
        return int(C.llama_vocab_bos(self.vocab))

    def tokenize(self, text: str, *, special: bool) -> list[int]:
        """Token ids of ``text``, without a BOS. ``special`` parses ``<|im_end|>`` and the like; else they stay text."""
        data = text.encode("utf-8", "replace")  # a lone surrogate, which has no UTF-8, becomes a question mark
        size = len(data) + 8
        ids = (C.llama_token * size)()
        count = _tokenize(self.vocab, data, len(data), ids, size, False, special)
        if count < 0:
            ids = (C.llama_token * -count)()
            count = _tokenize(self.vocab, data, len(data), ids, -count, False, special)
        return list(ids[:count])

    def piece(self, token: int) -> bytes:
        """The bytes a token stands for; control tokens stand for none. Called by the worker thread only."""
        known = self._pieces.get(token)
        if known is None:
            size = _token_to_piece(self.vocab, token, self._buffer, 256, 0, False)
            if size < 0:
                wide = ctypes.create_string_buffer(-size)
                size = _token_to_piece(self.vocab, token, wide, -size, 0, False)
                known = wide.raw[:size]
            else:
                known = self._buffer.raw[:size]
            self._pieces[token] = known
        return known

    def close(self) -> None:
        """Free the weights (and with them the adapter). Idempotent."""
        if self.handle:
            C.llama_model_free(self.handle)
            self.handle = None


def _why() -> str:
    """The likeliest reason in llama.cpp's log for a load that failed, as one line."""
    lines = [line.strip() for line in "".join(_log).splitlines() if line.strip()]
    for line in lines:
        if "unknown model architecture" in line:
            name = line.split("'")[1] if line.count("'") >= 2 else "?"
            return f"llama.cpp does not know the model architecture {name!r}."
    for line in lines:
        if "error" in line.lower() or "failed" in line.lower() or "corrupted" in line.lower():
            return line.split(": ", 1)[-1].rstrip(".") + "."
    return "llama.cpp gave no reason."


class Context:
    """The memory of a model: a pool of ``cells`` shared by ``sequences`` token sequences.

    The pool is unified, so copying a prefix from one sequence to another shares its cells instead of reading it again.

    Raises:
        ModelFileError: the memory could not be had.
    """

    def __init__(self, model: Model, *, cells: int, sequences: int, batch: int, threads: int) -> None:
        params = C.llama_context_default_params()
        params.n_ctx = cells
        params.n_batch = params.n_ubatch = batch
        params.n_seq_max = sequences
        params.n_threads = params.n_threads_batch = threads
        params.kv_unified = True
        params.swa_full = True  # a sliding window would forget the prefixes that other sequences want
        params.no_perf = True
        self.model = model
        with _log_lock:
            _log.clear()
            self.handle = C.llama_init_from_model(model.handle, params)
            if not self.handle:
                raise ModelFileError(f"No memory for a context of {cells:,} tokens ({_why()}) Lower IRIS_CACHE.")
        if model.adapter:
            adapters = (C.llama_adapter_lora_p_ctypes * 1)(model.adapter)
            if C.llama_set_adapters_lora(self.handle, adapters, 1, (ctypes.c_float * 1)(1.0)) != 0:
                self.close()
                raise ModelFileError("The adapter could not be applied to the model.")
        self.cells: int = C.llama_n_ctx(self.handle)
        self.batch = Batch(batch)
        self._memory = C.llama_get_memory(self.handle)

    def decode(self) -> int:
        """Run ``self.batch`` through the model. 0 is success, 1 no free cells, negative an error."""
        return int(C.llama_decode(self.handle, self.batch.struct))

    def logits(self, index: int) -> npt.NDArray[np.float32]:
        """A view of the logits, shape (vocabulary,), at batch position ``index``; valid until the next decode."""
        pointer = _get_logits_ith(self.handle, index)
        return np.ctypeslib.as_array(pointer, (self.model.n_vocab,))

    def truncate(self, sequence: int, length: int) -> bool:
        """Forget all but the first ``length`` tokens of a sequence. False: this memory cannot, and nothing changed."""
        return bool(_seq_rm(self._memory, sequence, length, -1))

    def copy(self, source: int, target: int, start: int, end: int) -> None:
        """Let ``target`` share the cells of tokens ``start`` to ``end`` of ``source``."""
        _seq_cp(self._memory, source, target, start, end)

    def close(self) -> None:
        """Free the memory. Idempotent."""
        if self.handle:
            C.llama_free(self.handle)
            self.handle = None


class Batch:
    """A ``llama_batch`` over numpy arrays: filled by slices instead of one ctypes write a field."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._token = np.zeros(size, np.int32)
        self._position = np.zeros(size, np.int32)
        self._count = np.ones(size, np.int32)
        self._sequence = np.zeros(size, np.int32)
        self._output = np.zeros(size, np.int8)
        self._sequences = (self._sequence.ctypes.data + 4 * np.arange(size)).astype(np.uintp)
        self.struct = C.llama_batch(
            n_tokens=0,
            token=_pointer(self._token, C.llama_token),
            embd=None,
            pos=_pointer(self._position, C.llama_pos),
            n_seq_id=_pointer(self._count, ctypes.c_int32),
            seq_id=_pointer(self._sequences, ctypes.POINTER(C.llama_seq_id)),
            logits=_pointer(self._output, ctypes.c_int8),
        )

    def __len__(self) -> int:
        return int(self.struct.n_tokens)

    def clear(self) -> None:
        self.struct.n_tokens = 0

    def add(self, tokens: Tokens | Sequence[int], position: int, sequence: int, *, output_last: bool) -> int:
        """Append consecutive tokens of a sequence and return the batch index of the last one.

        Logits are computed for none of them but, with ``output_last``, the last.
        """
        start = len(self)
        end = start + len(tokens)
        self._token[start:end] = tokens
        self._position[start:end] = np.arange(position, position + len(tokens))
        self._sequence[start:end] = sequence
        self._output[start:end] = 0
        self._output[end - 1] = output_last
        self.struct.n_tokens = end
        return end - 1


def _pointer(array: npt.NDArray[Any], kind: Any) -> Any:
    return ctypes.cast(array.ctypes.data, ctypes.POINTER(kind))
