"""What two texts have in common: their words in a common form, weighed by how rare they are in a course."""

from __future__ import annotations

import difflib
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from iris.courses import Course

# Words that say how something is put, not what it is about, in the languages of the interface.
_STOP_WORDS = """
a an the of to in on at by for with from as is are was were be been being am do does did has have had having it
its itself this that these those and or but if then than so such i you we they he she my your our their his her
them s t re ve ll d m what which who whom whose where when why how can could would should will may might must
shall there here each any some all both more most very just only also about into over between out up down per
one you're please tell show explain describe define give provide case
och att det den som en ett är på av för med till från inte om kan man de vi du jag så hur vad varför när
der die das ein eine einen einem und oder ist sind mit von zu im den dem des für auf nicht als wie was warum
ve bir bu da de için ile olarak gibi daha çok ne nasıl neden olan
"""
_STOP = frozenset(_STOP_WORDS.split())
_NEGATING = "not no non never cannot without neither nor none nothing isn doesn don didn won aren wasn"
NEGATIONS = frozenset(_NEGATING.split())

# LaTeX commands that only set type; others (\eta, \log) are words of the formula.
_SETTING = re.compile(
    r"\\(?:frac|dfrac|tfrac|sqrt|text|mathrm|mathbf|mathbb|mathcal|mathit|boldsymbol|operatorname|left|right|quad|qquad|"
    r"cdot|times|hat|bar|tilde|vec|begin|end|displaystyle|big|Big|bigl|bigr|Bigl|Bigr|ldots|dots|cdots)\b"
)
# A number keeps its decimals and thousands; a word may hold digits (L1, h2o).
WORD = re.compile(r"\d+(?:[.,\u00a0\u202f ]?\d{3}(?!\d)|[.,]\d+)*(?![^\W\d_])|[^\W_]+")

_SUFFIXES = (
    *("izations", "ization", "izing", "izes", "ized", "izer", "ations", "ation", "ational", "ibility", "ability"),
    *("ements", "ement", "ments", "ment", "nesses", "ness", "ings", "ing", "edly", "ively", "ally", "ies", "ied"),
    *("ions", "ion", "ers", "er", "ed", "es", "ly", "al", "s", "e", "y"),
)
_BRITISH = re.compile(r"is(ations?|ing|es?|ed|ers?)\Z")
_DOUBLE = re.compile(r"([bdfgklmnprt])\1\Z")


@lru_cache(maxsize=1 << 15)
def stem(word: str) -> str:
    """The common form of a word in small letters: without plural and the usual English endings."""
    if len(word) <= 3 or not word.isalpha():
        return word
    word = _BRITISH.sub(r"iz\1", word)
    for suffix in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= 3:
            word = word[: -len(suffix)]
            break
    return _DOUBLE.sub(r"\1", word)


def plain(text: str) -> str:
    """Text in small letters and one form of Unicode, without LaTeX's typesetting and Markdown's marks."""
    text = unicodedata.normalize("NFKC", text).replace("\u2212", "-").replace("{,}", ",").replace("\\,", " ")
    return _SETTING.sub(" ", text).casefold()


@lru_cache(maxsize=4096)
def tokens(text: str) -> tuple[str, ...]:
    """All words and numbers of a text, in order and in small letters; numbers without thousands separators."""
    return tuple(_number(word) if word[0].isdigit() else word for word in WORD.findall(plain(text)))


@lru_cache(maxsize=4096)
def content(text: str) -> tuple[str, ...]:
    """The stems of the words a text is about, in order; all of them where nothing else is left."""
    found = tokens(text)
    return tuple(stem(word) for word in found if word not in _STOP and not _is_letter(word)) or tuple(
        stem(word) for word in found
    )


def function_share(text: str) -> float:
    """The share of a text's words that carry no content: about 0.4 in prose, near 0 in a list of keywords."""
    found = tokens(text)
    return sum(word in _STOP or word in NEGATIONS for word in found) / len(found) if found else 0.0


def _number(word: str) -> str:
    digits = re.sub(r"[,\u00a0\u202f ](?=\d{3}(?!\d))", "", word)
    return digits.rstrip("0").rstrip(".") if "." in digits else digits


def _is_letter(word: str) -> bool:
    return len(word) == 1 and word.isascii() and word.isalpha()


@dataclass(frozen=True, slots=True)
class Lexicon:
    """How much a word tells in a course: ``log(1 + n / (1 + texts that have it))`` over its ``n`` texts."""

    texts: int
    seen: Mapping[str, int]

    def weight(self, word: str) -> float:
        return math.log(1 + self.texts / (1 + self.seen.get(word, 0))) if self.texts else 1.0

    def total(self, words: Iterable[str]) -> float:
        return sum(map(self.weight, words))

    def alike(self, one: str, other: str) -> float:
        """How much of their content two texts share, 0 to 1: the weighted Jaccard index of their words."""
        a, b = frozenset(content(one)), frozenset(content(other))
        together = self.total(a | b)
        return self.total(a & b) / together if together else float(one.strip() == other.strip())

    def within(self, one: str, other: str) -> float:
        """The weighted share of the words of ``one`` that ``other`` has, too."""
        a = frozenset(content(one))
        return self.total(a & frozenset(content(other))) / (self.total(a) or 1.0)


@lru_cache(maxsize=8)
def lexicon(course: Course | None) -> Lexicon:
    """The lexicon of a course's questions, answers, items and notes; every word weighs the same without a course."""
    if course is None:
        return Lexicon(0, {})
    texts = [question.question + "\n" + question.answer for question in course.questions]
    texts += [item.question + "\n" + item.explanation for item in course.bank]
    texts += [section.text for note in course.notes for section in note.sections]
    seen: Counter[str] = Counter()
    for text in texts:
        seen.update(set(content(text)))
    return Lexicon(len(texts), seen)


def close(word: str, others: Iterable[str]) -> bool:
    """Whether a long word is one of ``others`` but for a slip of the pen."""
    if len(word) < 6 or not word.isalpha():
        return False
    matcher = difflib.SequenceMatcher(b=word)
    for other in others:
        if other[0] == word[0] and abs(len(other) - len(word)) <= 2 and other.isalpha() and len(other) >= 5:
            matcher.set_seq1(other)
            if matcher.real_quick_ratio() >= 0.86 and matcher.quick_ratio() >= 0.86 and matcher.ratio() >= 0.86:
                return True
    return False
