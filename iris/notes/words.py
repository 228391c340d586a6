"""Words of a text, as far as two texts can be compared by them: content words, numbers, negations, names, formulas.

For English first; Swedish, Turkish and German have their function words, and keep their other words whole.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

Kind = Literal["word", "name", "contrast", "number", "negation", "formula"]

# Words that carry grammar rather than content, question words and what surrounds them in a student's question.
_FUNCTION = {
    "en": "a about above after again all also am an and any are as at be because been before being below between both "
    "but by can could did do does doing down during each e.g eg etc few for from further had has have having he her "
    "here hers him his how i i.e ie if in into is it its itself just let like may me might more most much must my of "
    "off on one ones only or other our out over own per please same shall she should so some such than that the their "
    "them themselves then there these they this those through thus to too under until up upon us very was we were what "
    "when where whether which while who whom whose why will with would yes you your explain describe tell give show "
    "say example mean means define question answer understand help know want",
    "sv": "alla allt att av blir de dem den denna deras dess det detta dig din du där efter eller en ett finns för "
    "från få får göra gör ha hade han har hon hur här i jag kan kunna man med men mig min måste mot mycket ni nu när "
    "någon något några och om oss på sedan sig sin ska skulle som så till under upp ur vad var varför vara vem vi vid "
    "vilka vilken vilket vill vår är över förklara beskriv ge exempel betyder",
    "de": "aber alle als also am an auch auf aus bei bin bis bitte das dass dem den der des die dies diese dieser dir "
    "du durch ein eine einem einen einer eines er es für hat habe haben ich ihr im in ist ja kann man mein mir mit "
    "muss nach noch nun nur ob oder sein sich sie sind so soll über um und uns unter vom von vor war warum was weil "
    "welche welcher welches wenn wer werden wie wieso wird wir wo zu zum zur erkläre beschreibe beispiel bedeutet",
    "tr": "acaba ama bana bazı ben bir biri bu bunu çok da daha de diye en gibi hangi hem her için ile ise kadar ki "
    "kim mi mı mu mü nasıl ne neden nedir niçin niye o olan olarak olur onu onun sen siz şey şu ve veya ya yani açıkla "
    "örnek ver demek",
}
FUNCTION_WORDS = frozenset(word for words in _FUNCTION.values() for word in words.split())

_NEGATIONS = (
    "not no never none neither nor without cannot hardly barely nothing nobody inte ej aldrig ingen inget "
    "inga utan nicht kein keine keinen keinem keiner nie niemals ohne nichts değil hiç yok asla hayır"
)

# Words that turn a statement round although all others stay: an answer that leans on one needs the very same.
_CONTRASTS = (
    "more less most least higher lower high low larger smaller large small bigger big greater fewer "
    "increase decrease increasing decreasing rise fall grow shrink faster slower fast slow before after "
    "always sometimes first last maximum minimum maximise minimise maximize minimize max min positive "
    "negative early late inside outside upper lower left right above below only all every some any same "
    "different equal unequal true false correct wrong strong weak long short easy hard better worse best "
    "worst gain lose add remove above below many few zero one two three four five six seven eight nine "
    "ten half double twice mer mindre större fler färre öka minska före efter mehr weniger größer kleiner "
    "vor nach daha az çok önce sonra"
)

_TOKEN = re.compile(
    r"(?P<math>\$\$.+?\$\$|\$[^$\n]+?\$|\\\[.+?\\\]|\\\(.+?\\\))"
    r"|(?P<word>[^\W\d_](?:[\w]|[-’'](?=[^\W_]))*)"
    r"|(?P<number>\d+(?:(?:\{,\}|[.,\u00a0\u202f](?=\d))\d+)*)",
    re.DOTALL,
)
_NUMBER = re.compile(r"\d+(?:(?:\{,\}|[.,\u00a0\u202f](?=\d))\d+)*")
_SYMBOL = re.compile(r"\\[A-Za-z]+|\d+(?:(?:\{,\}|\.)\d+)*|[^\W\d_]|[^\s{}\\\w]", re.UNICODE)
_SPACING = frozenset(
    ("\\left", "\\right", "\\quad", "\\qquad", "\\mathrm", "\\text", "\\mathbf", "\\big", "\\Big", "\\limits")
)
_SAME = {"\\cdot": "*", "\\times": "*", "×": "*", "·": "*", "\\le": "≤", "\\leq": "≤", "\\ge": "≥", "\\geq": "≥"}
_IGNORED = frozenset("$,;.!()[] &~")


@dataclass(frozen=True, slots=True)
class Token:
    """A word, number or formula of a text, at characters ``start`` to ``end``. ``key`` is what is compared."""

    kind: Kind
    key: str
    start: int
    end: int


def tokens(text: str) -> Iterator[Token]:
    """What of a text counts when it is compared, in order; function words do not.

    Formulas between dollar signs are one token each, of kind ``formula``, and their numbers are not repeated.
    """
    begins = True
    for match in _TOKEN.finditer(text):
        start, end = match.span()
        found = match[0]
        if match["math"]:
            key = " ".join(symbols(found))
            if key:
                yield Token("formula", key, start, end)
        elif match["number"]:
            yield Token("number", found, start, end)
        else:
            yield from _word(found, start, end, begins=begins or _begins(text, start))
        begins = False


def _word(found: str, start: int, end: int, *, begins: bool) -> Iterator[Token]:
    lower = fold(found)
    if lower in _FOLDED_NEGATIONS or lower.endswith(("n't", "n’t")):
        yield Token("negation", "not", start, end)
        return
    article = found == "a" or (found == "A" and begins)  # elsewhere an A is a name, as of a matrix
    special = (
        any(c.isdigit() for c in found) or sum(c.isupper() for c in found) > 1 or (len(found) == 1 and not article)
    )
    if lower in _FOLDED_CONTRASTS:
        yield Token("contrast", stem(lower), start, end)
    elif lower in _FOLDED_FUNCTIONS and not special:
        return
    elif (special and lower != "i") or (found[0].isupper() and not begins):
        yield Token("name", stem(lower), start, end)
    else:
        yield Token("word", stem(lower), start, end)


def _begins(text: str, at: int) -> bool:
    """Whether a word stands where any word has a capital letter."""
    before = text[:at].rstrip(" \"'“‘(*_#->\t")
    return not before or before[-1] in ".!?:;\n|•…"


def content_words(text: str) -> tuple[str, ...]:
    """The words and numbers to search for, as written, each once; without question words and function words."""
    found: dict[str, str] = {}
    for match in re.finditer(r"[^\W_]+", text):
        word = match[0]
        folded = fold(word)
        single = len(word) == 1 and not word.isdigit()
        if folded in _FOLDED_FUNCTIONS or folded in _FOLDED_NEGATIONS or (single and not word.isupper()):
            continue
        found.setdefault(stem(folded), word)
    return tuple(found.values())


def symbols(formula: str) -> tuple[str, ...]:
    """A formula's symbols, without spacing, braces and the many ways to write a product."""
    found = []
    for symbol in _SYMBOL.findall(formula):
        if symbol in _SPACING or symbol in _IGNORED:
            continue
        found.append(_SAME.get(symbol, symbol.replace("{,}", "")))
    return tuple(found)


def numbers(text: str) -> set[str]:
    """Every value that a number of ``text`` may mean; ``1,234`` is both a thousand and one and a bit."""
    return {value for match in _NUMBER.finditer(text) for value in values(match[0])}


def values(number: str) -> set[str]:
    """The plain decimal spellings that a number may mean."""
    text = re.sub(r"\{,\}|[\u00a0\u202f]", "", number)
    found = set()
    if re.fullmatch(r"[1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?", text):
        found.add(_plain(text.replace(",", "")))
    if re.fullmatch(r"[1-9]\d{0,2}(?:\.\d{3})+(?:,\d+)?", text):
        found.add(_plain(text.replace(".", "").replace(",", ".")))
    if re.fullmatch(r"\d+(?:[.,]\d+)?", text):
        found.add(_plain(text.replace(",", ".")))
    return found or {text}


def _plain(number: str) -> str:
    whole, _, part = number.partition(".")
    part = part.rstrip("0")
    return (whole.lstrip("0") or "0") + (f".{part}" if part else "")


@lru_cache(maxsize=65_536)
def fold(word: str) -> str:
    """Lower case without accents, and one kind of apostrophe."""
    decomposed = unicodedata.normalize("NFKD", word.replace("’", "'").replace("İ", "i").replace("ı", "i").casefold())
    return "".join(c for c in decomposed if not unicodedata.combining(c))


@lru_cache(maxsize=65_536)
def stem(word: str) -> str:
    """A folded word without the endings that English inflects with; one spelling for -ise and -ize."""
    word = word.removesuffix("'s").removesuffix("'")
    if len(word) <= 3 or not word.isascii():
        return word
    if word.endswith("ies") and len(word) > 4:
        word = word[:-3] + "y"
    elif word.endswith(("sses", "xes", "zes", "ches", "shes")):
        word = word[:-2]
    elif word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    for ending in ("ing", "ed", "ly"):
        if word.endswith(ending) and len(word) - len(ending) >= 3 and re.search(r"[aeiouy]", word[: -len(ending)]):
            word = word[: -len(ending)]
            if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "lsz":
                word = word[:-1]
            break
    word = word.removesuffix("e") if len(word) > 3 else word
    word = re.sub(r"is(ation|)$", r"iz\1", word) if len(word) > 5 else word
    return word[:-1] + "i" if word.endswith("y") and len(word) > 3 else word


_FOLDED_FUNCTIONS = frozenset(map(fold, FUNCTION_WORDS))
_FOLDED_NEGATIONS = frozenset(map(fold, _NEGATIONS.split()))
_FOLDED_CONTRASTS = frozenset(map(fold, _CONTRASTS.split())) - {"cok", "daha", "az"}
