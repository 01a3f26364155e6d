"""README.md of a bundle: a model card with Hugging Face's front matter, from the manifest and facts of the run."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from headway.deployment.confidence import told_least, told_most
from headway.deployment.manifest import Manifest


class Card(TypedDict, total=False):
    """What a card tells beyond the manifest; what is missing is left out.

    name            of the model, e.g. the data's folder
    created         ISO time of the run
    command         that made it
    data            one line on the images
    dataset         the images' own name on the Hugging Face hub, user/name
    counts          class → {"train", "val", "test"} images
    n               {"train", "val", "test", "set_aside"}
    test            {"n", "accuracy", "interval": [low, high]}, the test set opened once
    metrics         further numbers on the test set, name → value in 0..1, e.g. balanced_accuracy, macro_f1
    confidence      what prediction sets and the unknown flag came to on test images, as `assuring.tried`
    constant_guess  accuracy of always saying the most frequent class
    limits          sentences, beside those that hold for every bundle
    versions        program → version
    """

    name: str
    created: str
    command: str
    data: str
    dataset: str
    counts: Mapping[str, Mapping[str, int]]
    n: Mapping[str, int]
    test: Mapping[str, Any] | None
    metrics: Mapping[str, float | None]
    confidence: Mapping[str, Any]
    constant_guess: float
    limits: Sequence[str]
    versions: Mapping[str, str]


# The identifiers that Hugging Face knows, of the licences that pretrained weights of image networks bear.
_LICENCES = (
    *("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0"),
    *("cc-by-nc-sa-4.0", "cc0-1.0", "openrail", "unlicense"),
)
NEAR = (
    "Both promises hold on average over images like the validation images, not for each class or kind of image. Images "
    "of quite another kind are flagged; those of a class that merely resembles one of these mostly are not noticed."
)
_MOST_CLASSES = 100  # in the table of the card


def card_text(manifest: Manifest, card: Card, *, timm: bool) -> str:
    """The whole README.md. `timm`: the folder is also a model that timm can load. Names are escaped for Markdown."""
    name = card.get("name") or "image classifier"
    parts = [
        _front_matter(manifest, card, name, timm=timm),
        f"# {plain(name)}\n\n{_what(manifest)}",
        f"## How good it is\n\n{_judgement(card)}",
        *([f"## How sure it is\n\n{_confidence(card['confidence'])}"] if card.get("confidence") else []),
        f"## The images it learned from\n\n{_data(manifest, card)}",
        f"## What it does to an image\n\n{_preprocessing(manifest)}",
        f"## Licence\n\n{_licence(manifest)}",
        f"## Limits\n\n{_limits(card)}",
        f"## How to use it\n\n{_usage(manifest, timm=timm)}",
        f"## How it was made\n\n{_making(manifest, card)}",
    ]
    return "\n\n".join(parts) + "\n"


def plain(text: object) -> str:
    """`text` as one line that Markdown and HTML show and do not obey."""
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    return html.escape(re.sub(r"([\\`*_{}\[\]()#+!|~$^])", r"\\\1", line), quote=False)


def code(text: object) -> str:
    """`text` as one line of code, in which Markdown obeys nothing but the end of it."""
    return "`" + " ".join(str(text).replace("`", "'").split()) + "`"


def _yaml(value: object) -> str:
    """A JSON string or number, which YAML reads as the same. Characters that YAML cannot hold are replaced."""
    if isinstance(value, str):
        value = "".join(c if c.isprintable() else " " for c in value)
    return json.dumps(value, ensure_ascii=False)


def _front_matter(manifest: Manifest, card: Card, name: str, *, timm: bool) -> str:
    licence, base, data = manifest.backbone.get("licence"), _base_model(manifest), card.get("dataset")
    known = str(licence or "").lower()
    lines = ["---"]
    if known in _LICENCES:
        lines.append(f"license: {known}")
    else:
        lines += ["license: other" if licence else "license: unknown"]
        lines += [f"license_name: {_yaml(_slug(str(licence)))}"] if licence else []
    lines += [f"library_name: {'timm' if timm else 'headway'}", "pipeline_tag: image-classification"]
    lines += [f"base_model: {_yaml(base)}"] if base else []
    lines += ["datasets:", f"- {_yaml(data)}"] if data else []
    tags = ["image-classification", "headway", "onnx", *(["timm"] if timm else [])]
    lines += ["tags:", *(f"- {tag}" for tag in tags)]
    if test := card.get("test"):
        lines += _model_index(name, data, test, card.get("metrics", {}))
    return "\n".join([*lines, "---"])


def _model_index(
    name: str, data: str | None, test: Mapping[str, Any], metrics: Mapping[str, float | None]
) -> list[str]:
    """The test's numbers as the hub reads them; it knows no interval, so that stands in the name of the accuracy."""
    low, high = test["interval"]
    told = {"accuracy": f"accuracy (95 % interval {low:.3f} to {high:.3f}, n = {test['n']:,})"}
    values = {"accuracy": test["accuracy"], **{key: value for key, value in metrics.items() if value is not None}}
    lines = ["metrics:", *(f"- {_yaml(key)}" for key in values), "model-index:", f"- name: {_yaml(name)}"]
    lines += ["  results:", "  - task:", "      type: image-classification", "    dataset:"]
    lines += [f"      name: {_yaml(name)}", f"      type: {_yaml(data or _slug(name))}", "      split: test"]
    lines += ["    metrics:"]
    for key, value in values.items():
        lines += [f"    - type: {_yaml(key)}", f"      name: {_yaml(told.get(key, key.replace('_', ' ')))}"]
        lines += [f"      value: {_yaml(float(value))}"]
    return lines


def _slug(text: str) -> str:
    """`text` as the hub takes names: small letters, digits, '-' and '.'."""
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-.") or "unknown"


def _base_model(manifest: Manifest) -> str | None:
    """The repository on the hub that the pretrained weights came from, where they came from one."""
    backbone, weights = manifest.backbone, manifest.backbone.get("weights", {})
    name, origin = str(backbone.get("name", "")), weights.get("base", weights).get("origin")
    if origin != "hub" or backbone.get("source") != "timm" or "." not in name:
        return None
    return f"timm/{name.removeprefix('timm:')}"


def _what(manifest: Manifest) -> str:
    head, taps = manifest.head.get("spec", "?"), ", ".join(manifest.head.get("taps", []))
    return (
        f"Sorts an image into one of {len(manifest.classes)} classes: a pretrained network "
        f"({code(manifest.backbone.get('name', '?'))}), used as it is, with a head ({code(head)} on {code(taps)}) "
        "trained on the images below. Its probabilities are calibrated: logits are divided by "
        f"{manifest.temperature:.3f} before the softmax."
    )


def _judgement(card: Card) -> str:
    test = card.get("test")
    if not test:
        return "Not measured: there was no test set."
    low, high = test["interval"]
    lines = [
        f"On {test['n']:,} test images that took no part in any choice: accuracy **{test['accuracy']:.3f}** "
        f"(95 % interval {low:.3f} to {high:.3f}, n = {test['n']:,})."
    ]
    lines += [
        f"- {plain(key.replace('_', ' '))}: {value:.3f}"
        for key, value in card.get("metrics", {}).items()
        if value is not None
    ]
    if "constant_guess" in card:
        lines.append(f"- always guessing the most frequent class: {card['constant_guess']:.3f}")
    return "\n".join([lines[0], "", *lines[1:]]).rstrip()


def _confidence(found: Mapping[str, Any]) -> str:
    """What is promised of sets and unknown images, and what is not."""
    lines = [
        f"Calibrated on {found['n']:,} validation images: prediction sets (`--coverage C`, C at most "
        f"{told_most(found['most'])}) and a flag for unknown images (`--unknown R`, R at least "
        f"{told_least(found['least'])}).",
        "",
    ]
    for row in found["sets"]:
        lines.append(
            f"- sets of {row['coverage']:g}: the label was in {row['reached']:.3f} {_between(row['interval'])} of "
            f"{row['n']:,} test images, {row['size']:.2f} classes a set"
        )
    for row in found["unknown"]:
        lines.append(
            f"- unknown at {row['rate']:g}: {row['flagged']:.3f} {_between(row['interval'])} of {row['n']:,} test "
            "images were flagged, all of them false alarms"
        )
    return "\n".join([*lines, "", NEAR])


def _between(interval: Sequence[float]) -> str:
    return f"(95 % interval {interval[0]:.3f} to {interval[1]:.3f})"


def _data(manifest: Manifest, card: Card) -> str:
    lines = [plain(card["data"]), ""] if "data" in card else []
    if "n" in card:
        words = {"train": "to train", "val": "to choose", "test": "to test", "set_aside": "set aside as unreadable"}
        lines += [", ".join(f"{card['n'][key]:,} {word}" for key, word in words.items() if key in card["n"]) + ".", ""]
    counts, shown = card.get("counts", {}), manifest.classes[:_MOST_CLASSES]
    if counts:
        lines += ["| class | train | val | test |", "|---|---|---|---|"]
        rows = ((label, counts.get(label, {})) for label in shown)
        lines += [
            f"| {plain(label)} | {row.get('train', 0)} | {row.get('val', 0)} | {row.get('test', 0)} |"
            for label, row in rows
        ]
    else:
        lines += [f"- {plain(label)}" for label in shown]
    if len(manifest.classes) > len(shown):
        lines += ["", f"and {len(manifest.classes) - len(shown)} more; all stand in manifest.json."]
    return "\n".join(lines)


def _preprocessing(manifest: Manifest) -> str:
    p = manifest.preprocess
    resize = "not scaled" if p.resize is None else f"scaled until its short side has {p.resize} pixels"
    ways = {
        "crop": f"{resize}, and the centre of {p.size} by {p.size} is cut out",
        "squash": f"scaled to {p.size} by {p.size}, whatever its shape",
        "pad": f"scaled until its long side has {p.size} pixels, and filled up to a square",
    }
    return (
        f"It is decoded to upright RGB, {ways[p.fit]} ({p.interpolation}). The graph takes these pixels as uint8 "
        f"(B, {p.size}, {p.size}, 3) and normalises them itself. `manifest.json` holds the exact numbers."
    )


def _licence(manifest: Manifest) -> str:
    backbone = manifest.backbone
    origin = backbone.get("weights", {}).get("origin", "unknown")
    licence = backbone.get("licence")
    said = f"are under the licence {plain(licence)}" if licence else "bear no licence that headway knows of"
    return (
        f"The pretrained weights ({plain(backbone.get('name', '?'))}, origin: {plain(origin)}) {said}. The head was "
        "trained on your images; what may be done with it depends on those too."
    )


def _limits(card: Card) -> str:
    always = [
        "It always answers with one of its classes, also for an image that shows none of them.",
        "The accuracy holds for images like those it was tested on: same kind of source, same classes.",
        "A network that was trained on photos brings the habits of its own training images along.",
    ]
    return "\n".join(f"- {plain(sentence)}" for sentence in [*card.get("limits", []), *always])


def _usage(manifest: Manifest, *, timm: bool) -> str:
    lines = ["```python", "import headway", 'bundle = headway.load_bundle("path/to/this/folder")']
    lines += ['print(bundle.predict("new.jpg"))', "```", "", "or `headway predict path/to/this/folder new.jpg`."]
    if manifest.engine.get("precision") == "int8":
        lines += ["", "It computes in int8, whose numbers hold in OpenVINO alone: `pip install 'headway[int8]'`."]
    if timm:
        lines += [
            "",
            'Also a timm model: `timm.create_model("local-dir:path/to/this/folder", pretrained=True)` gives',
            f"the logits. Divide them by the temperature, {manifest.temperature:.6g}, before the softmax.",
        ]
    else:
        lines += ["", f"It is no timm model, so there is no config.json: {_why_no_timm(manifest)}."]
    return "\n".join(lines)


def _why_no_timm(manifest: Manifest) -> str:
    taps = [str(tap) for tap in manifest.head.get("taps", [])]
    if manifest.engine.get("precision") == "int8":
        return "timm does not compute in int8"
    if taps != ["last"]:
        return f"its head reads {plain(', '.join(taps))}, and timm's heads read the last layer alone"
    if str(manifest.head.get("spec", "")).startswith("mlp"):
        return "its head has hidden layers, and timm's has one layer"
    return "timm has no such network, or not with a classifier that reads these features alone"


def _making(manifest: Manifest, card: Card) -> str:
    lines = [f"- headway {plain(manifest.headway)}, {plain(manifest.created)}"]
    if "command" in card:
        lines.append(f"- {code(card['command'])}")
    lines += [f"- {plain(program)} {plain(version)}" for program, version in card.get("versions", {}).items()]
    return "\n".join(lines)
