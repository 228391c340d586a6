"""A session with the Hugging Face Hub: calls that are tried again, uploads of only what changed, plain errors."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx2
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils.tqdm import disable_progress_bars
from space_folder import SpaceError

T = TypeVar("T")

TRIES = 5
LONGEST_WAIT_S = 60.0
KEPT = {".gitattributes"}
"""What the Hub itself puts into a repository."""

BUSY = {408, 429, 500, 502, 503, 504}
_MOVED = 412  # somebody else committed meanwhile


@dataclass(frozen=True, slots=True)
class Upload:
    """What an upload did: its commit, and how many files were sent, removed and left as they were."""

    commit: str
    sent: int
    removed: int
    same: int

    @property
    def changed(self) -> bool:
        return bool(self.sent or self.removed)


class Session:
    """The Hub, as the owner of the token.

    Raises:
        SpaceError: there is no token, or the Hub does not accept it, or it may only read.
    """

    def __init__(self) -> None:
        if not get_token():
            raise SpaceError(
                "There is no token. Make one that may write at https://huggingface.co/settings/tokens, then "
                "`hf auth login`, or set HF_TOKEN."
            )
        if not sys.stderr.isatty():
            disable_progress_bars()
        self.api = HfApi()
        about = self.call("asking who you are", self.api.whoami)
        self.name: str = about["name"]
        self.owners = [self.name, *(org["name"] for org in about.get("orgs", []))]
        role = about.get("auth", {}).get("accessToken", {}).get("role")
        if role == "read":
            raise SpaceError(
                f"The token of {self.name} may only read. Make one that may write at "
                "https://huggingface.co/settings/tokens."
            )

    def own(self, repo: str) -> None:
        """Refuse a repository that belongs to somebody else.

        Raises:
            SpaceError: its owner is neither the token's nor one of their organisations.
        """
        owner = repo.split("/")[0]
        if owner.lower() not in {name.lower() for name in self.owners}:
            others = f", nor one of your organisations ({', '.join(self.owners[1:])})" if self.owners[1:] else ""
            raise SpaceError(f"{repo} is not yours: {owner} is not {self.name}{others}. Choose a name of your own.")

    def call(self, what: str, function: Callable[..., T], *arguments: Any, **options: Any) -> T:
        """Call, and call again while the Hub is busy or breaks off.

        Raises:
            SpaceError: it stays so, or the Hub refuses; ``what`` says what was tried.
        """
        for attempt in range(TRIES):
            try:
                return function(*arguments, **options)
            except (HfHubHTTPError, httpx2.HTTPError, OSError, RuntimeError, ValueError) as error:
                status = _status(error)
                passing = status in BUSY if status else isinstance(_cause(error), httpx2.TransportError | OSError)
                if not passing or attempt == TRIES - 1:
                    raise _explained(what, error) from error
                wait = _pause(error, attempt)
                print(f"The Hub is busy ({_first_line(error)}); trying again in {wait:.0f} s.", file=sys.stderr)
                time.sleep(wait)
        raise AssertionError("unreachable")

    def upload(self, repo: str, kind: str, files: Mapping[str, Path | bytes], message: str, *, tidy: bool) -> Upload:
        """Make the repository hold ``files``, in one commit of what differs; with ``tidy``, and nothing else.

        An upload that breaks off is taken up from what the Hub has: a commit is there whole or not at all, and large
        files that have arrived are not sent again.

        Raises:
            SpaceError: the Hub refuses or stays unreachable. Its repository is then as it was.
        """
        # Each try plans anew: a commit whose answer was lost is found to be there already.
        return self.call(f"uploading to {repo}", self._upload, repo, kind, files, message, tidy)

    def _upload(self, repo: str, kind: str, files: Mapping[str, Path | bytes], message: str, tidy: bool) -> Upload:
        head = self.api.repo_info(repo, repo_type=kind).sha
        there = {
            entry.path: entry
            for entry in self.api.list_repo_tree(repo, repo_type=kind, recursive=True, revision=head)
            if isinstance(entry, RepoFile)
        }
        changed = [name for name, content in files.items() if not _same(content, there.get(name))]
        gone = [name for name in there if tidy and name not in files and name not in KEPT]
        commit = head
        if changed or gone:
            operations: list[Any] = [CommitOperationAdd(name, files[name]) for name in changed]
            operations += [CommitOperationDelete(name) for name in gone]
            done = self.api.create_commit(repo, operations, commit_message=message, repo_type=kind, parent_commit=head)
            commit = done.oid
        return Upload(str(commit), len(changed), len(gone), len(files) - len(changed))


def _same(content: Path | bytes, there: RepoFile | None) -> bool:
    """Whether the Hub's file has this content: compared by git's own name of it, or by sha256 if it is a large one."""
    size = len(content) if isinstance(content, bytes) else content.stat().st_size
    if there is None or there.size != size:
        return False
    digest = hashlib.sha256() if there.lfs else hashlib.sha1(b"blob %d\0" % size)
    if isinstance(content, bytes):
        digest.update(content)
    else:
        with content.open("rb") as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
    return digest.hexdigest() == (there.lfs.sha256 if there.lfs else there.blob_id)


def _cause(error: BaseException) -> BaseException:
    """What is behind an error: huggingface_hub wraps those of its upload threads."""
    while isinstance(error, RuntimeError) and error.__cause__:
        error = error.__cause__
    return error


def _status(error: BaseException) -> int:
    response = getattr(_cause(error), "response", None)
    status = getattr(response, "status_code", 0) or 0
    return 500 if status == _MOVED else int(status)


def _pause(error: BaseException, attempt: int) -> float:
    response = getattr(_cause(error), "response", None)
    asked = response.headers.get("Retry-After", "") if response is not None else ""
    return min(LONGEST_WAIT_S, float(asked) if asked.isdecimal() else 2.0**attempt)


def _first_line(error: BaseException) -> str:
    error = _cause(error)
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    told = getattr(error, "server_message", None)
    return f"{line}: {' '.join(told.split())}" if told and told not in line else line


def _explained(what: str, error: Exception) -> SpaceError:
    status, line = _status(error), _first_line(error).rstrip(".")
    if status == 401:
        advice = "The Hub does not accept the token: set a valid HF_TOKEN, or `hf auth login`"
    elif status == 402:
        advice = (
            "Spaces that compute need a PRO account, or a Team's organisation, to be created "
            "(https://huggingface.co/pricing). Running Iris on a machine of yours is free: make run"
        )
    elif status == 403:
        advice = "The token may not do this: make one that may write, and that covers this owner"
    elif status in BUSY or isinstance(_cause(error), httpx2.TransportError | OSError):
        advice = "What was there before is untouched. Run the same command again: what has arrived is not sent twice"
    else:
        advice = "See the Hub's message"
    return SpaceError(f"{what[0].upper()}{what[1:]} failed: {line}. {advice}.")
