"""Download a GGUF from the Hugging Face Hub: beside its place, checked, then renamed; resumed after a break.

``hf_hub_download`` starts again from zero after an interruption, so the parts it is made of are used here: the
metadata call, and ``http_get``, which can go on at an offset.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import io
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iris import gguf_file, settings
from iris.errors import DownloadError, ModelFileError

if TYPE_CHECKING:
    from huggingface_hub import HfFileMetadata
    from huggingface_hub.errors import HfHubHTTPError

Progress = Callable[[int, int | None], None]

_FULL = {errno.ENOSPC, errno.EDQUOT}
_SPARE = 64 << 20  # bytes that must stay free on the disk after a download


def fetch(repo: str, name: str, revision: str, *, sha256: str = "", progress: Progress | None = None) -> Path:
    """The local path of a file of a Hub repository; downloaded on first use.

    A finished download is used offline from then on, as is a file in the Hub's own cache. The Hub's own sha256 is
    checked, and the catalog's if given; a file whose sha256 is no longer the catalog's is downloaded again.

    Raises:
        SettingsError: the state folder cannot be written.
        DownloadError: the Hub cannot be reached, the file is not there or not accessible, or the disk is too small.
        ModelFileError: what arrived is not the file that was announced; nothing is left under the final name.
    """
    folder = settings.writable_home() / "models" / repo.replace("/", "--") / revision.replace("/", "--")
    final = folder / name
    what = f"{name} of {repo}"
    try:
        if _is_there(final, sha256):
            return final
        if preloaded := _preloaded(repo, name, revision, sha256):
            return preloaded
        final.parent.mkdir(parents=True, exist_ok=True)
        with _locked(_beside(final, ".lock")):
            if _is_there(final, sha256):  # another process finished it meanwhile
                return final
            partial = _beside(final, ".partial")
            _download(repo, name, revision, partial, progress)
            _accept(partial, final, what, sha256)
    except OSError as error:
        raise _unwritable(what, error) from error
    return final


def verify_sha256(path: Path, expected: str) -> None:
    """Raise ModelFileError unless the file has this sha256."""
    found = _sha256(path)
    if found != expected.lower():
        raise ModelFileError(
            f"{path} is not the file that models.toml describes: its sha256 is {found}. Replace the file or correct "
            "the sha256."
        )


def _preloaded(repo: str, name: str, revision: str, sha256: str) -> Path | None:
    """The file in the Hub's own cache, where a Space that was built with ``preload_from_hub`` has it."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repo, name, revision=revision)
    if not isinstance(found, str) or (sha256 and _sha256(Path(found)) != sha256.lower()):
        return None
    return Path(found)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _is_there(final: Path, sha256: str) -> bool:
    """Whether the file is there and, if a sha256 is asked for, has it. It is computed once and remembered."""
    if not final.is_file():
        return False
    if not sha256:
        return True
    note = _beside(final, ".sha256")
    if not note.exists():
        note.write_text(_sha256(final))
    return note.read_text() == sha256.lower()


def _accept(partial: Path, final: Path, what: str, sha256: str) -> None:
    """Check a complete download and give it its final name; a wrong one is deleted."""
    try:
        found = _sha256(partial) if sha256 else ""
        if found != sha256.lower():
            raise ModelFileError(
                f"{what} on the Hub is not the file that the catalog describes: its sha256 is {found}. If its "
                "owner has replaced it on purpose, change the sha256 in models.toml."
            )
        gguf_file.check(partial, name=what, remedy="What the Hub has is unusable; ask the owner of the repository.")
    except ModelFileError:
        partial.unlink(missing_ok=True)
        raise
    with partial.open("rb") as file:
        os.fsync(file.fileno())  # the final name must never stand for data that a power cut could still take
    note = _beside(final, ".sha256")
    note.unlink(missing_ok=True)
    os.replace(partial, final)
    if found:
        note.write_text(found)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download(repo: str, name: str, revision: str, partial: Path, progress: Progress | None) -> None:
    """Bring ``partial`` to the announced size and sha256, going on where an earlier attempt stopped."""
    from huggingface_hub import constants

    what = f"{name} of {repo}"
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        raise DownloadError(f"{what} is not on this machine and HF_HUB_OFFLINE forbids downloading it.")
    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or constants.ENDPOINT
    about = _about(repo, name, revision, endpoint)

    tag = _beside(partial, ".etag")
    size = partial.stat().st_size if partial.exists() else 0
    if size > (about.size or size) or not tag.exists() or tag.read_text() != str(about.etag):
        partial.unlink(missing_ok=True)  # the file on the Hub is another than the one that was begun
    tag.write_text(str(about.etag))
    partial.touch()
    done = partial.stat().st_size
    if about.size is not None:
        missing, free = about.size - done, shutil.disk_usage(partial.parent).free
        if missing + _SPARE > free:
            raise DownloadError(
                f"Not enough disk space for {what}: {_size(missing)} are missing and {_size(free)} are free in "
                f"{partial.parent} ({_size(_SPARE)} of them stay free). Free some space or set IRIS_HOME to a larger "
                "disk."
            )
    if done != about.size:
        _transfer(about, endpoint, what, partial, done, progress)
    # For large files the Hub's etag is the sha256.
    if about.etag and len(about.etag) == 64 and _sha256(partial) != about.etag.lower():
        partial.unlink()
        raise ModelFileError(f"{what} was damaged on the way: its sha256 is not the announced one. Try again.")
    tag.unlink(missing_ok=True)


def _about(repo: str, name: str, revision: str, endpoint: str) -> HfFileMetadata:
    """Size, etag and location of the file, or the reason why there is none."""
    import httpx2
    from huggingface_hub import errors, get_hf_file_metadata, hf_hub_url

    url = hf_hub_url(repo, name, revision=revision, endpoint=endpoint)
    try:
        return get_hf_file_metadata(url, endpoint=endpoint)
    except errors.GatedRepoError as error:
        raise DownloadError(
            f"{repo} asks you to accept its licence first: open {endpoint}/{repo}, accept, then set HF_TOKEN."
        ) from error
    except errors.RevisionNotFoundError as error:
        raise DownloadError(f"{repo} has no revision {revision!r}.") from error
    except errors.RepositoryNotFoundError as error:
        raise DownloadError(
            f"There is no repository {repo}, or it is private. For a private one set HF_TOKEN."
        ) from error
    except errors.EntryNotFoundError as error:
        raise DownloadError(f"{repo} has no file {name} at revision {revision!r}.") from error
    except errors.HfHubHTTPError as error:
        raise _refused(f"{name} of {repo}", error) from error
    except (OSError, httpx2.HTTPError) as error:
        raise DownloadError(
            f"The Hugging Face Hub ({endpoint}) cannot be reached, and {name} of {repo} is not on this machine yet. "
            f"Check the connection and try again; the built-in model {settings.DEFAULT_MODEL} works offline."
        ) from error


def _transfer(
    about: HfFileMetadata, endpoint: str, what: str, partial: Path, done: int, progress: Progress | None
) -> None:
    """Append to ``partial``, which holds ``done`` bytes, what is missing."""
    import httpx2
    from huggingface_hub import errors, get_token
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils._headers import build_hf_headers

    # The token is for the Hub alone, not for the storage it redirects to.
    headers = build_hf_headers(token=get_token()) if about.location.startswith(f"{endpoint}/") else {}
    logging.getLogger("huggingface_hub.file_download").setLevel(logging.ERROR)
    try:
        with partial.open("ab") as file:
            http_get(
                about.location,
                file,
                resume_size=done,
                headers=headers,
                expected_size=about.size,
                displayed_filename=partial.name.removesuffix(".partial"),
                tqdm_class=_bar(progress) if progress else None,
            )
    except errors.HfHubHTTPError as error:
        if error.response.status_code == 416:  # the server's file ends before what is here: it is another file
            partial.unlink(missing_ok=True)
        raise _refused(what, error) from error
    except (OSError, httpx2.HTTPError) as error:
        if isinstance(error, OSError) and error.errno in _FULL:
            raise _unwritable(what, error) from error
        raise DownloadError(
            f"The download of {what} broke off at {_size(partial.stat().st_size)} ({_first_line(error)}). "
            "Try again: it goes on where it stopped."
        ) from error


def _refused(what: str, error: HfHubHTTPError) -> DownloadError:
    status = error.response.status_code
    if status == 401:
        return DownloadError(f"The Hugging Face Hub refused {what}: it does not accept HF_TOKEN. Set a valid one.")
    if status == 429 or status >= 500:
        return DownloadError(f"The Hugging Face Hub is busy (status {status}), so {what} waits. Try again later.")
    return DownloadError(f"The Hugging Face Hub refused {what}: {_first_line(error)}")


def _unwritable(what: str, error: OSError) -> DownloadError:
    if error.errno in _FULL:
        return DownloadError(
            f"The disk is full; {what} is only partly downloaded. Free some space and try again: it goes on where it "
            "stopped."
        )
    return DownloadError(f"{what} cannot be stored: {error}")


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _bar(progress: Progress) -> type:
    """A tqdm class that reports to ``progress`` instead of drawing."""
    from tqdm import tqdm

    class Reporting(tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            kwargs.pop("name", None)
            super().__init__(*args, **{**kwargs, "disable": False, "file": io.StringIO()})
            progress(int(self.n), self.total)

        def update(self, n: float | None = 1) -> bool | None:
            drawn: bool | None = super().update(n)
            progress(int(self.n), self.total)
            return drawn

    return Reporting


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock, so that two processes do not write one partial file."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)
