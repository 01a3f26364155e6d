"""The walk over a tar archive's headers: every member is found where it lies, and nothing hostile gets further."""

from __future__ import annotations

import gzip
import io
import tarfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.data.archives import TarIndex, index_tar
from headway.errors import Refused
from tests import make

BLOCK = 4 << 10


class Held:
    """An archive in memory."""

    name = "x.tar"

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.size = len(content)

    def read(self, start: int, stop: int) -> bytes:
        return self.content[start:stop]


def packed(members: list[tuple[str, bytes]], form: int = tarfile.PAX_FORMAT) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def index(members: list[tuple[str, bytes]], block: int = BLOCK) -> TarIndex:
    return index_tar(Held(packed(members)), block)


def labels(found: TarIndex) -> dict[str, str | None]:
    return {
        name: None if code < 0 else found.texts[code][0]
        for name, code in zip(found.names, found.labels.tolist(), strict=True)
    }


def refusal(content: bytes) -> str:
    with pytest.raises(Refused) as raised:
        index_tar(Held(content), BLOCK)
    return str(raised.value)


letters = st.text(st.characters(categories=["L", "N"], include_characters=" _-"), min_size=1, max_size=60).filter(
    lambda part: part != "__MACOSX"
)
names = st.builds("/".join, st.lists(letters, min_size=1, max_size=5))


@settings(max_examples=60)
@given(
    st.lists(st.tuples(names, st.binary(max_size=3000), st.booleans()), max_size=12, unique_by=lambda item: item[0]),
    st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]),
    st.sampled_from([512, 4096, 1 << 20]),
)
def test_index__places_and_labels_are_those_of_tarfile(
    samples: list[tuple[str, bytes, bool]], form: int, block: int
) -> None:
    members: list[tuple[str, bytes]] = []
    for name, content, first in samples:
        pair = [(f"{name}.jpg", content), (f"{name}.cls", f"label of {name}".encode())]
        members += pair if first else pair[::-1]
    content = packed(members, form)

    found = index_tar(Held(content), block)

    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        expected = {m.name: archive.extractfile(m).read() for m in archive if m.name.endswith(".jpg")}  # type: ignore[union-attr]
    read = {
        name: content[offset : offset + size]
        for name, offset, size in zip(found.names, found.offsets.tolist(), found.sizes.tolist(), strict=True)
    }
    assert read == expected
    assert labels(found) == {f"{name}.jpg": f"label of {name}".strip() for name, _, _ in samples}
    assert found.ended


@settings(max_examples=200)
@given(st.data())
def test_index__damaged_bytes_are_refused_or_read(data: st.DataObject) -> None:
    whole = bytearray(packed([(f"{i}.jpg", bytes(300)) for i in range(6)] + [("a" * 150 + ".jpg", b"x")]))
    for _ in range(data.draw(st.integers(1, 6))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    content = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    try:
        found = index_tar(Held(content), BLOCK)
    except Refused:
        return  # and no other exception
    assert all(found.offsets + found.sizes <= len(content))


def test_index__what_counts_as_an_image() -> None:
    found = index(
        [
            ("a.jpg", b"1"),
            ("b.PNG", b"22"),
            ("./c.webp", b"333"),
            ("noending", make.png()),
            ("odd.thing", make.jpeg()),
            ("text", b"hello"),
            ("notes.txt", b"x"),
            ("__MACOSX/._a.jpg", b"x"),
            (".hidden.jpg", b"x"),
        ]
    )
    assert list(found.names) == ["a.jpg", "b.PNG", "c.webp", "noending", "odd.thing"]
    assert found.ignored == {"hidden files": 2, "other files": 2}


def test_index__labels_of_json_and_cls() -> None:
    found = index(
        [
            ("1.jpg", b""), ("1.json", b'{"label": "cat", "url": "x"}'),
            ("2.json", b'{"cls": 7}'), ("2.jpg", b""),
            ("3.jpg", b""), ("3.json", b'{"class": "dog"}'), ("3.cls", b" owl\n"),
            ("4.jpg", b""), ("4.json", b'{"caption": "a bird"}'),
            ("5.jpg", b""), ("5.json", b"[1, 2]"),
            ("6.v2.jpg", b""), ("6.v2.cls", b"3"),
            ("7.jpg", b""), ("7.mask.png", b""), ("7.cls", b"cat"),
        ]
    )  # fmt: skip
    assert labels(found) == {
        "1.jpg": "cat", "2.jpg": "7", "3.jpg": "owl", "4.jpg": None, "5.jpg": None, "6.v2.jpg": "3", "7.jpg": "cat",
    }  # fmt: skip
    assert found.ignored == {"further images of a sample": 1, "other files": 2}


def test_index__labels_that_cannot_be_read() -> None:
    found = index(
        [
            ("1.jpg", b""), ("1.json", b"{"),
            ("2.jpg", b""), ("2.json", b'{"label": [1, 2]}'),
            ("3.jpg", b""), ("3.cls", bytes(5000)),
            ("4.jpg", b""), ("4.png", b""), ("4.cls", b"cat"),
        ]
    )  # fmt: skip
    assert found.problems == (
        "x.tar: 1.json: not JSON",
        "x.tar: 2.json: label [1, 2], expected a name or a whole number",
        "x.tar: 3.cls: 5,000 bytes, expected a class",
        "x.tar: 4.jpg: 4.png has the same label: name each image by a key of its own",
    )


def test_index__a_name_that_repeats() -> None:
    found = index([("a/1.jpg", b"1"), ("b.jpg", b"2"), ("a/1.jpg", b"3")])
    assert found.problems == ("x.tar: a/1.jpg: stands in it twice: name each image once",)


def test_index__members_that_are_no_files() -> None:
    stream = io.BytesIO()
    kinds = {
        "link.jpg": tarfile.SYMTYPE, "hard.jpg": tarfile.LNKTYPE, "null.jpg": tarfile.CHRTYPE,
        "pipe.jpg": tarfile.FIFOTYPE, "/etc/passwd.jpg": tarfile.REGTYPE, "../../up.jpg": tarfile.REGTYPE,
        "folder": tarfile.DIRTYPE, "good.jpg": tarfile.REGTYPE,
    }  # fmt: skip
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, kind in kinds.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/shadow"
            archive.addfile(info)
    found = index_tar(Held(stream.getvalue()), BLOCK)
    assert list(found.names) == ["good.jpg"]
    assert found.ignored == {"members of other kinds": 6}
    assert found.aside == (
        "link.jpg (a link)",
        "hard.jpg (a link)",
        "null.jpg (a device or pipe)",
        "pipe.jpg (a device or pipe)",
        "/etc/passwd.jpg (an absolute name)",
    )


def test_index__a_sparse_file() -> None:
    header = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "s.jpg", "GNU.sparse.realsize": "9"}
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        info = tarfile.TarInfo("s.jpg")
        info.pax_headers, info.size = header, 512
        archive.addfile(info, io.BytesIO(b"1\n0\n9\n".ljust(512, b"\0")))
    assert index_tar(Held(stream.getvalue()), BLOCK).aside == ("s.jpg (a sparse file)",)


def test_index__cut() -> None:
    whole = packed([("a.jpg", bytes(2000)), ("b.jpg", bytes(2000))])
    assert refusal(whole[:1000]) == "x.tar is cut short, inside a.jpg: fetch it again"
    assert refusal(whole[: 512 + 2048 + 512 + 1999]) == "x.tar is cut short, inside b.jpg: fetch it again"
    assert refusal(whole[: 512 + 2048 + 200]) == "x.tar is cut or damaged after a.jpg: fetch it again"
    assert refusal(b"") == "x.tar is empty: fetch it again"
    # Cut between two members, nobody can know: that the end has no mark is told.
    assert not index_tar(Held(whole[: 512 + 2048]), BLOCK).ended


def test_index__damaged_in_the_middle() -> None:
    whole = bytearray(packed([("a.jpg", bytes(100)), ("b.jpg", bytes(100))]))
    whole[1024:1100] = b"?" * 76
    assert refusal(bytes(whole)) == "x.tar is cut or damaged after a.jpg: fetch it again"
    assert refusal(b"no archive" * 99) == "x.tar is no tar archive, or damaged at its beginning: fetch it again"


def test_index__compressed_as_a_whole() -> None:
    assert refusal(gzip.compress(packed([("a.jpg", b"1")]))) == (
        "x.tar is compressed as a whole (gzip): no image in it can be reached without unpacking all that stand before "
        "it. Unpack it once (gunzip); images are compressed already"
    )


class Endless(Held):
    """A header, and five gigabytes of zeros that are not there."""

    def __init__(self, header: bytes) -> None:
        super().__init__(header)
        self.size, self.longest = 5 << 30, 0

    def read(self, start: int, stop: int) -> bytes:
        self.longest = max(self.longest, stop - start)
        assert self.longest < 1 << 24, "a read that a header asked for"
        return self.content[start:stop].ljust(stop - start, b"\0")


def test_index__headers_that_promise_gigabytes() -> None:
    header = bytearray(tarfile.TarInfo("././@LongLink").tobuf(tarfile.GNU_FORMAT))
    header[156:157] = tarfile.GNUTYPE_LONGNAME
    header[124:136] = b"%011o\0" % (4 << 30)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    blob = Endless(bytes(header))
    with pytest.raises(Refused) as raised:
        index_tar(blob, BLOCK)
    assert str(raised.value) == "x.tar is no tar archive, or damaged at its beginning: fetch it again"
    assert blob.longest <= BLOCK


def test_index__many_samples_take_little_memory() -> None:
    """What is kept of each image: its name, and the 24 bytes and the few of the arrays. No Python object for each."""
    found = index([(f"class_{i % 7}/{i:06d}.jpg", b"") for i in range(3000)])
    arrays = (found.names.ends, found.offsets, found.sizes, found.folders, found.labels)
    kept = len(found.names.pool) + sum(array.nbytes for array in arrays)
    assert kept / 3000 == pytest.approx(len("class_0/000000.jpg") + 4 + 8 + 8 + 4 + 4)
    assert all(isinstance(array, np.ndarray) for array in arrays)
    assert len(found.paths) == 7
