"""What a student does with the page, in a student's words."""

from __future__ import annotations

from dataclasses import dataclass

from playwright.sync_api import Locator, Page, expect

from tests.apps import App, wait_until

PATIENCE_MS = 60_000
"""For what the model needs time for: the machine may be busy."""

LONG = "Tell me a very long story about how neural networks were invented, with many details."


@dataclass(frozen=True)
class Student:
    page: Page
    app: App

    def open(self) -> None:
        self.page.goto(self.app.url)
        self.box.wait_for()
        self.page.wait_for_function("document.querySelector('#iris-status')?.getAttribute('role') === 'status'")

    def tab(self, name: str) -> None:
        """Go to a tab."""
        self.page.get_by_role("tab", name=name, exact=True).click()

    def reload(self) -> None:
        self.page.reload()
        self.box.wait_for()

    @property
    def box(self) -> Locator:
        return self.page.get_by_role("textbox", name="Your question", exact=True)

    @property
    def status(self) -> Locator:
        return self.page.locator("#iris-status")

    @property
    def notice(self) -> Locator:
        return self.page.locator("#iris-notice")

    @property
    def questions(self) -> Locator:
        return self.page.locator("#iris-chat .iris-asked")

    @property
    def answers(self) -> Locator:
        return self.page.locator("#iris-chat .bot.message")

    @property
    def model(self) -> Locator:
        return self.page.get_by_role("combobox", name="Model")

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True)

    def ask(self, question: str) -> None:
        self.box.fill(question)
        self.box.press("Enter")

    def wait_for_words(self, at_least: int = 1) -> None:
        """Wait until the newest answer has begun."""
        wait_until(lambda: len(self.newest_answer()) >= at_least, "the first words of an answer", PATIENCE_MS / 1000)

    def wait_for_end(self) -> None:
        """Wait until nothing is being written and the send button is back."""
        self.button("Send").wait_for(timeout=PATIENCE_MS)

    def newest_answer(self) -> str:
        return self.answers.last.inner_text() if self.answers.count() else ""

    def ask_and_wait(self, question: str) -> str:
        before = self.answers.count()
        self.ask(question)
        wait_until(lambda: self.answers.count() > before, "an answer", PATIENCE_MS / 1000)
        self.wait_for_end()
        return self.newest_answer()

    def stop(self) -> None:
        self.button("Stop").click()
        self.wait_for_end()

    def choose_model(self, title: str) -> None:
        self.model.click()
        self.page.get_by_role("option", name=title).click()

    def says(self, text: str) -> None:
        expect(self.status).to_contain_text(text, timeout=PATIENCE_MS)

    def clipboard_holds(self, text: str) -> None:
        wait_until(lambda: self.page.evaluate("navigator.clipboard.readText()") == text, f"a copy of {text!r}", 10)
