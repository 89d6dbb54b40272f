"""Remote hubs: lists their artifacts, and fetches the files into the cache."""

import hashlib
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from mpncov_zoo.description import DESCRIPTION_FILE, INDEX_FILE, FileEntry, parse_description, parse_index
from mpncov_zoo.errors import NoPretrainedWeights, OfflineError
from mpncov_zoo.hub import transport
from mpncov_zoo.hub.cache import Cache
from mpncov_zoo.hub.download import Expected, download
from mpncov_zoo.hub.locations import Location
from mpncov_zoo.hub.transport import NotFound
from mpncov_zoo.progress import progress_bar

PARALLEL = 4  # files at once
LARGEST_DOCUMENT = 2**20  # bytes of a model.json or index.json that no digest is known of


@dataclass(frozen=True)
class RemoteHub:
    """A hub behind URLs, and the cache that its files go to.

    Attributes:
        location: where it is.
        cache: where its files go.
        offline: forbid to ask it.
    """

    location: Location
    cache: Cache
    offline: bool

    def names(self) -> list[str] | None:
        """Return the names of its artifacts, from its index.json or its own model.json; None if it has neither.

        Raises:
            FetchError, OfflineError: it cannot be asked.
            ManifestError: its answer is malformed.
        """
        try:
            return parse_index(self._url(INDEX_FILE), self._document(INDEX_FILE)).artifacts
        except NotFound:
            pass
        try:
            return [parse_description(self._url(DESCRIPTION_FILE), self._document(DESCRIPTION_FILE)).name]
        except NotFound:
            return None

    def files(self, name: str) -> list[FileEntry]:
        """Return the files of an artifact, as its model.json lists them; a hub that can change is asked each time.

        Raises:
            NoPretrainedWeights: it holds another artifact.
            FetchError, OfflineError, ManifestError: of `names`.
        """
        key = f"{name}@{hashlib.sha256(str(self.location).encode()).hexdigest()[:16]}"
        known = self.cache.recall("hubs", key)
        if known is not None and (self.offline or self.location.fixed):
            listing = self.cache.description(known)
            if listing is not None:
                return listing[1]
        place, data = self._fetch_description(name)
        description = parse_description(place, data)
        if description.name != name:
            raise NoPretrainedWeights(f"{self.location} holds no {name!r}. It holds: {description.name}")
        own = FileEntry(path=DESCRIPTION_FILE, size=len(data), sha256=hashlib.sha256(data).hexdigest())
        if not self.cache.holds(own):
            self.cache.store_bytes(data, own.sha256)
        if known != own.sha256:
            self.cache.remember("hubs", key, own.sha256)
        return [own, *description.files]

    def directory(self, name: str, files: Sequence[FileEntry]) -> Path:
        """Return the directory of these files in the cache, after fetching what is missing.

        Raises:
            FetchError, OfflineError: they cannot be had.
            IntegrityError: the hub's files are others.
        """
        tree = self.cache.tree(name, files)
        if not tree.is_dir():
            self._fetch(name, [file for file in files if not self.cache.holds(file)])
            self.cache.materialise(name, files)
        return tree

    def _fetch(self, name: str, files: Sequence[FileEntry]) -> None:
        """Fetch an artifact's files. The smallest comes first: it shows in which folder of the hub all of them are."""
        if not files:
            return
        self._require_online(name)
        first, *others = sorted(files, key=lambda file: file.size)
        with progress_bar(sum(file.size for file in files), "B", label=name) as bar:
            transfer = _Transfer(self, bar.update)
            base = transfer.find(name, first)
            with ThreadPoolExecutor(PARALLEL) as pool:
                try:
                    for future in as_completed([pool.submit(transfer.file, base, file) for file in others]):
                        future.result()
                except BaseException:
                    transfer.stop.set()
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise

    def _fetch_description(self, name: str) -> tuple[str, bytes]:
        """Fetch an artifact's model.json; return its URL and content."""
        self._require_online(name)
        for path in (f"{name}/{DESCRIPTION_FILE}", DESCRIPTION_FILE):
            try:
                return self._url(path), self._document(path)
            except NotFound:
                pass
        raise NotFound(f"{self.location} holds no {name}: neither {name}/{DESCRIPTION_FILE} nor {DESCRIPTION_FILE}")

    def _document(self, path: str) -> bytes:
        """Fetch a small file whose digest is not known; it does not go to the cache, which may be read-only."""
        self._require_online(path)
        expected = Expected(path, largest=LARGEST_DOCUMENT)
        with tempfile.TemporaryDirectory() as scratch:
            cache = Cache(Path(scratch))
            digest = download(self.location.address(path), expected, cache, limits=transport.LIMITS)
            return cache.blob(digest).read_bytes()

    def _url(self, path: str) -> str:
        return self.location.address(path).url

    def _require_online(self, wanted: str) -> None:
        if self.offline:
            raise OfflineError(
                f"{wanted} of {self.location} is not in the cache {self.cache.root}, and the network is switched off. "
                "With it: mpncov-zoo cache prefetch NAME; or carry it here: mpncov-zoo cache pack NAME --output DIR"
            )


class _Transfer:
    """Fetches the files of one artifact, several at once; if one fails, the others stop."""

    def __init__(self, hub: RemoteHub, advance: Callable[[int], object]) -> None:
        self.stop = threading.Event()
        self._hub, self._advance, self._lock = hub, advance, threading.Lock()

    def find(self, name: str, file: FileEntry) -> str:
        """Fetch a file from the artifact's folder or else from the hub's root; return which of the two it was."""
        for base in (f"{name}/", ""):
            try:
                self.file(base, file)
                return base
            except NotFound:
                pass
        raise NotFound(f"{self._hub.location} holds no {name}: neither {name}/{file.path} nor {file.path}")

    def file(self, base: str, file: FileEntry) -> None:
        """Fetch a file, unless another process has fetched it in the meantime."""
        cache = self._hub.cache
        with cache.lock(file.sha256):
            if cache.holds(file):
                self._progress(file.size)
                return
            download(
                self._hub.location.address(base + file.path),
                Expected(file.path, file.sha256, file.size),
                cache,
                limits=transport.LIMITS,
                progress=self._progress,
                stop=self.stop,
            )

    def _progress(self, count: int) -> None:
        with self._lock:
            self._advance(count)
