"""What a page, or whoever asks, is told of a bundle. Needs nothing of a server: an exported page tells the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from headway.deployment.bundle import Bundle
from headway.deployment.confidence import Confidence, Levels
from headway.serving.limits import Limits

COVERAGE, UNKNOWN = 0.95, 0.01  # what an answer has where nothing is said
TYPES = ("JPEG", "PNG", "WebP", "GIF", "BMP", "TIFF")


def usual_levels(confidence: Confidence) -> Levels:
    """What is answered where nothing is asked: the usual levels, each where the bundle can promise it."""
    sets, unknown = confidence.sets, confidence.unknown
    coverage = COVERAGE if sets is not None and sets.promises(COVERAGE) else None
    return Levels(coverage, UNKNOWN if unknown is not None and unknown.least <= UNKNOWN else None)


def model_name(path: Path) -> str:
    """What the bundle in the folder `path` is called: its folder, or the run's where it still lies in one."""
    path = path.absolute()
    while path.name in ("bundle", "portable") and path.parent.name:
        path = path.parent
    return path.name


def model_facts(bundle: Bundle, limits: Limits) -> dict[str, Any]:
    """What `GET /model` tells."""
    manifest, usual, test = bundle.manifest, usual_levels(bundle.confidence), bundle.manifest.test
    sets, unknown = bundle.confidence.sets, bundle.confidence.unknown
    return {
        "name": model_name(bundle.path),
        "version": bundle.digest[:16],
        "classes": list(bundle.classes),
        "accuracy": None
        if test is None
        else {"value": test.get("accuracy"), "interval": test.get("interval"), "n": test.get("n")},
        "input": bundle.preprocess.size,
        "backbone": manifest.backbone.get("name"),
        "limits": {
            "max_body": limits.max_body,
            "max_pixels": limits.max_pixels or bundle.max_pixels,
            "max_images": limits.max_images,
            "types": list(TYPES),
        },
        "promises": {
            "coverage": None if sets is None else {"most": sets.most, "default": usual.coverage},
            "unknown": None if unknown is None else {"least": unknown.least, "default": usual.unknown},
        },
        "created": manifest.created,
    }
