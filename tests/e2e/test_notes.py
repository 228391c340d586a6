"""Notes as programs meet them: answers from the course's notes through ``/study_chat``."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import httpx
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

from tests.apps import App
from tests.scripted_engine import Script

QUESTION = "What does LoRA freeze, and what does it learn?"
TRUE = "LoRA freezes the pretrained matrix $W_0$."


def test_an_answer_from_the_course_is_cited_and_says_where(scripted: tuple[Client, Script]) -> None:
    client, script = scripted
    script.pieces = [TRUE, " It weighs [1] nine tonnes [2]."]
    answer = client.predict(QUESTION, notes="course", api_name="/study_chat")
    assert answer == f"{TRUE} [1] It weighs nine tonnes.\n\n[1] LoRA: low-rank adaptation › Idea"
    assert script.asked[-1][1]["content"].count("<<<passage>>>") >= 1
    assert client.predict(QUESTION, notes="course", course="id2223", api_name="/study_chat") == answer
    script.pieces = ["An answer."]


def test_what_the_course_does_not_cover_is_said_first(scripted: tuple[Client, Script]) -> None:
    client, script = scripted
    answer = client.predict("Who won the football world cup in 2014?", notes="course", api_name="/study_chat")
    assert answer == "The notes do not cover this question. What follows is not from them.\n\nAn answer."
    assert "<<<passage>>>" not in str(script.asked[-1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"notes": "mine"}, '`notes` must be "course", or empty'),
        ({"notes": 7}, '`notes` must be "course", or empty'),
        ({"notes": "course", "course": "../etc"}, r"There is no course '../etc'. Known are: id2223"),
    ],
)
def test_what_is_wrong_is_said(scripted: tuple[Client, Script], options: dict[str, Any], message: str) -> None:
    client, _ = scripted
    with pytest.raises(AppError, match=message):
        client.predict(QUESTION, **options, api_name="/study_chat")


@pytest.mark.slow
def test_the_embedded_model_answers_from_the_course(client: Client) -> None:
    job = client.submit(QUESTION, notes="course", api_name="/study_chat")
    answer = job.result(timeout=280)
    assert "[1] LoRA: low-rank adaptation" in answer
    texts = [text for text in job.outputs() if text]
    assert all(later.startswith(earlier) for earlier, later in pairwise(texts[:-1]))


def test_a_file_over_the_limit_is_not_even_taken(app: App) -> None:
    answer = httpx.post(f"{app.url}/gradio_api/upload", files={"files": ("a.pdf", b"x" * 20_000_001)}, timeout=120)
    assert answer.status_code == 413
    assert "File size exceeded maximum allowed size of 20000000 bytes" in answer.text
