"""Cards and mastery as HTML."""

from __future__ import annotations

import html
from collections.abc import Mapping

import gradio as gr

from iris.courses import Course
from iris.study.cards import Counts, TopicRecall
from iris.study.mastery import Mastery
from iris.ui.strings import say

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000


def span(ms: int, request: gr.Request | None) -> str:
    """A time to come in a word or two: ``10 min``, ``3 h``, ``12 d``, ``4 mo``, ``2.5 y``."""
    if ms < HOUR:
        return say("review.minutes", request, number=max(1, round(ms / MINUTE)))
    if ms < DAY:
        return say("review.hours", request, number=round(ms / HOUR))
    days = ms / DAY
    if days < 60:
        return say("review.days", request, number=round(days))
    if days < 365:
        return say("review.months", request, number=round(days / 30.4))
    return say("review.years", request, number=f"{days / 365.25:.1f}")


def counts(counted: Counts, at: int, request: gr.Request | None) -> str:
    """How many cards wait, in one line."""
    line = say("review.counts", request, due=counted.due, new=counted.new, total=counted.total)
    if not counted.due and counted.next is not None:
        line += " " + say("review.next", request, time=span(counted.next - at, request))
    return f"<p>{html.escape(line)}</p>"


def progress(
    course: Course,
    mastered: Mapping[str, Mastery],
    recall: Mapping[str, TopicRecall],
    exam: str,
    request: gr.Request | None,
) -> str:
    """Mastery of every topic as bars, and predicted recall on the day of the exam, chapter by chapter."""
    known = [topic for topic in course.topics if topic.id in mastered]
    if not known:
        return f"<p>{html.escape(say('review.no_progress', request))}</p>"
    heads = (say("review.topic", request), say("review.mastery", request), exam)
    head = "".join(f'<th scope="col">{html.escape(text)}</th>' for text in heads)
    rows = []
    for chapter in course.chapters:
        inside = [topic for topic in known if topic.chapter == chapter.id]
        if not inside:
            continue
        mean = sum(mastered[topic.id].level for topic in inside) / len(inside)
        name = html.escape(chapter.title)
        rows.append(f'<tr class="chapter"><th scope="rowgroup">{name}</th><td>{_bar(mean)}</td><td></td></tr>')
        for topic in inside:
            shown = recall.get(topic.id)
            predicted = _bar(shown.recall) if shown else "–"
            rows.append(
                f'<tr><th scope="row">{html.escape(topic.title)}</th>'
                f"<td>{_bar(mastered[topic.id].level)}</td><td>{predicted}</td></tr>"
            )
    untouched = len(course.topics) - len(known)
    more = f"<p>{html.escape(say('review.untouched', request, number=untouched))}</p>" if untouched else ""
    label = html.escape(say("review.progress", request))
    return (
        f'<div class="iris-scroll" tabindex="0" role="region" aria-label="{label}"><table class="iris-mastery">'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>{more}"
    )


def _bar(share: float) -> str:
    return f'<span class="iris-bar"><i style="width:{100 * share:.0f}%"></i></span> {share:.0%}'
