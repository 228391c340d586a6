"""Serve the app: load the model while the page is being built, then listen until interrupted."""

from __future__ import annotations

import errno
import os
import signal
import socket
import sys
import threading
from dataclasses import replace

from iris import catalog, keep, prompts, settings
from iris.engine import Message
from iris.engine.pool import EnginePool
from iris.errors import SettingsError

SWITCH_INTERVAL_S = 0.001
"""How long a Python thread may keep the interpreter from the engine's worker. The default, 5 ms, is a whole decode
step of a small model."""


def run(*, host: str = "", port: int | None = None, model: str = "") -> int:
    """Serve until interrupted. Empty arguments mean: as the environment says.

    Raises:
        IrisError: settings, state folder, port or default model are unusable; nothing was started.
    """
    config = settings.load()
    host, port = (host or config.host).strip().strip("[]"), config.port if port is None else port
    home, folder = settings.writable_home(), settings.keep_folder()
    config = replace(config, host=host, port=_free_port(host, port), model=model or config.model)
    if not config.engine_url:
        catalog.find(config.model)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # `docker stop` ends Iris as Ctrl+C does
    # The app speaks to nobody by itself.
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    # Gradio asks its own server whether it is up, which must not go through a proxy.
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), "localhost", "127.0.0.1", "::1", host]))

    keeper = keep.Keeper(home, folder) if folder else None
    if keeper:
        keeper.restore()
        keeper.start()
    pool = EnginePool(config, warm=[Message("system", prompts.STUDY_CHAT_SYSTEM)])
    failure: list[Exception] = []

    def load() -> None:
        try:
            pool.get(progress=_Progress(config.model))
        except Exception as error:
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
        try:
            # An IPv6 address stands in brackets in an address line, and Gradio wants it so.
            server_name = f"[{host}]" if ":" in host else host
            blocks.launch(server_name=server_name, server_port=config.port, prevent_thread_lock=True, **options)
        except OSError as error:
            if "empty port" not in str(error):
                raise
            # Somebody took it while the model was loading.
            raise _unusable(host, config.port, error) from error
        print(f"Iris is running at {_url(host, config.port)}  (stop with Ctrl+C)", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second Ctrl+C ends Iris at once
            print("\nGoodbye.", flush=True)
        blocks.close(verbose=False)
        return 0
    finally:
        pool.close()
        if keeper:
            keeper.close()


def _free_port(host: str, port: int) -> int:
    """The port, or a free one for 0.

    Raises:
        SettingsError: the address cannot be listened on.
    """
    if not 0 <= port <= 65535:
        raise SettingsError(f"The port must be between 0 and 65535, not {port}.")
    refused: OSError | None = None
    bound = False
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise _unusable(host, port, error) from error
    for family, kind, protocol, _, address in addresses:
        try:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
                port = port or probe.getsockname()[1]
                bound = True
        except OSError as error:
            # "localhost" is two addresses, and a machine without IPv6 has but one of them.
            if refused is None or error.errno not in _NOT_OURS:
                refused = error
    if refused and not (bound and refused.errno in _NOT_OURS):
        raise _unusable(host, port, refused) from refused
    return port


def _unusable(host: str, port: int, error: Exception) -> SettingsError:
    if isinstance(error, PermissionError):
        return SettingsError(f"Port {port} needs more rights than Iris has. Choose one from 1024 on: --port 7860.")
    if isinstance(error, socket.gaierror | UnicodeError) or getattr(error, "errno", None) in _NOT_OURS:
        return SettingsError(
            f"{host!r} is no address of this machine. Use --host 127.0.0.1 for this machine alone, or --host 0.0.0.0 "
            "for everyone who can reach it."
        )
    return SettingsError(
        f"Port {port} on {host} is in use. If another Iris is running there, open {_url(host, port)}; "
        "else choose another port, or --port 0 for any free one."
    )


_NOT_OURS = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}


def _url(host: str, port: int) -> str:
    """The address to open on this machine."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


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
