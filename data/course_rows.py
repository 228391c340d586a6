"""A course as training rows: its questions, the sections of its notes, its multiple-choice items."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from data import text
from data.clean import clean_prompt, clean_text
from iris.courses import Course, MultipleChoice

Kind = Literal["qa", "note", "mcq"]

LETTERS = "ABCD"

# What a student says to get a section of the notes; the topic's title stands as it is written, so that no article,
# number or capital can go wrong.
_REQUESTS: dict[str, tuple[str, ...]] = {
    "idea": (
        "{}: what is the idea?",
        "{}. Can you go through the idea with me?",
        "I need to understand this: {}",
        "{}: how should I think about it?",
        "Let us start with the basics. {}",
        "I missed this one, could you explain it? {}",
        "{}: what is it for, and how does it work?",
    ),
    "formula": (
        "{}: which formula do I need, and what do the symbols mean?",
        "{}. What is the formula?",
        "Can you write the maths down for me? Topic: {}",
        "What are the equations here? {}",
        "{}: I have to know the formula by heart. Which is it?",
        "How is this written as a formula? {}",
    ),
    "mechanism": (
        "{}: how does it work, step by step?",
        "{}. What happens inside?",
        "How does this work? {}",
        "Walk me through it. {}",
    ),
    "worked example": (
        "{}: can you show me a worked example?",
        "{}. Let us calculate one case from start to end.",
        "I would like to see this done once: {}",
        "{}: an example with numbers, please.",
        "How would this look on a concrete case? {}",
        "I learn best from examples. {}",
        "{}. Do you have an exercise with its solution?",
    ),
    "typical mistake": (
        "{}: what do students usually get wrong?",
        "{}. Which mistake should I avoid in the exam?",
        "What is a typical mistake here? {}",
        "Where do people go wrong? {}",
        "{}: what is easily confused?",
        "What should I watch out for? {}",
        "{}. What would cost me points?",
    ),
}
_ANY_REQUEST = ("{0}: {1}", "{1}. Topic: {0}")


@dataclass(frozen=True, slots=True)
class Example:
    """One row. ``asked`` is what is compared for near-duplicates on the question's side; empty: only the answer is."""

    id: str
    kind: Kind
    topic: str
    prompt: str
    completion: str
    asked: str


def course_rows(course: Course, hits: Counter[str]) -> list[Example]:
    """All rows of a course in a fixed order, cleaned, without exact repetitions. ``hits`` counts what rules changed.

    A new row at the end of a file comes after the file's other rows, which keeps the names of groups stable.
    """
    rows: list[Example] = []
    seen: set[tuple[str, str]] = set()
    for row in _raw(course):
        # The options of a multiple-choice item are no instructions: its text is left as it is.
        prompt = clean_text(row.prompt) if row.kind == "mcq" else clean_prompt(row.prompt, hits)
        completion = clean_text(row.completion)
        key = text.same(prompt), text.same(completion)
        if key in seen:
            hits["dropped: exact repetition"] += 1
            continue
        seen.add(key)
        rows.append(Example(row.id, row.kind, row.topic, prompt, completion, row.asked))
    return rows


def _raw(course: Course) -> Iterator[Example]:
    for question in course.questions:
        yield Example(question.id, "qa", question.topic, question.question, question.answer, question.question)
    for note in course.notes:
        title = course.topic(note.topic).title
        for number, section in enumerate(note.sections, 1):
            if section.text:
                prompt = _request(note.topic, title, section.heading)
                yield Example(f"{note.topic}-n{number:02}", "note", note.topic, prompt, section.text, "")
    for item in course.bank:
        prompt = multiple_choice_prompt(item.question, options(item))
        yield Example(item.id, "mcq", item.topic, prompt, multiple_choice_answer(item), item.question)


def _request(topic: str, title: str, heading: str) -> str:
    forms = _REQUESTS.get(heading.casefold(), _ANY_REQUEST)
    return forms[text.key(topic, heading) % len(forms)].format(title, heading)


def options(item: MultipleChoice) -> list[str]:
    """The four options in an order that depends on the item alone and is random otherwise."""
    return sorted((item.answer, *item.distractors), key=lambda option: text.key("option", item.id, option))


def multiple_choice_prompt(question: str, choices: Sequence[str]) -> str:
    """The question, a blank line, and the options as lines ``A. …``."""
    lines = (f"{letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=True))
    return f"{question}\n\n" + "\n".join(lines)


def multiple_choice_answer(item: MultipleChoice) -> str:
    """The right option with its letter, a blank line, and the explanation."""
    return f"{LETTERS[options(item).index(item.answer)]}. {item.answer}\n\n{item.explanation}"
