"""The app as programs use it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from gradio_client import Client

from tests.apps import App, served
from tests.scripted_engine import Script, serve


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """The app with the embedded model, one place for answers and one in line."""
    with served(tmp_path_factory.mktemp("iris-home"), slots=1, queue=1) as app:
        yield app


@pytest.fixture(scope="module")
def client(app: App) -> Iterator[Client]:
    client = Client(app.url, verbose=False)
    yield client
    client.close()


@pytest.fixture(scope="module")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Client, Script]]:
    """A client of the app over an engine whose answers are written beforehand."""
    script = Script()
    home = tmp_path_factory.mktemp("iris-home")
    with serve(script) as url, served(home, engine_url=url, model="scripted") as app:
        client = Client(app.url, verbose=False)
        yield client, script
        client.close()
