"""A drill's clock and report as HTML and Markdown."""

from __future__ import annotations

import html

import gradio as gr

from iris.courses import Course
from iris.study.drills import Drill
from iris.tools.drill import Line, Report
from iris.tools.planner import title
from iris.tools.quiz_items import Item
from iris.ui.strings import say

_MARKS = {"right": "✓", "partly": "◐", "wrong": "✗"}


def clock(drill: Drill, at: int, request: gr.Request | None) -> str:
    """The clock; study.js makes it run. It is the server's: a wrong one in the browser changes nothing."""
    left = drill.left(at)
    seconds = left // 1000
    return (
        f'<div id="iris-clock" role="timer" aria-label="{html.escape(say("drill.time_left", request))}" '
        f'data-left="{left}" data-drill="{html.escape(drill.id)}-{at}">{seconds // 60}:{seconds % 60:02}</div>'
    )


def question(item: Item, place: int, number: int, request: gr.Request | None) -> str:
    """One question as Markdown."""
    head = say("drill.question", request, place=place + 1, number=number)
    hint = {
        "numeric": say("drill.unit", request, unit=item.unit) if item.unit else say("drill.number", request),
        "short": say("drill.words", request),
    }.get(item.kind, "")
    return f"**{head}**\n\n{item.question}" + (f"\n\n*{hint}*" if hint else "")


def summary(report: Report, request: gr.Request | None) -> str:
    """What was reached, in one line."""
    used = report.used // 1000
    line = say(
        "drill.score",
        request,
        score=f"{report.score:.0%}",
        right=f"{sum(topic.right for topic in report.topics):g}",
        count=len(report.lines),
        time=f"{used // 60}:{used % 60:02}",
    )
    more = say("drill.cards", request, number=report.cards) if report.cards else ""
    return f"<p>{html.escape(' '.join(filter(None, [line, more])))}</p>"


def topics(course: Course, report: Report, request: gr.Request | None) -> str:
    """The result by topic, the weakest first."""
    rows = "".join(
        f'<tr><th scope="row">{html.escape(title(course, topic.topic))}</th>'
        f"<td>{topic.right:g} / {topic.count}</td>"
        f'<td><span class="iris-bar"><i style="width:{100 * topic.right / topic.count:.0f}%"></i></span> '
        f"{topic.right / topic.count:.0%}</td></tr>"
        for topic in report.topics
    )
    heads = "".join(
        f'<th scope="col">{html.escape(say(f"drill.{name}", request))}</th>' for name in ("topic", "right", "share")
    )
    label = html.escape(say("drill.by_topic", request))
    return (
        f'<div class="iris-scroll" tabindex="0" role="region" aria-label="{label}">'
        f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def review(report: Report, request: gr.Request | None) -> str:
    """Every question with what was answered and what is right, as Markdown."""
    return "\n\n---\n\n".join(_line(place, line, request) for place, line in enumerate(report.lines, 1))


def _line(place: int, line: Line, request: gr.Request | None) -> str:
    item = line.item
    given = _quoted(_spoken(item, line.given, request)) if line.given else f"*{say('drill.unanswered', request)}*"
    parts = [
        f"**{place}. {_MARKS[line.mark.verdict]}** {item.question}",
        f"{say('drill.your_answer', request)} {given}",
        f"{say('drill.right_answer', request)} {_spoken(item, item.answer, request)}",
        item.explanation,
    ]
    return "\n\n".join(filter(None, parts))


def _spoken(item: Item, answer: str, request: gr.Request | None) -> str:
    if item.kind == "true_false" and answer in ("true", "false"):
        return say(f"drill.{answer}", request)
    return answer


def _quoted(text: str) -> str:
    """A student's own words: shown as they are, not as Markdown."""
    fence = "`" * (max((len(run) for run in text.replace("\n", " ").split("`") if not run), default=0) + 3)
    return f"`{text}`" if "`" not in text and "\n" not in text else f"\n\n{fence}text\n{text}\n{fence}"
