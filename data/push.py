"""Upload a build to the Hugging Face Hub as a data set: the card, the splits and the manifest in one commit."""

from __future__ import annotations

import argparse
import re

from data import card, manifest
from data.files import DataError
from data.manifest import NAME, Outcome


def repository(value: str) -> str:
    """The name of a data set, ``owner/name``, from the command line."""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", value):
        raise argparse.ArgumentTypeError(f"{value!r} has not the form owner/name")
    return value


def push(made: Outcome, repo: str, *, private: bool = False, endpoint: str | None = None) -> str:
    """Create the data set ``owner/name`` if need be, and upload; returns its address.

    The token is the one of ``hf auth login`` or ``HF_TOKEN``. ``endpoint`` is another Hub than huggingface.co.

    Raises:
        DataError: a file is not the one of the manifest, or the Hub refuses or cannot be reached.
    """
    import httpx2
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import HfHubHTTPError

    about = made.manifest
    operations = [CommitOperationAdd("README.md", card.text(about).encode())]
    for split in about["splits"].values():
        path = manifest.checked(made.folder, split)
        if split["rows"]:
            operations.append(CommitOperationAdd(f"{about['name']}/{split['file']}", path))
    operations.append(CommitOperationAdd(f"{about['name']}/{NAME}", made.folder / NAME))
    api = HfApi(endpoint=endpoint)
    try:
        address = api.create_repo(repo, repo_type="dataset", private=private or None, exist_ok=True)
        message = f"{about['title']}: {about['rows']['written']:,} rows"
        api.create_commit(repo, operations, commit_message=message, repo_type="dataset")
    except (HfHubHTTPError, httpx2.HTTPError, OSError, ValueError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__).rstrip(".")
        if told := getattr(error, "server_message", None):
            reason = f"{reason}: {' '.join(told.split())}".rstrip(".")
        raise DataError(
            f"{repo} could not be uploaded: {reason}. The build is in {made.folder}. Check the connection, and that "
            "HF_TOKEN (or `hf auth login`) may write there."
        ) from error
    return str(address)
