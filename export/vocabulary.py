"""A Hugging Face tokenizer as the metadata of a GGUF: tokens, merges or scores, special tokens, template, end of turn.

Two kinds are known: byte-level BPE (Llama 3, SmolLM2) and BPE with byte fallback, which is what SentencePiece models
become in tokenizer.json (TinyLlama, Gemma, Phi-3). llama.cpp has the rules that cut a text into pieces built in, by
name; a tokenizer whose rules have no name there is refused, since its tokens would differ.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.architectures import Config, Value
from export.errors import SourceError, UnsupportedError
from iris.engine import Message
from iris.engine.template import ChatTemplate
from iris.errors import IrisError

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6

# The regular expression of Llama 3's pre-tokenizer; that of GPT-2 is inside ByteLevel.
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_PROBE = "iris-answer"


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """``metadata`` is ready to be written; ``tokens`` counts what the tokenizer has, without the padding."""

    metadata: dict[str, Value]
    tokens: int
    template: str


def read(folder: Path, config: Config, rows: int) -> Vocabulary:
    """The tokenizer in ``folder``, for an embedding of ``rows`` rows.

    Raises:
        SourceError: it is missing, broken, or larger than the embedding.
        UnsupportedError: llama.cpp has no tokenizer of its kind.
    """
    about = _json(folder / "tokenizer.json") if (folder / "tokenizer.json").is_file() else _converted(folder)
    settings = _json(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").is_file() else {}
    model = about["model"]
    if model.get("type") != "BPE":
        raise UnsupportedError(
            f"{folder} has a {model.get('type')} tokenizer; only BPE (and SentencePiece's) is known."
        )
    added = {int(token["id"]): token for token in about.get("added_tokens") or ()}
    spelled = {int(number): str(text) for text, number in model["vocab"].items()}
    spelled |= {number: str(token["content"]) for number, token in added.items()}
    count = max(spelled) + 1
    if count > rows:
        raise SourceError(
            f"{folder}: the tokenizer has {count:,} tokens, and the embedding {rows:,} rows. They are of two models, "
            "or the tokenizer was extended without resizing the embedding."
        )
    tokens = [spelled.get(number, f"[PAD{number}]") for number in range(rows)]
    template = _template(folder, settings)
    named = {
        name: _spelling(settings.get(f"{name}_token"), config.get(f"{name}_token_id"), spelled)
        for name in ("bos", "eos", "unk", "pad")
    }
    metadata = _pieces(about, tokens, spelled, added, folder)
    numbers = {text: number for number, text in spelled.items()}
    ids = {name: numbers[text] for name, text in named.items() if text in numbers}
    for name, key in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding")):
        if name in ids:
            metadata[f"tokenizer.ggml.{key}_token_id"] = ids[name]
    metadata["tokenizer.ggml.add_bos_token"] = _adds(about, named["bos"])
    metadata["tokenizer.ggml.add_eos_token"] = False
    if template:
        metadata["tokenizer.chat_template"] = template
        specials = [spelled[number] for number in added]
        end = end_of_turn(template, named["bos"] or "", named["eos"] or "", specials)
        if end:
            metadata["tokenizer.ggml.eot_token_id"] = numbers[end]
    return Vocabulary(metadata, count, template)


def end_of_turn(template: str, bos: str, eos: str, specials: list[str]) -> str:
    """The special token that the template puts after an answer, or empty.

    Raises:
        SourceError: the template cannot be rendered.
    """
    # A tokenizer whose tokens are characters: what comes back is the rendered text.
    try:
        rendered = ChatTemplate(template, bos=bos, eos=eos, tokenize=lambda text, special: [*map(ord, text)]).encode(
            [Message("user", "u"), Message("assistant", _PROBE), Message("user", "u")]
        )
    except IrisError as error:
        raise SourceError(f"The tokenizer's chat template cannot be used: {error}") from error
    after = "".join(map(chr, rendered)).partition(_PROBE)[2].lstrip()
    return next((token for token in sorted(specials, key=len, reverse=True) if after.startswith(token)), "")


def _pieces(
    about: dict[str, Any], tokens: list[str], spelled: dict[int, str], added: dict[int, Any], folder: Path
) -> dict[str, Value]:
    model = about["model"]
    merges = [pair if isinstance(pair, list) else pair.split(" ") for pair in model["merges"]]
    sentencepiece = bool(model.get("byte_fallback"))
    types = []
    for number, text in enumerate(tokens):
        if number not in spelled:
            types.append(UNUSED)
        elif sentencepiece and text == (model.get("unk_token") or "<unk>"):
            types.append(UNKNOWN)
        elif number in added:
            types.append(CONTROL if added[number].get("special") else USER_DEFINED)
        elif sentencepiece and len(text) == 6 and text.startswith("<0x") and text.endswith(">"):
            types.append(BYTE)
        else:
            types.append(NORMAL)
    metadata: dict[str, Value] = {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": types}
    if not sentencepiece:
        return metadata | {
            "tokenizer.ggml.model": "gpt2",
            "tokenizer.ggml.pre": _pre_tokenizer(about, folder),
            "tokenizer.ggml.merges": [" ".join(pair) for pair in merges],
        }
    # SentencePiece joins the two neighbours whose union has the best score; BPE those of the earliest merge. All
    # merges into one piece follow each other, so minus the place of the first is such a score.
    ranks: dict[str, int] = {}
    for rank, pair in enumerate(merges):
        ranks.setdefault("".join(pair), rank)
    scores = [
        -float(ranks.get(text, len(merges))) if kind == NORMAL else 0.0
        for text, kind in zip(tokens, types, strict=True)
    ]
    return metadata | {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.scores": scores,
        "tokenizer.ggml.add_space_prefix": _space_prefix(about),
    }


def _pre_tokenizer(about: dict[str, Any], folder: Path) -> str:
    """llama.cpp's name for the rules that cut a text before it is tokenized."""
    outer = about.get("pre_tokenizer") or {}
    steps = outer.get("pretokenizers", [outer])
    kinds = [step.get("type") for step in steps]
    ignore_merges = bool(about["model"].get("ignore_merges"))
    if about.get("normalizer") is None and not any(step.get("add_prefix_space") for step in steps):
        if kinds == ["Split", "ByteLevel"] and steps[0]["pattern"].get("Regex") == LLAMA3 and ignore_merges:
            return "llama-bpe"
        if kinds == ["Digits", "ByteLevel"] and steps[0].get("individual_digits") and steps[1].get("use_regex", True):
            return "smollm"
        if kinds == ["ByteLevel"] and steps[0].get("use_regex", True) and not ignore_merges:
            return "gpt-2"
    raise UnsupportedError(
        f"{folder}: the tokenizer cuts texts by rules ({', '.join(map(str, kinds))}) that are none of those of Llama "
        "3, SmolLM2 or GPT-2, so llama.cpp would make other tokens of them."
    )


def _space_prefix(about: dict[str, Any]) -> bool:
    """Whether a space is put before the first word."""
    normalizer = about.get("normalizer") or {}
    steps = normalizer.get("normalizers", [normalizer])
    before = about.get("pre_tokenizer") or {}
    return any(step.get("type") == "Prepend" for step in steps) or before.get("prepend_scheme") in ("first", "always")


def _adds(about: dict[str, Any], bos: str | None) -> bool:
    """Whether the tokenizer puts a BOS before every text."""
    outer = about.get("post_processor") or {}
    for step in outer.get("processors", [outer]):
        first = (step.get("single") or [{}])[0]
        if bos and first.get("SpecialToken", {}).get("id") == bos:
            return True
    return False


def _template(folder: Path, settings: dict[str, Any]) -> str:
    path = folder / "chat_template.jinja"
    if path.is_file():
        return path.read_text(encoding="utf-8")
    found = settings.get("chat_template") or ""
    if isinstance(found, list):  # several by name
        found = next((entry["template"] for entry in found if entry.get("name") == "default"), "")
    return str(found)


def _spelling(token: Any, number: Any, spelled: dict[int, str]) -> str | None:
    if isinstance(token, dict):
        token = token.get("content")
    if token is None and isinstance(number, int):
        return spelled.get(number)
    return None if token is None else str(token)


def _json(path: Path) -> dict[str, Any]:
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SourceError(f"{path} cannot be read: {error}") from error
    if not isinstance(about, dict):
        raise SourceError(f"{path} is broken: it holds no object.")
    return about


def _converted(folder: Path) -> dict[str, Any]:
    """tokenizer.json made in memory from SentencePiece's tokenizer.model, by transformers."""
    if not (folder / "tokenizer.model").is_file():
        raise SourceError(f"{folder} holds no tokenizer: there is neither tokenizer.json nor tokenizer.model.")
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    about: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
    return about
