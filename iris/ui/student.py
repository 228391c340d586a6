"""Who sits before the page.

On a Space with sign-in it is the signed-in Hugging Face user. Else it is a private random id, which the browser keeps
together with the server's signature: an id without it is refused, so that nobody can be someone else by trying.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import importlib.util
import json
import logging
import os
import secrets
import time
from typing import Any
from urllib.parse import urlsplit

import gradio as gr

from iris.errors import StoreError, StudentError
from iris.store import Store
from iris.study import students

log = logging.getLogger(__name__)

_BROWSER = "browser:"
_GUESTS_EVERY_S = 3600.0


def storage_secret(store: Store) -> str:
    """The key that encrypts what the browser keeps; the same after a restart. Every page gets it: it guards nothing."""
    return students.key(store, "browser")


def component(store: Store) -> gr.BrowserState:
    """What keeps the id in the browser; to be given an id by ``connect``."""
    return gr.BrowserState({}, storage_key="iris-student", secret=storage_secret(store))


def connect(app: gr.Blocks, store: Store, student: gr.BrowserState) -> None:
    """Give a browser its id when it comes for the first time, or when its id is not known here."""
    students.forget_guests(store)

    def meet(value: object, request: gr.Request) -> object:
        name = _verified(store, value)
        try:
            if name and students.known(store, name):
                return gr.skip()
            name = f"{_BROWSER}{secrets.token_urlsafe(24)}" if value else _of_session(store, request)
            store.student(name)
        except StoreError as error:  # a full disk: Iris still answers, it only cannot remember
            log.error("a new student could not be saved: %s", error)
            return gr.skip()
        return {"id": name, "proof": _proof(store, name)}

    app.load(meet, student, student, queue=False, show_progress="hidden", api_visibility="private", api_name="meet")


def who(store: Store, value: object, request: gr.Request) -> str:
    """The student's id, with a row in the store.

    The signed-in user, else the student whom ``value`` proves. Whoever says nothing is the student whom this page was
    given a moment ago, or a guest of this one call.

    Raises:
        StudentError: ``value`` was not given out here, or everything of this student's has been deleted.
        StoreError: a new row could not be saved.
    """
    account = signed_in(request)
    if account:
        store.student(account[0])
        return account[0]
    if not value:
        return nameless(store, request) or _guest(store)
    name = _verified(store, value)
    if not name:
        raise StudentError("This Iris did not give out the student id that came with the request. Reload the page.")
    if not students.known(store, name):
        raise StudentError("Everything of this student's was deleted. Reload the page to begin anew.")
    return name


def nameless(store: Store, request: gr.Request) -> str:
    """The student whom a page was given that does not say so yet, as it was loaded only now; empty for all others."""
    name = _of_session(store, request)
    return name if students.known(store, name) else ""


def sign_in_enabled() -> bool:
    """Whether this runs on a Space whose README says ``hf_oauth: true``.

    Elsewhere Gradio's sign-in is a mock that makes everyone the user of the machine's own token.
    """
    wanted = all(os.environ.get(name) for name in ("OAUTH_CLIENT_ID", "OAUTH_CLIENT_SECRET", "SPACE_ID"))
    if not wanted or os.environ.get("SYSTEM") != "spaces":
        return False
    missing = [name for name in ("authlib", "itsdangerous") if not importlib.util.find_spec(name)]
    if missing:
        log.warning("sign-in is off: install gradio[oauth], which brings %s", " and ".join(missing))
    return not missing


def signed_in(request: gr.Request | None) -> tuple[str, str] | None:
    """(id, user name) of the signed-in Hugging Face user, or None.

    The session is a cookie that the server signed. Browsers also send it along when another site's page calls, so
    a call that such a page made does not count.
    """
    http: Any = getattr(request, "request", None)
    scope = getattr(http, "scope", None) or {}
    info = (scope.get("session") or {}).get("oauth_info") if sign_in_enabled() else None
    if not isinstance(info, dict) or _foreign(http.headers):
        return None
    expires, user = info.get("expires_at"), info.get("userinfo") or {}
    if not user.get("sub") or (expires is not None and expires < time.time()):
        return None
    return f"hf:{user['sub']}", str(user.get("preferred_username") or user.get("name") or "")


def _foreign(headers: Any) -> bool:
    origin = headers.get("origin")
    if not origin:
        return False
    hosts = [headers.get("host"), headers.get("x-forwarded-host"), *os.environ.get("SPACE_HOST", "").split(",")]
    return urlsplit(origin).netloc not in {host.strip() for host in hosts if host}


def _of_session(store: Store, request: gr.Request) -> str:
    """The id for a page's first visit: always the same for one page, so that a question that is quicker than the id's
    way to the browser is this student's too. Not to be found out, and another one after an hour: what it is made from
    are a page's random number, where the page is, and the server's key.
    """
    http = request.request
    where = (http.client.host if http and http.client else "", request.headers.get("user-agent") or "")
    text = json.dumps([int(time.time() // 3600), request.session_hash or secrets.token_urlsafe(24), *where])
    mark = hmac.new(students.key(store, "students").encode(), text.encode(), hashlib.sha256).digest()
    return f"{_BROWSER}{base64.urlsafe_b64encode(mark[:24]).decode()}"


def _proof(store: Store, name: str) -> str:
    key = students.key(store, "students")
    return hmac.new(key.encode(), name.encode(errors="surrogatepass"), hashlib.sha256).hexdigest()


def _verified(store: Store, value: object) -> str:
    """The id that ``value`` proves; empty if it proves none."""
    name, proof = (value.get("id"), value.get("proof")) if isinstance(value, dict) else (None, None)
    if not (isinstance(name, str) and isinstance(proof, str) and proof.isascii()):
        return ""
    return name if hmac.compare_digest(proof, _proof(store, name)) else ""


_guests_forgotten = 0.0


def _guest(store: Store) -> str:
    global _guests_forgotten
    if time.monotonic() - _guests_forgotten > _GUESTS_EVERY_S:
        _guests_forgotten = time.monotonic()
        students.forget_guests(store)
    name = f"{students.GUEST}{secrets.token_urlsafe(24)}"
    store.student(name)
    return name
