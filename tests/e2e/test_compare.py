"""Comparing two models as programs use it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

from tests.apps import App, served


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, gguf: Path) -> Iterator[Client]:
    home = tmp_path_factory.mktemp("iris-home")
    (home / "models.toml").write_text(f'[[models]]\nid = "second"\ntitle = "Second"\nsource = "{gguf}"\n')
    with served(home, slots=2, queue=2) as app:
        client = _client(app)
        yield client
        client.close()


def _client(app: App) -> Client:
    return Client(app.url, verbose=False)


def test_two_answers_then_a_vote_then_the_names(client: Client) -> None:
    found = client.predict("Say hello.", "smollm2-135m", "second", api_name="/compare")
    assert set(found) == {"left", "right", "id"}
    assert found["left"]
    assert found["right"]
    named = client.predict(found["id"], "both", api_name="/compare_vote")
    assert {named["left"], named["right"]} == {"smollm2-135m", "second"}
    assert named["choice"] == "both"
    assert client.predict(found["id"], "left", api_name="/compare_vote")["choice"] == "both"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("Why?", "smollm2-135m", "smollm2-135m"), "Choose two different models"),
        (("Why?", "smollm2-135m", "no-such"), "There is no model 'no-such'"),
        ((" ", "smollm2-135m", "second"), "There is no question"),
    ],
)
def test_what_cannot_be_compared_is_explained(client: Client, arguments: tuple[str, ...], complaint: str) -> None:
    with pytest.raises(AppError, match=complaint):
        client.predict(*arguments, api_name="/compare")


def test_a_vote_on_nothing_is_refused(client: Client) -> None:
    with pytest.raises(AppError, match="not known any more"):
        client.predict("x", "left", api_name="/compare_vote")
    with pytest.raises(AppError, match="A vote is one of left, right, both, neither"):
        client.predict("x", "middle", api_name="/compare_vote")
