"""Whether a sentence of an answer may point to a passage: only if what it says stands there, by rules in code.

A small model cannot be trusted to cite, and a large one not always. So every sentence is held against every passage
that the model was given. One or two neighbouring sentences of the passage must hold

- every content word and every number of the claim, in the claim's order: what is said of one thing is not said of the
  other, and what is more is not less;
- every formula of the claim, symbol for symbol;
- a negation where the claim has one, before the same word, and none where it has none;
- a name (LoRA, MHA, AdamW) - or the passage's title has it, and the sentence is about nothing else.

Words that carry nothing by themselves (process, often, important) may be missing. What is right but said in quite other
words stays without a citation; what is cited, is there.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from iris.notes.sentences import Sentence, sentences
from iris.notes.words import Token, numbers, stem, symbols, tokens, values

LEAST = 3
"""Words, numbers and formulas that a claim must have: less is no claim."""

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Citation:
    """Passage ``passage`` (an index) bears out the sentence that ends at character ``at`` of the answer.

    ``number`` is what is shown; passages are numbered in the order in which an answer cites them, from 1. ``marks`` are
    the words in the passage's text, as character spans.
    """

    number: int
    passage: int
    at: int
    marks: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Evidence:
    """A window of a passage that bears a claim out: its words, and how much of the window the claim says."""

    marks: tuple[Span, ...]
    share: float


class Source:
    """A passage, prepared for being held against claims.

    Args:
        text: the passage.
        title: where it stands: title and heading.
    """

    def __init__(self, text: str, title: str = "") -> None:
        self._title = {token.key for token in tokens(title)}
        prose = [part for part in sentences(text) if part.prose]
        parts = [_Part(text, part) for part in prose]
        self._windows = [_Window([part]) for part in parts]
        self._windows += [_Window([first, second]) for first, second in pairwise(parts)]

    def supports(self, claim: str) -> Evidence | None:
        """What bears the claim out, or None."""
        asked = _Claim(claim)
        if asked.weight < LEAST:
            return None
        best: Evidence | None = None
        for window in self._windows:  # single sentences first: of two that are as good, the shorter
            found = _compare(asked, window, self._title)
            if found and (best is None or found.share > best.share):
                best = found
        return best


class Citer:
    """Finds the citations of an answer as it grows; what was found for a sentence is not looked for again."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = sources
        self._known: dict[str, tuple[int, Evidence] | None] = {}

    def cite(self, answer: str, *, finished: bool) -> tuple[Citation, ...]:
        """The citations of all sentences that are complete; the last one is, once the answer is ``finished``."""
        parts = sentences(answer)
        if not finished:
            parts = parts[:-1]
        found: list[Citation] = []
        numbers: dict[int, int] = {}
        for part in parts:
            borne = self._best(answer[part.start : part.end]) if part.prose else None
            if borne:
                index, evidence = borne
                number = numbers.setdefault(index, len(numbers) + 1)
                found.append(Citation(number, index, part.end, evidence.marks))
        return tuple(found)

    def _best(self, claim: str) -> tuple[int, Evidence] | None:
        if claim not in self._known:
            best: tuple[int, Evidence] | None = None
            for index, source in enumerate(self._sources):
                found = source.supports(claim)
                if found and (best is None or found.share > best[1].share):
                    best = index, found
            self._known[claim] = best
        return self._known[claim]


class _Part:
    """One sentence of a passage."""

    def __init__(self, text: str, part: Sentence) -> None:
        body = text[part.start : part.end]
        self.start = part.start
        self.tokens = [Token(t.kind, t.key, t.start + part.start, t.end + part.start) for t in tokens(body)]
        self.numbers = numbers(body)
        # As formulas have them, also outside of dollar signs: the text of a PDF has none. Words are no symbols.
        self.symbols = symbols(_WORDS.sub(" \x00 ", body))
        self.subject = next((t.key for t in self.tokens if t.kind in _WORDY), "")
        self.points_back = bool(_POINTS_BACK.match(body))


class _Window:
    """One sentence, or two neighbours."""

    def __init__(self, parts: list[_Part]) -> None:
        self.parts = parts
        self.tokens = [token for part in parts for token in part.tokens]
        self.keys = {token.key for token in self.tokens if token.kind in _WORDY}
        self.names = {token.key for token in self.tokens if token.kind == "name"}
        self.numbers = set[str]().union(*(part.numbers for part in parts))
        self.symbols = [symbol for part in parts for symbol in ("\n", *part.symbols)]
        self.order = [(token, meanings) for token in self.tokens for meanings in _steps(token)]


class _Claim:
    """A sentence of an answer."""

    def __init__(self, text: str) -> None:
        self.tokens = [t for t in tokens(_MARKUP.sub("", text)) if not (t.kind == "word" and t.key in _FILLER_KEYS)]
        self.keys = {token.key for token in self.tokens if token.kind in _WORDY}
        self.names = {token.key for token in self.tokens if token.kind == "name"}
        self.order = [(token.key, _meanings(token)) for token in self.tokens if token.kind in _ORDERED]
        self.formulas = [token.key.split(" ") for token in self.tokens if token.kind == "formula"]
        self.numbers = [values(symbol) for formula in self.formulas for symbol in formula if symbol[0].isdigit()]
        self.weight = len(self.order) + sum(len(formula) // 3 for formula in self.formulas)


_WORDY = ("word", "name", "contrast")
_ORDERED = (*_WORDY, "number")
_WORDS = re.compile(r"(?<![\\\w])[^\W\d_]{3,}(?![\w{(])")
_POINTS_BACK = re.compile(r"\W*(?:it|its|this|these|that|they|their|such|both|here|there|he|she)\b", re.IGNORECASE)
_MARKUP = re.compile(r"^\s*(?:[-*+•>]\s+|\d{1,3}[.)]\s+|#{1,6}\s+)+|\*\*|__|`")
_FILLERS = (
    "process method approach technique way case thing fact often usually typically generally commonly "
    "simply basically essentially important crucial key main overall therefore hence thus however "
    "moreover furthermore additionally instead rather quite refer refers called known considered involve "
    "involves include includes allow allows using used use uses also effectively actually particular "
    "specific specifically certain various several course student note notes passage according context "
    "concept term"
)
_FILLER_KEYS = frozenset(map(stem, _FILLERS.split()))


def _compare(claim: _Claim, window: _Window, title: set[str]) -> Evidence | None:
    missing = claim.keys - window.keys
    if not missing <= claim.names & title or (missing and not _about_the_title(window, claim.keys | title)):
        return None
    if any(not meant & window.numbers for meant in claim.numbers):
        return None
    if any(not _contains(window.symbols, formula) for formula in claim.formulas):
        return None
    if not _same_negations(claim.tokens, window.tokens, claim.keys & window.keys):
        return None
    found = _follow([meanings for key, meanings in claim.order if key not in missing], window)
    if found is None:
        return None
    formulas = [" ".join(formula) for formula in claim.formulas]
    if not _together(found, window):
        return None
    found += [t for t in window.tokens if t.kind == "formula" and any(formula in t.key for formula in formulas)]
    marks = sorted({(token.start, token.end) for token in found})
    return Evidence(tuple(marks), len(claim.tokens) / max(1, len(window.tokens)))


def _follow(claim: Sequence[frozenset[str]], window: _Window) -> list[Token] | None:
    """Where the claim's words stand in the window one after the other, others between them; None if they do not."""
    found: list[Token] = []
    rest = iter(window.order)
    for ours in claim:
        token = next((token for token, theirs in rest if ours & theirs), None)
        if token is None:
            return None
        found.append(token)
    return found


def _together(found: Sequence[Token], window: _Window) -> bool:
    """Whether two sentences may be read as one: the second points back, or the claim is made of most of both. Else the
    claim may say of one thing what the passage says of the next."""
    if len(window.parts) == 1 or window.parts[1].points_back:
        return True
    border = window.parts[1].start
    second = sum(token.start >= border for token in found)
    shares = ((len(found) - second, window.parts[0]), (second, window.parts[1]))
    return all(2 * count >= sum(token.kind in _ORDERED for token in part.tokens) for count, part in shares)


def _about_the_title(window: _Window, known: set[str]) -> bool:
    """Whether the sentences speak of what the passage is about: they name nothing that the claim does not."""
    return window.names <= known and all(part.points_back or part.subject in known for part in window.parts)


def _same_negations(claim: Sequence[Token], evidence: Sequence[Token], shared: set[str]) -> bool:
    """Whether the same of the shared words are negated on both sides."""
    ours, theirs = _negated(claim), _negated(evidence)
    theirs_too = Counter({key: n for key, n in theirs.items() if key in shared and key != _ONLY})
    return not ours - theirs and not theirs_too - ours


def _negated(tokens: Sequence[Token]) -> Counter[str]:
    """What each negation stands before, or after where nothing follows."""
    found: Counter[str] = Counter()
    for place, token in enumerate(tokens):
        if token.kind == "negation":
            after = next((t.key for t in tokens[place + 1 :] if t.kind != "negation"), "")
            before = next((t.key for t in reversed(tokens[:place]) if t.kind != "negation"), "")
            found[after or before] += 1
    return found


_ONLY = stem("only")  # "not only this but that" denies nothing


def _steps(token: Token) -> list[frozenset[str]]:
    """What a token of a passage stands for, step by step: a formula for the numbers in it."""
    if token.kind == "formula":
        return [frozenset(values(symbol)) for symbol in token.key.split(" ") if symbol[0].isdigit()]
    return [_meanings(token)] if token.kind in _ORDERED else []


def _meanings(token: Token) -> frozenset[str]:
    return frozenset(values(token.key)) if token.kind == "number" else frozenset((token.key,))


def _contains(where: Sequence[str], what: Sequence[str]) -> bool:
    """Whether the symbols stand there one after the other."""
    size = len(what)
    return any(list(where[at : at + size]) == list(what) for at in range(len(where) - size + 1)) if size else True
