"""Uploads an artifact to a repository of the Hugging Face Hub, by huggingface_hub, in one commit."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mpncov_zoo.description import DESCRIPTION_FILE, INDEX_FILE, parse_index
from mpncov_zoo.documents import is_repository
from mpncov_zoo.errors import FetchError, InputError, ManifestError, OfflineError, ZooError
from mpncov_zoo.hub.directories import index_text
from mpncov_zoo.hub.transport import is_offline, printable
from mpncov_zoo.hub.verification import describe_files

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

CARD_FILE = "README.md"
BEGINNING = frozenset({".gitattributes", CARD_FILE})  # what a repository has that was made on the web site
LOGIN = "Log in with a token that may write there (hf auth login, or HF_TOKEN)"
REMEDIES = {  # by HTTP status
    401: LOGIN,
    403: LOGIN,
    404: f"Is the name right? {LOGIN}",
    409: "It was changed meanwhile; publish again",
    412: "It was changed meanwhile; publish again",
}


def require_repository(repo: str) -> str:
    """Return the id of a repository, if it is valid.

    Raises:
        InputError: it is none.
    """
    if not is_repository(repo):
        raise InputError(
            f"'hf:{repo}': allowed: hf:owner/name, of letters, digits, '-', '_', '.', without '--' and '..'"
        )
    return repo


def upload(repo: str, name: str, directory: Path, card: str, *, private: bool = False) -> str:
    """Make a repository hold exactly this artifact, its index and its card; it is created if it does not exist.

    A repository is for one set of weights, in as many versions as there are. If a step fails, it stays as it was; one
    that was created then stays empty.

    Args:
        repo: `owner/name`.
        name: of the artifact, `<model>.<tag>`.
        directory: the artifact, its files already verified.
        card: content of README.md.
        private: what a repository that is created is to be; one that exists must be it.

    Returns:
        The commit, 40 hex digits.

    Raises:
        OfflineError: the network is switched off.
        InputError: the repository holds something else, or is public though `private` was asked for.
        ManifestError: the repository's index.json is malformed.
        FetchError: the hub refuses, or cannot be reached; the message says what to do.
    """
    from huggingface_hub import HfApi, get_token  # late, as below: it takes a while

    if is_offline():
        raise OfflineError("Publishing needs the network, which is off: unset MPNCOV_ZOO_OFFLINE and HF_HUB_OFFLINE")
    with _explained(repo):
        if get_token() is None:
            raise InputError(f"hf:{repo}: there is no token on this machine. {LOGIN}")
        api = HfApi(library_name="mpncov-zoo")
        api.create_repo(repo, private=private or None, exist_ok=True)
        state = api.model_info(repo)
        if private and not state.private:
            raise InputError(f"hf:{repo} is public. Make it private on its settings page, or publish to a new one")
        held = api.list_repo_files(repo, revision=state.sha)
        _require_ours(api, repo, name, held, state.sha)
        operations = _operations(name, directory, card, held)
        commit = api.create_commit(
            repo, operations, commit_message=f"mpncov-zoo publish {name}", parent_commit=state.sha
        )
        return commit.oid


def _operations(name: str, directory: Path, card: str, held: Collection[str]) -> list:
    """List the operations after which the repository holds exactly these files."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    files = {f"{name}/{file.path}": directory / file.path for file in describe_files(directory, exclude=())}
    texts = {INDEX_FILE: index_text([name]), CARD_FILE: card}
    old = sorted(path for path in held if path.startswith(f"{name}/") and path not in files)
    return [
        *(CommitOperationAdd(path, str(place)) for path, place in files.items()),
        *(CommitOperationAdd(path, text.encode()) for path, text in texts.items()),
        *(CommitOperationDelete(path) for path in old),
    ]


def _require_ours(api: HfApi, repo: str, name: str, held: Sequence[str], revision: str | None) -> None:
    """Refuse a repository that holds other weights, or anything that is not known to be ours to replace."""
    if INDEX_FILE not in held and not set(held) <= BEGINNING:
        foreign = ", ".join(sorted(set(held) - BEGINNING)[:3])
        raise InputError(f"hf:{repo} holds other files ({foreign}) and no {INDEX_FILE}. Publish to a new repository")
    listed = _listed(api, repo, revision) if INDEX_FILE in held else set()
    found = {path.partition("/")[0] for path in held if path.endswith(f"/{DESCRIPTION_FILE}")}
    others = sorted((listed | found) - {name})
    if others:
        raise InputError(
            f"hf:{repo} is the repository of {others[0]}; one holds one set of weights. Publish to another"
        )


def _listed(api: HfApi, repo: str, revision: str | None) -> set[str]:
    with tempfile.TemporaryDirectory() as scratch:
        path = api.hf_hub_download(repo, INDEX_FILE, revision=revision, local_dir=scratch)
        try:
            return set(parse_index(path).artifacts)
        except ManifestError as error:
            raise ManifestError(str(error).replace(path, f"hf:{repo}: {INDEX_FILE}")) from None


@contextmanager
def _explained(repo: str) -> Iterator[None]:
    """Turn the client's errors into ours, each in one line."""
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.errors import HTTPError as ClientError  # pyright: ignore[reportPrivateImportUsage] of its httpx

    try:
        yield
    except ZooError:
        raise
    except (ClientError, OSError, RuntimeError, ValueError) as error:
        cause = (
            error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ else error
        )  # of one file's upload
        if isinstance(cause, HfHubHTTPError):
            raise _refused(repo, cause) from error
        text = next(iter(str(cause).split("\n")), "") or type(cause).__name__
        raise FetchError(f"hf:{repo} cannot be published to: {printable(text)}. Try again later") from error


def _refused(repo: str, error: HfHubHTTPError) -> FetchError:
    status = error.response.status_code
    said = error.response.headers.get("X-Error-Message") or error.server_message or error.response.reason_phrase
    remedy = REMEDIES.get(status, "Try again later")
    return FetchError(
        f"hf:{repo}: the hub answers {status} ({printable(next(iter(said.splitlines()), '')).rstrip('.')}). {remedy}"
    )
