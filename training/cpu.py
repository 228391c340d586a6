"""What makes a training step cheaper on CPUs, without changing what it computes.

Rows of a packed sequence attend to themselves one after the other: the arithmetic of each row alone, where a mask over
the whole sequence would compute all rows against all and throw most of it away. And dropout masks are cut from 64-bit
draws: torch's own draws one number for each element, on one core, which is a fifth of a small model's step.
"""

from __future__ import annotations

import ctypes
import gc
import os
from typing import Any

# Kernels that oneDNN keeps for the shapes it has seen: 1,024 by default, which for the some thirty shapes of each
# length of a batch adds up to gigabytes. To make one again takes a millisecond. Read at the first multiplication.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "200")

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import repeat_kv

ATTENTION = "iris_rows"
_LEVELS = 1 << 16


def rows_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    cu_seq_lens_q: torch.Tensor | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within each row of one packed sequence; the whole is one row without ``cu_seq_lens_q``.

    ``query`` is [1, heads, tokens, size], keys and values have as many or fewer heads; the result is
    [1, tokens, heads, size]. ``cu_seq_lens_q`` holds where rows begin, and the end of the last.
    """
    groups = getattr(module, "num_key_value_groups", 1)
    key, value = repeat_kv(key, groups), repeat_kv(value, groups)
    lengths = [query.shape[2]] if cu_seq_lens_q is None else cu_seq_lens_q.diff().tolist()
    parts = zip(query.split(lengths, 2), key.split(lengths, 2), value.split(lengths, 2), strict=True)
    done = [scaled_dot_product_attention(q, k, v, is_causal=True, scale=scaling) for q, k, v in parts]
    return torch.cat(done, 2).transpose(1, 2), None


class Dropout(nn.Module):  # type: ignore[misc]  # torch is not typed here
    """Dropout whose probability is rounded to a 65,536th."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self._dropped = round(p * _LEVELS)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """``values`` with a share of ``p`` set to zero and the rest scaled up; unchanged in eval mode."""
        if not self.training:
            return values
        count = values.numel()
        draws = torch.empty((count + 3) // 4, dtype=torch.int64).random_(-(1 << 63), None)
        kept = draws.view(torch.int16)[:count].view(values.shape) >= self._dropped - _LEVELS // 2
        return values * kept.to(values.dtype).mul_(_LEVELS / (_LEVELS - self._dropped))


def prepare(model: Any) -> None:
    """Give a model on the CPU, adapter and all, this attention and dropout where they compute the same."""
    config = model.config.get_text_config()
    plain = not getattr(config, "attn_logit_softcapping", None) and not getattr(config, "sliding_window", None)
    if plain and config._attn_implementation == "sdpa":
        AttentionInterface.register(ATTENTION, rows_attention)
        model.set_attn_implementation(ATTENTION)
    for layer in model.modules():
        dropouts = getattr(layer, "lora_dropout", None)
        if isinstance(dropouts, nn.ModuleDict):
            for name, dropout in dropouts.items():
                if isinstance(dropout, nn.Dropout) and dropout.p:
                    dropouts[name] = Dropout(dropout.p)


def restore(model: Any) -> None:
    """Back to the attention that knows padding."""
    if model.config.get_text_config()._attn_implementation == ATTENTION:
        model.set_attn_implementation("sdpa")


def give_back() -> None:
    """Return freed memory to the system, where the C library (glibc) can be told to.

    Activations of ever other sizes leave gaps between them that it would else keep: a small model held twice of what it
    needed after fifty steps. To fetch the pages again costs a step some per cent.
    """
    gc.collect(1)
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim is not None:
        trim(0)
