"""Serve the app: load the model while the page is being built, then listen until interrupted."""

from __future__ import annotations

import os
import socket
import sys
import threading
from dataclasses import replace

from iris import catalog, prompts, settings
from iris.engine import Message
from iris.engine.pool import EnginePool
from iris.errors import IrisError, SettingsError

SWITCH_INTERVAL_S = 0.001
"""How long a Python thread may keep the interpreter from the engine's worker. The default, 5 ms, is a whole decode
step of a small model."""


def run(*, host: str = "", port: int | None = None, model: str = "") -> int:
    """Serve until interrupted. Empty arguments mean: as the environment says.

    Raises:
        IrisError: settings, state folder, port or default model are unusable; nothing was started.
    """
    config = settings.load()
    config = replace(
        config, host=host or config.host, port=config.port if port is None else port, model=model or config.model
    )
    settings.writable_home()
    _check_port(config.host, config.port)
    if not config.engine_url:
        catalog.find(config.model)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    # The app speaks to nobody by itself.
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

    pool = EnginePool(config, warm=[Message("system", prompts.STUDY_CHAT_SYSTEM)])
    failure: list[IrisError] = []

    def load() -> None:
        try:
            pool.get(progress=_Progress(config.model))
        except IrisError as error:
            failure.append(error)

    loading = threading.Thread(target=load, name="iris-load", daemon=True)
    loading.start()
    try:
        from iris.ui import app  # importing Gradio takes seconds: meanwhile the model loads

        blocks = app.build(pool, config)
        options = app.launch_options(config)
        loading.join()
        if failure:
            raise failure[0]
        _, url, _ = blocks.launch(server_name=config.host, server_port=config.port, prevent_thread_lock=True, **options)
        print(f"Iris is running at {url.rstrip('/')}  (stop with Ctrl+C)", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print("Goodbye.")
        blocks.close(verbose=False)
        return 0
    finally:
        pool.close()


def _check_port(host: str, port: int) -> None:
    """Raise SettingsError when the address cannot be listened on."""
    if port == 0:
        return
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except PermissionError as error:
            raise SettingsError(
                f"Port {port} needs more rights than Iris has. Choose one from 1024 on: --port 7860."
            ) from error
        except OSError as error:
            raise SettingsError(
                f"Iris cannot listen on {host} port {port} ({error.strerror or error}). "
                f"If another Iris is running, open http://{host}:{port}; else choose another port: --port {port + 1}."
            ) from error


class _Progress:
    """Prints a download's progress, a line each five per cent."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._next = 0

    def __call__(self, done: int, total: int | None) -> None:
        if not total:
            return
        percent = 100 * done // total
        if percent >= self._next:
            self._next = percent // 5 * 5 + 5
            print(f"Downloading {self._name}: {percent} % of {total / 1e9:.2f} GB", file=sys.stderr, flush=True)
