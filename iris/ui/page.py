"""What every tab is given: the page it lies on and what all tabs share."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import gradio as gr

from iris import courses
from iris.courses import Course
from iris.errors import CourseError
from iris.settings import Settings
from iris.store import Store
from iris.ui import student
from iris.ui.models import Models
from iris.ui.strings import t

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Page:
    """The page under construction.

    Attributes:
        app: the Gradio app.
        models: the models and their engines.
        model: the shared model selector; its value is a catalog id.
        courses: the courses of this server by id.
        course: the shared course selector; its value is a course id, or None where there is no course.
        store: what Iris remembers.
        student: who sits before the page, as the browser keeps it; read it with ``who``.
        concurrency: how many answers may be written or wait at the same time.
    """

    app: gr.Blocks
    models: Models
    model: gr.Dropdown
    courses: Mapping[str, Course]
    course: gr.Dropdown
    store: Store
    student: gr.BrowserState
    concurrency: int

    def who(self, value: object, request: gr.Request) -> str:
        """The student's id for the value of ``student``, with a row in the store."""
        return student.who(self.store, value, request)


def known_courses(settings: Settings) -> dict[str, Course]:
    """All courses that can be read, the one to start with first; a broken one is logged and left out."""
    found: dict[str, Course] = {}
    names = courses.available()
    for name in sorted(names, key=lambda name: (name != settings.course, name)):
        try:
            found[name] = courses.find(name)
        except CourseError as error:
            log.warning("a course is left out: %s", error)
    return found


def course_selector(known: Mapping[str, Course]) -> gr.Dropdown:
    """The course selector of the page's head; not shown where there is nothing to choose."""
    return gr.Dropdown(
        [(course.title, name) for name, course in known.items()],
        value=next(iter(known), None),
        label=t("page.course"),
        show_label=False,
        container=False,
        elem_id="iris-course",
        filterable=False,
        scale=0,
        visible=len(known) > 1,
    )
