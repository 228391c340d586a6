"""Cleaning: the text of a row made whole, meta-instructions taken out of its prompt.

Every change is made by a named rule (``clean_rules.RULES``) and counted under that name. A rule is not applied where
it would leave an empty prompt, or one without its head or tail. Cleaning twice changes nothing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from data.clean_rules import BEHEADED, RULES, Rule
from data.sources import Row
from iris.engine import Message

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b\u2060\ufeff\ufffe\uffff]")
_LINE_ENDS = re.compile(r"\r\n?|\u2028|\u2029")
_TRAILING = re.compile(r"[ \t]+(?=\n)")
_PARAGRAPHS = re.compile(r"(\n\s*\n)")
_WORD = re.compile(r"\w")
_ITEM = re.compile(
    r"^\s*(?:[-*•]|\(?[A-Za-z0-9]{1,2}[.)])\s", re.MULTILINE
)  # of a list, such as options to choose from
_SENTENCE = re.compile(r"[^.?!\n]+[.?!]*")
_LEAD = re.compile(
    r"(?:in\s+practice|in\s+addition|additionally|furthermore|moreover|finally|also)\s*,\s*", re.IGNORECASE
)
_CUT_START = next(rule for rule in RULES if rule.name == BEHEADED)
_LONG = 80  # words; a longer paragraph is a passage to work on, not an instruction

DAMAGE: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("is empty", re.compile(r"\A\W*\Z")),
    ("starts with punctuation", re.compile(r"\A\s*(?:[,;)\]}…–—]|[:.!?](?!\w))")),
    ("starts in mid-sentence", re.compile(r"\A\s*(?:and|or|nor|because|than|whereas)\b")),
    ("breaks off", re.compile(r"(?:[,;(\[{]|\b(?:and|or|the|an?)\s*[.?!]?|\b(?:of|with|between|than)\s*\.?)\Z")),
    (
        "has an unfilled slot",
        re.compile(r"\{\{.*?\}\}|\{(?:topic|concept|term|subject|name|question|input|text|[XY])\}"),
    ),
    ("has broken characters", re.compile("\ufffd|\u00e2\u20ac[\u2122\u0153\u009d\u201c\u201d]|\u00c3[\u00a0-\u00bf]")),
)
"""What a damaged prompt looks like: a name for the report, and the pattern."""

_END = 40  # characters in which "breaks off" is looked for


def damage(prompt: str) -> str:
    """The first kind of ``DAMAGE`` that a prompt shows, or nothing."""
    return next(_damages(prompt), "")


def _damages(prompt: str) -> Iterator[str]:
    lines = prompt.rstrip().rsplit("\n", 1)
    last = lines[-1][-_END:]
    if len(lines) > 1 and len(last.split()) < 6:  # an option or an item of a list, not the end of a sentence
        last = ""
    return (name for name, pattern in DAMAGE if pattern.search(last if name == "breaks off" else prompt))


def clean_text(text: str) -> str:
    """One kind of line end, no control characters, no space at the ends of lines; otherwise the text as it is."""
    if not text.isascii() or "\r" in text or _CONTROL.search(text):
        text = _CONTROL.sub("", _LINE_ENDS.sub("\n", text))
    text = text.strip()
    return _TRAILING.sub("", text) if " \n" in text or "\t\n" in text else text


def clean_prompt(prompt: str, hits: Counter[str] | None = None) -> str:
    """A user's turn without meta-instructions. ``hits`` counts the rules that changed it.

    Only the first and the last paragraph are looked at, and only if they are short: a passage to be summarized, a list
    of options, or code may well contain the sentence "Be brief."
    """
    prompt = clean_text(prompt)
    counted: Counter[str] = Counter() if hits is None else hits
    for _ in range(20):  # removing one instruction can uncover another
        before = prompt
        # On the whole: the first paragraph may be nothing but the comma that was left behind.
        prompt = clean_text(_apply(_CUT_START, prompt, counted))
        for number in (0, -1) if "\n" in prompt else (0,):
            paragraphs = _PARAGRAPHS.split(prompt)
            changed = _clean_paragraph(paragraphs[number], counted)
            if changed != paragraphs[number]:
                paragraphs[number] = changed
                prompt = clean_text("".join(paragraphs))
        if prompt == before:
            break
    return prompt


def _clean_paragraph(text: str, hits: Counter[str]) -> str:
    if "```" in text or text.count(" ") > _LONG or len(_ITEM.findall(text)) > 1:  # a passage to work on
        return text
    small = text.lower()
    for rule in RULES:
        if rule is not _CUT_START and rule.may_match(small):
            changed = _apply(rule, text, hits)
            if changed != text:
                text, small = changed, changed.lower()
    return text


def _apply(rule: Rule, text: str, hits: Counter[str]) -> str:
    """The text after a rule, or as it is where the rule would leave no prompt that can stand alone."""
    if not rule.pattern.search(text):
        return text
    changed = _capital(text, _TRAILING.sub("", rule.pattern.sub(rule.to, text)).strip())
    if changed == text or not _whole(changed, text, rule):
        return text
    hits[rule.name] += 1
    return changed


def _capital(before: str, after: str) -> str:
    """Begin sentences with a capital where a rule took away the word that had it."""
    first = re.match(r"[a-z]+\b", after)
    if first and (not before[:1].isalpha() or before[:1].isupper()):
        after = after[0].upper() + after[1:]
    kept = set(re.findall(r"[.?!]\s+[a-z]+\b", before))
    return re.sub(
        r"[.?!]\s+[a-z]+\b",
        lambda match: match[0] if match[0] in kept else re.sub(r"[a-z]", lambda m: m[0].upper(), match[0], count=1),
        after,
    )


def _whole(after: str, before: str, rule: Rule) -> bool:
    """Whether a rule left a prompt that can stand alone: "Why?" can, "Explain" cannot."""
    cut = rule is _CUT_START  # takes no word away, and perhaps a bracket that was opened in what was cut off
    if len(re.findall(r"\w+", after)) < (1 if cut or after.endswith("?") else 2):
        return False
    if not set(_damages(after)) <= set(_damages(before)):
        return False
    return cut or all(
        (after.count(left) == after.count(right)) or (before.count(left) != before.count(right))
        for left, right in ("()", "[]", "{}")
    )


def clean_row(row: Row, hits: Counter[str], *, keep_instructions: bool = False) -> Row | None:
    """The row with clean texts, or None if nothing is left of its question or its answer.

    Meta-instructions are taken out of the user's turns only; ``keep_instructions`` leaves them in.
    """
    prompt = []
    for message in row.prompt:
        text = clean_text(message.content)
        if text != message.content:
            hits["plain-text"] += 1
        if message.role == "user" and not keep_instructions:
            text = clean_prompt(text, hits)
        if not _WORD.search(text):
            hits["dropped: empty prompt"] += 1
            return None
        prompt.append(Message(message.role, text))
    completion = clean_text(row.completion)
    if completion != row.completion:
        hits["plain-text"] += 1
    if not completion:
        hits["dropped: empty answer"] += 1
        return None
    return row.replaced(tuple(prompt), completion)


def leaks(text: str) -> list[str]:
    """The sentences of a model's answer that are meta-instructions."""
    small = text.lower()
    rules = [rule for rule in RULES if rule.leak and rule.may_match(small)]
    found = []
    for sentence in _SENTENCE.findall(text) if rules else ():
        sentence = sentence.strip(" \t*_>#-")
        bare = _LEAD.sub("", sentence, count=1)  # "In practice, include an example from industry."
        if any(rule.pattern.match(bare) for rule in rules):
            found.append(sentence)
    return found


def leak_rate(text: str) -> float:
    """The share of a model answer's sentences that are meta-instructions, 0 to 1; 0 for an empty answer.

    A model trained on prompts with "Include an example from industry." learns to write such sentences itself.
    """
    sentences = [sentence for sentence in _SENTENCE.findall(text) if sentence.strip(" \t*_>#-.?!")]
    return len(leaks(text)) / len(sentences) if sentences else 0.0
