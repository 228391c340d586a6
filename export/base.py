"""The base model, a Hugging Face folder or a GGUF, as tensors in llama.cpp's names and order, plus the adapter."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from export import architectures, vocabulary
from export.adapter import Adapter, Delta
from export.architectures import Architecture, Names
from export.errors import SourceError, UnsupportedError
from export.shards import Floats, Shards

Reader = Callable[[int, int], Floats]
"""``(start, stop) -> rows`` along the first axis, as float32 that the caller may change."""


@dataclass(frozen=True, slots=True)
class Weight:
    """A tensor of the result. ``whole``: its rows can only be read all at once."""

    name: str
    shape: tuple[int, ...]
    read: Reader
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Field:
    """A metadata value with its GGUF types; ``item`` is that of an array's items."""

    value: Any
    kind: int
    item: int | None = None


@dataclass(frozen=True, slots=True)
class Base:
    """A base model, opened. ``modules`` maps a module of Hugging Face's to (tensor name, shape) here."""

    architecture: str
    metadata: dict[str, Field]
    weights: list[Weight]
    tied: bool
    head_counts: Mapping[str, int]
    close: Callable[[], None]

    def merged(self, adapter: Adapter | None) -> list[Weight]:
        """All tensors, the adapter's change added to those it names.

        Raises:
            SourceError: the adapter names modules that this base lacks, or that have another shape here.
            UnsupportedError: it changes an output layer that is the embedding.
        """
        deltas = self.deltas(adapter) if adapter else {}
        return [_changed(weight, deltas[weight.name]) if weight.name in deltas else weight for weight in self.weights]

    def deltas(self, adapter: Adapter) -> dict[str, Delta]:
        """The adapter's changes by tensor name, their rows in llama.cpp's order; raises what ``merged`` does."""
        layers = int(self.metadata[f"{self.architecture}.block_count"].value)
        names, row = Names(self.architecture, layers), _row(self.architecture)
        shapes = {weight.name: weight.shape for weight in self.weights}
        found = {}
        for module, delta in adapter.deltas.items():
            if self.tied and module == "lm_head":
                raise UnsupportedError(
                    f"{adapter.folder} adapts lm_head, which in this base is the embedding itself: a change of the "
                    "output would also change the input. Train without lm_head."
                )
            try:
                name = names.tensor(f"{module}.weight")
            except SourceError:
                name = ""
            if shapes.get(name) != delta.shape:
                has = f"is {shapes[name]} there" if name in shapes else "does not exist there"
                raise SourceError(
                    f"{adapter.folder} belongs to another base: it changes {module}, of shape {delta.shape}, which "
                    f"{has}. It was trained on {adapter.base or 'a base it does not name'}; give that with --base."
                )
            order = row.order(name, delta.shape[0], self.head_counts)
            found[name] = delta if order is None else delta.reordered(order)
        return found


def _changed(weight: Weight, delta: Delta) -> Weight:
    def read(start: int, stop: int) -> Floats:
        return delta.apply(weight.read(start, stop), start)

    return Weight(weight.name, weight.shape, read, weight.whole)


def _row(architecture: str) -> Architecture:
    return next(row for row in architectures.ARCHITECTURES if row.gguf == architecture)


def open_base(path: Path) -> Base:
    """The model in a folder or a GGUF.

    Raises:
        SourceError: something is missing, damaged, or does not fit together.
        UnsupportedError: its architecture or tokenizer cannot be exported.
    """
    return _of_gguf(path) if path.is_file() else _of_folder(path)


def read_config(folder: Path) -> dict[str, Any]:
    """The config.json of a model folder.

    Raises:
        SourceError: it is missing or broken.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SourceError(f"{folder} is no model folder: config.json is missing or broken.") from error
    if not isinstance(config, dict):
        raise SourceError(f"{folder / 'config.json'} is broken: it holds no object.")
    return config


def _of_folder(folder: Path) -> Base:
    config = read_config(folder)
    row = architectures.find(config)
    if config.get("quantization_config"):
        raise UnsupportedError(
            f"{folder} holds quantized weights. Merging into them would lose what was trained: take the 16-bit model."
        )
    shards = Shards.of(folder)
    layers = int(config["num_hidden_layers"])
    names = Names(row.gguf, layers)
    tied = bool(config.get("tie_word_embeddings", row.tied)) or "lm_head.weight" not in shards.places
    weights = []
    for name, place in shards.places.items():
        if name == "lm_head.weight" and tied:
            continue
        if name.endswith((".rotary_emb.inv_freq", ".masked_bias")):
            continue  # buffers of old checkpoints, computed from config.json
        weights.append(_of_shard(shards, name, place.shape, names.tensor(name), row, config))
    _check_complete(folder, weights, layers, config)
    weights += [_constant(name, values) for name, values in row.extra(config).items()]
    vocabulary_ = vocabulary.read(folder, config, int(config["vocab_size"]))
    values = {f"{row.gguf}.{key}": value for key, value in row.parameters(config).items()} | vocabulary_.metadata
    heads = {key: int(config.get(key) or config["num_attention_heads"]) for key in row.permuted.values()}
    metadata = {key: field_of(value) for key, value in values.items()}
    return Base(row.gguf, metadata, weights, tied, {"num_attention_heads": 1, **heads}, shards.close)


def _of_shard(
    shards: Shards, name: str, shape: tuple[int, ...], gguf_name: str, row: Architecture, config: dict[str, Any]
) -> Weight:
    order = row.order(gguf_name, shape[0], config)

    def read(start: int, stop: int) -> Floats:
        rows = shards.rows(name, start, stop)
        if row.norm_offset and gguf_name.endswith("norm.weight"):
            rows += np.float32(row.norm_offset)
        return rows if order is None else rows[order]

    return Weight(gguf_name, shape, read, whole=order is not None)


def _constant(name: str, values: Floats) -> Weight:
    return Weight(name, values.shape, lambda start, stop: values[start:stop].copy())


def _check_complete(folder: Path, weights: list[Weight], layers: int, config: dict[str, Any]) -> None:
    found = {weight.name: weight.shape for weight in weights}
    first = [name.removeprefix("blk.0.") for name in found if name.startswith("blk.0.")]
    wanted = ["token_embd.weight", "output_norm.weight"]
    wanted += [f"blk.{layer}.{part}" for layer in range(layers) for part in first or ["attn_norm.weight"]]
    missing = [name for name in wanted if name not in found]
    if missing:
        raise SourceError(
            f"{folder}: the weights are incomplete, {missing[0]} and {len(missing) - 1} others are missing."
        )
    rows, width = found["token_embd.weight"]
    if rows != config["vocab_size"] or width != config["hidden_size"]:
        raise SourceError(
            f"{folder}: the embedding is {rows:,} × {width:,}, and config.json says {config['vocab_size']:,} × "
            f"{config['hidden_size']:,}. Weights and config.json are of two models."
        )


def _of_gguf(path: Path) -> Base:
    import gguf

    from iris import gguf_file
    from iris.errors import ModelFileError

    try:
        architecture = gguf_file.check(path)
    except ModelFileError as error:
        raise SourceError(str(error)) from error
    known = [row.gguf for row in architectures.ARCHITECTURES]
    if architecture not in known:
        raise UnsupportedError(f"{path.name} is of architecture {architecture!r}; known are {', '.join(known)}.")
    reader: Any = gguf.GGUFReader(path)
    metadata = {}
    for key, entry in reader.fields.items():
        if not key.startswith(("GGUF.", "quantize.")):
            item = int(entry.types[-1]) if len(entry.types) > 1 else None
            metadata[key] = Field(entry.contents(), int(entry.types[0]), item)
    if "split.count" in metadata and metadata["split.count"].value > 1:
        raise UnsupportedError(
            f"{path.name} is one of several parts. Join them with llama.cpp's llama-gguf-split first."
        )
    tokens = metadata.get("tokenizer.ggml.tokens")
    weights = [_of_tensor(tensor, path) for tensor in reader.tensors]
    shapes = {weight.name: weight.shape for weight in weights}
    if tokens is None or "token_embd.weight" not in shapes:
        raise SourceError(f"{path.name} is no language model: it has no vocabulary or no embedding.")
    if len(tokens.value) != shapes["token_embd.weight"][0]:
        raise SourceError(
            f"{path.name}: the vocabulary has {len(tokens.value):,} tokens, and the embedding "
            f"{shapes['token_embd.weight'][0]:,} rows. The file is damaged."
        )
    heads = int(metadata[f"{architecture}.attention.head_count"].value)
    few = metadata.get(f"{architecture}.attention.head_count_kv")
    counts = {"num_attention_heads": heads, "num_key_value_heads": int(few.value) if few else heads}
    return Base(architecture, metadata, weights, "output.weight" not in shapes, counts, lambda: None)


def _of_tensor(tensor: Any, path: Path) -> Weight:
    import gguf

    shape = tuple(int(size) for size in reversed(tensor.shape))
    if tensor.tensor_type.name not in ("F32", "F16", "BF16") and not hasattr(gguf.quants, tensor.tensor_type.name):
        raise UnsupportedError(
            f"{path.name}: {tensor.name} is of type {tensor.tensor_type.name}, which cannot be read."
        )

    def read(start: int, stop: int) -> Floats:
        rows = tensor.data[start:stop]
        values = gguf.quants.dequantize(np.ascontiguousarray(rows), tensor.tensor_type)
        return np.array(values, np.float32).reshape(stop - start, *shape[1:])

    return Weight(tensor.name, shape, read)


def field_of(value: Any) -> Field:
    """A metadata value with the type that llama.cpp expects of it."""
    import gguf

    kinds = gguf.GGUFValueType
    if isinstance(value, list):
        return Field(value, int(kinds.ARRAY), int(kinds.get_type(value[0])))
    if isinstance(value, bool):
        return Field(value, int(kinds.BOOL))
    if isinstance(value, int):
        return Field(value, int(kinds.UINT32))
    return Field(value, int(kinds.FLOAT32 if isinstance(value, float) else kinds.STRING))


def parameters(weights: list[Weight]) -> int:
    """How many numbers these tensors hold."""
    return sum(math.prod(weight.shape) for weight in weights)
