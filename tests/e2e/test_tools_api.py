"""``/quiz``, ``/feedback`` and ``/cheat_sheet``, called as programs call them; and the same as MCP tools."""

from __future__ import annotations

import ast
import asyncio
import base64
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

from iris import courses
from iris.courses import Course
from iris.tools import passages
from tests.apps import App, served
from tests.scripted_engine import Script

TOPICS = ["gradient-descent", "lora", "evaluation-metrics"]


@pytest.fixture(scope="module")
def course() -> Course:
    return courses.load(courses.folders()[1] / "id2223")


def test_a_quiz_comes_from_the_bank(client: Client, course: Course, app: App) -> None:
    client.predict(TOPICS, 2, api_name="/quiz")
    started = time.monotonic()
    quiz = client.predict(TOPICS, 10, api_name="/quiz")
    print(f"a bank quiz of 10 items took {time.monotonic() - started:.2f} s")
    assert len(quiz["items"]) == 10
    assert quiz["missing"] == quiz["tried"] == 0
    assert quiz["rejection_rate"] is None
    topics = {row.id: row.topic for row in course.bank} | {row.id: row.topic for row in course.questions}
    for item in quiz["items"]:
        assert topics[item["id"].partition("/")[0]] == item["topic"]
        assert item["origin"] == "course"
        if item["kind"] == "choice":
            assert len(set(item["options"])) == 4
            assert item["options"].count(item["answer"]) == 1
    assert len({item["id"].partition("/")[0] for item in quiz["items"]}) == 10
    assert {item["kind"] for item in quiz["items"]} == {"choice", "true_false", "short", "numeric"}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_what_the_small_model_writes_is_checked_and_too_few_is_said(client: Client) -> None:
    """This topic has four items in the bank; the built-in model's own mostly fail, and none of them is broken."""
    quiz = client.predict(["pooling"], 5, ["choice"], api_name="/quiz")
    assert quiz["tried"] >= 1
    assert quiz["tried"] == sum(quiz["refused"].values()) + sum(item["origin"] == "model" for item in quiz["items"])
    assert len(quiz["items"]) + quiz["missing"] == 5
    assert len(quiz["items"]) >= 4
    for item in quiz["items"]:
        assert len(set(item["options"])) == 4
        assert item["answer"] in item["options"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([],), "No topics are chosen"),
        ((["no-such-topic"],), "has no topic 'no-such-topic'"),
        ((["lora"], 0), "1 to 30 questions, not 0"),
        ((["lora"], 31), "1 to 30 questions, not 31"),
        ((["lora"], 3, ["essay"]), "no kind of question 'essay'"),
        ((["lora"], 3, ["choice"], "brutal"), "difficulty must be any, easy, medium, hard, not 'brutal'"),
        ((["lora"], 3, ["choice"], "any", "no-course"), "There is no course 'no-course'"),
    ],
)
def test_a_quiz_that_cannot_be_is_an_error_that_says_why(
    client: Client, arguments: tuple[Any, ...], message: str
) -> None:
    with pytest.raises(AppError, match=message):
        client.predict(*arguments, api_name="/quiz")


def test_feedback_finds_the_courses_answer(client: Client, course: Course) -> None:
    row = next(row for row in course.questions if row.id == "adaptive-optimisers-q14")
    found = client.predict(row.question, row.answer, api_name="/feedback")
    assert found["score"] >= 0.9
    assert found["origin"] == "course"
    assert found["reference"] == row.answer
    assert not found["missing"]
    assert not found["errors"]
    assert found["better_answer_from"] == "reference"
    low = client.predict(row.question, row.question, better=False, api_name="/feedback")
    assert low["score"] == 0
    assert low["remark"] == "repeats"
    empty = client.predict(row.question, "", better=False, api_name="/feedback")
    assert (empty["score"], empty["remark"]) == (0, "empty")
    assert empty["missing"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_small_models_better_answer_is_checked(client: Client, course: Course) -> None:
    row = next(row for row in course.questions if row.id == "automl-q08")
    found = client.predict(row.question, "The ensemble is free.", api_name="/feedback")
    assert found["better_answer_from"] in ("model", "reference")
    if found["better_answer_from"] == "reference":
        assert found["better_answer"] == row.answer


def test_a_given_reference_counts_and_without_any_there_is_no_score(scripted: tuple[Client, Script]) -> None:
    client, script = scripted
    script.pieces = ["Paris is the capital."]
    found = client.predict(
        "What is the capital?", "Paris.", "The capital is Paris, on the Seine.", api_name="/feedback"
    )
    assert found["origin"] == "given"
    assert found["score"] > 0
    none = client.predict("Who baked the xylophone?", "A zebra did it.", api_name="/feedback")
    assert none["score"] is None
    assert none["origin"] == ""
    assert none["better_answer_from"] == "unchecked"
    script.pieces = ["An answer."]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("", "x"), "There is no question"), (("x" * 60_000, "y"), "60,000 characters"), (("Why?", 7), "must be text")],
)
def test_feedback_says_what_is_wrong(client: Client, arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(AppError, match=message):
        client.predict(*arguments, api_name="/feedback")


def test_a_cheat_sheet_is_word_for_word_from_the_notes(client: Client, course: Course, app: App) -> None:
    sheet = client.predict(TOPICS, pdf=True, api_name="/cheat_sheet")
    for line in sheet["lines"]:
        note = course.note(line["topic"])
        assert note
        assert line["text"] in note.text
        assert not line["own"]
    assert {line["part"] for line in sheet["lines"]} == {"definition", "formula", "result", "pitfall"}
    assert sheet["tokens"] == app.engine().count_tokens(sheet["markdown"]) <= 900
    assert base64.b64decode(sheet["pdf"]).startswith(b"%PDF-")


def test_lines_of_the_model_are_marked(scripted: tuple[Client, Script], course: Course) -> None:
    client, script = scripted
    script.pieces = ["The gradient shows where the loss rises, so a step goes the other way with a learning rate."]
    sheet = client.predict(["gradient-descent"], True, api_name="/cheat_sheet")
    script.pieces = ["An answer."]
    own = [line for line in sheet["lines"] if line["own"]]
    assert [line["text"] for line in own] == ["The gradient shows where the loss rises, so a step goes the other way "
                                              "with a learning rate."]  # fmt: skip
    assert "✎ **Gradient descent.** The gradient shows" in sheet["markdown"]
    note = course.note("gradient-descent")
    assert note
    assert not passages.found(own[0]["text"], note.text)


def test_a_cheat_sheet_of_nothing_is_an_error(client: Client) -> None:
    with pytest.raises(AppError, match="No topics are chosen"):
        client.predict([], api_name="/cheat_sheet")


@pytest.fixture(scope="module")
def mcp_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    with served(tmp_path_factory.mktemp("iris-home"), slots=1, queue=1, mcp=True) as app:
        yield app


def test_the_tools_work_through_an_mcp_client(mcp_app: App) -> None:
    from mcp import ClientSession
    from mcp.client.streamable_http import streamable_http_client

    async def use() -> tuple[dict[str, Any], dict[str, Any]]:
        async with (
            streamable_http_client(f"{mcp_app.url}/gradio_api/mcp/") as (reader, writer, _),
            ClientSession(reader, writer) as session,
        ):
            await session.initialize()
            tools = {tool.name: tool for tool in (await session.list_tools()).tools}
            name = next(name for name in tools if name.endswith("quiz"))
            answer = await session.call_tool(name, {"topics": ["lora"], "count": 2})
            # Gradio writes what a function returns as Python would.
            return tools, ast.literal_eval(answer.content[0].text)  # type: ignore[union-attr]

    with ThreadPoolExecutor(1) as pool:  # this thread may have Playwright's loop, when page tests ran before
        tools, quiz = pool.submit(asyncio.run, use()).result()
    for name in ("study_chat", "quiz", "feedback", "cheat_sheet"):
        tool = next(tool for found, tool in tools.items() if found.endswith(name))
        assert tool.description
    assert "topics" in next(tool for name, tool in tools.items() if name.endswith("quiz")).inputSchema["properties"]
    assert len(quiz["items"]) == 2
