"""Who sits before the page: a private random id that the browser keeps."""

from __future__ import annotations

import os
import secrets

import gradio as gr

from iris import settings
from iris.store import Store


def component() -> gr.BrowserState:
    """What keeps the id in the browser; to be given an id by ``connect``."""
    return gr.BrowserState({}, storage_key="iris-student", secret=storage_secret())


def connect(app: gr.Blocks, student: gr.BrowserState) -> None:
    """Give a browser that comes for the first time its id."""

    def meet(value: object) -> object:
        return value if isinstance(value, dict) and value.get("id") else {"id": f"browser:{secrets.token_urlsafe(24)}"}

    app.load(meet, student, student, queue=False, show_progress="hidden", api_visibility="private")


def who(store: Store, value: object, request: gr.Request) -> str:
    """The student's id, with a row in the store. A page that has none yet is a student of its own session."""
    known = value.get("id") if isinstance(value, dict) else None
    student = known if isinstance(known, str) and known else f"session:{request.session_hash}"
    store.student(student)
    return student


def storage_secret() -> str:
    """The key that encrypts what the browser keeps: made once and kept, so that a restart does not lose it."""
    path = settings.writable_home() / "browser.key"
    try:
        if key := path.read_text(encoding="ascii").strip():
            return key
    except FileNotFoundError:
        pass
    key = secrets.token_urlsafe(24)
    fresh = path.with_suffix(f".{os.getpid()}")
    fresh.touch(mode=0o600)
    fresh.write_text(key, encoding="ascii")
    fresh.replace(path)
    return key
