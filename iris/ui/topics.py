"""Choosing topics of the course: a list that can be searched, in which a chapter stands for all of its topics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import gradio as gr

from iris.courses import Course
from iris.ui.strings import say, t

_CHAPTER = "chapter:"


def chooser(course: Course | None, elem_id: str) -> gr.Dropdown:
    """The list for a course, in English until an event updates it with ``choices``."""
    return gr.Dropdown(
        choices(course, None),
        value=[],
        multiselect=True,
        label=t("quiz.topics"),
        info=t("quiz.topics_info"),
        elem_id=elem_id,
    )


def choices(
    course: Course | None, request: gr.Request | None, own: Mapping[str, str] | None = None
) -> list[tuple[str, str]]:
    """(title, value) of the student's ``own`` notes, and of every chapter and topic in the course's order."""
    found = [(say("quiz.own_note", request, title=title), name) for name, title in (own or {}).items()]
    for chapter in course.chapters if course else ():
        found.append((say("quiz.chapter", request, title=chapter.title), f"{_CHAPTER}{chapter.id}"))
        found += [(topic.title, topic.id) for topic in course.topics_of(chapter.id)] if course else []
    return found


def chosen(course: Course | None, values: Any) -> list[str]:
    """Ids of the chosen topics, each once; chapters are replaced by their topics, unknown values stay as they are."""
    found: list[str] = []
    for value in _texts(values):
        chapter = value.removeprefix(_CHAPTER) if value.startswith(_CHAPTER) else ""
        found += [topic.id for topic in course.topics_of(chapter)] if course and chapter else [value]
    return list(dict.fromkeys(found))


def _texts(values: Any) -> Iterable[str]:
    return [value for value in values if isinstance(value, str)] if isinstance(values, list | tuple) else []
