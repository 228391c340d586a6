"""Cheat sheet: one page for some topics, taken word for word from the notes; what the model adds is marked as its own.

The page has definitions, formulas, a table of worked results and pitfalls. Code chooses the lines and proves that each
stands in the notes; a budget in tokens keeps it to a page.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from iris import prompts
from iris.courses import Course
from iris.engine import Engine, GenerationRequest
from iris.errors import RequestError
from iris.tools import numeric, passages, words
from iris.tools.passages import Evidence, Passage
from iris.tools.words import Lexicon

BUDGET = 900
"""Tokens of the whole page."""
FIRST_LINES = 0.5
"""The share of the budget that the first lines of all topics may take."""
OWN_LINES = 4
"""Lines that the model may add at most."""
GROUNDED = 0.5
"""A line of the model that shares less than this with the passage it is about is dropped."""
OWN_MARK = "✎"

Part = Literal["definition", "formula", "result", "pitfall", "own"]
PARTS: tuple[tuple[Part, str], ...] = (
    ("definition", "Definitions"),
    ("formula", "Formulas"),
    ("result", "Worked results"),
    ("pitfall", "Pitfalls"),
    ("own", "In other words"),
)
OWN_NOTE = f"{OWN_MARK} These lines are the model's own, not from the notes: check them."

Counter = Callable[[str], int]
"""Tokens of a text."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the page. ``text`` is Markdown with LaTeX; ``source`` is the passage that it is from or about."""

    part: Part
    topic: str
    title: str
    text: str
    source: str

    @property
    def own(self) -> bool:
        """Whether the model wrote it."""
        return self.part == "own"


@dataclass(frozen=True, slots=True)
class Sheet:
    """The page, perhaps still growing.

    Attributes:
        title: what it is about.
        lines: in the order of the page.
        tokens: of the whole page as Markdown.
        left_out: titles of topics that did not fit.
        without_notes: titles of topics that have no notes.
        place: in line for the model, while waiting.
        done: nothing more will come.
    """

    title: str
    lines: tuple[Line, ...]
    tokens: int = 0
    left_out: tuple[str, ...] = ()
    without_notes: tuple[str, ...] = ()
    place: int | None = None
    done: bool = False

    def of(self, part: Part) -> tuple[Line, ...]:
        return tuple(line for line in self.lines if line.part == part)


def estimate(text: str) -> int:
    """Tokens of a text by rule of thumb, where no model is at hand: a little more than any of ours counts."""
    return -(-len(text) * 2 // 5)


def compose(
    course: Course | None,
    topics: Sequence[str],
    *,
    count: Counter = estimate,
    evidence: Evidence | None = None,
    own: Mapping[str, str] | None = None,
) -> Sheet:
    """The page from the notes alone.

    ``evidence`` gives the passages of topics (default: the course's own notes). ``own`` has titles of a student's notes
    by names that may stand among the topics.

    Raises:
        RequestError: no topic is chosen, or none has notes.
        CourseError: there is no topic of that id.
    """
    if course is None:
        raise RequestError("There is no course to make a cheat sheet of. Put one into the courses folder.")
    if not topics:
        raise RequestError("No topics are chosen. Choose one or more topics, then make the cheat sheet.")
    named = {topic: (own or {}).get(topic) or course.topic(topic).title for topic in topics}
    find = evidence or passages.of_course(course)
    found = {topic: list(find([topic])) for topic in named}
    without = tuple(title for topic, title in named.items() if not found[topic])
    if len(without) == len(named):
        raise RequestError("There are no notes on these topics to make a cheat sheet of. Choose other topics.")
    lexicon = words.lexicon(course)
    lines = {topic: _lines(title, found[topic], lexicon) for topic, title in named.items() if found[topic]}
    title = course.title if len(named) > 3 else " · ".join(named.values())
    sheet = _fill(Sheet(title, (), without_notes=without), list(lines.values()), count)
    shown = {line.topic for line in sheet.lines}
    left_out = tuple(title for topic, title in named.items() if topic in lines and topic not in shown)
    return replace(sheet, left_out=left_out, done=True)


def add_own(
    engine: Engine, course: Course, sheet: Sheet, *, evidence: Evidence | None = None
) -> Generator[Sheet, None, None]:
    """Let the model add a line of its own on each of the first topics; yields the page as it grows.

    A line that has little to do with the passage, repeats it or would make the page too long is left out.

    Raises what ``Engine.stream`` raises.
    """
    sheet = replace(sheet, done=False)
    find = evidence or passages.of_course(course)
    lexicon = words.lexicon(course)
    for topic, title in list({line.topic: line.title for line in sheet.lines}.items())[:OWN_LINES]:
        passage = next(iter(find([topic])), None)
        if passage is None:
            continue
        request = GenerationRequest(
            prompts.cheat_sheet(passage.title, passage.text[:1500]), prompts.CHEAT_SHEET_SAMPLING
        )
        text = ""
        with engine.stream(request) as chunks:
            for chunk in chunks:
                text += chunk.text
                if chunk.place and not text:
                    yield replace(sheet, place=chunk.place)
        line = Line("own", topic, title, _one_line(text), passage.source)
        longer = replace(sheet, lines=(*sheet.lines, line), place=None)
        if _worth_it(line, passage, lexicon) and engine.count_tokens(markdown(longer)) <= BUDGET:
            sheet = replace(longer, tokens=engine.count_tokens(markdown(longer)))
            yield sheet
    yield replace(sheet, done=True)


def markdown(sheet: Sheet) -> str:
    """The page as Markdown."""
    blocks = [f"# {sheet.title}"]
    for part, heading in PARTS:
        lines = sheet.of(part)
        if not lines:
            continue
        blocks.append(f"## {heading}")
        if part == "own":
            blocks.append(OWN_NOTE)
        if part == "formula":
            blocks += [f"**{line.title}**\n\n{line.text}" for line in lines]
        elif part == "result":
            rows = "\n".join(f"| {_cell(line.title)} | {_cell(line.text)} |" for line in lines)
            blocks.append(f"| Topic | From the worked example |\n| --- | --- |\n{rows}")
        else:
            mark = f"{OWN_MARK} " if part == "own" else ""
            blocks.append("\n".join(f"- {mark}**{line.title}.** {line.text}" for line in lines))
    return "\n\n".join(blocks) + "\n"


def _fill(sheet: Sheet, topics: Sequence[Sequence[Line]], count: Counter) -> Sheet:
    """As many lines as the budget holds: of each topic the most important first, then what comes next in importance."""
    kept: list[Line] = []
    used = count(f"# {sheet.title}\n") + 6 * len(PARTS) + 12  # headings and the head of the table
    shown: set[str] = set()
    for place in range(max(map(len, topics), default=0)):
        for line in (lines[place] for lines in topics if place < len(lines)):
            cost = count(f"- **{line.title}.** {line.text}\n") + 2
            # Many topics: a page of first lines only would have no formula and no pitfall.
            if used + cost <= (BUDGET if place else FIRST_LINES * BUDGET) and (not place or line.topic in shown):
                kept.append(line)
                shown.add(line.topic)
                used += cost
    order = {part: place for place, (part, _) in enumerate(PARTS)}
    sheet = replace(sheet, lines=tuple(sorted(kept, key=lambda line: order[line.part])))
    return replace(sheet, tokens=count(markdown(sheet)))


def _lines(title: str, found: Sequence[Passage], lexicon: Lexicon) -> list[Line]:
    """A topic's lines, the most important first; each is word for word in its passage."""
    pitfalls = [passage for passage in found if _PITFALL.search(passage.heading)]
    worked = [passage for passage in found if _WORKED.search(passage.heading)]
    rest = [passage for passage in found if passage not in pitfalls and passage not in worked] or list(found)
    lines: list[Line] = []

    def take(part: Part, candidates: Iterator[tuple[str, Passage]], most: int) -> None:
        taken = 0
        for text, passage in candidates:
            if taken < most and text in passage.text and all(text != line.text for line in lines):
                lines.append(Line(part, passage.topic, title, text, passage.source))
                taken += 1

    take("definition", _definitions(title, rest, lexicon), 1)
    take("formula", _formulas(rest), 1)
    take("pitfall", _pitfalls(pitfalls, rest), 1)
    take("result", _results(worked or rest), 1)
    take("formula", _formulas(rest), 1)
    take("definition", _definitions(title, rest, lexicon), 1)
    take("pitfall", _pitfalls(pitfalls, rest), 1)
    return lines


_PITFALL = re.compile(r"mistake|pitfall|error|caution|warning|trap|fallgrop|misstag|fehler|falle|hata|tuzak", re.I)
_WORKED = re.compile(r"example|worked|exempel|beispiel|örnek", re.I)
_WARNING = re.compile(r"\b(?:mistake|never|do not|don't|careful|beware|avoid|confus\w+|wrong\w*|not the same)\b", re.I)
_DEFINES = re.compile(r"\b(?:is|are|means?|calls?|called|maps?|predicts?|consists?|measures?|describes?|denotes?)\b")
_LONGEST = 260
"""Characters of a line at most; a sheet is for looking things up."""


def _definitions(title: str, found: Sequence[Passage], lexicon: Lexicon) -> Iterator[tuple[str, Passage]]:
    """Sentences that say what the topic is, the likeliest first."""
    named = frozenset(words.content(title))
    ranked = []
    for order, passage in enumerate(found):
        for place, sentence in enumerate(passages.sentences(passage.text)):
            if 30 <= len(sentence) <= _LONGEST and "$$" not in sentence and not sentence.endswith(":"):
                share = lexicon.total(named & frozenset(words.content(sentence))) / (lexicon.total(named) or 1.0)
                score = share + 0.5 * bool(_DEFINES.search(sentence)) - 0.15 * place - 0.3 * order
                ranked.append((-score, order, place, sentence, passage))
    for *_, sentence, passage in sorted(ranked, key=lambda row: row[:3]):
        yield sentence, passage


def _formulas(found: Sequence[Passage]) -> Iterator[tuple[str, Passage]]:
    for passage in found:
        for formula in re.findall(r"\$\$.+?\$\$", passage.text, re.S):
            if "\n\n" not in formula and len(formula) <= 2 * _LONGEST:
                yield formula, passage


def _pitfalls(pitfalls: Sequence[Passage], rest: Sequence[Passage]) -> Iterator[tuple[str, Passage]]:
    """What goes wrong: the beginning of a section about mistakes, else sentences that warn."""
    for passage in pitfalls:
        sentences = [sentence for sentence in passages.sentences(passage.text) if "$$" not in sentence]
        if len(sentences) > 1 and len(sentences[0]) < 90 and f"{sentences[0]} {sentences[1]}" in passage.text:
            sentences[:2] = [f"{sentences[0]} {sentences[1]}"]  # the mistake's name, and what it is
        yield from ((sentence, passage) for sentence in sentences if 30 <= len(sentence) <= _LONGEST + 60)
    if not pitfalls:
        for passage in rest:
            for sentence in passages.sentences(passage.text):
                if _WARNING.search(sentence) and 30 <= len(sentence) <= _LONGEST and "$$" not in sentence:
                    yield sentence, passage


def _results(found: Sequence[Passage]) -> Iterator[tuple[str, Passage]]:
    """Sentences with numbers, for a cell of the table: later ones first, since they hold the result."""
    for passage in found:
        for sentence in reversed(passages.sentences(passage.text)):
            fits = 30 <= len(sentence) <= 200 and "|" not in sentence and "\n" not in sentence and "$$" not in sentence
            if fits and len(numeric.numbers(sentence)) >= 2 and not sentence.endswith(":"):
                yield sentence, passage


def _worth_it(line: Line, passage: Passage, lexicon: Lexicon) -> bool:
    text = line.text
    whole = text.endswith((".", "!", "$")) and text.count("$") % 2 == 0 and all(ord(mark) >= 32 for mark in text)
    return (
        whole
        and len(words.content(text)) >= 4
        and not passages.found(text, passage.text)
        and lexicon.within(text, passage.text) >= GROUNDED
    )


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _cell(text: str) -> str:
    return _one_line(text).replace("|", "\\|")
