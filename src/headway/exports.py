"""Classifier → bundle. The head is grafted onto the trunk's graph; a parity gate on real images decides.

Neither torch nor timm is imported: a warm fit stays quick. onnx and safetensors are imported inside functions.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headway import __version__, files
from headway.data.images import MAX_PIXELS
from headway.deployment.bundle import load_bundle
from headway.deployment.card import Card, card_text
from headway.deployment.confidence import CARRIES_NONE, Confidence
from headway.deployment.confidence_files import FOLDER, write_confidence
from headway.deployment.manifest import CARD, MANIFEST, MODEL, PORTABLE, PROBE, PROBE_FILES, TENSORS, Manifest
from headway.deployment.predictor import probabilities
from headway.deployment.runtime import Runtime, open_runtime, run
from headway.errors import HeadwayError, Refused
from headway.grafting import graft
from headway.machine import version

if TYPE_CHECKING:
    from headway.training.classifier import Classifier

PROBABILITY_TOLERANCE = 1e-3  # between the bundle and torch; two classes nearer than this in torch are a tie
# Saturated probabilities hide differences, so logits are compared too, as a share of the largest (at least 1).
LOGIT_TOLERANCE = 1e-2
PROBE_IMAGES = 4  # golden inputs in a bundle: few, for each load computes them
_TIMM = "config.json"
_OWN = {CARD, MANIFEST, MODEL, TENSORS, PROBE, FOLDER, PORTABLE, _TIMM, ".DS_Store", "Thumbs.db", "desktop.ini"}


@dataclass(frozen=True)
class Samples:
    """Real validation images and what the classifier makes of them, for the parity gate.

    images  (K, S, S, 3) uint8, from `prepare`; K >= 1
    logits  (K, C) float32, from the features and head that were judged, before temperature
    """

    images: NDArray[np.uint8]
    logits: NDArray[np.float32]


def write_bundle(
    classifier: Classifier,
    path: Path,
    *,
    samples: Samples,
    card: Card,
    threads: int | None = None,
    confidence: Confidence = CARRIES_NONE,
) -> dict[str, Any]:
    """Write the bundle folder `path`: it appears by rename, whole and checked, or not at all.

    card        what the model card and manifest tell beyond the classifier (see `Card`); every key may be missing
    confidence  prediction sets and what tells unknown images, calibrated for this classifier

    Returns what the parity gate found: {"n", "same_top1", "ties", "probability_difference", "logit_difference"}.
    Raises HeadwayError where the classifier's parts do not fit each other, or where the bundle does not give the same
    top class (but for ties) and probabilities within `PROBABILITY_TOLERANCE` (logits within `LOGIT_TOLERANCE`) of
    `samples`; Refused where the folder that `path` lies in does not exist, or where `path` is no bundle and is there.
    """
    _check_parts(classifier, samples)
    _check_place(path)
    with files.new_folder(path) as folder:
        model = graft(classifier.trunk.graph.read_bytes(), classifier.head)
        runtime = _opened(model, path / MODEL, engine_of(classifier)["name"], threads)
        found = run(runtime, samples.images, ("logits", "features"))
        parity = _parity(found["logits"], samples.logits, classifier.temperature)
        (folder / MODEL).write_bytes(model)
        _write_tensors(classifier, folder / TENSORS)
        _write_probe(folder / PROBE, samples.images[:PROBE_IMAGES], found)
        if is_timm_model(classifier):
            files.write_json(folder / _TIMM, timm_config(classifier))
        carried = write_confidence(folder, confidence)
        manifest = replace(_manifest(classifier, folder, card), **carried)
        files.write_json(folder / MANIFEST, manifest.to_json())
        files.write_text(folder / CARD, card_text(manifest, card, timm=is_timm_model(classifier)))
        _check_whole(folder, path, threads)
    return parity


def _check_place(path: Path) -> None:
    if not path.parent.is_dir():
        raise Refused(f"{path.parent} does not exist; the bundle would be written into it.")
    if not os.path.lexists(path):
        return
    held = None if path.is_symlink() or not path.is_dir() else {item.name for item in path.iterdir()}
    others = [] if held is None else sorted(held - _OWN)
    if held is None or others or (held and MANIFEST not in held):
        told = f"no bundle, it holds {others[0]}" if others else "no bundle"
        raise Refused(f"{path} is there and is {told}; nothing but a bundle is replaced. Expected a new folder's name")


def engine_of(classifier: Classifier) -> dict[str, str]:
    """The manifest's `engine`: whose numbers the head was trained on. In fp32 all engines agree; int8 is of one."""
    precision = classifier.trunk.facts.get("precision", "fp32")
    name, package = ("openvino", "openvino") if precision == "int8" else ("any", "onnxruntime")
    return {"name": name, "precision": precision, "made_with": f"{package} {version(package)}"}


def _opened(model: bytes, name: Path, engine: str, threads: int | None) -> Runtime:
    try:
        return open_runtime(model, name, engine, threads)
    except Refused as error:  # the user's words were fine: not a refusal but a failure
        raise HeadwayError(f"the exported model does not open. {error}") from error


def _check_whole(folder: Path, path: Path, threads: int | None) -> None:
    """The last judge is the reader."""
    try:
        load_bundle(folder, threads)
    except Refused as error:
        raise HeadwayError(f"the bundle does not load again. {str(error).replace(str(folder), str(path))}") from error


def is_timm_model(classifier: Classifier) -> bool:
    """True where timm itself can hold this classifier: one linear layer on the last tap of one of its networks."""
    facts, head = classifier.trunk.facts, classifier.head
    linear = len(head.layers) == 1 and head.taps == ("last",) and facts.get("precision", "fp32") == "fp32"
    return linear and facts.get("classifier") is not None and facts.get("timm_config") is not None


def _check_parts(classifier: Classifier, samples: Samples) -> None:
    head, facts, size = classifier.head, classifier.trunk.facts, classifier.preprocess.size
    dims = {tap["name"]: tap["dim"] for tap in facts["taps"]}
    unknown = [tap for tap in head.taps if tap not in dims]
    if unknown:
        raise HeadwayError(f"the head reads {', '.join(unknown)}, which {facts['name']} does not give")
    widths = [sum(dims[tap] for tap in head.taps), *(len(layer.bias) for layer in head.layers)]
    shapes = [layer.weight.shape for layer in head.layers]
    if shapes != list(zip(widths[1:], widths, strict=False)) or widths[-1] != len(classifier.classes):
        raise HeadwayError(
            f"layers {shapes} do not lead from {widths[0]} features to {len(classifier.classes)} classes"
        )
    n = len(samples.images)
    if n == 0 or samples.images.shape != (n, size, size, 3) or samples.logits.shape != (n, len(classifier.classes)):
        raise HeadwayError(
            f"parity needs images (K, {size}, {size}, 3) and logits (K, {len(classifier.classes)}), K >= 1; "
            f"got {samples.images.shape} and {samples.logits.shape}"
        )
    for key, file in (("graph_digest", classifier.trunk.graph), ("tensors_digest", classifier.trunk.tensors)):
        if key in facts and files.digest_file(file) != facts[key]:
            raise HeadwayError(f"{file} is damaged. Run: headway cache verify, then the command again.")


@dataclass(frozen=True)
class Parity:
    """How near (n, C) logits of an exported model come to those of its reference, as probabilities a user would see.

    differing               images that get another class, but for ties: the reference itself hardly prefers its own
    ties                    images that get another class in such a tie
    probability_difference  the largest;  logit_difference  the largest
    near                    whether both stay within `PROBABILITY_TOLERANCE` and `LOGIT_TOLERANCE`; never where NaN is
    """

    n: int
    differing: int
    ties: int
    probability_difference: float
    logit_difference: float
    near: bool

    @property
    def agrees(self) -> bool:
        return self.near and not self.differing

    def told(self) -> str:
        """The difference in words, to stand in a message."""
        return (
            f"{self.differing} get another class, probabilities differ by {self.probability_difference:.2g} (allowed "
            f"{PROBABILITY_TOLERANCE:g}), logits by {self.logit_difference:.2g}"
        )

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values, of one that agrees."""
        return {
            "n": self.n,
            "same_top1": self.n - self.differing - self.ties,
            "ties": self.ties,
            "probability_difference": self.probability_difference,
            "logit_difference": self.logit_difference,
        }


def measure_parity(found: NDArray[np.float32], wanted: NDArray[np.float32], temperature: float) -> Parity:
    """Compare (K, C) logits of an exported model with the reference, K >= 1."""
    p, q = probabilities(found, temperature), probabilities(wanted, temperature)  # (K, C)
    rows = np.arange(len(p))
    top, expected = p.argmax(axis=1), q.argmax(axis=1)
    tie = q[rows, expected] - q[rows, top] <= PROBABILITY_TOLERANCE
    differing = int(np.sum((top != expected) & ~tie))
    difference, shift = float(np.abs(p - q).max()), float(np.abs(found - wanted).max())
    close = shift <= LOGIT_TOLERANCE * max(1.0, float(np.abs(wanted).max()))
    near = difference <= PROBABILITY_TOLERANCE and close  # False of NaN
    return Parity(len(p), differing, int(np.sum(top != expected)) - differing, difference, shift, near)


def _parity(found: NDArray[np.float32], wanted: NDArray[np.float32], temperature: float) -> dict[str, Any]:
    parity = measure_parity(found, wanted, temperature)
    if not parity.agrees:
        raise HeadwayError(
            f"the exported model does not agree with the trained one on {parity.n} validation images: {parity.told()}. "
            "No bundle was written. Try another --engine, or --no-cache."
        )
    return parity.to_json()


def _write_tensors(classifier: Classifier, path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    tensors = load_file(classifier.trunk.tensors)
    prefixes = [f"head.{position}" for position in range(len(classifier.head.layers))]
    if is_timm_model(classifier):
        prefixes = [classifier.trunk.facts["classifier"]]
    for prefix, layer in zip(prefixes, classifier.head.layers, strict=True):
        for name, value in ((f"{prefix}.weight", layer.weight), (f"{prefix}.bias", layer.bias)):
            if name in tensors:
                raise HeadwayError(f"the trunk's tensors already have a {name}")
            tensors[name] = np.ascontiguousarray(value, dtype=np.float32)
    save_file(tensors, path, metadata={"format": "pt"})


def _write_probe(folder: Path, images: NDArray[np.uint8], found: Mapping[str, NDArray[np.float32]]) -> None:
    folder.mkdir()
    values = (images, found["logits"][: len(images)], found["features"][: len(images)])
    for name, value in zip(PROBE_FILES, values, strict=True):
        np.save(folder / name, np.ascontiguousarray(value), allow_pickle=False)


def timm_config(classifier: Classifier) -> dict[str, Any]:
    """config.json as timm's `save_config_for_hf` writes it: the trunk's own, with our classes and preprocessing."""
    config = dict(classifier.trunk.facts["timm_config"])
    preprocess, n = classifier.preprocess, len(classifier.classes)
    pretrained = dict(config.get("pretrained_cfg", {}))
    # What spoke of the old classifier, the old input or another place of the weights would be wrong here.
    for key in ("label_names", "label_descriptions", "label_offset", "test_input_size", "test_crop_pct"):
        pretrained.pop(key, None)
    for key in ("url", "file", "hf_hub_id", "hf_hub_filename", "source", "state_dict"):
        pretrained.pop(key, None)
    if (pretrained.get("input_size") or [3, 0, 0])[1] != preprocess.size:
        pretrained["pool_size"] = None
    modes = {"crop": "center", "squash": "squash", "pad": "border"}
    whole = preprocess.fit != "crop" or preprocess.resize is None
    pretrained |= {
        "custom_load": False,
        "num_classes": n,
        "classifier": classifier.trunk.facts["classifier"],
        "input_size": [3, preprocess.size, preprocess.size],
        "mean": list(preprocess.mean),
        "std": list(preprocess.std),
        "interpolation": preprocess.interpolation,
        "crop_pct": 1.0 if whole else preprocess.size / max(preprocess.size, preprocess.resize or 0),
        "crop_mode": modes[preprocess.fit],
    }
    arguments = {**config.get("model_args", {}), "num_classes": n}
    if pretrained.get("fixed_input_size"):
        arguments["img_size"] = preprocess.size
    return {
        **config,
        "num_classes": n,
        "label_names": list(classifier.classes),
        "model_args": arguments,
        "pretrained_cfg": pretrained,
    }


def _manifest(classifier: Classifier, folder: Path, card: Card) -> Manifest:
    facts, head = classifier.trunk.facts, classifier.head
    known = ("name", "source", "tag", "licence", "weights", "parameters", "macs", "feature_dim", "graph_digest")
    return Manifest(
        headway=__version__,
        created=card.get("created") or "unknown",
        classes=classifier.classes,
        preprocess=classifier.preprocess,
        outputs={"logits": len(classifier.classes), "features": head.layers[0].weight.shape[1]},
        temperature=float(classifier.temperature),
        backbone={key: facts[key] for key in known if key in facts},
        head={"spec": head.spec, "taps": list(head.taps)},
        engine=engine_of(classifier),
        model_digest=files.digest_file(folder / MODEL),
        tensors_digest=files.digest_file(folder / TENSORS),
        probe={name: files.digest_file(folder / PROBE / name) for name in PROBE_FILES},
        max_pixels=MAX_PIXELS,
        test=card.get("test"),
    )
