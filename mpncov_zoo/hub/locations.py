"""Where hubs are: reads what `hub=`, MPNCOV_ZOO_HUB and the manifest name, and makes the URLs of their files.

A hub is a directory on this machine or behind a URL. It holds `<model>.<tag>/` directories, and an `index.json` that
lists them where the server cannot. Nothing that it says is trusted.
"""

import os
import re
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path

from mpncov_zoo.documents import is_repository
from mpncov_zoo.errors import FetchError, InputError
from mpncov_zoo.hub.transport import Address, require_safe
from mpncov_zoo.manifest import FileSource, HttpsSource, HuggingFaceSource

HUB_VARIABLE = "MPNCOV_ZOO_HUB"
OTHER_SCHEMES = frozenset({"gs", "s3", "ftp", "ftps", "file", "mpncov", "az", "abfs"})
ALLOWED = "a directory, https://host/path, or hf:owner/name@<40-hex commit>"


@dataclass(frozen=True)
class StaticServer:
    """A static file server."""

    url: str

    def __str__(self) -> str:
        return self.url

    @property
    def fixed(self) -> bool:
        """Whether the files of this hub can never change."""
        return False

    def address(self, path: str) -> Address:
        """Return the address of a file.

        Args:
            path: POSIX path below the hub's root.
        """
        return Address(f"{self.url}/{path}")


@dataclass(frozen=True)
class HuggingFace:
    """A repository of the Hugging Face Hub at one commit; URLs and token are those of huggingface_hub."""

    repo: str
    revision: str

    def __str__(self) -> str:
        return f"hf:{self.repo}@{self.revision}"

    @property
    def fixed(self) -> bool:
        """Whether the files of this hub can never change."""
        return True

    def address(self, path: str) -> Address:
        """Return the address of a file.

        Args:
            path: POSIX path below the hub's root.
        """
        from huggingface_hub import hf_hub_url  # late: it takes a while, and other hubs need none of it
        from huggingface_hub.utils import build_hf_headers

        url = hf_hub_url(self.repo, path, revision=self.revision)
        return Address(url, build_hf_headers(library_name="mpncov-zoo"))


Location = StaticServer | HuggingFace


def locate(hub: str | PathLike[str]) -> Location | Path:
    """Return the hub that a user names: a path on this machine, or a location behind URLs.

    Args:
        hub: a directory, a URL, or `hf:owner/name@<40-hex commit>`.

    Raises:
        InputError: no such form, or no commit.
        FetchError: a URL that must not be asked.
    """
    text = fspath(hub)
    if not text:
        raise InputError(f"hub is empty. Allowed: {ALLOWED}.")
    scheme, colon, rest = text.partition(":")
    if colon and scheme.lower() == "hf":
        return _hugging_face(text, rest)
    if colon and scheme.lower() in ("http", "https"):
        return _static_server(text)
    if colon and scheme.lower() in OTHER_SCHEMES:
        raise FetchError(f"hub={text!r}: mpncov_zoo does not read {scheme}: itself. Allowed: {ALLOWED}")
    return Path(os.path.expanduser(text)).absolute()


def of_source(source: HuggingFaceSource | HttpsSource | FileSource) -> Location | Path:
    """Return the hub that a source in the manifest names."""
    if isinstance(source, HuggingFaceSource):
        return HuggingFace(source.repo, source.revision)
    return (
        _static_server(source.url)
        if isinstance(source, HttpsSource)
        else Path(os.path.expanduser(source.path)).absolute()
    )


def _hugging_face(text: str, rest: str) -> HuggingFace:
    repo, _, commit = rest.partition("@")
    if not is_repository(repo):
        raise InputError(f"hub={text!r}: allowed: hf:owner/name@<40-hex commit>.")
    if not re.fullmatch("[0-9a-f]{40}", commit):
        raise InputError(
            f"hub={text!r}: expected a commit of 40 hex digits, got {commit or 'none'}: what a branch names changes. "
            f"The present one: huggingface_hub.model_info({repo!r}).sha"
        )
    return HuggingFace(repo, commit)


def _static_server(url: str) -> StaticServer:
    parts = require_safe(url)
    if parts.query or parts.fragment:
        raise InputError(f"hub={url!r}: allowed: a URL without '?' and '#', to which names of files are added.")
    return StaticServer(url.rstrip("/"))
