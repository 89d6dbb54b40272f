"""One file over HTTP, from a real server that misbehaves: what is kept, what is refused, what is asked again."""

import gzip
import hashlib
import ssl
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from mpncov_zoo.errors import FetchError, IntegrityError
from mpncov_zoo.hub.cache import Cache
from mpncov_zoo.hub.download import Expected, download
from mpncov_zoo.hub.transport import Address, Limits
from tests.hub import fault_server
from tests.hub.fault_server import Behaviour, FaultServer, Handler, cut, etag, redirect, serving, status, well_behaved

CONTENT = bytes(range(256)) * 40
DIGEST = hashlib.sha256(CONTENT).hexdigest()
EXPECTED = Expected("weights.bin", DIGEST, len(CONTENT))
QUICK = Limits(connect=10, read=30, answer=30, retries=2, backoff=0.01, retry_after=1)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FaultServer]:
    """Serves CONTENT as weights.bin."""
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "weights.bin").write_bytes(CONTENT)
    with serving(tmp_path / "served") as running:
        yield running


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def fetch(server: FaultServer, cache: Cache, expected: Expected = EXPECTED, **headers: str) -> str:
    return download(Address(f"{server.url}/weights.bin", headers), expected, cache, limits=QUICK)


def kept(cache: Cache) -> list[str]:
    """Every file of the cache, by the directory that it is in."""
    return sorted(path.parent.name for path in cache.root.rglob("*") if path.is_file())


def leave_partial(cache: Cache, content: bytes, validator: str = etag(CONTENT)) -> None:
    """What a download that was killed leaves."""
    cache.partial.mkdir(parents=True)
    (cache.partial / f"{DIGEST}.x.partial").write_bytes(content)
    (cache.partial / f"{DIGEST}.x.partial.etag").write_bytes(validator.encode())


def test_a_file_arrives_whole(server: FaultServer, cache: Cache) -> None:
    counted: list[int] = []
    address = Address(f"{server.url}/weights.bin")
    assert download(address, EXPECTED, cache, limits=QUICK, progress=counted.append) == DIGEST
    assert cache.blob(DIGEST).read_bytes() == CONTENT and sum(counted) == len(CONTENT)
    assert kept(cache) == ["blobs"]
    assert server.requests[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    "expected", [Expected("weights.bin"), Expected("weights.bin", DIGEST[:8], largest=len(CONTENT))]
)
def test_a_file_of_which_less_is_known(server: FaultServer, cache: Cache, expected: Expected) -> None:
    assert fetch(server, cache, expected) == DIGEST


def test_an_empty_file(server: FaultServer, cache: Cache) -> None:
    (server.root / "weights.bin").write_bytes(b"")
    empty = hashlib.sha256(b"").hexdigest()
    assert fetch(server, cache, Expected("weights.bin", empty, 0)) == empty
    assert cache.blob(empty).read_bytes() == b""


# --- another file than the one expected -------------------------------------------------------------------------------


def flipped(content: bytes) -> bytes:
    return content[:99] + bytes([content[99] ^ 1]) + content[100:]


def unannounced(handler: Handler) -> None:
    """Without a length."""
    handler.answer(200, handler.content or b"", {"Content-Length": "", "ETag": '"x"'})


BOMB = gzip.compress(bytes(2**20)) * 1000


def bomb(handler: Handler) -> None:
    """A gigabyte of zeros in a megabyte."""
    handler.answer(200, BOMB, {"Content-Encoding": "gzip"})


@pytest.mark.parametrize(
    ("content", "behaviour", "message"),
    [
        (flipped(CONTENT), well_behaved, rf"'weights\.bin': expected sha256 {DIGEST}, got [0-9a-f]{{64}}\. Nothing"),
        (CONTENT[:-1], well_behaved, r"'weights\.bin': expected 10240 bytes, got 10239\. Nothing of it was kept"),
        (CONTENT + b"!", well_behaved, r"'weights\.bin': expected 10240 bytes, got 10241\. Nothing of it was kept"),
        (CONTENT + b"!", unannounced, r"'weights\.bin': expected 10240 bytes, got more\. Nothing of it was kept"),
        (CONTENT, fault_server.endless, r"'weights\.bin': expected 10240 bytes, got more\. Nothing of it was kept"),
        (CONTENT, lambda handler: handler.answer(200, b"", {"Content-Length": "1" * 15}), "got 111111111111111"),
    ],
)  # fmt: skip
def test_another_file_is_refused_at_the_first_request(
    server: FaultServer, cache: Cache, content: bytes, behaviour: Behaviour, message: str
) -> None:
    (server.root / "weights.bin").write_bytes(content)
    server.behaviour = behaviour
    with pytest.raises(IntegrityError, match=message):
        fetch(server, cache)
    assert len(server.requests) == 1 and kept(cache) == []


def test_a_file_of_unknown_size_has_a_largest_one(server: FaultServer, cache: Cache) -> None:
    server.behaviour = fault_server.endless
    with pytest.raises(IntegrityError, match="expected at most 50000 bytes, got more"):
        fetch(server, cache, Expected("weights.bin", largest=50_000))
    assert kept(cache) == []


def test_a_compressed_answer_is_not_unpacked(server: FaultServer, cache: Cache) -> None:
    server.behaviour = bomb
    with pytest.raises(FetchError, match="expected the file as it is, got it with Content-Encoding 'gzip'"):
        fetch(server, cache, Expected("weights.bin"))
    assert len(server.requests) == 1 and kept(cache) == []


# --- what breaks off, and what is too slow ----------------------------------------------------------------------------


def test_a_body_that_breaks_off_is_continued(server: FaultServer, cache: Cache) -> None:
    server.queue = [cut(4000), cut(4000)]
    assert fetch(server, cache) == DIGEST
    assert [request.headers.get("range") for request in server.requests] == [None, "bytes=4000-", "bytes=8000-"]
    assert {request.headers.get("if-range") for request in server.requests[1:]} == {etag(CONTENT)}
    assert kept(cache) == ["blobs"]


def test_without_an_etag_it_begins_anew(server: FaultServer, cache: Cache) -> None:
    server.queue = [cut(4000, validator=False)]
    assert fetch(server, cache) == DIGEST
    assert [request.headers.get("range") for request in server.requests] == [None, None]


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_that_always_breaks_off(server: FaultServer, cache: Cache, announced: bool) -> None:
    server.behaviour = cut(100, announced=announced)
    with pytest.raises(FetchError, match=r"weights\.bin: .*(broke off|expected 10240 bytes, it ended after 300)"):
        fetch(server, cache)
    assert len(server.requests) == QUICK.retries + 1
    assert kept(cache) == ["partial", "partial"]  # for the next attempt
    server.behaviour = well_behaved
    assert fetch(server, cache) == DIGEST
    assert server.requests[-1].headers["range"] == "bytes=300-" and kept(cache) == ["blobs"]


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        (fault_server.drip(0.02), r"weights\.bin: slower than 5000 bytes/s over 0\.2 s"),
        (fault_server.drip_header(0.02), r"weights\.bin: cannot be reached \(no complete answer in 0\.5 s"),
        (fault_server.drip_chunk_size(0.02), r"weights\.bin: slower than 5000 bytes/s over 0\.2 s"),
        (fault_server.drip_trailer(0.02), r"weights\.bin: slower than 5000 bytes/s over 0\.2 s"),
    ],
)
def test_a_server_that_drips(server: FaultServer, cache: Cache, behaviour: Behaviour, message: str) -> None:
    server.behaviour = behaviour
    impatient = replace(QUICK, answer=0.5, slowest=5000, window=0.2, retries=0)
    with pytest.raises(FetchError, match=message):
        download(Address(f"{server.url}/weights.bin"), EXPECTED, cache, limits=impatient)


def test_there_is_a_deadline(server: FaultServer, cache: Cache) -> None:
    server.behaviour = fault_server.drip(0.001)
    limits = Limits(slowest=0, window=0.01, deadline=0.1)
    with pytest.raises(FetchError, match=r"not complete after 0\.1 s"):
        download(Address(f"{server.url}/weights.bin"), EXPECTED, cache, limits=limits)


def test_nobody_answers(cache: Cache) -> None:
    with pytest.raises(FetchError, match=r"^http://127\.0\.0\.1:1/weights\.bin: cannot be reached \(.*refused"):
        download(Address("http://127.0.0.1:1/weights.bin"), EXPECTED, cache, limits=QUICK)
    assert kept(cache) == []


# --- statuses ---------------------------------------------------------------------------------------------------------


def test_a_server_in_trouble_is_asked_again(server: FaultServer, cache: Cache) -> None:
    server.queue = [status(500), status(503)]
    assert fetch(server, cache) == DIGEST and len(server.requests) == 3


def test_a_server_may_ask_for_time_but_not_for_a_day(server: FaultServer, cache: Cache) -> None:
    server.queue = [status(429, {"Retry-After": "100000"})]
    assert fetch(server, cache) == DIGEST and len(server.requests) == 2


def test_a_server_that_stays_in_trouble(server: FaultServer, cache: Cache) -> None:
    server.behaviour = status(503)
    with pytest.raises(FetchError, match=r"weights\.bin: the server answers 503"):
        fetch(server, cache)
    assert len(server.requests) == QUICK.retries + 1 and kept(cache) == []


@pytest.mark.parametrize(
    ("code", "message"), [(404, "no such file there"), (401, "access denied"), (403, "hf auth login"), (410, "no such")]
)
def test_a_refusal_is_final(server: FaultServer, cache: Cache, code: int, message: str) -> None:
    server.behaviour = status(code)
    with pytest.raises(FetchError, match=rf"weights\.bin: .*{message}"):
        fetch(server, cache)
    assert len(server.requests) == 1 and kept(cache) == []


@pytest.mark.parametrize("code", [429, 500, 503])
def test_the_body_of_an_excuse_is_not_read(server: FaultServer, cache: Cache, code: int) -> None:
    server.queue = [fault_server.endless_status(code)]
    assert fetch(server, cache) == DIGEST and len(server.requests) == 2


@pytest.mark.parametrize("after", ["banana", "-5", "", "9" * 50, "Fri, 31 Dec 9999 23:59:59 GMT", "\u00b2"])
def test_a_hostile_retry_after(server: FaultServer, cache: Cache, after: str) -> None:
    server.queue = [status(503, {"Retry-After": after})]
    assert fetch(server, cache) == DIGEST and len(server.requests) == 2


def test_a_servers_words_are_no_commands(server: FaultServer, cache: Cache) -> None:
    server.behaviour = lambda handler: handler.wfile.write(b"HTTP/1.1 401 X\x1b[31mRED\r\nContent-Length: 0\r\n\r\n")
    with pytest.raises(FetchError, match=r"access denied \(401 X\?\[31mRED\)"):
        fetch(server, cache)


# --- redirects --------------------------------------------------------------------------------------------------------


def test_redirects_end(server: FaultServer, cache: Cache) -> None:
    server.behaviour = redirect("/weights.bin")
    with pytest.raises(FetchError, match="more than 5 redirects"):
        fetch(server, cache)
    assert len(server.requests) == 6


def test_a_token_stays_with_its_host(server: FaultServer, cache: Cache, tmp_path: Path) -> None:
    with serving(server.root) as other:
        server.queue = [redirect(f"{server.url}/weights.bin"), redirect(f"{other.url}/weights.bin")]
        assert fetch(server, cache, Authorization="Bearer secret") == DIGEST
        assert [request.headers.get("authorization") for request in server.requests] == ["Bearer secret"] * 2
        assert "authorization" not in other.requests[0].headers


def test_the_body_of_a_redirect_is_not_read(server: FaultServer, cache: Cache) -> None:
    server.queue = [fault_server.endless_status(302, {"Location": "/weights.bin"})]
    assert fetch(server, cache) == DIGEST


@pytest.mark.parametrize(
    "target",
    [
        "ftp://127.0.0.1/x",
        "file:///etc/passwd",
        "http://example.org/x",
        "//example.org/x",
        "http://u@localhost/",
        "http://127.0.0.1:99999/",
        "http://[::1",
    ],
)
def test_a_redirect_to_where_nothing_may_come_from(server: FaultServer, cache: Cache, target: str) -> None:
    server.behaviour = redirect(target)
    with pytest.raises(FetchError, match=r"weights\.bin: redirected to .*, which is not followed: "):
        fetch(server, cache)
    assert len(server.requests) == 1


def test_https_never_becomes_http(
    server: FaultServer, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    with serving(server.root) as secure:
        secure.socket = context.wrap_socket(secure.socket, server_side=True)
        address = Address(f"https://localhost:{secure.server_port}/weights.bin", plain_http=True)
        assert download(address, EXPECTED, cache, limits=QUICK) == DIGEST
        secure.behaviour = redirect(f"{server.url}/weights.bin")
        with pytest.raises(
            FetchError, match=r"redirected to .http://.*, which is not followed: from https to something else"
        ):
            download(address, EXPECTED, Cache(tmp_path / "second"), limits=QUICK)
    assert server.requests == []


# --- resuming ---------------------------------------------------------------------------------------------------------


def test_what_a_killed_process_left_is_continued(server: FaultServer, cache: Cache) -> None:
    leave_partial(cache, CONTENT[:6000])
    assert fetch(server, cache) == DIGEST
    assert server.requests[0].headers["range"] == "bytes=6000-" and kept(cache) == ["blobs"]


def test_a_whole_file_left_behind_needs_no_request(server: FaultServer, cache: Cache) -> None:
    leave_partial(cache, CONTENT)
    assert fetch(server, cache) == DIGEST and server.requests == []


def no_range(handler: Handler) -> None:
    handler.answer(200, handler.content or b"", {"ETag": etag(CONTENT)})


def part(start: int, content_range: str, code: int = 206) -> Behaviour:
    """A part, whatever was asked for."""
    return lambda handler: handler.answer(
        code, CONTENT[start:], {"Content-Range": content_range, "ETag": etag(CONTENT)}
    )


@pytest.mark.parametrize(
    ("left", "validator", "behaviour", "requests"),
    [
        (CONTENT[:6000], '"of another version"', well_behaved, 1),  # If-Range: the whole new file comes
        (CONTENT[:6000], etag(CONTENT), no_range, 1),  # 200 instead of 206
        (CONTENT[:6000], etag(CONTENT), part(5000, "bytes 5000-10239/10240"), 2),
        (CONTENT[:6000], etag(CONTENT), part(6000, "bytes 6000-10239/99999"), 2),
        (CONTENT[:6000], etag(CONTENT), part(6000, "bites"), 2),
        (CONTENT[:6000], etag(CONTENT), part(6000, ""), 2),
        (CONTENT[:6000], etag(CONTENT), status(416), 2),
        (CONTENT + b"longer than the file", etag(CONTENT), well_behaved, 1),  # not continued
        (bytes(6000), etag(CONTENT), well_behaved, 2),  # another beginning: seen by its digest, then fetched whole
        (bytes(len(CONTENT)), etag(CONTENT), well_behaved, 1),
        (CONTENT[:6000], "", well_behaved, 1),
        (CONTENT[:6000], '"x"\r\nX-Injected: 1', well_behaved, 1),
        (CONTENT[:6000], 'W/"weak"', well_behaved, 1),
    ],
)  # fmt: skip
def test_what_does_not_continue_it_begins_anew(
    server: FaultServer, cache: Cache, left: bytes, validator: str, behaviour: Behaviour, requests: int
) -> None:
    leave_partial(cache, left, validator)
    server.queue = [behaviour]
    assert fetch(server, cache) == DIGEST
    assert len(server.requests) == requests and kept(cache) == ["blobs"]
    assert not any("x-injected" in request.headers for request in server.requests)


@pytest.mark.parametrize("hostile", ['W/"weak"', "no quotes", '"' + "a" * 5000 + '"', '"\x01"', '"é"', '"a" "b"'])
def test_a_hostile_etag_is_never_sent_back(server: FaultServer, cache: Cache, hostile: str) -> None:
    def answer(handler: Handler) -> None:
        handler.answer(200, CONTENT[:5000], {"ETag": hostile, "Content-Length": str(len(CONTENT))})

    server.queue = [answer]
    assert fetch(server, cache) == DIGEST
    assert "if-range" not in server.requests[1].headers and "range" not in server.requests[1].headers


@pytest.mark.parametrize("length", ["-5", "many", "9" * 30, "0x10"])
def test_a_hostile_length_is_no_length(server: FaultServer, cache: Cache, length: str) -> None:
    server.queue = [lambda handler: handler.answer(200, CONTENT, {"Content-Length": length})]
    assert fetch(server, cache) == DIGEST and kept(cache) == ["blobs"]


def test_two_lengths_are_refused(server: FaultServer, cache: Cache) -> None:
    server.queue = [lambda handler: handler.answer(200, CONTENT, {"Content-Length": "5, 6"})]
    with pytest.raises(FetchError, match=r"weights\.bin: cannot be reached \(.*unmatching values \(5, 6\)"):
        fetch(server, cache)
    assert kept(cache) == []


# --- URLs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/x",
        "ftp://example.org/x",
        "https:///x",
        "x",
        "https://u:p@localhost/x",
        "http://[::1",
        "https://[",
        "http://\u2100.com/",
    ],
)
def test_urls_that_are_never_asked(cache: Cache, url: str) -> None:
    with pytest.raises(
        FetchError, match=r"allowed are https://, and http:// on this machine|user name|is no URL"
    ) as caught:
        download(Address(url), EXPECTED, cache, limits=QUICK)
    assert "u:p" not in str(caught.value)


def test_the_time_that_a_server_asks_for_does_not_count(server: FaultServer, cache: Cache) -> None:
    server.queue = [status(503, {"Retry-After": "1"})]
    limits = replace(QUICK, window=0.2, answer=0.5, slowest=1)
    assert download(Address(f"{server.url}/weights.bin"), EXPECTED, cache, limits=limits) == DIGEST
