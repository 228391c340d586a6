"""A quiz as HTML: the item before the student as a form, its mark, and the review at the end.

All texts of courses, students and models go through ``richtext`` or ``html.escape``.
"""

from __future__ import annotations

import html

import gradio as gr

from iris.tools.quiz import Quiz
from iris.tools.quiz_items import Item, Mark
from iris.tools.quiz_taking import Taken, Taking
from iris.ui import richtext
from iris.ui.strings import say

_SIGNS = {"right": "✓", "partly": "◐", "wrong": "✗"}


def empty(request: gr.Request | None = None) -> str:
    """What stands in the quiz's place before there is one."""
    return f'<p class="iris-empty">{html.escape(say("quiz.empty", request))}</p>'


def page(taking: Taking, request: gr.Request | None) -> str:
    """The item before the student, or the result."""
    return result(taking, request) if taking.over else item(taking, request)


def key(taking: Taking) -> str:
    """What the page shows of a quiz; a click on something older is told apart by it."""
    if taking.over:
        return f"{taking.round}-result"
    return f"{taking.round}-{taking.place}-{'marked' if taking.now.mark else 'open'}"


def item(taking: Taking, request: gr.Request | None) -> str:
    """The item before the student as a form; marked, with its explanation, when it has been answered."""
    taken = taking.now
    head = say("quiz.place", request, place=taking.place + 1, count=len(taking.taken))
    about = [head]
    if taking.round > 1:
        about.append(say("quiz.round", request, round=taking.round))
    about += [say(f"quiz.{taken.item.kind}", request), say(f"quiz.{taken.item.difficulty}", request)]
    about.append(say("quiz.by_course" if taken.item.origin == "course" else "quiz.by_model", request))
    focus = "" if taken.mark else ' tabindex="-1" data-focus'
    return (
        f'<form class="iris-item" data-key="{key(taking)}" novalidate autocomplete="off">'
        f'<div class="iris-asked-item" id="iris-asked-item"{focus}>'
        f'<p class="iris-about">{html.escape(" · ".join(about))}</p>'
        f'<div class="iris-rich">{richtext.to_html(taken.item.question)}</div></div>'
        f"{_fields(taken, request)}{_verdict(taken, request) if taken.mark else ''}{_buttons(taking, request)}</form>"
    )


def summary(quiz: Quiz, request: gr.Request | None) -> str:
    """What kind of quiz it became, in one line."""
    if quiz.missing:
        line = say("quiz.few", request, have=len(quiz.items), count=quiz.wanted.count)
    else:
        line = say("quiz.ready", request, count=len(quiz.items))
    if quiz.again:
        line += say("quiz.again_note", request, number=quiz.again)
    if quiz.rejection_rate is not None:
        line += say(
            "quiz.rate",
            request,
            tried=quiz.tried,
            refused=sum(quiz.refused.values()),
            rate=f"{quiz.rejection_rate:.0%}",
        )
    return line.strip()


def result(taking: Taking, request: gr.Request | None) -> str:
    """Score and review."""
    count = len(taking.taken)
    points = f"{taking.points:.1f}".rstrip("0").rstrip(".")
    line = say("quiz.result", request, points=points, count=count, share=f"{taking.points / count:.0%}")
    rows = "".join(_reviewed(place, taken, request) for place, taken in enumerate(taking.taken, 1))
    again = say("quiz.retry" if taking.wrong else "quiz.repeat", request)
    return (
        f'<form class="iris-item" data-key="{key(taking)}">'
        f'<h3 tabindex="-1" data-focus>{html.escape(line)}</h3>'
        f'<div class="iris-buttons"><button type="button" class="iris-main" data-action="again">{html.escape(again)}'
        f"</button></div><h4>{html.escape(say('quiz.review', request))}</h4>"
        f'<ol class="iris-reviewed">{rows}</ol></form>'
    )


def _fields(taken: Taken, request: gr.Request | None) -> str:
    subject, marked = taken.item, taken.mark is not None
    if subject.options:
        legend = say("quiz.claim" if subject.kind == "true_false" else "quiz.choose", request)
        options = "".join(_option(taken, place, text, request) for place, text in enumerate(subject.options))
        return f"<fieldset><legend>{html.escape(legend)}</legend>{options}</fieldset>"
    given = html.escape(taken.given, quote=True)
    locked = " readonly" if marked else ""
    if subject.kind == "numeric":
        label = say("quiz.your_number_in", request, unit=subject.unit) if subject.unit else ""
        label = label or say("quiz.your_number", request)
        field = f'<input type="text" name="answer" value="{given}" maxlength="80"{locked}>'
    else:
        label = say("quiz.your_words", request)
        field = f'<textarea name="answer" rows="4"{locked}>{html.escape(taken.given)}</textarea>'
    return f'<label class="iris-field"><span>{html.escape(label)}</span>{field}</label>'


def _option(taken: Taken, place: int, text: str, request: gr.Request | None) -> str:
    subject = taken.item
    chosen = taken.given == text
    kind, sign = "", ""
    if taken.mark and text == subject.answer:
        kind, sign = " right", f"✓ {say('quiz.right', request)}"
    elif taken.mark and chosen:
        kind, sign = " wrong", f"✗ {say('quiz.wrong', request)}"
    shown = say(f"quiz.{text}", request) if subject.kind == "true_false" else text
    state = (" checked" if chosen else "") + (" disabled" if taken.mark else "")
    note = f'<span class="iris-sign">{html.escape(sign)}</span>' if sign else ""
    return (
        f'<label class="iris-option{kind}"><input type="radio" name="answer" value="{place}"{state}>'
        f'<span class="iris-rich">{richtext.inline(shown)}</span>{note}</label>'
    )


def _verdict(taken: Taken, request: gr.Request | None) -> str:
    mark = taken.mark
    assert mark is not None
    word = f"{_SIGNS[mark.verdict]} {say(f'quiz.{mark.verdict}', request)}"
    if taken.item.kind == "short" and mark.verdict != "wrong":
        word += f" · {mark.right:.0%}"
    parts = [f'<p class="iris-word" tabindex="-1" data-focus>{html.escape(word)}</p>']
    if hint := _hint(taken.item, mark, request):
        parts.append(f"<p>{html.escape(hint)}</p>")
    return f'<div class="iris-verdict {mark.verdict}">{"".join(parts)}{_solution(taken, request)}</div>'


def _hint(subject: Item, mark: Mark, request: gr.Request | None) -> str:
    if mark.reason == "unit":
        return say("quiz.unit_wrong", request, unit=subject.unit or "1")
    if mark.reason in ("coarse", "unreadable", "repeats", "keywords", "elsewhere") and mark.verdict != "right":
        return say(f"quiz.{mark.reason}", request)
    return ""


def _solution(taken: Taken, request: gr.Request | None) -> str:
    """The right answer, the points of a short one, why, and where it stands."""
    subject = taken.item
    parts = []
    if subject.kind == "short":
        assert taken.mark is not None
        for state, label in (("missing", "feedback.missing"), ("contradicted", "feedback.contradicted")):
            points = [finding for finding in taken.mark.findings if finding.state == state]
            if points and taken.mark.verdict != "right":
                listed = "".join(f"<li>{richtext.inline(_point(finding))}</li>" for finding in points)
                parts.append(f"<p><b>{html.escape(say(label, request))}</b></p><ul>{listed}</ul>")
        parts.append(
            f"<p><b>{html.escape(say('quiz.model_answer', request))}</b></p>{richtext.to_html(subject.answer)}"
        )
    elif subject.kind == "numeric":
        parts.append(
            f"<p><b>{html.escape(say('quiz.right_answer', request))}</b> {richtext.inline(subject.answer)}</p>"
        )
    if subject.explanation:
        parts.append(f"<p><b>{html.escape(say('quiz.why', request))}</b></p>{richtext.to_html(subject.explanation)}")
    if subject.evidence:
        parts.append(f"<blockquote>{richtext.to_html(subject.evidence)}</blockquote>")
    if subject.source:
        parts.append(f'<p class="iris-source">{html.escape(say("quiz.source", request, source=subject.source))}</p>')
    return f'<div class="iris-rich">{"".join(parts)}</div>'


def _point(finding: object) -> str:
    error = getattr(finding, "error", "")
    return f"{getattr(finding, 'point', '')}" + (f" ({error})" if error else "")


def _buttons(taking: Taking, request: gr.Request | None) -> str:
    if not taking.now.mark:
        inside = f'<button type="submit" class="iris-main">{html.escape(say("quiz.check", request))}</button>'
    else:
        last = taking.place + 1 == len(taking.taken)
        text = html.escape(say("quiz.finish" if last else "quiz.next", request))
        inside = f'<button type="button" class="iris-main" data-action="next">{text}</button>'
    return f'<div class="iris-buttons">{inside}</div>'


def _reviewed(place: int, taken: Taken, request: gr.Request | None) -> str:
    verdict = taken.mark.verdict if taken.mark else "wrong"
    sign = f"{_SIGNS[verdict]} {say(f'quiz.{verdict}', request)}"
    if taken.item.kind == "true_false" and taken.given:
        given = html.escape(say(f"quiz.{taken.given}", request))
    else:
        given = html.escape(taken.given) if taken.given else html.escape(say("quiz.unanswered", request))
        given = richtext.inline(taken.given) if taken.item.kind == "choice" and taken.given else given
    right = taken.item.answer
    asked = taken.item.question.replace("\n\n> ", " → ")
    shown = html.escape(say(f"quiz.{right}", request)) if taken.item.kind == "true_false" else richtext.inline(right)
    return (
        f'<li class="{verdict}"><details><summary><b>{html.escape(sign)}</b> '
        f'<span class="iris-rich">{richtext.inline(asked)}</span></summary>'
        f"<p>{html.escape(say('quiz.your_answer', request))} {given}</p>"
        f'<p>{html.escape(say("quiz.right_answer", request))} <span class="iris-rich">{shown}</span></p>'
        f"{_solution(taken, request) if taken.mark else ''}</details></li>"
    )
