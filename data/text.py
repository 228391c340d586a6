"""What makes two texts alike: their words, sets of neighbouring words, and keys for equality.

Sets of words are arrays of sorted, distinct 32-bit hashes. Nothing here depends on ``PYTHONHASHSEED``: the same text
gives the same numbers in every process and on every day.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
import zlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Features = npt.NDArray[np.uint32]

# Numbers keep their decimals; Chinese and Japanese have no spaces, so there each character counts as a word.
_WORD = re.compile(r"\d+(?:[.,]\d+)*|[\u3040-\u30ff\u3400-\u9fff]|[^\W\d_]+")
_ASCII_WORD = re.compile(r"[a-z]+|\d+(?:[.,]\d+)*")

# Words that say how a question is put, not what it is about. "Why" and "how" stay: they ask for different answers.
_QUESTION_WORDS = frozenset(
    _WORD.findall(
        "a an the of to in on at by for with from as is are was were be been being am do does did has have had it "
        "its this that these those and or but if then than so such i you we they he she my your our their me us "
        "them s t re ve ll d m what which who whom whose where can could would should will may might must shall "
        "there here please tell show explain describe define give summarize summarise outline discuss state "
        "provide into over between some any each also about "
    )
)

_PLURAL = re.compile(r"[^suiy]s\Z")

_MAX_WORDS = 20_000  # of a text that are compared; a longer one is judged by its beginning


@lru_cache(maxsize=1024)  # a batch of rows: each text is looked at more than once
def words(text: str) -> Sequence[str]:
    """The words of a text in small letters, without punctuation."""
    if text.isascii():
        return _ASCII_WORD.findall(text.lower())
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def content_words(text: str) -> Sequence[str]:
    """``words`` without those that only ask; all of them if nothing else is left."""
    found = words(text)
    return [word for word in found if word not in _QUESTION_WORDS] or found


def question_features(text: str) -> Features:
    """The content words of a question, without the s of a plural.

    In any order: "Why is pooling used in a CNN?" is "Why does a CNN use pooling?" but for a letter.
    """
    found = content_words(text)
    return _set(text, _ids([word[:-1] if len(word) > 3 and _PLURAL.search(word) else word for word in found]))


def answer_features(text: str) -> Features:
    """Every three neighbouring words of an answer. One of one or two words is like nothing but itself."""
    found = words(text)
    if len(found) < 3:
        return _set(" ".join(found) or text, np.empty(0, np.uint64))
    ids = _ids(found)
    return _set(text, _pairs(_pairs(ids[:-2], ids[1:-1]), ids[2:]))


def same(text: str) -> str:
    """Equal for texts that differ only in case, spacing and the punctuation at the end."""
    return " ".join(text.casefold().split()).rstrip(" .?!,;:")


def key(*texts: str) -> int:
    """A 64-bit number that is equal for equal texts."""
    digest = hashlib.blake2b("\0".join(texts).encode("utf-8", "surrogatepass"), digest_size=8)
    return int.from_bytes(digest.digest(), "little")


def word_key(text: str) -> int:
    """A ``key`` that is equal for texts of the same words, whatever the punctuation; without words, of the text."""
    return key(" ".join(words(text)) or text.strip())


def fraction(*texts: str) -> float:
    """A number in [0, 1) that is spread evenly over texts: a draw that comes out the same every time."""
    return key(*texts) / 2.0**64


class _Ids(dict[str, int]):
    def __missing__(self, word: str) -> int:
        if len(self) > 1 << 20:
            self.clear()
        value = self[word] = zlib.crc32(word.encode("utf-8", "surrogatepass"))
        return value


_known = _Ids()


def _ids(found: Sequence[str]) -> npt.NDArray[np.uint64]:
    known = _known
    return np.array([known[word] for word in found[:_MAX_WORDS]], np.uint64)


def _pairs(left: npt.NDArray[np.uint64], right: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    # 64-bit multiplication wraps, as in any multiplicative hash; the two factors are those of splitmix64.
    mixed: npt.NDArray[np.uint64] = (left * np.uint64(0xBF58476D1CE4E5B9) ^ right) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(29))


def _set(text: str, values: npt.NDArray[np.uint64]) -> Features:
    if not len(values):  # "Yes." or an emoji: then the text itself is its only feature
        return np.array([zlib.crc32(text.strip().encode("utf-8", "surrogatepass"))], np.uint32)
    return np.unique((values ^ (values >> np.uint64(32))).astype(np.uint32))
