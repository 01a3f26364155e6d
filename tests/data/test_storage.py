"""Bytes by place and length: the reader that tarfile and pyarrow use, patterns, tries, and what addresses may show."""

from __future__ import annotations

import io
import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.data.storage import BlobReader, RemoteBlob, Unreachable, asked, expand_braces, is_remote, open_system, safe
from headway.errors import Refused


class Held:
    name = "x"

    def __init__(self, content: bytes) -> None:
        self.content, self.size, self.longest, self.requests = content, len(content), 0, 0

    def read(self, start: int, stop: int) -> bytes:
        assert 0 <= start < stop <= self.size
        self.longest = max(self.longest, stop - start)
        self.requests += 1
        return self.content[start:stop]


moves = st.lists(
    st.one_of(
        st.tuples(st.just("read"), st.integers(-1, 700), st.just(0)),
        st.tuples(st.just("seek"), st.integers(0, 900), st.just(os.SEEK_SET)),
        st.tuples(st.just("seek"), st.integers(0, 30), st.just(os.SEEK_CUR)),
        st.tuples(st.just("seek"), st.integers(-5, 5), st.just(os.SEEK_END)),
    ),
    max_size=30,
)


@given(st.binary(max_size=800), st.integers(1, 300), moves)
def test_reader__does_what_a_file_does(content: bytes, block: int, steps: list[tuple[str, int, int]]) -> None:
    mine, real = BlobReader(Held(content), block), io.BytesIO(content)
    for what, number, whence in steps:
        if what == "read":
            assert mine.read(number) == real.read(number)
        elif whence != os.SEEK_END or len(content) + number >= 0:
            assert mine.seek(number, whence) == real.seek(number, whence)
        assert mine.tell() == real.tell()


def test_reader__fetches_blocks_and_refuses_what_is_too_long() -> None:
    blob = Held(bytes(10_000))
    reader = BlobReader(blob, 1000, 2000)
    assert len(reader.read(10)) == 10
    assert len(reader.read(900)) == 900
    assert (blob.longest, blob.requests) == (1000, 1)
    with pytest.raises(ValueError, match="a header of 5,000 bytes"):
        reader.read(5000)
    assert len(BlobReader(blob, 1000).read(8000)) == 8000  # more than is kept: as one request
    assert blob.requests == 2


def test_expand_braces() -> None:
    assert expand_braces("a-{008..010}.tar") == ["a-008.tar", "a-009.tar", "a-010.tar"]
    assert expand_braces("{9..11}") == ["9", "10", "11"]
    assert expand_braces("{train,val}-{0..1}.tar") == ["train-0.tar", "train-1.tar", "val-0.tar", "val-1.tar"]
    assert expand_braces("plain.tar") == ["plain.tar"]


@pytest.mark.parametrize("pattern", ["{3..1}", "{0..99999999}", "{}", "{a", "{x..z}", "{a,{b,c}}"])
def test_expand_braces__refused(pattern: str) -> None:
    with pytest.raises(Refused, match=r"expected|braces stand for"):
        expand_braces(pattern)


def test_is_remote() -> None:
    assert [is_remote(word) for word in ("s3://b/x", "memory://x", "photos", "/a/b", "C:/x", "./a://b")] == [
        True, True, False, False, False, False,
    ]  # fmt: skip


def test_safe__shows_no_secrets() -> None:
    assert safe("https://me:secret@host/a.tar?X-Amz-Signature=abc") == "https://host/a.tar"
    assert safe("s3://bucket/a?.tar") == "s3://bucket/a?.tar"


class Flaky:
    """Answers after some failures."""

    def __init__(self, *failures: Exception) -> None:
        self.failures, self.asked = list(failures), 0

    def __call__(self) -> str:
        self.asked += 1
        if self.failures:
            raise self.failures.pop(0)
        return "answer"


class ServerError(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headway.data.storage.FIRST_WAIT", 0.0)


class Stingy:
    """A filesystem that gives a byte less, or more, than was asked for."""

    def __init__(self, more: int) -> None:
        self.more = more

    def cat_file(self, path: str, start: int, end: int) -> bytes:
        return bytes(end - start + self.more)


def test_blob__another_number_of_bytes_is_never_taken() -> None:
    assert RemoteBlob(Stingy(0), "x", "x", 9).read(1, 5) == bytes(4)
    with pytest.raises(Unreachable, match=r"4 tries: ConnectionError: fewer bytes than promised"):
        RemoteBlob(Stingy(-1), "x", "x", 9).read(1, 5)
    with pytest.raises(OSError, match="its server sends whole files only"):
        RemoteBlob(Stingy(1), "x", "x", 9).read(1, 5)


def test_asked__tries_again() -> None:
    request = Flaky(ConnectionResetError("reset"), TimeoutError(), ServerError(503))
    assert asked(request, "x") == "answer"
    assert request.asked == 4


def test_asked__gives_up_in_one_line() -> None:
    request = Flaky(*[ConnectionResetError("by peer\nand more") for _ in range(9)])
    with pytest.raises(Unreachable) as raised:
        asked(request, "s3://b/x.tar")
    assert str(raised.value) == (
        "s3://b/x.tar cannot be reached any more (4 tries: ConnectionResetError: by peer). "
        "What was computed is kept: give the same command again"
    )
    assert (request.asked, raised.value.exit_code) == (4, 75)


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (FileNotFoundError("x"), FileNotFoundError),
        (ServerError(404), FileNotFoundError),
        (PermissionError("x"), PermissionError),
        (ServerError(403), PermissionError),
        (type("NoCredentialsError", (Exception,), {})("Unable to locate credentials"), PermissionError),
        (ServerError(416), OSError),
        (ValueError("no such bucket name"), OSError),
    ],
)
def test_asked__a_plain_no_is_not_asked_again(failure: Exception, kind: type[OSError]) -> None:
    request = Flaky(failure)
    with pytest.raises(kind, match=r"Errno") as raised:
        asked(request, "x")
    assert type(raised.value) is kind
    assert request.asked == 1


def test_open_system__says_what_is_missing() -> None:
    pytest.importorskip("fsspec")
    for url, expected in {
        "s3x://bucket/a.tar": "there is no protocol s3x. Did you mean s3:// ?",
        "qqqqqq://x": "there is no protocol qqqqqq. Expected a path, or s3://, gs://, https:// and the like",
    }.items():
        with pytest.raises(Refused) as raised:
            open_system(url)
        assert str(raised.value) == f"{url}: {expected}"


@pytest.mark.parametrize(("protocol", "package"), [("s3", "s3fs"), ("gs", "gcsfs")])
def test_open_system__a_package_for_the_protocol(protocol: str, package: str) -> None:
    pytest.importorskip("fsspec")
    with pytest.raises(Refused) as raised:
        _without(package, f"{protocol}://bucket/a.tar")
    assert str(raised.value) == (
        f"{protocol}://bucket/a.tar is reached through {package}, which is not installed: "
        f"pip install 'headway[cloud]' {package}"
    )


def test_open_system__without_fsspec() -> None:
    with pytest.raises(Refused) as raised:
        _without("fsspec", "s3://bucket/a.tar")
    assert str(raised.value) == (
        "s3://bucket/a.tar is reached through fsspec, which is not installed: pip install 'headway[cloud]' s3fs"
    )


def _without(package: str, url: str) -> Any:
    """Open `url` where importing `package` fails, as on a machine without it."""
    import sys

    hidden = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == package}
    sys.modules[package] = None  # type: ignore[assignment]
    try:
        return open_system(url)
    finally:
        del sys.modules[package]
        sys.modules.update(hidden)
