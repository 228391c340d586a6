"""A real Chromium before the real app: over the embedded model, and over an engine whose answers are scripted."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.apps import App, served
from tests.browser.student import PATIENCE_MS, Student
from tests.scripted_engine import Script, serve

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

NewStudent = Callable[..., Student]
Contexts = Callable[[int, str, int], BrowserContext]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = os.environ.get("IRIS_CHROMIUM") or shutil.which("chromium")
    expect.set_options(timeout=20_000)  # the machine may be busy
    assert path, "No Chromium found. Run `make chromium`, or set IRIS_CHROMIUM to a browser's path."
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def app(tmp_path_factory: pytest.TempPathFactory, gguf: Path) -> Iterator[App]:
    """The app with two places for answers and one in line, a second model, and one whose file is broken."""
    home = tmp_path_factory.mktemp("iris-home")
    (home / "broken.gguf").write_bytes(gguf.read_bytes()[:100_000])
    (home / "models.toml").write_text(
        f"""
        [[models]]
        id = "second"
        title = "Second opinion"
        source = "{gguf}"

        [[models]]
        id = "broken"
        title = "Broken file"
        source = "broken.gguf"
        """
    )
    with served(home, slots=2, queue=1) as app:
        yield app


@pytest.fixture(scope="session")
def script() -> Script:
    """What the scripted engine says; a test sets it before it asks."""
    return Script()


@pytest.fixture(scope="session")
def scripted_app(tmp_path_factory: pytest.TempPathFactory, script: Script) -> Iterator[App]:
    """The app over the scripted engine."""
    with serve(script) as url, served(tmp_path_factory.mktemp("iris-home"), engine_url=url, model="scripted") as app:
        yield app


@pytest.fixture(autouse=True)
def home(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The state folder of the app in use: it reads its catalog whenever a model is opened."""
    folder = request.getfixturevalue("app").home if "app" in request.fixturenames else tmp_path / "iris-home"
    monkeypatch.setenv("IRIS_HOME", str(folder))
    return Path(folder)


@pytest.fixture(scope="session")
def contexts(browser: Browser) -> Iterator[Contexts]:
    """Browser profiles by width and colour scheme. Kept, because a first visit costs ten times a later one."""
    opened: dict[tuple[int, str, int], BrowserContext] = {}

    def context(width: int, scheme: str, seat: int) -> BrowserContext:
        key = (width, scheme, seat)
        if key not in opened:
            opened[key] = browser.new_context(
                viewport={"width": width, "height": 800},
                color_scheme="dark" if scheme == "dark" else "light",
                permissions=["clipboard-read", "clipboard-write"],
                reduced_motion="reduce",
            )
            opened[key].set_default_timeout(PATIENCE_MS)
        return opened[key]

    yield context
    for kept in opened.values():
        kept.close()


@pytest.fixture
def new_student(contexts: Contexts) -> Iterator[NewStudent]:
    """Opens pages, as of a student who has never been here: ``new_student(app, width=390, scheme="dark")``.

    Students who work at the same time sit at different seats: a browser opens no more than six connections to a host,
    and a page with an answer under way holds two.
    """
    pages: list[Page] = []
    problems: list[str] = []

    def open_page(app: App, *, width: int = 1280, scheme: str = "light", seat: int = 0) -> Student:
        page = contexts(width, scheme, seat).new_page()
        pages.append(page)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(f"{app.url}/theme.css")  # a page of the same origin that keeps nothing itself
        page.evaluate("localStorage.clear()")
        student = Student(page, app)
        student.open()
        return student

    yield open_page
    for page in pages:
        page.close()
    assert not problems, f"errors in the page's script: {problems}"


@pytest.fixture
def student(new_student: NewStudent, app: App) -> Student:
    """A student before the app with the embedded model."""
    return new_student(app)


@pytest.fixture
def reader(new_student: NewStudent, scripted_app: App, script: Script) -> Student:
    """A student before the app with the scripted engine, which answers at once again."""
    script.pieces, script.pause_s = ["An answer."], 0.0
    script.asked.clear()
    script.left.clear()
    return new_student(scripted_app)
