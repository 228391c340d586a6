"""Where nothing outlives a restart, the page says so and leads to the file that saves everything."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.apps import served
from tests.browser.conftest import NewStudent
from tests.browser.student import PATIENCE_MS, Student
from tests.scripted_engine import Script, serve

LINE = "Iris forgets here"


@pytest.mark.slow
def test_the_page_says_that_it_forgets_and_the_learner_file_is_one_click_away(
    new_student: NewStudent, tmp_path_factory: pytest.TempPathFactory
) -> None:
    home = tmp_path_factory.mktemp("iris-home")
    with serve(Script()) as url, served(home, engine_url=url, model="scripted", forgets=True) as app:
        page = new_student(app, seat=7).page
        expect(page.get_by_text(LINE)).to_be_visible(timeout=PATIENCE_MS)
        page.get_by_role("button", name="Take my history along").click()
        expect(page.get_by_role("button", name="Save my learner file")).to_be_visible(timeout=PATIENCE_MS)
        page.close()


def test_elsewhere_it_says_nothing(reader: Student) -> None:
    expect(reader.page.get_by_text(LINE)).to_have_count(0)
