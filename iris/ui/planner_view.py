"""A plan as HTML: the calendar table, the chart, and what there was no time for."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from datetime import date

import gradio as gr

from iris.courses import Course
from iris.study.plan import KINDS, LEARN, MOCK, Plan, Session
from iris.tools.planner import title
from iris.ui.strings import say

BARS = 70
"""With more days than this, a bar of the chart is a week."""
NAMED = 12
"""Topics that are named one by one where there was no time for them."""


def day_name(day: date, request: gr.Request | None) -> str:
    """A day as ``Mon 2026-11-30`` in the reader's language."""
    return f"{say('planner.weekdays', request).split()[day.weekday()]} {day.isoformat()}"


def minutes(number: int) -> str:
    """Minutes as ``1:45``."""
    return f"{number // 60}:{number % 60:02}"


def day_line(course: Course, day: date, todo: Sequence[Session], request: gr.Request | None) -> str:
    """One line for a day, to tick it off by."""
    topics = dict.fromkeys(_name(course, session, request) for session in todo)
    return f"{day_name(day, request)} · {minutes(sum(s.minutes for s in todo))} · {', '.join(topics)}"


def table(course: Course, plan: Plan, today: date, request: gr.Request | None) -> str:
    """The days with their sessions; days that are past and not done are marked as missed."""
    rows = []
    for day, todo in plan.days().items():
        done = all(session.done for session in todo)
        state = "done" if done else "missed" if day < today else "today" if day == today else ""
        parts = "".join(
            f'<li class="{session.kind}{" done" if session.done else ""}">'
            f"<b>{html.escape(say(f'planner.{session.kind}', request))}</b> "
            f"{html.escape(title(course, session.topic))} <small>{minutes(session.minutes)}</small></li>"
            for session in todo
        )
        mark = f" <em>{html.escape(say(f'planner.{state}', request))}</em>" if state else ""
        rows.append(
            f'<tr class="{state}"><th scope="row">{html.escape(day_name(day, request))}{mark}</th>'
            f"<td><ul>{parts}</ul></td><td>{minutes(sum(session.minutes for session in todo))}</td></tr>"
        )
    exam, when = html.escape(say("planner.exam", request)), html.escape(day_name(plan.exam, request))
    rows.append(f'<tr class="exam"><th scope="row">{when}</th><td colspan="2">{exam}</td></tr>')
    head = "".join(
        f'<th scope="col">{html.escape(say(f"planner.{name}", request))}</th>' for name in ("day", "what", "time")
    )
    label = html.escape(say("planner.table", request))
    return (
        f'<div class="iris-scroll" tabindex="0" role="region" aria-label="{label}">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def chart(plan: Plan, request: gr.Request | None) -> str:
    """Hours a day by kind, as bars; by week where there are many days."""
    days = plan.days()
    if not days:
        return ""
    first = min(days)
    weekly = (max(days) - first).days >= BARS
    bars: dict[int, dict[str, int]] = {}
    for day, todo in days.items():
        bar = bars.setdefault((day - first).days // (7 if weekly else 1), dict.fromkeys(KINDS, 0))
        for session in todo:
            bar[session.kind] += session.minutes
    top = max(sum(bar.values()) for bar in bars.values())
    number = max(bars) + 1
    shapes = []
    for place, bar in bars.items():
        from_day = date.fromordinal(first.toordinal() + place * (7 if weekly else 1))
        said = f"{day_name(from_day, request)}: " + ", ".join(
            f"{say(f'planner.{kind}', request)} {minutes(bar[kind])}" for kind in KINDS if bar[kind]
        )
        bottom = 100.0
        parts = []
        for kind in KINDS:
            height = 96 * bar[kind] / top
            bottom -= height
            parts.append(f'<rect class="{kind}" x="{place + 0.1}" y="{bottom:.2f}" width="0.8" height="{height:.2f}"/>')
        shapes.append(f"<g><title>{html.escape(said)}</title>{''.join(parts)}</g>")
    legend = "".join(
        f'<span class="{kind}">{html.escape(say(f"planner.{kind}", request))}</span>'
        for kind in KINDS
        if any(bar[kind] for bar in bars.values())
    )
    label = say("planner.chart_weeks" if weekly else "planner.chart_days", request)
    return (
        f'<figure class="iris-chart"><figcaption>{html.escape(label)} · {legend}</figcaption>'
        f'<svg viewBox="0 0 {number} 100" preserveAspectRatio="none" role="img" aria-label="{html.escape(label)}">'
        f"{''.join(shapes)}</svg></figure>"
    )


def shortfall(course: Course, plan: Plan, request: gr.Request | None) -> str:
    """What is left out or shortened, and why; empty where there is time for everything."""
    lines = []
    if plan.left_out or plan.shortened:
        lines.append(
            say(
                "planner.not_enough",
                request,
                needed=minutes(plan.needed),
                reviews=minutes(plan.reviews),
                available=minutes(plan.available),
            )
        )
    if plan.left_out:
        lines.append(say("planner.left_out", request, number=len(plan.left_out)))
        lines += [
            "– "
            + (
                say(
                    "planner.left_out_needs",
                    request,
                    topic=title(course, entry.topic),
                    time=minutes(entry.minutes),
                    missing=title(course, entry.missing),
                )
                if entry.missing
                else say(
                    "planner.left_out_time", request, topic=title(course, entry.topic), time=minutes(entry.minutes)
                )
            )
            for entry in plan.left_out
        ]
    if plan.shortened:
        lines.append(
            say("planner.shortened", request, topics=_named(course, [entry.topic for entry in plan.shortened]))
        )
    if not plan.has_mock:
        lines.append(say("planner.no_mock", request))
    if plan.assumed:
        lines.append(say("planner.assumed", request, topics=_named(course, plan.assumed)))
    return "".join(f"<p>{html.escape(line)}</p>" for line in lines)


def summary(plan: Plan, request: gr.Request | None) -> str:
    """The plan in one line."""
    kinds: Mapping[str, int] = {
        kind: sum(session.minutes for session in plan.sessions if session.kind == kind) for kind in KINDS
    }
    recall = sum(plan.recall.values()) / len(plan.recall) if plan.recall else 0.0
    return say(
        "planner.summary",
        request,
        days=len(plan.days()),
        learn=minutes(kinds[LEARN]),
        review=minutes(kinds["review"]),
        mock=minutes(kinds[MOCK]),
        recall=f"{recall:.0%}",
    )


def _name(course: Course, session: Session, request: gr.Request | None) -> str:
    return title(course, session.topic) or say(f"planner.{session.kind}", request)


def _named(course: Course, topics: Sequence[str]) -> str:
    names = [title(course, topic) for topic in topics]
    return ", ".join(names[:NAMED]) + (f" … (+{len(names) - NAMED})" if len(names) > NAMED else "")
