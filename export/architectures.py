"""What llama.cpp calls the parts of a Hugging Face model, and what it expects to be different about them.

One row an architecture. Tensor names come from the ``gguf`` package's maps; hyper-parameters and reorderings are facts
of llama.cpp's graphs (llama-model.cpp): its Llama rotates neighbouring pairs where transformers rotates halves, so the
rows of q and k are reordered; Gemma's norms scale by 1 + w, and llama.cpp's by w.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from export.errors import SourceError, UnsupportedError
from export.shards import Floats

Value = int | float | bool | str | list[Any]
Config = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Architecture:
    """How one class of Hugging Face models becomes a GGUF.

    ``parameters`` gives llama.cpp's hyper-parameters without the architecture's prefix; ``extra`` tensors that the
    weights files do not hold; ``permuted`` names the config's head count for each layer whose rows are reordered;
    ``norm_offset`` is added to every norm; ``tied`` is transformers' default for tied embeddings. ``check`` refuses
    what llama.cpp's graph would compute differently.
    """

    hf: str
    gguf: str
    parameters: Callable[[Config], dict[str, Value]]
    check: Callable[[Config], None]
    extra: Callable[[Config], dict[str, Floats]] = field(default=lambda config: {})
    permuted: Mapping[str, str] = field(default_factory=dict)
    norm_offset: float = 0.0
    tied: bool = False

    def order(self, gguf_name: str, rows: int, config: Config) -> npt.NDArray[np.int64] | None:
        """Which of Hugging Face's rows stands at each place in llama.cpp; None where they are the same."""
        for part, heads in self.permuted.items():
            if f".{part}." in gguf_name:
                count = int(config.get(heads) or config["num_attention_heads"])
                # A head's rows (half, pair) -> (pair, half).
                order = np.arange(rows).reshape(count, 2, rows // count // 2)
                return np.ascontiguousarray(order.swapaxes(1, 2)).reshape(-1)
        return None


def find(config: Config) -> Architecture:
    """The row for a model's config.json.

    Raises:
        UnsupportedError: there is none; the message names the architecture and those that are known.
    """
    names = config.get("architectures") or [config.get("model_type", "of no name")]
    for row in ARCHITECTURES:
        if row.hf in names:
            row.check(config)
            return row
    known = ", ".join(row.hf for row in ARCHITECTURES)
    raise UnsupportedError(f"{', '.join(map(str, names))} cannot be exported; known are {known}.")


def head_width(config: Config) -> int:
    return int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])


def rope(config: Config) -> dict[str, Any]:
    """The rotary settings, which transformers 5 writes as ``rope_parameters`` and 4 as ``rope_scaling``."""
    found = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
    found["rope_type"] = found.get("rope_type") or found.get("type") or "default"
    found["rope_theta"] = float(found.get("rope_theta") or config.get("rope_theta") or 10000.0)
    return found


def _common(config: Config) -> dict[str, Value]:
    return {
        "block_count": int(config["num_hidden_layers"]),
        "context_length": int(config["max_position_embeddings"]),
        "embedding_length": int(config["hidden_size"]),
        "feed_forward_length": int(config["intermediate_size"]),
        "attention.head_count": int(config["num_attention_heads"]),
        "attention.head_count_kv": int(config.get("num_key_value_heads") or config["num_attention_heads"]),
        "attention.layer_norm_rms_epsilon": float(config["rms_norm_eps"]),
        "vocab_size": int(config["vocab_size"]),
        "rope.freq_base": rope(config)["rope_theta"],
    }


def _llama(config: Config) -> dict[str, Value]:
    width = head_width(config)
    values = _common(config) | {
        "rope.dimension_count": width,
        "attention.key_length": width,
        "attention.value_length": width,
    }
    turning = rope(config)
    if turning["rope_type"] == "linear":
        values |= {"rope.scaling.type": "linear", "rope.scaling.factor": float(turning["factor"])}
    return values


def _llama_check(config: Config) -> None:
    kind = rope(config)["rope_type"]
    if kind not in ("default", "linear", "llama3"):
        raise UnsupportedError(
            f"Rotary scaling of type {kind!r} is not exported for Llama; default, linear, llama3 are."
        )
    _only(config, "hidden_act", "silu")
    for key in ("attention_bias", "mlp_bias"):
        if config.get(key):
            raise UnsupportedError(f"This Llama has biases ({key}), which are not exported.")


def _llama_extra(config: Config) -> dict[str, Floats]:
    """Llama 3's divisors of the rotary frequencies, one for each pair of a head.

    Long wavelengths are divided by ``factor``, short ones stay, those between are blended, as in transformers'
    ``_compute_llama3_parameters``.
    """
    turning = rope(config)
    if turning["rope_type"] != "llama3":
        return {}
    factor, context = float(turning["factor"]), float(turning["original_max_position_embeddings"])
    low, high = float(turning["low_freq_factor"]), float(turning["high_freq_factor"])
    width = head_width(config)
    length = 2 * math.pi * turning["rope_theta"] ** (np.arange(0, width, 2, dtype=np.float64) / width)
    share = np.clip((context / length - low) / (high - low), 0.0, 1.0)
    return {"rope_freqs.weight": (1 / ((1 - share) / factor + share)).astype(np.float32)}


def _gemma2(config: Config) -> dict[str, Value]:
    width = head_width(config)
    return _common(config) | {
        "attention.key_length": width,
        "attention.value_length": width,
        "attention.sliding_window": int(config["sliding_window"]),
        "attn_logit_softcapping": float(config["attn_logit_softcapping"]),
        "final_logit_softcapping": float(config["final_logit_softcapping"]),
    }


def _gemma2_check(config: Config) -> None:
    _only(config, "hidden_activation", "gelu_pytorch_tanh")
    if config.get("attention_bias"):
        raise UnsupportedError("This Gemma 2 has biases (attention_bias), which are not exported.")
    for key in ("attn_logit_softcapping", "final_logit_softcapping"):
        if not config.get(key):
            raise UnsupportedError(f"This Gemma 2 has no {key}, which llama.cpp always applies.")
    # llama.cpp scales by the head's width, but its 27B (46 layers) by the hidden size over the heads.
    large = config["num_hidden_layers"] == 46
    scale = config["hidden_size"] / config["num_attention_heads"] if large else head_width(config)
    if config.get("query_pre_attn_scalar", 256) != scale:
        raise UnsupportedError(f"llama.cpp scales this Gemma 2's queries by {scale}, not by query_pre_attn_scalar.")
    kinds = config.get("layer_types") or []
    if any((kind == "sliding_attention") != (number % 2 == 0) for number, kind in enumerate(kinds)):
        raise UnsupportedError("llama.cpp expects Gemma 2's sliding layers to be every other one, from the first on.")
    if rope(config)["rope_type"] != "default":
        raise UnsupportedError(f"Rotary scaling of type {rope(config)['rope_type']!r} is not exported for Gemma 2.")


def _phi3(config: Config) -> dict[str, Value]:
    values = _common(config) | {
        "rope.dimension_count": head_width(config),
        "rope.scaling.original_context_length": int(
            config.get("original_max_position_embeddings") or config["max_position_embeddings"]
        ),
    }
    if config.get("sliding_window"):
        values["attention.sliding_window"] = int(config["sliding_window"])
    return values


def _phi3_check(config: Config) -> None:
    _only(config, "hidden_act", "silu")
    turning = rope(config)
    if turning["rope_type"] != "default":
        raise UnsupportedError(
            f"Rotary scaling of type {turning['rope_type']!r} is not exported for Phi-3; take its 4k variant."
        )
    if turning.get("partial_rotary_factor", config.get("partial_rotary_factor", 1.0)) != 1.0:
        raise UnsupportedError("A Phi-3 that rotates only a part of each head is not exported.")


def _only(config: Config, key: str, value: str) -> None:
    if config.get(key, value) != value:
        raise UnsupportedError(f"{key} is {config[key]!r}; llama.cpp computes {value!r} for this architecture.")


ARCHITECTURES = (
    Architecture(
        "LlamaForCausalLM",
        "llama",
        _llama,
        _llama_check,
        _llama_extra,
        permuted={"attn_q": "num_attention_heads", "attn_k": "num_key_value_heads"},
    ),
    Architecture("Gemma2ForCausalLM", "gemma2", _gemma2, _gemma2_check, norm_offset=1.0, tied=True),
    Architecture("Phi3ForCausalLM", "phi3", _phi3, _phi3_check),
)


class Names:
    """Hugging Face's names of modules and tensors as llama.cpp's, for one architecture."""

    def __init__(self, gguf_architecture: str, layers: int) -> None:
        import gguf

        kinds = {name: kind for kind, name in gguf.MODEL_ARCH_NAMES.items()}
        self._map = gguf.get_tensor_name_map(kinds[gguf_architecture], layers)

    def tensor(self, name: str) -> str:
        """``model.layers.0.self_attn.q_proj.weight`` -> ``blk.0.attn_q.weight``.

        Raises:
            SourceError: the architecture has no such tensor.
        """
        found = self._map.get_name(name, try_suffixes=(".weight", ".bias"))
        if found is None:
            raise SourceError(f"This architecture has no tensor {name}: weights and config.json are of two models.")
        return str(found)
