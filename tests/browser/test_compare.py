"""The Compare tab as a student uses it: names come after the vote, counts stay, results are shown as plots."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, expect

from iris import results
from iris.results import Estimate, Results, Row
from tests.apps import App
from tests.browser.conftest import NewStudent
from tests.browser.student import PATIENCE_MS, Student


def stored(home: Path) -> None:
    """Results such as a runner publishes; and a file of another version beside them."""
    rows = tuple(
        Row(
            label,
            label,
            "gguf",
            {
                "mcq.letter": Estimate(0.3 + 0.2 * place, 0.2 + 0.2 * place, 0.4 + 0.2 * place, 118),
                "course.bits_per_byte": Estimate(1.3 - 0.1 * place, 1.2 - 0.1 * place, 1.4 - 0.1 * place, 75),
                "decode": Estimate(60.0 - place, 60.0 - place, 60.0 - place),
            },
        )
        for place, label in enumerate(("base", "tuned <b>"))
    )
    found = Results("domain", "A measured course", "2026-11-26", "a machine", rows, notes=("One note.",))
    folder = home / "results"
    folder.mkdir(exist_ok=True)
    (folder / "domain.json").write_text(json.dumps(results.as_json(found)))
    (folder / "old.json").write_text('{"kind": "iris-evaluation", "format": 0}')


@pytest.fixture
def comparing(new_student: NewStudent, app: App) -> Student:
    stored(app.home)
    student = new_student(app, seat=2)
    student.tab("Compare")
    return student


def side(page: Page, letter: str) -> tuple[Locator, Locator]:
    return page.locator(f"#iris-compare-name-{letter}"), page.locator(f"#iris-compare-{letter}")


def test_names_are_hidden_until_the_vote_which_is_counted(comparing: Student) -> None:
    page = comparing.page
    (name_a, text_a), (name_b, text_b) = side(page, "a"), side(page, "b")
    better = page.get_by_role("button", name="A is better")
    expect(better).to_be_disabled()
    page.locator("#iris-compare-other input").click()
    page.get_by_role("option", name="Second opinion").click()
    page.get_by_role("textbox", name="Question for both").fill("Say hello.")
    page.get_by_role("button", name="Ask both").click()
    expect(better).to_be_enabled(timeout=PATIENCE_MS)
    assert text_a.inner_text().strip()
    assert text_b.inner_text().strip()
    assert (name_a.inner_text(), name_b.inner_text()) == ("A", "B")
    better.click()
    expect(name_a).to_contain_text("A: ")
    names = {name_a.inner_text().removeprefix("A: "), name_b.inner_text().removeprefix("B: ")}
    assert names == {"SmolLM2 135M (built in)", "Second opinion"}
    expect(better).to_be_disabled()
    page.get_by_role("button", name="Votes so far").click()
    row = page.locator("#iris-compare-scores tbody tr")
    expect(row).to_have_count(1)
    with page.expect_download() as download:
        page.get_by_role("button", name="Save my votes (CSV)").click()
    (own,) = csv.DictReader(io.StringIO(Path(download.value.path()).read_text()))
    assert own["question"] == "Say hello."
    assert own["left_model"] == ("second" if "Second" in name_a.inner_text() else "smollm2-135m")
    assert own["choice"] == "left"


def test_stored_results_are_plots_that_can_be_read_aloud(comparing: Student) -> None:
    page = comparing.page
    page.get_by_role("button", name="Measured quality and speed").click()
    plots = page.locator("#iris-compare-plots")
    expect(plots).to_contain_text("30.0 % [20.0 %, 40.0 %]")
    expect(plots).to_contain_text("tuned <b>")
    expect(plots).to_contain_text("One note.")
    expect(plots).to_contain_text("is of version 0, and this Iris reads version 1")
    expect(plots.get_by_role("img")).to_be_visible()
    high, low = (plots.locator(".iris-track b").nth(n).evaluate("b => parseFloat(b.style.left)") for n in (1, 0))
    assert (low, high) == pytest.approx((30, 50), abs=0.2)
    found = Axe().run(page, "#iris-compare")
    assert [v["id"] for v in found.response["violations"] if v["impact"] in ("serious", "critical")] == []


def test_the_same_model_twice_is_refused(comparing: Student) -> None:
    page = comparing.page
    page.locator("#iris-compare-other input").click()
    page.get_by_role("option", name="SmolLM2 135M").click()
    page.get_by_role("textbox", name="Question for both").fill("Why?")
    page.get_by_role("button", name="Ask both").click()
    expect(page.locator("#iris-compare-status")).to_contain_text("Choose two different models")
    expect(page.get_by_role("button", name="Ask both")).to_be_enabled()
