"""What a user names on the command line (files, folders, patterns, standard input) → the images to predict."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from headway.data.images import MAX_BYTES, find_images, shown
from headway.deployment.predictor import Item
from headway.errors import Refused, nearest, refuse_all

STDIN = "-"
_STARTS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*")


@dataclass(frozen=True)
class Inputs:
    """The images to predict, in order, each once.

    items     named files (or the one image that came through standard input)
    folders   folders that were given, whose images are among `items`
    repeated  how many times a file was named again
    ignored   what was passed over in folders, kind → count
    """

    items: tuple[Item, ...]
    folders: tuple[Path, ...]
    repeated: int
    ignored: dict[str, int]


def expand(words: Sequence[str], stdin: BinaryIO | None = None) -> Inputs:
    """The images that `words` name: files, folders (with all below), patterns (`*`, `?`, `[]`, `**`), `-` = `stdin`.

    A pattern counts only where no file bears that very name. `stdin` brings names, one per line (or ended by NUL, as
    `find -print0` writes them), or one image. Files come in the order of the words, within a folder or pattern sorted
    by name. A file that does not exist stays an item, and its prediction says so, as long as something else exists.

    Raises Refused where nothing named exists, or a folder or pattern holds no image.
    """
    words, image = _with_stdin(words, stdin)
    items: dict[str, Item] = {} if image is None else {STDIN: Item(STDIN, image)}
    folders: list[Path] = []
    ignored: dict[str, int] = {}
    problems: list[str] = []
    absent: dict[str, str] = {}
    named = len(items)
    for word in words:
        found = [word]
        if Path(word).is_dir():
            folders.append(Path(word))
            found = _in_folder(Path(word), ignored, problems)
        elif glob.has_magic(word) and not os.path.lexists(word):
            found = _in_pattern(word, problems)
        elif not os.path.lexists(word):
            absent[_place(word)] = word
        named += len(found)
        for name in found:
            items.setdefault(_place(name), Item(name, Path(name)))
    refuse_all(problems)
    if absent and len(absent) == len(items):
        refuse_all([f"{shown(word)} does not exist.{_near(word)}" for word in list(absent.values())[:10]])
    if not items:
        raise Refused("no image named. Name files, folders or patterns, or - for standard input.")
    return Inputs(tuple(items.values()), tuple(folders), named - len(items), ignored)


def _place(name: str) -> str:
    """Equal for names of one file that differ in spelling. `..` stays: behind a link it leads elsewhere."""
    return str(Path(name).absolute())


def _with_stdin(words: Sequence[str], stdin: BinaryIO | None) -> tuple[list[str], bytes | None]:
    """`words` with every `-` replaced by the names that standard input brings; or the image that it brings."""
    if STDIN not in words:
        return list(words), None
    content = b"" if stdin is None else stdin.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise Refused(f"standard input brought more than {MAX_BYTES >> 30} GB; expected names or one image.")
    if _is_image(content):
        return [word for word in words if word != STDIN], content
    lines = content.split(b"\0") if b"\0" in content else content.splitlines()
    names = [os.fsdecode(line) for line in lines if line.strip()]
    if not names:
        raise Refused("standard input is empty; expected names of images, one per line, or one image.")
    position = list(words).index(STDIN)
    return [*words[:position], *names, *(word for word in words[position:] if word != STDIN)], None


def _is_image(content: bytes) -> bool:
    """By the first bytes, which no list of names has."""
    webp = content[:4] == b"RIFF" and content[8:12] == b"WEBP"
    bmp = content[:2] == b"BM" and content[6:10] == b"\0\0\0\0"  # two reserved fields
    return content.startswith(_STARTS) or webp or bmp


def _in_folder(folder: Path, ignored: dict[str, int], problems: list[str]) -> list[str]:
    found = find_images(folder)
    for kind, count in found.ignored.items():
        ignored[kind] = ignored.get(kind, 0) + count
    if not found.paths:
        problems.append(f"{folder} holds no images.")
    return [str(folder / name) for name in found.paths]


def _in_pattern(pattern: str, problems: list[str]) -> list[str]:
    # pathlib's glob takes no absolute patterns.
    found = sorted(name for name in glob.glob(pattern, recursive=True) if not Path(name).is_dir())  # noqa: PTH207
    if not found:
        problems.append(f"{pattern} matches no file.")
    return found


def _near(word: str) -> str:
    path = Path(word)
    try:
        close = nearest(path.name, (item.name for item in path.parent.iterdir()), 1)
    except (OSError, ValueError):
        return ""
    return f" Did you mean {path.parent / close[0]} ?" if close else ""
