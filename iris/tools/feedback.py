"""Answer feedback: what an answer covers, misses and gets wrong, a score, and a better answer.

Points and score come from ``grading``, in code. The model writes only the better answer, and its text is graded in the
same way: it is shown as checked only where it covers the reference better than the student's answer does.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Literal

from iris import prompts
from iris.courses import Course, Question
from iris.engine import Engine, GenerationRequest
from iris.errors import RequestError
from iris.tools import grading, passages, words
from iris.tools.grading import Grade
from iris.tools.passages import Evidence
from iris.tools.study_chat import checked

SAME_QUESTION = 0.6
"""A question of the course that shares this much with the asked one is taken to be the same."""
ABOUT = 0.5
"""A passage that has this much of a question's content speaks about it."""
GOOD_ENOUGH = 0.6
"""Score from which the model's better answer may be shown as such."""

PERFECT = 0.95
"""Score from which there is nothing to improve."""

HALF_RIGHT = (0.3, 0.75)
"""Scores of an example's answer."""

Origin = Literal["given", "course", "notes", ""]
Better = Literal["model", "reference", "unchecked", ""]


@dataclass(frozen=True, slots=True)
class Feedback:
    """Feedback, perhaps still growing.

    Attributes:
        question, answer: as they were read.
        reference: what the answer was compared with; empty where there is nothing.
        origin: where the reference is from: ``given`` with the request, the ``course``'s own answer to this question,
            or the passage of the ``notes`` that speaks about it.
        source: of the reference, for the reader.
        grade: points and score; None without a reference.
        better: a better answer.
        better_from: the ``model`` wrote it and it passed the check; it is the ``reference``, since the model's did not
            pass or none was asked for; or the model wrote it and there is nothing to check it against, ``unchecked``.
        refused: the model wrote a better answer that did not pass the check.
        place: in line for the model, while waiting.
        done: nothing more will come.
    """

    question: str
    answer: str
    reference: str = ""
    origin: Origin = ""
    source: str = ""
    grade: Grade | None = None
    better: str = ""
    better_from: Better = ""
    refused: bool = False
    place: int | None = None
    done: bool = False


def compare(
    course: Course | None, question: str, answer: str, reference: str = "", *, evidence: Evidence | None = None
) -> Feedback:
    """The feedback that code can give, at once: reference, points and score, and the reference as better answer.

    An empty answer is graded, too: it shows what would have been wanted.

    Raises:
        RequestError: there is no question, or a text is too long.
    """
    question = checked(question)
    answer, reference = (checked(text) if text.strip() else "" for text in (answer, reference))
    lexicon = words.lexicon(course)
    origin: Origin = "given" if reference else ""
    source = ""
    if not reference and course is not None:
        known = find(course, question)
        if known is not None:
            reference, origin, source = known.answer, "course", course.topic(known.topic).title
        else:
            passage = _passage(course, question, evidence)
            if passage is not None:
                reference, origin, source = passage.text, "notes", passage.source
    if not reference:
        return Feedback(question, answer)
    grade = grading.grade(answer, reference, question, lexicon)
    # A passage is no answer: it tells more than was asked, so it cannot say what is missing.
    if origin == "notes":
        return Feedback(question, answer, reference, origin, source, _without_score(grade))
    return Feedback(question, answer, reference, origin, source, grade, reference, "reference")


def improvable(feedback: Feedback) -> bool:
    """Whether asking the model makes sense: not for an answer that has it all already."""
    if feedback.grade is None or feedback.origin == "notes":
        return True
    return feedback.grade.score < PERFECT or bool(feedback.grade.of("contradicted"))


def improve(engine: Engine, course: Course | None, feedback: Feedback) -> Generator[Feedback, None, None]:
    """Let the model write the better answer; yields the feedback as it grows, at last checked.

    Closing the generator stops the engine's work.

    Raises what ``Engine.stream`` raises.
    """
    missing = tuple(finding.point for finding in feedback.grade.of("missing")) if feedback.grade else ()
    if feedback.origin == "notes":
        missing = ()
    request = GenerationRequest(
        prompts.feedback(feedback.question, feedback.answer, feedback.reference, missing[:8]), prompts.FEEDBACK_SAMPLING
    )
    text = ""
    with engine.stream(request) as chunks:
        for chunk in chunks:
            text += chunk.text
            if chunk.text or chunk.place:
                place = None if text else chunk.place
                yield replace(feedback, better=text, better_from="unchecked", place=place)
    yield _checked(course, feedback, text.strip())


def _checked(course: Course | None, feedback: Feedback, text: str) -> Feedback:
    if feedback.grade is None or feedback.origin == "notes":
        return replace(feedback, better=text, better_from="unchecked" if text else "", done=True)
    grade = grading.grade(text, feedback.reference, feedback.question, words.lexicon(course))
    if text and grade.score >= max(GOOD_ENOUGH, feedback.grade.score) and not grade.of("contradicted"):
        return replace(feedback, better=text, better_from="model", done=True)
    return replace(feedback, refused=True, done=True)  # its better answer stays the reference


def find(course: Course, question: str) -> Question | None:
    """The course's own question that asks the same, or None."""
    lexicon = words.lexicon(course)
    best = max(course.questions, key=lambda known: lexicon.alike(known.question, question), default=None)
    return best if best is not None and lexicon.alike(best.question, question) >= SAME_QUESTION else None


def _passage(course: Course, question: str, evidence: Evidence | None) -> passages.Passage | None:
    lexicon = words.lexicon(course)
    every = (evidence or passages.of_course(course))([topic.id for topic in course.topics])

    asked = frozenset(words.content(question))

    def about(passage: passages.Passage) -> float:
        shared = asked & frozenset(words.content(f"{passage.title}\n{passage.text}"))
        return lexicon.total(shared) / (lexicon.total(asked) or 1.0) if len(shared) >= 2 else 0.0

    best = max(every, key=about, default=None)
    return best if best is not None and about(best) >= ABOUT else None


def _without_score(grade: Grade) -> Grade:
    """Only what the answer says that stands in the passage, or contradicts it."""
    kept = grade.of("covered", "partly", "contradicted")
    return Grade(grade.score, kept, grade.remark)


def score(feedback: Feedback) -> float | None:
    """The score, or None where there is no reference answer to measure by.

    An empty answer and one that repeats the question score 0 in any case.
    """
    if feedback.grade is not None and (feedback.origin != "notes" or feedback.grade.remark in ("empty", "repeats")):
        return feedback.grade.score
    if not feedback.answer or grading.repeats(feedback.answer, feedback.question):
        return 0.0
    return None


def example(course: Course | None) -> tuple[str, str]:
    """A question and a half-right answer of this course, for a student who wants to see how it works.

    Raises:
        RequestError: the course has no questions.
    """
    fit = [row for row in course.questions if row.kind in ("why", "mechanism", "comparison")] if course else []
    lexicon = words.lexicon(course)
    for row in fit or (course.questions if course else ()):
        sentences = passages.sentences(row.answer)
        for number in range(1, len(sentences)):
            answer = " ".join(sentences[:number])
            if HALF_RIGHT[0] <= grading.grade(answer, row.answer, row.question, lexicon).score <= HALF_RIGHT[1]:
                return row.question, answer
    raise RequestError("This course has no questions with answers to show an example of.")
