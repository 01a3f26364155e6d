"""Bytes that are reached by place and length: of a file on this machine, or of an object that fsspec reaches.

A request that fails is made again, up to four times in all. What has a plain answer (not there, no permission) is not
asked again: FileNotFoundError, PermissionError or OSError. Where the connection gives out, the work stops
(Unreachable): setting aside every image that follows would say something of the images that is true of the network.

Nothing of fsspec is imported before a path with a protocol is given.
"""

from __future__ import annotations

import io
import os
import stat
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from headway.data.wording import shown
from headway.errors import Refused, Stopped, nearest

Answer = TypeVar("Answer")

TRIES = 4
FIRST_WAIT = 0.25  # seconds before the second try; each further one waits twice as long
_SILENCE = 60.0  # seconds without a byte after which a connection counts as broken (HTTP)
_BLOCKS = 4  # that a reader keeps
_PACKAGES = {
    **dict.fromkeys(("s3", "s3a"), "s3fs"),
    **dict.fromkeys(("gs", "gcs"), "gcsfs"),
    **dict.fromkeys(("http", "https"), "aiohttp"),
    **dict.fromkeys(("az", "abfs", "abfss", "adl"), "adlfs"),
    "hf": "huggingface_hub",
}


class Blob(Protocol):
    """One file or object. `read` may be called from several threads.

    name  its path, to be shown;  size  bytes
    """

    @property
    def name(self) -> str: ...
    @property
    def size(self) -> int: ...

    def read(self, start: int, stop: int) -> bytes:
        """The bytes from `start` to before `stop`, all of them. Raises OSError, or Unreachable."""
        ...


@dataclass(frozen=True)
class LocalBlob:
    """A file of this machine. It is open only while it is read: thousands of shards need no thousands of handles."""

    path: str
    name: str
    size: int

    @classmethod
    def of(cls, path: Path, name: str) -> LocalBlob:
        """Raises OSError where there is no regular file."""
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise OSError(0, "not a file")
        return cls(os.fspath(path), name, status.st_size)

    def read(self, start: int, stop: int) -> bytes:
        handle = os.open(self.path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0))
        try:
            parts, at = [], start
            while at < stop:
                part = _read_at(handle, stop - at, at)
                if not part:
                    raise OSError(0, "the file is shorter than it was")
                parts.append(part)
                at += len(part)
        finally:
            os.close(handle)
        return parts[0] if len(parts) == 1 else b"".join(parts)


def _read_at(handle: int, n: int, at: int) -> bytes:
    if hasattr(os, "pread"):
        return os.pread(handle, n, at)
    os.lseek(handle, at, os.SEEK_SET)  # Windows: the handle is this read's own
    return os.read(handle, n)


@dataclass(frozen=True)
class RemoteBlob:
    """An object behind fsspec.

    system  the fsspec filesystem;  path  as it calls the object
    """

    system: Any
    path: str
    name: str
    size: int

    def read(self, start: int, stop: int) -> bytes:
        if stop <= start:
            return b""

        def once() -> bytes:
            content: bytes = self.system.cat_file(self.path, start=start, end=stop)
            if len(content) < stop - start:
                raise ConnectionError("fewer bytes than promised")
            if len(content) > stop - start:
                raise Whole
            return content

        return asked(once, self.name)


class Unreachable(Stopped):
    """The connection gave out, and trying again did not help. `why` tells how often and what the last answer was."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(
            f"{name} cannot be reached any more ({why}). What was computed is kept: give the same command again"
        )
        self.name = name
        self.why = why


class Whole(Exception):
    """A server sent the whole file where a part of it was asked for."""


def asked(request: Callable[[], Answer], name: str) -> Answer:
    """What the request answers, after up to TRIES tries. Raises OSError for a plain no, else Unreachable."""
    for attempt in range(TRIES):
        if attempt:
            time.sleep(FIRST_WAIT * 2 ** (attempt - 1))
        try:
            return request()
        except Whole:
            raise OSError(0, "its server sends whole files only, no parts (HTTP ranges)") from None
        except MemoryError:
            raise
        except Exception as found:  # each protocol has errors of its own
            error = _beneath(found)
            plain = _plain_no(error)
            if plain is not None:
                raise plain from error
            last = error
    raise Unreachable(name, f"{TRIES} tries: {_said(last)}") from last


def _beneath(error: Exception) -> Exception:
    """fsspec's HTTP says "not found" of servers that cannot be reached, too; what it was stands beneath."""
    cause = error.__cause__
    if not isinstance(error, FileNotFoundError) or not isinstance(cause, Exception):
        return error
    of_the_wire = isinstance(cause, OSError) or type(cause).__module__.partition(".")[0] == "aiohttp"
    return cause if of_the_wire else error


def _plain_no(error: Exception) -> OSError | None:
    """The error as one of Python's where asking again would not help, else None."""
    status = getattr(error, "status", None) or getattr(error, "code", None)
    if isinstance(error, FileNotFoundError) or status in (404, 410):
        return FileNotFoundError(2, "does not exist")
    denied = isinstance(error, PermissionError) or status in (401, 403) or "Credentials" in type(error).__name__
    if denied:
        return PermissionError(13, "no permission")
    if isinstance(error, (IsADirectoryError, NotImplementedError, ValueError, TypeError)):
        return OSError(0, _said(error))
    if isinstance(status, int) and 400 <= status < 500 and status not in (408, 425, 429):
        return OSError(0, f"its server answers {status}")
    return None


def _said(error: BaseException) -> str:
    """The first line of what a library says, short, and without what an address may keep secret."""
    words = str(error).strip().partition("\n")[0].partition("?")[0]
    return shown(f"{type(error).__name__}: {words[:120]}" if words else type(error).__name__)


class BlobReader(io.RawIOBase):
    """A blob as a file that is read from front to back, with jumps: for tarfile and pyarrow.

    block  bytes that are fetched at once, the last four kept
    most   the longest single read; a longer one raises ValueError (a hostile header may promise gigabytes)
    """

    def __init__(self, blob: Blob, block: int, most: int | None = None) -> None:
        super().__init__()
        self._blob, self._block, self._most = blob, block, most
        self._at = 0
        self._blocks: OrderedDict[int, bytes] = OrderedDict()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._blob.size}[whence]
        if base + offset < 0:
            raise ValueError("a place before the beginning")
        self._at = base + offset
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        stop = self._blob.size if size is None or size < 0 else min(self._at + size, self._blob.size)
        if self._most is not None and stop - self._at > self._most:
            raise ValueError(f"a header of {stop - self._at:,} bytes")
        content = self._between(self._at, stop) if self._at < stop else b""
        self._at += len(content)
        return content

    def readinto(self, buffer: Any) -> int:
        content = self.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)

    def _between(self, start: int, stop: int) -> bytes:
        first, last = start // self._block, (stop - 1) // self._block
        if last - first >= _BLOCKS:  # longer than all that is kept: as one request
            return self._blob.read(start, stop)
        parts = []
        for number in range(first, last + 1):
            begin = number * self._block
            parts.append(self._kept(number)[max(0, start - begin) : stop - begin])
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _kept(self, number: int) -> bytes:
        if number not in self._blocks:
            begin = number * self._block
            self._blocks[number] = self._blob.read(begin, min(begin + self._block, self._blob.size))
            if len(self._blocks) > _BLOCKS:
                self._blocks.popitem(last=False)
        return self._blocks[number]


# Names of objects ------------------------------------------------------------------------------------------------


def is_remote(path: str) -> bool:
    """Whether the path has a protocol: s3://bucket/x, memory://x."""
    head, mark, _ = path.partition("://")
    return bool(mark) and head.replace("+", "").replace(":", "").isalnum()


def safe(url: str) -> str:
    """The address as it may be shown: without what may be a password or a signature."""
    head, mark, rest = url.partition("://")
    if not mark:
        return shown(url)
    host, slash, path = rest.partition("/")
    if head.startswith("http"):
        path = path.partition("?")[0]
    return shown(f"{head}://{host.rpartition('@')[2]}{slash}{path}")


def open_system(url: str) -> tuple[Any, str]:
    """The fsspec filesystem of an address, and the path in it. Raises Refused, which tells what to install."""
    protocol = url.partition("://")[0]
    try:
        import fsspec
        from fsspec.core import url_to_fs
    except ImportError:
        raise Refused(f"{safe(url)} is reached through fsspec, which is not installed: {_install(protocol)}") from None
    try:
        system, path = url_to_fs(url, **_patience(protocol))
    except ImportError as error:
        package = _PACKAGES.get(protocol)
        what = f"through {package}, which is not installed: {_install(protocol)}" if package else f"so: {_said(error)}"
        raise Refused(f"{safe(url)} is reached {what}") from None
    except ValueError as error:
        if protocol in fsspec.available_protocols():
            raise Refused(f"{safe(url)} is no address that can be read ({_said(error)})") from None
        near = nearest(protocol, fsspec.available_protocols(), 1)
        hint = f"Did you mean {near[0]}:// ?" if near else "Expected a path, or s3://, gs://, https:// and the like"
        raise Refused(f"{safe(url)}: there is no protocol {shown(protocol)}. {hint}") from None
    except Exception as error:  # credentials that cannot be read, an address without a host, ...
        raise Refused(f"{safe(url)} cannot be opened ({_said(error)})") from error
    return system, path


def _install(protocol: str) -> str:
    package = _PACKAGES.get(protocol, "")
    return "pip install 'headway[cloud]'" + (f" {package}" if package and package != "aiohttp" else "")


def _patience(protocol: str) -> dict[str, Any]:
    """A connection that falls silent ends; otherwise it would be waited for for ever."""
    if protocol not in ("http", "https"):
        return {}
    import aiohttp

    limit = aiohttp.ClientTimeout(total=None, sock_connect=_SILENCE, sock_read=_SILENCE)
    return {"client_kwargs": {"timeout": limit}}


def expand_braces(pattern: str) -> list[str]:
    """ "a-{000..002}.{tar,tgz}" → every name that it stands for, in order. Raises Refused for one that stands for none.

    Numbers keep the width in which they are written, as in a shell.
    """
    head, opened, rest = pattern.partition("{")
    inner, closed, tail = rest.partition("}")
    if not opened:
        return [pattern]
    low, dots, high = inner.partition("..")
    if closed and dots and low.isdecimal() and high.isdecimal() and low.isascii() and high.isascii():
        if int(high) < int(low) or int(high) - int(low) >= 1_000_000:
            raise Refused(f"{shown(pattern)}: {{{shown(inner)}}} stands for no range of names, expected {{000..009}}")
        width = len(low) if len(low) == len(high) or low.startswith("0") else 0
        words: Sequence[str] = [f"{number:0{width}d}" for number in range(int(low), int(high) + 1)]
    elif closed and "," in inner and "{" not in inner:
        words = inner.split(",")
    else:
        raise Refused(f"{shown(pattern)}: braces stand for a range, {{000..009}}, or for words, {{train,val}}")
    tails = expand_braces(tail)
    return [f"{head}{word}{end}" for word in words for end in tails]
