"""How the page looks and sounds: for eyes, for keyboards, for screen readers, on a telephone, and alone on the net."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.apps import App, wait_until
from tests.browser.conftest import NewStudent
from tests.browser.student import LONG, PATIENCE_MS, Student
from tests.scripted_engine import Script

RICH: list[str | None] = [
    "A **bold** word, `code`, a [link](#) and $x^2$.\n\n## Heading\n\n$$\\sum_{i=1}^{n} x_i y_i = \\frac{a}{b}$$\n\n",
    "| Rank | Weights | Share of the whole layer | A last column |\n| --- | ---: | --- | --- |\n",
    "| 4 | 32768 | 0.2 % | x |\n\n",
    "```python\n# a comment that is much longer than a telephone is wide, so that the code has to be scrolled\n",
    'names: list[str] = ["a", "b"]  # done\ndef f(x: int = 3) -> bool:\n    return not x\n```\n\n',
    "> quoted\n\n1. one\n2. two\n\n" + "Averyveryverylongwordwithoutanyplacetobreakit" * 4,
]


@contextmanager
def web_server() -> Iterator[tuple[str, list[str]]]:
    """Some other host on the net: its address, and the paths that were asked for."""
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.path)
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", seen
    server.shutdown()
    server.server_close()
    thread.join()


def problems(student: Student) -> list[str]:
    """What axe finds serious or critical, once all that moves has come to rest: half faded in, nothing has contrast."""
    student.page.wait_for_function(
        """() => document.getAnimations().every(
          (moving) => moving.playState !== "running" || moving.effect.getTiming().iterations === Infinity)"""
    )
    found: list[dict[str, Any]] = Axe().run(student.page).response["violations"]
    return [
        f"{violation['id']}: {node['html'][:200]}"
        for violation in found
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
    ]


def test_nothing_is_fetched_from_elsewhere(reader: Student, script: Script) -> None:
    urls: list[str] = []
    reader.page.on("request", lambda request: urls.append(request.url))
    with web_server() as (elsewhere, seen):
        script.pieces = [f"![a picture]({elsewhere}/a.png) <img src='{elsewhere}/b.png'> ", *RICH]
        reader.reload()
        reader.ask_and_wait(f"![mine]({elsewhere}/c.png)")
        expect(reader.answers.locator(".katex").first).to_be_visible()
        reader.page.wait_for_timeout(500)
        assert not seen
        assert reader.page.evaluate(f"fetch('{elsewhere}/d').then(() => 'fetched', () => 'refused')") == "refused"
    assert urls
    foreign = [url for url in urls if not url.startswith((reader.app.url, "data:", "blob:", elsewhere))]
    assert not foreign


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_no_serious_barrier_for_anyone_by_day_and_night(
    new_student: NewStudent, scripted_app: App, script: Script, scheme: str, width: int
) -> None:
    student = new_student(scripted_app, scheme=scheme, width=width)
    colour = student.page.evaluate("getComputedStyle(document.body).backgroundColor")
    brightness = sum(int(part) for part in colour.removeprefix("rgb(").rstrip(")").split(",")) / 3
    assert brightness < 60 if scheme == "dark" else brightness > 200
    assert problems(student) == []
    student.model.click()
    assert problems(student) == []
    student.page.keyboard.press("Escape")
    script.pieces, script.pause_s = RICH, 0.0
    student.ask_and_wait("Everything, please.")
    assert problems(student) == []
    script.pieces = [None]
    student.ask("Again?")
    student.says("ended the answer")
    student.page.get_by_role("button", name="Edit").click()
    assert problems(student) == []


@pytest.mark.parametrize("width", [1280, 390])
def test_the_column_never_changes_its_width(
    new_student: NewStudent, scripted_app: App, script: Script, width: int
) -> None:
    student = new_student(scripted_app, width=width)

    def column() -> tuple[float, float]:
        box = student.page.locator("#iris-question").bounding_box()
        assert box
        return box["x"], box["width"]

    empty = column()
    assert empty[1] >= width - 40 if width == 390 else 840 <= empty[1] <= 900
    script.pieces, script.pause_s = RICH, 0.0
    student.ask_and_wait("Wide " * 60 + "W" * 400)
    assert column() == empty
    student.box.fill("line\n" * 6 + "W" * 300)
    assert column() == empty
    scrolls = (
        "document.scrollingElement.scrollWidth > innerWidth || document.scrollingElement.scrollHeight > innerHeight"
    )
    assert not student.page.evaluate(scrolls)
    bottom = student.page.locator("#iris-foot").bounding_box()
    assert bottom
    assert bottom["y"] + bottom["height"] <= 800


def test_everything_has_a_name(student: Student) -> None:
    expect(student.button("Send")).to_be_visible()
    expect(student.page.get_by_role("heading", name="Iris", level=1)).to_be_visible()
    expect(student.page.get_by_role("combobox", name="Model")).to_be_visible()
    expect(student.page.get_by_role("log", name="Conversation")).to_be_visible()
    expect(student.page.get_by_role("group", name="Example questions").get_by_role("button")).to_have_count(4)
    expect(student.page).to_have_title("Iris")
    assert student.page.evaluate("document.documentElement.lang") == "en"
    student.ask(LONG)
    expect(student.button("Stop")).to_be_visible()
    student.wait_for_words()
    student.stop()
    expect(student.page.get_by_role("group", name="You asked")).to_contain_text(LONG)
    expect(student.page.get_by_role("group", name="Iris answered")).to_be_visible()


def test_a_screen_reader_hears_each_thing_once(student: Student) -> None:
    student.page.evaluate(
        """() => {
          window.heard = [];
          const line = document.querySelector("#iris-status");
          new MutationObserver(() => window.heard.push(line.innerText.trim())).observe(
            line, {childList: true, subtree: true, characterData: true});
        }"""
    )
    log = student.page.get_by_role("log", name="Conversation")
    student.ask(LONG)
    student.wait_for_words(100)
    expect(log).to_have_attribute("aria-busy", "true")
    student.stop()
    expect(log).to_have_attribute("aria-busy", "false")
    heard = [line for line, before in itertools.pairwise(student.page.evaluate("window.heard")) if line != before]
    assert len(heard) <= 5, heard


def test_a_whole_conversation_by_keyboard(student: Student) -> None:
    page = student.page
    expect(student.box).to_be_focused()
    page.keyboard.type("Say hello.")
    page.keyboard.press("Enter")
    student.wait_for_words()
    student.wait_for_end()

    def tab_to(name: str) -> None:
        for _ in range(20):
            page.keyboard.press("Shift+Tab")
            focused = page.evaluate("document.activeElement.ariaLabel || document.activeElement.innerText")
            if focused == name:
                return
        pytest.fail(f"{name} cannot be reached with the Tab key")

    first = student.newest_answer()
    tab_to("Retry")
    page.keyboard.press("Enter")
    wait_until(lambda: student.newest_answer() != first, "another answer", PATIENCE_MS / 1000)
    student.wait_for_end()
    student.box.focus()
    tab_to("Edit")
    page.keyboard.press("Enter")
    page.keyboard.type(" Again.")
    page.keyboard.press("Enter")
    expect(student.questions).to_have_text(["Say hello. Again."], timeout=PATIENCE_MS)
    expect(student.box).to_be_focused()
    student.wait_for_words()
    student.wait_for_end()
    tab_to("Model")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("End")
    page.keyboard.press("Enter")
    expect(student.notice).to_contain_text("Broken file cannot be used", timeout=PATIENCE_MS)
    student.box.focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.innerText") == "New chat"
    page.keyboard.press("Enter")
    expect(student.questions).to_have_count(0)
    expect(student.box).to_be_focused()


def test_the_page_is_soon_usable(new_student: NewStudent, app: App) -> None:
    student = new_student(app)
    started = time.monotonic()
    student.page.goto(app.url)
    student.box.wait_for()
    assert time.monotonic() - started < 5  # a second on an idle machine


def test_a_second_visit_fetches_nothing_that_cannot_have_changed(student: Student) -> None:
    student.reload()
    sizes = student.page.evaluate(
        """() => performance.getEntriesByType("resource").filter((entry) => entry.name.includes("/assets/"))
        .map((entry) => entry.transferSize)"""
    )
    assert len(sizes) > 20
    assert set(sizes) == {0}
