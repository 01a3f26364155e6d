"""Names and counts as they stand in messages. Standard library only."""

from __future__ import annotations

from collections.abc import Sequence


def shown(name: str) -> str:
    """`name` fit for a terminal: control characters, line ends and bytes that are not UTF-8 are escaped."""
    if name.isprintable():
        return name
    return "".join(c if c.isprintable() else _escaped(c) for c in name)


def _escaped(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # a byte that is not UTF-8, as os.fsdecode keeps it
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")


def counted(n: int, word: str) -> str:
    """`1 image`, `1,204 images`."""
    return f"{n:,} {word}" if n == 1 else f"{n:,} {word[:-1] + 'ies' if word.endswith('y') else word + 's'}"


def absent(missing: int, all_of_them: int) -> str:
    """`1 of its 3 files is not there`."""
    return f"{missing:,} of its {all_of_them:,} files {'is' if missing == 1 else 'are'} not there"


def listed(names: Sequence[str], end: str = "") -> str:
    """`a, b and c`; of more than five only the first, and how many more."""
    words = [f"{shown(name)}{end}" for name in names[:5]]
    if len(names) > 5:
        words.append(f"{len(names) - 5:,} more")
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]


def joined(folder: str, name: str) -> str:
    """`name` in `folder`, as a path to show."""
    return f"{folder.rstrip('/')}/{shown(name)}" if folder else shown(name)
