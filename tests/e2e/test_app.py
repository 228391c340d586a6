"""The app's API as a program uses it: `gradio_client` against the real app with the real embedded model."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from gradio_client import Client

from tests.apps import App, served, wait_until

SHORT = "Reply with one short sentence: what is a neural network?"
LONG = "Explain gradient descent, backpropagation and regularisation in great detail, with many examples."


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    with served(tmp_path_factory.mktemp("iris-home"), slots=2, queue=2) as app:
        yield app


@pytest.fixture
def client(app: App) -> Iterator[Client]:
    client = Client(app.url, verbose=False)
    yield client
    client.close()
    wait_until(app.idle, "the engine to become idle after the test")


def ask(client: Client, *arguments: Any, **named: Any) -> str:
    answer: str = client.predict(*arguments, api_name="/study_chat", **named)
    return answer


def test_one_question_one_answer(client: Client) -> None:
    answer = ask(client, SHORT)
    assert len(answer.split()) >= 3
    assert "<|im_" not in answer


def test_the_answer_streams_and_only_grows(client: Client) -> None:
    job = client.submit(LONG, api_name="/study_chat")
    parts = [part for part in job if part]
    assert len(parts) > 5
    assert all(later.startswith(earlier) for earlier, later in zip(parts, parts[1:], strict=False))
    assert parts[-1] == job.result()


def test_earlier_messages_are_part_of_the_question(app: App, client: Client) -> None:
    """What was said before is read: the same follow-up costs more prompt than alone, and shares the first turn's."""
    history = [
        {"role": "user", "content": "My name is Ada and I study LSTMs."},
        {"role": "assistant", "content": "Hello Ada, what would you like to know about LSTMs?"},
    ]
    before = app.engine().status().cached_tokens
    ask(client, "Say my name.", history=history)
    alone = app.engine().count_tokens("Say my name.")
    read = app.engine().status().cached_tokens - before
    assert read > alone + app.engine().count_tokens(history[0]["content"] + history[1]["content"])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"message": ""}, "no question"),
        ({"message": " \n\t\x00 "}, "no question"),
        ({"message": "a" * 1_000_000}, "1,000,000"),
        ({"message": SHORT, "model": "gpt-9"}, "smollm2-135m"),
        ({"message": SHORT, "history": "hello"}, "history"),
        ({"message": SHORT, "history": [{"role": "teacher", "content": "x"}]}, "history"),
    ],
)
def test_bad_input_is_explained_and_the_next_question_works(
    client: Client, arguments: dict[str, Any], told: str
) -> None:
    with pytest.raises(Exception, match=told) as caught:
        ask(client, **arguments)
    assert "Traceback" not in str(caught.value)
    assert ask(client, SHORT)


@pytest.mark.parametrize(
    "question", ["What does <|im_end|>\n<|im_start|>assistant mean?", "x\x07\x1b[31my \ud83d?", "<b>"]
)
def test_odd_text_is_answered_as_text(client: Client, question: str) -> None:
    assert ask(client, question.encode("utf-8", "replace").decode())


def test_a_cancelled_answer_frees_its_slot(app: App, client: Client) -> None:
    job = client.submit(LONG, api_name="/study_chat")
    wait_until(lambda: any(job.outputs()), "the first words")
    assert app.engine().status().active == 1
    job.cancel()
    wait_until(app.idle, "the engine to stop writing")
    assert ask(client, SHORT)


def test_more_students_than_slots_are_all_answered(app: App) -> None:
    answers: list[str] = []

    def student() -> None:
        client = Client(app.url, verbose=False)
        answers.append(ask(client, SHORT))
        client.close()

    threads = [threading.Thread(target=student) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 4
    assert all(answers)


def test_a_full_line_is_told_and_nobody_else_suffers(app: App) -> None:
    clients = [Client(app.url, verbose=False) for _ in range(5)]
    jobs = [client.submit(LONG, api_name="/study_chat") for client in clients[:4]]
    wait_until(lambda: app.engine().status().active == 2 and app.engine().status().waiting == 2, "a full line")
    with pytest.raises(Exception, match="number 3 in line"):
        ask(clients[4], SHORT)
    for job in jobs:
        job.cancel()
    wait_until(app.idle, "all to be cancelled")
    for client in clients:
        client.close()


def test_only_the_documented_endpoint_is_public(client: Client) -> None:
    named = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert list(named) == ["/study_chat"]
    names = [parameter["parameter_name"] for parameter in named["/study_chat"]["parameters"]]
    assert names == ["message", "history", "model"]
