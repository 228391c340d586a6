"""The API endpoints ``/study_plan`` and ``/mixed_drill``, called as a program calls them."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

from iris import courses
from tests.scripted_engine import Script

Scripted = tuple[Client, Script]


def test_a_plan_fits_the_hours_and_names_what_it_leaves_out(scripted: Scripted) -> None:
    client, _ = scripted
    plan: dict[str, Any] = client.predict(
        exam_date="2026-12-06",
        hours_per_day=1.5,
        topics={"lora": 0.2, "qlora": 0.2},
        days_off=["sunday", "2026-12-01"],
        start_date="2026-11-26",
        api_name="/study_plan",
    )
    days = {day["date"]: day for day in plan["days"]}
    assert days
    assert all("2026-11-26" <= day < "2026-12-06" for day in days)
    assert not {"2026-11-29", "2026-12-01"} & set(days)
    for day in days.values():
        assert day["minutes"] == sum(session["minutes"] for session in day["sessions"]) <= 90
    order = [s["topic"] for day in plan["days"] for s in day["sessions"] if s["kind"] == "learn"]
    assert order.index("lora") < order.index("qlora")
    assert not plan["left_out"]
    assert set(plan["recall"]) == {"lora", "qlora"}
    assert plan["assumed_known"]


def test_a_plan_of_the_whole_course_in_two_days_says_what_it_leaves_out(scripted: Scripted) -> None:
    client, _ = scripted
    plan: dict[str, Any] = client.predict("2026-11-28", 2, start_date="2026-11-26", api_name="/study_plan")
    learned = {s["topic"] for day in plan["days"] for s in day["sessions"] if s["kind"] == "learn"}
    left = {entry["topic"] for entry in plan["left_out"]}
    assert learned
    assert left
    assert learned | left == {topic.id for topic in courses.find("id2223").topics}
    assert all(entry["reason"] for entry in plan["left_out"])


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"exam_date": date.today().isoformat()}, "is today"),
        ({"exam_date": "2020-01-01"}, "in the past"),
        ({"exam_date": "soon"}, "'soon' is no date"),
        ({"hours_per_day": 0}, "0 hours a day cannot be planned"),
        ({"hours_per_day": 25}, "a day has 24"),
        ({"topics": {"alchemy": 0.5}}, "no topic 'alchemy'"),
        ({"topics": {"lora": 2}}, "between 0 and 1"),
        ({"days_off": ["someday"]}, "'someday' is no date"),
        ({"days_off": ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]}, "is a day off"),
        ({"course": "magic"}, "no course 'magic'"),
    ],
)
def test_what_cannot_be_planned_is_said(scripted: Scripted, arguments: dict[str, Any], complaint: str) -> None:
    client, _ = scripted
    asked = {"exam_date": (date.today() + timedelta(days=10)).isoformat(), "hours_per_day": 2, **arguments}
    with pytest.raises(AppError, match=complaint):
        client.predict(**asked, api_name="/study_plan")


def test_a_drill_is_set_without_its_answers_and_marked_with_them(scripted: Scripted) -> None:
    client, _ = scripted
    asked = {"topics": ["lora", "drift"], "count": 6, "seed": 5, "api_name": "/mixed_drill"}
    drill: dict[str, Any] = client.predict(**asked)
    assert len(drill["items"]) == 6
    assert len({item["kind"] for item in drill["items"]}) >= 2
    assert all(not {"answer", "explanation", "evidence"} & set(item) for item in drill["items"])
    empty: dict[str, Any] = client.predict(**asked, answers={})
    assert empty["score"] == 0
    right = {str(place): item["answer"] for place, item in enumerate(empty["items"])}
    marked: dict[str, Any] = client.predict(**asked, answers=right)
    assert [item["question"] for item in marked["items"]] == [item["question"] for item in drill["items"]]
    assert marked["score"] == 1
    assert {topic["topic"] for topic in marked["topics"]} == {"lora", "drift"}
    half: dict[str, Any] = client.predict(**asked, answers={place: right[place] for place in list(right)[:3]})
    assert half["score"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"topics": ["alchemy"]}, "no topic 'alchemy'"),
        ({"count": 0}, "1 to 30 questions"),
        ({"kinds": ["essay"]}, "no kind of question 'essay'"),
        ({"minutes": 1000}, "1 to 180 minutes"),
        ({"course": "magic"}, "no course 'magic'"),
    ],
)
def test_what_cannot_be_set_is_said(scripted: Scripted, arguments: dict[str, Any], complaint: str) -> None:
    client, _ = scripted
    with pytest.raises(AppError, match=complaint):
        client.predict(**{"topics": ["lora"], "count": 3, **arguments}, api_name="/mixed_drill")


def test_the_endpoints_describe_themselves(scripted: Scripted) -> None:
    client, _ = scripted
    named = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    for name in ("/study_plan", "/mixed_drill"):
        parameters = named[name]["parameters"]
        assert all(parameter["python_type"]["type"] for parameter in parameters)
        assert named[name]["description"]
