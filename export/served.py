"""A GGUF as it will be served: its tokens, its template, and its logits at every place of a text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from export.shards import Floats
from iris.engine import Message
from iris.engine.llama import Context, Model
from iris.engine.template import ChatTemplate

WINDOW = 512
"""Tokens of one decode, and so of the longest text that is compared."""


class Served:
    """A GGUF loaded by llama.cpp, with an adapter over it if one is given.

    Raises:
        ModelFileError: llama.cpp refuses the file, or its template cannot be used.
    """

    def __init__(self, path: Path, adapter: Path | None = None, *, threads: int) -> None:
        self.model = Model(path, adapter)
        self._context = Context(self.model, cells=WINDOW, sequences=1, batch=WINDOW, threads=threads)
        self.template: ChatTemplate | None = None
        source = self.model.chat_template()
        if source:
            self.template = ChatTemplate(
                source,
                bos=self.model.bos,
                eos=self.model.eos,
                tokenize=lambda text, special: self.model.tokenize(text, special=special),
                bos_token=self.model.bos_token if self.model.adds_bos else None,
            )

    @property
    def file_type(self) -> int:
        """llama.cpp's number for the kind of the file."""
        return int(self.model.metadata("general.file_type") or 0)

    def text(self, text: str, *, special: bool) -> list[int]:
        """Token ids of a text, with the BOS that the model asks for."""
        first = [self.model.bos_token] if self.model.adds_bos else []
        return first + self.model.tokenize(text, special=special)

    def chat(self, messages: Sequence[Message]) -> list[int]:
        """Token ids of a conversation as Iris sends it."""
        return self.template.encode(messages) if self.template else []

    def logits(self, ids: Sequence[int]) -> Floats:
        """What the model expects after each of at most ``WINDOW`` tokens, shape (tokens, vocabulary)."""
        self._context.truncate(0, 0)
        batch = self._context.batch
        batch.clear()
        for place, token in enumerate(ids):
            batch.add([token], place, 0, output_last=True)
        code = self._context.decode()
        if code != 0:
            raise RuntimeError(f"llama_decode returned {code}")
        return np.stack([self._context.logits(place) for place in range(len(ids))]).astype(np.float32)

    def close(self) -> None:
        """Free model and context. Idempotent."""
        self._context.close()
        self.model.close()
