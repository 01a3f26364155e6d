"""What an audit found, in words: the same sentences on the terminal, in the report and on the audit's own page.

Everything is read from audit.json; of an older one, that lacks a part, nothing is said of that part.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headway.reporting.text import count, data_address, is_number, number, shown

MOST_ITEMS = 12  # pictures of one kind of finding
MOST_GROUPS, MOST_OF_A_GROUP = 8, 4
_FINE = "nothing found"
_KINDS = {"small": "much smaller", "large": "much larger", "long": "unusually long", "flat": "nearly one colour"}


@dataclass(frozen=True)
class Item:
    """One suspect: `picture` is a data: address or None; then what is said under it, line by line."""

    name: str
    picture: str | None
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Finding:
    """One kind of finding. `fine`: nothing was found; `note` says how it was looked for, or what to keep in mind."""

    key: str
    title: str
    sentence: str
    fine: bool
    note: str = ""
    more: tuple[str, ...] = ()
    items: tuple[Item, ...] = ()
    groups: tuple[tuple[Item, ...], ...] = ()


def findings(audit: Mapping[str, Any], thumbnails: Mapping[str, bytes]) -> tuple[Finding, ...]:
    """Every kind that was looked for, in the order of how much it matters."""
    made = (
        _damaged(audit),
        _leaks(audit, thumbnails),
        _labels(audit, thumbnails),
        _shortcuts(audit),
        _duplicates(audit, thumbnails),
        _outliers(audit, thumbnails),
        _oddities(audit, thumbnails),
        _imbalance(audit),
    )
    return tuple(finding for finding in made if finding is not None)


def left(audit: Mapping[str, Any]) -> tuple[str, ...]:
    """What was not looked for, a sentence each."""
    return tuple(str(text) for text in audit.get("left") or ())


def told(audit: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """A label and a line for the terminal, for each kind in which something was found; else one line that says so."""
    labels = {"damaged": "damaged", "leaks": "leaks", "labels": "labels", "shortcuts": "shortcut"}
    labels |= {"duplicates": "copies", "outliers": "outliers", "oddities": "odd", "imbalance": "uneven"}
    found = [finding for finding in findings(audit, {}) if not finding.fine]
    for finding in found:
        first = _first(finding)
        yield labels[finding.key], f"{finding.sentence}{f' First: {first}' if first else ''}"
    if not found:
        yield "audit", _FINE
    copies = audit.get("duplicates")
    not_looked = copies.get("not_looked") if isinstance(copies, Mapping) else None
    for text in (*left(audit), *([str(not_looked)] if not_looked else [])):
        yield "left", text


def _first(finding: Finding) -> str:
    """The first suspect of a finding, for the terminal."""
    if finding.groups:
        return " = ".join(item.name for item in finding.groups[0])
    if finding.items:
        item = finding.items[0]
        return f"{item.name} ({', '.join(item.lines)})"
    return ""


def pictured(audit: Mapping[str, Any]) -> list[str]:
    """Names of the samples that the page shows, each once."""
    shown_items = (
        item.name
        for finding in findings(audit, {})
        for item in (*finding.items, *(one for group in finding.groups for one in group))
    )
    return list(dict.fromkeys(shown_items))


def _item(found: Mapping[str, Any], thumbnails: Mapping[str, bytes], *lines: str) -> Item:
    name = str(found.get("name"))
    return Item(name, data_address(thumbnails.get(name)), tuple(line for line in lines if line))


def _where(found: Mapping[str, Any]) -> str:
    """The class and the subset of a sample."""
    return ", ".join(str(found[key]) for key in ("label", "subset") if found.get(key))


def _damaged(audit: Mapping[str, Any]) -> Finding | None:
    aside = audit.get("set_aside") or ()
    if not aside:
        return None
    items = tuple(Item(str(one.get("name")), None, (str(one.get("reason")),)) for one in aside[:1])
    sentence = f"{_files(len(aside))} cannot be read."
    return Finding("damaged", "Broken files", sentence, False, more=tuple(_told_aside(aside)), items=items)


def _told_aside(aside: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for one in aside[: 4 * MOST_ITEMS]:
        yield f"{one.get('name')}: {one.get('reason')}"


def _labels(audit: Mapping[str, Any], thumbnails: Mapping[str, bytes]) -> Finding | None:
    found = audit.get("labels")
    if not found:
        return None
    judged, n, expected = found.get("judged") or 0, found.get("found") or 0, found.get("expected")
    items = tuple(
        _item(
            one,
            thumbnails,
            f"{one.get('label')}, looks like {one.get('suggested')}",
            f"wrong with {number(one.get('probability_wrong'), 2)}",
        )
        for one in (found.get("items") or ())[:MOST_ITEMS]
    )
    sentence = f"{count(n)} of {count(judged)} labels {'is' if n == 1 else 'are'} likelier wrong than right"
    if not n:
        sentence = f"None of {count(judged)} labels is likelier wrong than right"
    if is_number(expected):
        low, high = (100 * end for end in found.get("expected_interval") or (expected, expected))
        sentence += f"; of all, {100 * expected:.1f} % [{low:.1f}, {high:.1f}] are expected to be wrong"
    sentence += ". Here are those most in doubt." if items and not n else "."
    note = (
        "Judged by heads that never saw the image, the most suspect first. Nothing is mended: an image that is merely "
        "hard, or of a class that the network cannot tell, looks the same from here, so look before you change a label."
    )
    more = tuple(str(text) for text in found.get("left_out") or ())
    return Finding("labels", "Likely label errors", sentence, not items, note if items else "", more, items)


def _outliers(audit: Mapping[str, Any], thumbnails: Mapping[str, bytes]) -> Finding | None:
    found = audit.get("outliers")
    if not found:
        return None
    judged, n = found.get("judged") or 0, found.get("found") or 0
    items = tuple(
        _item(one, thumbnails, _where(one), f"{number(one.get('times'), 1)} times as far as usual")
        for one in (found.get("items") or ())[:MOST_ITEMS]
    )
    sentence = f"{count(n)} of {count(judged)} images {_lie(n)} far from all others of {_their(n)} class."
    if not n:
        sentence = f"None of {count(judged)} images lies far from all others of its class."
    note = "By the distance to the nearest neighbours in the network's features; rare is not wrong." if n else ""
    return Finding("outliers", "Outliers", sentence, not n, note, (), items)


def _shortcuts(audit: Mapping[str, Any]) -> Finding | None:
    found = audit.get("shortcuts")
    if not found:
        return None
    told_ones = [_sentence(one.get("sentence")) for one in found.get("found") or ()]
    asked = f"{len(found.get('cues') or ())} cues ({', '.join(found.get('cues') or ()) or 'none that vary'})"
    looked = f"Asked on {count(found.get('images'))} images: {asked}."
    if not told_ones:
        return Finding("shortcuts", "Shortcuts", "Nothing beside the pictures tells the classes.", True, looked)
    rest = f" {len(told_ones) - 1} more." if len(told_ones) > 1 else ""
    return Finding("shortcuts", "Shortcuts", f"{told_ones[0]}{rest}", False, looked, tuple(told_ones[1:MOST_ITEMS]))


def _oddities(audit: Mapping[str, Any], thumbnails: Mapping[str, bytes]) -> Finding | None:
    found = audit.get("oddities")
    if found is None:
        return None
    n, kinds = found.get("found") or 0, found.get("kinds") or {}
    items = tuple(
        _item(one, thumbnails, _where(one), str(one.get("text"))) for one in (found.get("items") or ())[:MOST_ITEMS]
    )
    parts = ", ".join(f"{count(kinds[kind])} {words}" for kind, words in _KINDS.items() if kinds.get(kind))
    sentence = (
        f"{_images(n)} odd to look at: {parts}." if n else "No image is of an odd size or shape, or of one colour."
    )
    if not n and not found.get("pictures"):
        sentence = "No image is of an odd size or shape."
    sizes = audit.get("sizes") or {}
    usual = [count(sizes[side][1]) for side in ("width", "height") if sizes.get(side)]
    note = f"The median image is {usual[0]} pixels wide and {usual[1]} high." if n and len(usual) == 2 else ""
    return Finding("oddities", "Odd images", sentence, not n, note, (), items)


def _imbalance(audit: Mapping[str, Any]) -> Finding | None:
    found = audit.get("imbalance")
    if not found:
        return None
    large, small = found["largest"], found["smallest"]
    sentence = (
        f"{large['class']} has {count(large['images'])} images, {small['class']} {count(small['images'])}: "
        f"{number(found.get('ratio'), 1)} times as many."
    )
    note = "Balanced accuracy and macro-F1 tell more than accuracy here."
    return Finding("imbalance", "Uneven classes", sentence, False, note)


def _leaks(audit: Mapping[str, Any], thumbnails: Mapping[str, bytes]) -> Finding | None:
    found = audit.get("leaks")
    if not isinstance(found, Mapping):
        return None
    sentence = _told_groups(found, "the same picture in several subsets", "No picture stands in more than one subset.")
    accuracy = found.get("accuracy")
    more = (str(accuracy.get("sentence")),) if isinstance(accuracy, Mapping) and accuracy.get("sentence") else ()
    note = "What is tested on images that were trained on is measured too well." if _n_groups(found) else ""
    groups = _groups(found, thumbnails, "subsets")
    return Finding("leaks", "Leaks between subsets", sentence, not _n_groups(found), note, more, (), groups)


def _duplicates(audit: Mapping[str, Any], thumbnails: Mapping[str, bytes]) -> Finding | None:
    found = audit.get("duplicates")
    if not isinstance(found, Mapping):
        return None
    leaks = audit.get("leaks") if isinstance(audit.get("leaks"), Mapping) else {}
    crossing = _n_groups(leaks or {})
    what = "the same picture several times" + (f", {count(crossing)} of them in several subsets" if crossing else "")
    sentence = _told_groups(found, what, "No picture stands here twice.")
    why = str(found.get("not_looked") or "")
    more = (f"{why[:1].upper()}{why[1:]}.",) if why else ()
    shown_above = {item.name for group in _groups(leaks or {}, {}, "subsets") for item in group}
    groups = _groups(found, thumbnails, "labels", shown_above)
    return Finding("duplicates", "Duplicates", sentence, not _n_groups(found), "", more, (), groups)


def _n_groups(found: Mapping[str, Any]) -> int:
    return int(found.get("exact_count") or 0) + int(found.get("near_count") or 0)


def _told_groups(found: Mapping[str, Any], what: str, none: str) -> str:
    exact, near = int(found.get("exact_count") or 0), int(found.get("near_count") or 0)
    if not exact + near:
        return none if found.get("near_count") is not None else none.replace(".", ", pixel by pixel.")
    parts = [f"{count(n)} {kind}" for n, kind in ((exact, "exact"), (near, "near")) if n]
    return f"{' and '.join(parts)} {'group' if exact + near == 1 else 'groups'}: {what}."


def _groups(
    found: Mapping[str, Any], thumbnails: Mapping[str, bytes], key: str, without: Collection[str] = ()
) -> tuple[tuple[Item, ...], ...]:
    """The first groups, those of several labels or subsets first; a few of each group. without: names shown already."""
    groups = [*(found.get("exact_groups") or ()), *(found.get("near_groups") or ())]
    groups = [group for group in groups if not set(group.get("names") or ()) & set(without)]
    groups.sort(key=lambda group: len(set(group.get(key) or ())) < 2)
    return tuple(
        tuple(
            _item({"name": name}, thumbnails, *(str(part) for part in (label, subset) if part))
            for name, label, subset in zip(
                group.get("names") or (), group.get("labels") or (), group.get("subsets") or (), strict=False
            )
        )[:MOST_OF_A_GROUP]
        for group in groups[:MOST_GROUPS]
    )


def _sentence(text: object) -> str:
    """`text` as a sentence of its own."""
    words = shown(text)
    return f"{words[:1].upper()}{words[1:]}."


def _files(n: int) -> str:
    return "1 file" if n == 1 else f"{count(n)} files"


def _images(n: int) -> str:
    return "1 image is" if n == 1 else f"{count(n)} images are"


def _lie(n: int) -> str:
    return "lies" if n == 1 else "lie"


def _their(n: int) -> str:
    return "its" if n == 1 else "their"
