"""A bundle: the folder that predicts. Loading it checks every file it needs and that it computes what it computed."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headway import files
from headway.backbones.openvino_graph import EXTRA
from headway.backbones.preprocess import Preprocess
from headway.data.images import BadImage
from headway.deployment.confidence import CARRIES_NONE, Confidence, Levels, check_levels
from headway.deployment.confidence_files import FOLDER as CONFIDENCE
from headway.deployment.confidence_files import read_confidence
from headway.deployment.manifest import (
    MANIFEST,
    MODEL,
    PORTABLE,
    PROBE,
    PROBE_FILES,
    TENSORS,
    Manifest,
    read_manifest,
)
from headway.deployment.predictor import Image, Prediction, predict
from headway.deployment.runtime import Runtime, open_runtime, run
from headway.errors import HeadwayError, Refused, nearest

# Golden outputs may differ by this share of the largest value (at least 1), by the graph's precision: processors sum in
# another order, and of whole numbers from 0 to 255 a last bit then falls on the other side now and then.
TOLERANCES = {"fp32": 1e-4, "int8": 2e-2}


@dataclass(frozen=True, repr=False)
class Bundle:
    """A classifier that is ready to predict. Its methods may be called from several threads."""

    path: Path
    manifest: Manifest
    runtime: Runtime
    preprocess: Preprocess
    classes: tuple[str, ...]
    temperature: float
    confidence: Confidence = CARRIES_NONE

    def __repr__(self) -> str:
        return f"<Bundle: {str(self.path)!r}, {len(self.classes):,} classes, {self.digest[:16]}>"

    @property
    def digest(self) -> str:
        """sha256 that names this bundle, 64 hexadecimal digits."""
        return self.manifest.digest

    @property
    def max_pixels(self) -> int:
        """Images of more pixels are reported, not decoded."""
        return self.manifest.max_pixels

    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(B, S, S, 3) uint8 images from `prepare` → (B, C) float32 logits, before temperature."""
        return run(self.runtime, images, ("logits",))["logits"]

    def features(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(B, S, S, 3) uint8 images from `prepare` → (B, D) float32 features, the columns that the head reads."""
        return run(self.runtime, images, ("features",))["features"]

    def both(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(B, S, S, 3) uint8 images from `prepare` → what `logits` and `features` give, in one run."""
        found = run(self.runtime, images, ("logits", "features"))
        return found["logits"], found["features"]

    def predict(
        self, image: Image, top: int = 5, *, coverage: float | None = None, unknown: float | None = None
    ) -> Prediction:
        """The answer for one image: a path, the bytes of a file, a uint8 array (H, W, 3) or a PIL image.

        coverage  0..1: `labels` of the answer then hold the true class with at least this probability
        unknown   0..1: `strangeness.flag` of the answer then says whether the image is unlike those that were learnt
                  from, with at most this probability of a false alarm

        Both probabilities are over images like the validation images of the training. Raises data.images.BadImage where
        the image cannot be read (`predictor.predict` goes on over many), Refused where the bundle cannot promise that.
        """
        levels = Levels(coverage, unknown)
        check_levels(self.confidence, levels, self.path)
        prediction = next(iter(predict(self, [image], top=top, levels=levels)))
        if prediction.error is not None:
            raise BadImage(prediction.name, prediction.error)
        return prediction


def load_bundle(path: str | Path, threads: int | None = None) -> Bundle:
    """Open the bundle folder `path` for prediction on `threads` threads (None: one per core that may be used).

    Every file that prediction needs is checked by its digest, no pickle and no file outside the bundle is read, and
    the stored golden images must give the stored logits and features within `TOLERANCES`. The engine is the one that
    the manifest names: int8 numbers hold in one engine alone.

    Raises Refused (what is wrong and what to do) where it is no bundle, damaged, needs a newer headway, or an engine
    that is not installed.
    """
    folder = _bundle_folder(Path(path))
    manifest = read_manifest(folder)
    names = (MODEL, *(f"{PROBE}/{name}" for name in PROBE_FILES))
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise Refused(f"{folder} is incomplete: no {', '.join(missing)}. Copy the bundle again, whole.")
    engine = manifest.engine["name"]
    if engine == "openvino" and find_spec("openvino") is None:
        portable = folder / PORTABLE
        other = f" Or predict with {portable}, which needs none." if (portable / MANIFEST).is_file() else ""
        raise Refused(f"{folder} computes in int8, which needs OpenVINO, and that is not installed: {EXTRA}.{other}")
    runtime = open_runtime(_read(folder, MODEL, manifest.model_digest), folder / MODEL, engine, threads)
    _check_signature(runtime, manifest, folder / MODEL)
    _check_probe(runtime, manifest, folder)
    confidence = read_confidence(folder, manifest.conformal, manifest.unknown, manifest.outputs)
    known = manifest.preprocess, manifest.classes, manifest.temperature
    return Bundle(folder, manifest, runtime, *known, confidence)


def check_files(path: str | Path) -> Manifest:
    """Hold every file of the bundle folder `path` against its digest, nothing computed; its manifest.

    Those of the tensors and of the bundle in portable/ too, which predicting does not read. Raises Refused.
    """
    folder = _bundle_folder(Path(path))
    manifest = read_manifest(folder)
    digests = {MODEL: manifest.model_digest, TENSORS: manifest.tensors_digest}
    digests |= {f"{PROBE}/{name}": manifest.probe[name] for name in PROBE_FILES}
    for said in (manifest.conformal, manifest.unknown):
        digests |= {f"{CONFIDENCE}/{name}": digest for name, digest in dict((said or {}).get("files", {})).items()}
    for name, digest in digests.items():
        file = folder / name
        if file.parent not in (folder, folder / PROBE, folder / CONFIDENCE) or not file.is_file():
            raise Refused(f"{folder} is incomplete: no {name}. Copy the bundle again, whole.")
        if files.digest_file(file) != digest:
            raise _damaged(file)
    if (folder / PORTABLE / MANIFEST).is_file():
        check_files(folder / PORTABLE)
    return manifest


def _bundle_folder(path: Path) -> Path:
    """`path`, if it can be a bundle; else Refused with the path that was meant, where that can be told."""
    if (path / MANIFEST).is_file():
        return path
    if (path / "bundle" / MANIFEST).is_file():
        raise Refused(f"{path} is the folder of a run. Its bundle is inside: {path / 'bundle'}")
    if path.is_file():
        hint = f" Use the folder: {path.parent}" if (path.parent / MANIFEST).is_file() else ""
        raise Refused(f"{path} is a file; a bundle is a folder with a {MANIFEST}.{hint}")
    if not path.exists():
        raise Refused(f"{path} does not exist.{_near(path)}")
    if (path / "settings.yaml").is_file() or (path / "resolved.json").is_file():
        raise Refused(f"{path} is the folder of a run that has no bundle yet. Let the run finish: headway fit")
    raise Refused(f"{path} is not a bundle: it has no {MANIFEST}. A bundle is the folder bundle/ of a run.")


def _near(path: Path) -> str:
    try:
        names = [item.name for item in path.parent.iterdir() if item.is_dir()]
    except OSError:
        return ""
    close = nearest(path.name, names, 1)
    return f" Did you mean {path.parent / close[0]} ?" if close else ""


def _read(folder: Path, name: str, digest: str) -> bytes:
    path = folder / name
    try:
        content = path.read_bytes()
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror or 'input/output error'}.") from None
    if files.digest_bytes(content) != digest:
        raise _damaged(path)
    return content


def _damaged(path: Path) -> Refused:
    return Refused(f"{path} is damaged: its sha256 is not the one in {MANIFEST}. Copy the bundle again.")


def _check_signature(runtime: Runtime, manifest: Manifest, name: Path) -> None:
    """The graph takes and gives what the manifest says, whatever else it gives."""
    size = manifest.preprocess.size
    if runtime.inputs != {"image": ("uint8", [size, size, 3])}:
        taken, wanted = _told(runtime.inputs), f"uint8 images (B, {size}, {size}, 3) named 'image'"
        raise Refused(f"{name} takes {taken}; expected {wanted}.")
    for output, width in manifest.outputs.items():
        if runtime.outputs.get(output) != ("float32", [width]):
            raise Refused(f"{name} gives {_told(runtime.outputs)}; expected float32 '{output}' (B, {width}).")


def _told(ports: Mapping[str, tuple[str, list[int]]]) -> str:
    return ", ".join(f"{name} {kind} (B, {', '.join(map(str, shape))})" for name, (kind, shape) in ports.items())


def _check_probe(runtime: Runtime, manifest: Manifest, folder: Path) -> None:
    images, logits, features = (
        _array(folder, f"{PROBE}/{name}", _read(folder, f"{PROBE}/{name}", manifest.probe[name]))
        for name in PROBE_FILES
    )
    size, n = manifest.preprocess.size, len(images) if images.ndim else 0
    wanted = {"logits": (n, manifest.outputs["logits"]), "features": (n, manifest.outputs["features"])}
    shapes = {"logits": logits.shape, "features": features.shape}
    types = [array.dtype.name for array in (images, logits, features)]
    if n == 0 or images.shape != (n, size, size, 3) or types != ["uint8", "float32", "float32"] or shapes != wanted:
        raise Refused(f"{folder / PROBE} does not fit {MANIFEST}: images {images.shape}, {shapes}.")
    try:
        found = run(runtime, images, ("logits", "features"))
    except HeadwayError as error:
        raise Refused(f"{folder / MODEL} is damaged: {error}") from error
    worst = probe_difference(found, {"logits": logits, "features": features})
    tolerance = TOLERANCES[manifest.engine.get("precision", "fp32")]
    if not worst <= tolerance:
        raise Refused(
            f"{folder} computes other numbers here than where it was made: golden images differ by {worst:.1e} of the "
            f"largest value (allowed {tolerance:.0e}). Made with {manifest.engine.get('made_with', 'onnxruntime')}; "
            "try that version, or make the bundle again on this machine."
        )


def probe_difference(found: Mapping[str, NDArray[np.float32]], stored: Mapping[str, NDArray[np.float32]]) -> float:
    """The largest difference of any output, as a share of its largest stored value (at least 1); NaN stays NaN."""
    shares = [
        float(np.abs(found[name] - stored[name]).max() / max(1.0, float(np.abs(stored[name]).max()))) for name in stored
    ]
    return float(np.max(shares))


def _array(folder: Path, name: str, content: bytes) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, OSError, EOFError, MemoryError, OverflowError):
        raise Refused(f"{folder / name} is not a plain numpy array.") from None
    return array
