"""Data on another machine: s3://, gs://, https://, memory:// and whatever else fsspec reaches.

    s3://bucket/train-*.tar               a pattern, or braces as in shard-{000..009}.tar
    s3://bucket/shards/                   a folder of archives or of Parquet files, also in its train/, val/, test/
    https://host/list.csv                 a list; its paths are read relative to it, or name their own address

A folder of single images is not looked for: listing millions of objects takes longer than reading them from archives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, TypeVar

from headway.data import shards, storage
from headway.data.dataset import Dataset
from headway.data.images import MAX_BYTES, BadImage
from headway.data.members import Shard
from headway.data.wording import absent, joined, listed
from headway.errors import Refused

Answer = TypeVar("Answer")

_AT_ONCE = 8  # requests that say nothing but how large an object is
_BLOCK = 4 << 20
_TABLES = (".csv", ".tsv")
_EXPECTED = "expected .tar or .parquet files, or a list (.csv)"


@dataclass(frozen=True)
class _Object:
    """path as the filesystem calls it; name to be shown."""

    path: str
    name: str

    @property
    def file(self) -> PurePosixPath:
        return PurePosixPath(self.path.partition("?")[0])


def read_remote(url: str) -> Dataset:
    """The dataset at an address. Raises Refused."""
    shown_url = storage.safe(url)
    system, path = storage.open_system(url)
    objects = _objects(system, url, path, shown_url)
    kinds = sorted({item.file.suffix.lower() for item in objects})
    name = _name(objects[0]) if len(objects) > 1 or kinds == [".tar"] else objects[0].file.name
    if kinds == [".parquet"]:
        return _read_parquet(system, objects, name, shown_url)
    if len(objects) == 1 and kinds[0] in _TABLES:
        return _read_table(system, objects[0])
    if kinds == [".tar"] or (len(objects) == 1 and ".tar" in objects[0].file.suffixes):
        return _read_tars(system, objects, name, shown_url)
    raise Refused(f"{shown_url} leads to {listed([kind or 'a name without an ending' for kind in kinds])}: {_EXPECTED}")


def _objects(system: Any, url: str, path: str, shown_url: str) -> list[_Object]:
    """What the address stands for: the one object, those of a pattern, or those in a folder."""
    web = url.startswith("http")
    if not any(mark in url for mark in ("{*" if web else "{*[")):
        item = _Object(path, shown_url)
        return [item] if item.file.suffix and not path.endswith("/") else _in_folder(system, path, shown_url)
    found: list[_Object] = []
    for each in storage.expand_braces(url):
        inner = str(system._strip_protocol(each))
        if "*" in inner or ("[" in inner and not web):
            matches = _told(lambda inner=inner: system.glob(inner), shown_url)  # type: ignore[misc]
            found += [_Object(match, storage.safe(system.unstrip_protocol(match))) for match in sorted(matches)]
        else:
            found.append(_Object(inner, storage.safe(each)))
    if not found:
        raise Refused(f"{shown_url} stands for no file that exists")
    return found


def _in_folder(system: Any, path: str, shown_url: str) -> list[_Object]:
    """The archives or Parquet files in a folder, its `data` folder or its split folders."""
    entries = _told(lambda: system.ls(path, detail=True), shown_url)
    found: list[_Object] = []
    for entry in sorted(entries, key=lambda entry: str(entry["name"])):
        file = PurePosixPath(str(entry["name"]).rstrip("/").partition("?")[0])
        if file.name.lower() in shards.PLACES and (entry["type"] == "directory" or str(entry["name"]).endswith("/")):
            inside = _told(lambda entry=entry: system.ls(entry["name"], detail=False), shown_url)  # type: ignore[misc]
            found += [_Object(str(name), joined(shown_url, f"{file.name}/{_last(name)}")) for name in sorted(inside)]
        else:
            found.append(_Object(str(entry["name"]), joined(shown_url, file.name)))
    for suffix in (".tar", ".parquet"):
        mine = [item for item in found if item.file.suffix.lower() == suffix and not item.file.name.startswith(".")]
        if mine:
            return mine
    raise Refused(f"{shown_url} holds no archives: {_EXPECTED}")


def _last(name: object) -> str:
    return PurePosixPath(str(name).partition("?")[0]).name


def _name(item: _Object) -> str:
    """What the data is called: the folder that its objects lie in."""
    return item.file.parent.name or item.file.stem


def _told(request: Callable[[], Answer], name: str) -> Answer:
    """What a request answers that is made before work begins. Raises Refused."""
    return _or_refused(lambda: storage.asked(request, name), name)


def _or_refused(answer: Callable[[], Answer], name: str) -> Answer:
    """What a request answers that has been made again where that could help. Raises Refused."""
    try:
        return answer()
    except FileNotFoundError:
        raise Refused(f"{name} does not exist: check the address") from None
    except PermissionError:
        raise Refused(f"no permission to read {name}: give this machine credentials that may") from None
    except storage.Unreachable as error:
        raise Refused(f"{error.name} cannot be reached ({error.why}): check the address and the network") from error
    except OSError as error:
        raise Refused(f"{name} cannot be read ({error.strerror or type(error).__name__})") from error


def _blobs(system: Any, objects: Sequence[_Object], shown_url: str) -> list[storage.RemoteBlob]:
    """The objects with their sizes. Raises Refused for those that are not there, all at once."""

    def sized(item: _Object) -> storage.RemoteBlob | None:
        try:
            size = storage.asked(lambda: system.info(item.path), item.name).get("size")
        except FileNotFoundError:
            if len(objects) > 1:
                return None
            raise
        if size is None:
            raise OSError(0, "its server does not tell its size")
        return storage.RemoteBlob(system, item.path, item.name, int(size))

    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="headway-look") as pool:
        found = list(pool.map(lambda item: _or_refused(lambda: sized(item), item.name), objects))
    missing = [item.name for item, blob in zip(objects, found, strict=True) if blob is None]
    if missing:
        gone = f"{absent(len(missing), len(objects))}, first {missing[0]}"
        raise Refused(f"{shown_url}: {gone}. Put them there, or take them out of the pattern")
    return [blob for blob in found if blob is not None]


def _read_tars(system: Any, objects: Sequence[_Object], name: str, shown_url: str) -> Dataset:
    blobs = _blobs(system, objects, shown_url)
    unique = len({item.file.name for item in objects}) == len(objects)
    found = []
    for item, blob in zip(objects, blobs, strict=True):
        prefix = item.file.stem if unique else f"{item.file.parent.name}/{item.file.stem}"
        found.append(Shard(blob, prefix, shards.subset_of(item.file.stem, item.file.parent.name)))
    words = _words(system, objects)
    # A server without ranges would send whole archives, image by image.
    _or_refused(lambda: blobs[0].read(0, min(512, blobs[0].size)), blobs[0].name)
    return _or_refused(lambda: shards.read_shards(name, shown_url, found, words, far=_BLOCK), shown_url)


def _words(system: Any, objects: Sequence[_Object]) -> list[str] | None:
    """The names of the classes beside the archives, or beside the split folders that they lie in."""
    first = objects[0]
    folders = [first.path.rpartition("/")[0]]
    if folders[0].rpartition("/")[2].lower() in shards.PLACES:
        folders.append(folders[0].rpartition("/")[0])
    for path in [f"{folder}/{name}" for folder in folders for name in shards.CLASS_FILES]:
        try:
            content: bytes = storage.asked(lambda path=path: system.cat_file(path), first.name)  # type: ignore[misc]
        except OSError:  # not there; a server may also say "forbidden" of what does not exist
            continue
        return shards.words_of(content, storage.safe(system.unstrip_protocol(path)))
    return None


def _read_parquet(system: Any, objects: Sequence[_Object], name: str, shown_url: str) -> Dataset:
    from headway.data import parquet

    blobs = _blobs(system, objects, shown_url)
    return _or_refused(lambda: parquet.read_shards(name, shown_url, blobs), shown_url)


def _read_table(system: Any, item: _Object) -> Dataset:
    from headway.data import manifests

    content: bytes = _told(lambda: system.cat_file(item.path), item.name)
    root = item.path.partition("?")[0].rpartition("/")[0]
    return manifests.read_text(content, item.file.name, item.name, lambda names: FarFiles(system, root, names))


class FarFiles:
    """Single objects that a list names, relative to `root` or by an address of their own."""

    def __init__(self, system: Any, root: str, names: Sequence[str]) -> None:
        self._system, self._root, self._names = system, root, names

    def read(self, index: int) -> bytes:
        """The bytes of object `index`. Raises BadImage; Unreachable where the connection gives out."""
        name = self._names[index]
        path = name if name.startswith("/") else f"{self._root}/{name}"
        if storage.is_remote(name):
            if name.partition("://")[0] not in _protocols(self._system):
                raise BadImage(name, f"another protocol than {_protocols(self._system)[0]}://, which the others have")
            path = str(self._system._strip_protocol(name))
        try:
            content = storage.asked(lambda: bytes(self._system.cat_file(path)), storage.safe(name))
        except FileNotFoundError as error:
            raise BadImage(name, "does not exist") from error
        except PermissionError as error:
            raise BadImage(name, "no permission to read it") from error
        except MemoryError as error:
            raise BadImage(name, "not enough memory to read it") from error
        except OSError as error:
            raise BadImage(name, f"cannot be read ({error.strerror or type(error).__name__})") from error
        if len(content) > MAX_BYTES:
            raise BadImage(name, f"{len(content) / (1 << 30):.1f} GB, the limit is {MAX_BYTES >> 30} GB")
        return content

    def fetch(self, indices: Sequence[int]) -> list[bytes | BadImage]:
        """What `read` gives or raises for each."""
        contents: list[bytes | BadImage] = []
        for index in indices:
            try:
                contents.append(self.read(index))
            except BadImage as error:
                contents.append(error)
        return contents


def _protocols(system: Any) -> tuple[str, ...]:
    return (system.protocol,) if isinstance(system.protocol, str) else tuple(system.protocol)
