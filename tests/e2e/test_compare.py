"""The votes of a class as programs read them."""

from __future__ import annotations

from gradio_client import Client

from iris import store
from iris.study.votes import Votes
from tests.apps import App


def test_the_counts_of_all_votes(app: App, client: Client) -> None:
    assert client.predict(api_name="/compare_votes") == []
    beside = store.Store(app.home / "iris.db")
    beside.student("ann")
    votes = Votes(beside)
    for models, choice in ((("b", "a"), "left"), (("a", "b"), "right"), (("a", "b"), "neither")):
        votes.vote("ann", votes.open("ann", "Why?", models, ("One.", "Two.")), choice)
    beside.close()
    expected = {"first": "a", "second": "b", "first_wins": 0, "second_wins": 2, "both": 0, "neither": 1}
    assert client.predict(api_name="/compare_votes") == [expected]
