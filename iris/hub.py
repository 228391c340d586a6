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
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iris import gguf_file, settings
from iris.errors import DownloadError, ModelFileError

if TYPE_CHECKING:
    from huggingface_hub import HfFileMetadata

_CHUNK = 1 << 20
_SPARE = 64 << 20  # bytes that must stay free on the disk after a download


def fetch(repo: str, name: str, revision: str, *, sha256: str = "", progress: Any = None) -> Path:
    """The local path of a file of a Hub repository; downloaded on first use.

    A finished download is used offline from then on. The Hub's own sha256 is checked, and the catalog's if given.

    Raises:
        DownloadError: the Hub cannot be reached, the file is not there or not accessible, or the disk is too small.
        ModelFileError: what arrived is not the file that was announced; nothing is left under the final name.
    """
    folder = settings.writable_home() / "models" / repo.replace("/", "--") / revision.replace("/", "--")
    final = folder / name
    if final.is_file():
        return final
    final.parent.mkdir(parents=True, exist_ok=True)
    partial = final.with_name(final.name + ".partial")
    with _locked(final.with_name(final.name + ".lock")):
        if final.is_file():  # another process finished it meanwhile
            return final
        _download(repo, name, revision, partial, progress)
        try:
            if sha256:
                verify_sha256(partial, sha256)
            gguf_file.check(partial)
        except ModelFileError:
            partial.unlink(missing_ok=True)
            raise
        os.replace(partial, final)
    return final


def verify_sha256(path: Path, expected: str) -> None:
    """Raise ModelFileError unless the file has this sha256."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    if digest.hexdigest() != expected.lower():
        raise ModelFileError(
            f"{path.name} is not the file that was announced: its sha256 is {digest.hexdigest()[:16]}…, expected "
            f"{expected[:16].lower()}…. Delete it and download it again; if that does not help, the file was replaced."
        )


def _download(repo: str, name: str, revision: str, partial: Path, progress: Any) -> None:
    """Bring ``partial`` to the announced size and sha256, going on where an earlier attempt stopped."""
    from huggingface_hub import constants

    what = f"{name} of {repo}"
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        raise DownloadError(f"{what} is not on this machine and HF_HUB_OFFLINE forbids downloading it.")
    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or constants.ENDPOINT
    about = _about(repo, name, revision, endpoint)

    tag = partial.with_name(partial.name + ".etag")
    if partial.exists() and (not tag.exists() or tag.read_text() != str(about.etag)):
        partial.unlink()  # the file on the Hub is another than the one that was begun
    tag.write_text(str(about.etag))
    done = partial.stat().st_size if partial.exists() else 0
    if about.size is not None:
        missing, free = about.size - done, shutil.disk_usage(partial.parent).free
        if missing + _SPARE > free:
            raise DownloadError(
                f"Not enough disk space for {what}: {missing / 1e9:.2f} GB are missing and {free / 1e9:.2f} GB are "
                f"free in {partial.parent}. Free some space or set IRIS_HOME to a larger disk."
            )
    if done != about.size:
        _transfer(about, endpoint, what, partial, done, progress)
    size = partial.stat().st_size
    if about.size is not None and size != about.size:
        partial.unlink()
        raise ModelFileError(f"{what} arrived with {size:,} bytes instead of {about.size:,}. Try again.")
    if about.etag and len(about.etag) == 64:  # for large files the Hub's etag is the sha256
        try:
            verify_sha256(partial, about.etag)
        except ModelFileError:
            partial.unlink(missing_ok=True)
            raise
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


def _transfer(about: HfFileMetadata, endpoint: str, what: str, partial: Path, done: int, progress: Any) -> None:
    """Append to ``partial``, which holds ``done`` bytes, what is missing."""
    import httpx2
    from huggingface_hub import errors, get_token
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils._headers import build_hf_headers

    # The token is for the Hub alone, not for the storage it redirects to.
    headers = build_hf_headers(token=get_token()) if about.location.startswith(endpoint) else {}
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
                tqdm_class=_bar(progress, done) if progress else None,
            )
    except errors.HfHubHTTPError as error:
        raise _refused(what, error) from error
    except (OSError, httpx2.HTTPError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise DownloadError(
                f"The disk is full; {what} is only partly downloaded. Free some space and try again: "
                "it goes on where it stopped."
            ) from error
        raise DownloadError(
            f"The download of {what} broke off at {partial.stat().st_size / 1e6:,.0f} MB "
            f"({str(error).splitlines()[0] if str(error) else type(error).__name__}). "
            "Try again: it goes on where it stopped."
        ) from error


def _refused(what: str, error: Exception) -> DownloadError:
    return DownloadError(f"The Hugging Face Hub refused {what}: {str(error).splitlines()[0]}")


def _bar(progress: Any, start: int) -> type:
    """A tqdm class that reports to ``progress`` instead of drawing."""
    from tqdm import tqdm

    class Reporting(tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            kwargs.pop("name", None)
            super().__init__(*args, **{**kwargs, "disable": False, "file": io.StringIO()})
            progress(start, self.total)

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
