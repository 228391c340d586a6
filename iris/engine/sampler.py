"""Choosing the next token in C: llama.cpp's sampler chain, and the grammar that an answer may have to obey."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import numpy.typing as npt

from iris.engine import Sampling, TokenLogprob, llama
from iris.engine.llama import Context, Model
from iris.errors import SchemaError

C = llama.library

_sampler_sample = llama.short("llama_sampler_sample")
_sampler_apply = llama.short("llama_sampler_apply")
_sampler_accept = llama.short("llama_sampler_accept")
_sampler_free = llama.short("llama_sampler_free")

_TOKEN_DATA = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])


class Sampler:
    """A chain of llama.cpp samplers for one answer, and optionally the grammar it must obey.

    Raises:
        SchemaError: llama.cpp does not accept the grammar.
    """

    def __init__(self, model: Model, sampling: Sampling, grammar: str | None = None) -> None:
        self._model = model
        self._grammar: Any = None
        if grammar is not None:
            self._grammar = C.llama_sampler_init_grammar(model.vocab, grammar.encode(), b"root")
            if not self._grammar:
                raise SchemaError("The JSON schema gives a grammar that llama.cpp cannot enforce. Simplify the schema.")
            self._candidates = np.zeros(model.n_vocab, _TOKEN_DATA)
        self._chain = C.llama_sampler_chain_init(C.llama_sampler_chain_default_params())
        for part in _chain(model, sampling):
            C.llama_sampler_chain_add(self._chain, part)

    def sample(self, context: Context, index: int) -> int:
        """Choose the token that follows batch position ``index`` and remember it for the penalties."""
        if self._grammar is None:
            return int(_sampler_sample(self._chain, context.handle, index))
        # Checking one token against the grammar is cheap, checking the whole vocabulary is not: so sample freely
        # first, and only when the grammar refuses that token mask the vocabulary and sample again.
        logits = context.logits(index)
        token = self._choose(logits, masked=False)
        if not self._allowed(token):
            token = self._choose(logits, masked=True)
            if not self._allowed(token):
                raise SchemaError("No token of this model continues the JSON. Simplify the schema.")
        _sampler_accept(self._grammar, token)
        _sampler_accept(self._chain, token)
        return token

    def _choose(self, logits: npt.NDArray[np.float32], *, masked: bool) -> int:
        cells = self._candidates
        cells["id"] = np.arange(len(cells), dtype=np.int32)
        cells["logit"] = logits
        cells["p"] = 0.0
        array = _token_array(cells)
        if masked:
            _sampler_apply(self._grammar, ctypes.byref(array))
        _sampler_apply(self._chain, ctypes.byref(array))
        return int(cells["id"][array.selected])

    def _allowed(self, token: int) -> bool:
        one = np.zeros(1, _TOKEN_DATA)
        one["id"], one["logit"] = token, 1.0
        _sampler_apply(self._grammar, ctypes.byref(_token_array(one)))
        return bool(np.isfinite(one["logit"][0]))

    def close(self) -> None:
        """Free the chain. Idempotent."""
        if self._chain:
            _sampler_free(self._chain)
            self._chain = None
        if self._grammar:
            _sampler_free(self._grammar)
            self._grammar = None


def _token_array(cells: npt.NDArray[Any]) -> Any:
    return C.llama_token_data_array(
        data=ctypes.cast(cells.ctypes.data, ctypes.POINTER(C.llama_token_data)),
        size=len(cells),
        selected=-1,
        sorted=False,
    )


def _chain(model: Model, s: Sampling) -> list[Any]:
    """The samplers in llama.cpp's usual order: penalties, top-k, top-p, min-p, temperature, draw."""
    penalized = s.penalty_window > 0 and (
        s.repeat_penalty != 1.0 or s.frequency_penalty != 0.0 or s.presence_penalty != 0.0
    )
    only_lowers = s.repeat_penalty >= 1.0 and s.frequency_penalty >= 0.0 and s.presence_penalty >= 0.0
    top_k = 1 if s.temperature == 0.0 else s.top_k
    parts: list[Any] = []
    if penalized:
        # A penalty costs a hash look-up for every candidate. When it can only lower logits, the best top_k after it
        # are among the best top_k + penalty_window before it, so cutting to those first changes nothing but the time.
        if top_k > 0 and only_lowers:
            parts.append(C.llama_sampler_init_top_k(top_k + s.penalty_window))
        parts.append(
            C.llama_sampler_init_penalties(
                model.n_vocab, s.penalty_window, s.repeat_penalty, s.frequency_penalty, s.presence_penalty
            )
        )
    if s.temperature == 0.0:
        return [*parts, C.llama_sampler_init_greedy()]
    if top_k > 0:
        parts.append(C.llama_sampler_init_top_k(top_k))
    if s.top_p < 1.0:
        parts.append(C.llama_sampler_init_top_p(s.top_p, 1))
    if s.min_p > 0.0:
        parts.append(C.llama_sampler_init_min_p(s.min_p, 1))
    parts.append(C.llama_sampler_init_temp(s.temperature))
    parts.append(C.llama_sampler_init_dist(C.LLAMA_DEFAULT_SEED if s.seed is None else s.seed))
    return parts


def token_logprob(logits: npt.NDArray[np.float32], token: int, top: int) -> TokenLogprob | None:
    """Log-softmax of the raw logits at ``token`` and at the ``top`` likeliest tokens."""
    if top <= 0:
        return None
    values = logits.astype(np.float64)
    peak = values.max()
    values -= peak + np.log(np.exp(values - peak).sum())
    best = np.argsort(-values)[:top]
    return TokenLogprob(token, float(values[token]), tuple((int(i), float(values[i])) for i in best))
