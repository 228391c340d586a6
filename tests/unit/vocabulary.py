"""The tokenizer of a GGUF, alone: real llama.cpp, without the weights. Also small vocabularies of other kinds."""

from __future__ import annotations

import ctypes
import struct
from pathlib import Path

import llama_cpp as C

from iris.engine import llama  # noqa: F401  (it silences llama.cpp's log)
from tests.unit.test_gguf_file import ARRAY, STRING, UINT32, header, pair, text

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE = 1, 2, 3, 4, 6


class Vocabulary:
    def __init__(self, path: Path) -> None:
        params = C.llama_model_default_params()
        params.vocab_only = True
        self._model = C.llama_model_load_from_file(str(path).encode(), params)
        assert self._model, f"llama.cpp refuses {path}"
        self.handle = C.llama_model_get_vocab(self._model)
        self._pieces: dict[int, bytes] = {}

    def tokenize(self, text: str, special: bool) -> list[int]:
        data = text.encode("utf-8")
        ids = (C.llama_token * (len(data) + 8))()
        count = C.llama_tokenize(self.handle, data, len(data), ids, len(ids), False, special)
        assert count >= 0
        return list(ids[:count])

    def text(self, ids: list[int]) -> str:
        """What the tokens stand for, with control tokens spelled out."""
        return b"".join(map(self._piece, ids)).decode("utf-8", "replace")

    def _piece(self, token: int) -> bytes:
        if token not in self._pieces:
            buffer = ctypes.create_string_buffer(256)
            size = C.llama_token_to_piece(self.handle, token, buffer, 256, 0, True)
            self._pieces[token] = buffer.raw[:size]
        return self._pieces[token]

    def special(self, ids: list[int]) -> list[str]:
        """The control and user-defined tokens among these."""
        kinds = C.LLAMA_TOKEN_ATTR_CONTROL | C.LLAMA_TOKEN_ATTR_USER_DEFINED
        return [self.text([token]) for token in ids if C.llama_vocab_get_attr(self.handle, token) & kinds]

    def chat_template(self) -> str:
        return str(C.llama_model_chat_template(self._model, None).decode())

    def close(self) -> None:
        C.llama_model_free(self._model)


def sentencepiece(path: Path, extra: dict[str, int]) -> Path:
    """A vocabulary of the kind that Llama 2, Phi-3 and Gemma have: a space is put before the first word of a text.

    ``extra`` are more tokens: spelling -> kind.
    """
    words = ["▁", "a", "b", "c", "▁a", "▁b", "▁c", "ab", "▁ab", "abc", "▁abc", "<", ">", "|", "/"]
    tokens = {"<unk>": UNKNOWN, "<s>": CONTROL, "</s>": CONTROL}
    tokens |= {f"<0x{byte:02X}>": BYTE for byte in range(256)} | dict.fromkeys(words, NORMAL) | extra
    count = len(tokens)
    scores = [float(len(token)) if kind == NORMAL else 0.0 for token, kind in tokens.items()]
    pairs = [
        pair("general.architecture", STRING, text("llama")),
        pair("tokenizer.ggml.model", STRING, text("llama")),
        pair("tokenizer.ggml.tokens", ARRAY, struct.pack("<IQ", STRING, count) + b"".join(map(text, tokens))),
        pair("tokenizer.ggml.scores", ARRAY, struct.pack(f"<IQ{count}f", 6, count, *scores)),
        pair("tokenizer.ggml.token_type", ARRAY, struct.pack(f"<IQ{count}i", 5, count, *tokens.values())),
        pair("tokenizer.ggml.bos_token_id", UINT32, struct.pack("<I", 1)),
        pair("tokenizer.ggml.eos_token_id", UINT32, struct.pack("<I", 2)),
    ]
    path.write_bytes(header(pairs, []))
    return path
