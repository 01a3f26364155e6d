"""A bundle: the folder that predicts. Loading it checks every file it needs and that it computes what it computed."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headway import files
from headway.backbones.preprocess import Preprocess
from headway.data.images import BadImage
from headway.deployment.graph_file import has_external_data
from headway.deployment.manifest import MANIFEST, MODEL, PROBE, PROBE_FILES, Manifest, read_manifest
from headway.deployment.predictor import Image, Prediction, predict
from headway.errors import HeadwayError, Refused, nearest

# Every call of the engine has this many images, the tail padded: a kernel chosen by the batch's size may round
# otherwise, and an image's answer must not depend on its neighbours. 4 keeps one image quick and a folder near the
# top speed (lite0 on 2 cores, images/s at 1, 4, 8: 91, 160, 170). Bits are then equal wherever channels come in
# multiples of 8; else ONNX Runtime's means may differ in the last bit with an image's place in memory.
BATCH = 4

# Golden outputs may differ by this share of the largest value (at least 1): processors sum in another order.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Bundle:
    """A classifier that is ready to predict. Its methods may be called from several threads."""

    path: Path
    manifest: Manifest
    session: Any  # onnxruntime.InferenceSession
    preprocess: Preprocess
    classes: tuple[str, ...]
    temperature: float

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
        return run(self.session, images, ("logits",))["logits"]

    def features(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(B, S, S, 3) uint8 images from `prepare` → (B, D) float32 features, the columns that the head reads."""
        return run(self.session, images, ("features",))["features"]

    def predict(self, image: Image, top: int = 5) -> Prediction:
        """The answer for one image: a path, the bytes of a file, a uint8 array (H, W, 3) or a PIL image.

        Raises data.images.BadImage where the image cannot be read; `predictor.predict` goes on over many.
        """
        prediction = next(iter(predict(self, [image], top=top)))
        if prediction.error is not None:
            raise BadImage(prediction.name, prediction.error)
        return prediction


def load_bundle(path: str | Path, threads: int | None = None) -> Bundle:
    """Open the bundle folder `path` for prediction on `threads` threads (None: one per core that may be used).

    Every file that prediction needs is checked by its digest, no pickle and no file outside the bundle is read, and
    the stored golden images must give the stored logits and features within `TOLERANCE`.

    Raises Refused (what is wrong and what to do) where it is no bundle, damaged, or needs a newer headway.
    """
    folder = _bundle_folder(Path(path))
    manifest = read_manifest(folder)
    names = (MODEL, *(f"{PROBE}/{name}" for name in PROBE_FILES))
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise Refused(f"{folder} is incomplete: no {', '.join(missing)}. Copy the bundle again, whole.")
    session = open_session(_read(folder, MODEL, manifest.model_digest), folder / MODEL, threads)
    _check_signature(session, manifest, folder / MODEL)
    _check_probe(session, manifest, folder)
    return Bundle(folder, manifest, session, manifest.preprocess, manifest.classes, manifest.temperature)


def open_session(model: bytes, name: Path, threads: int | None = None) -> Any:
    """ONNX Runtime on the CPU for the one-file model in `model`; `name` stands in messages only.

    Raises Refused where the model points to other files, or where ONNX Runtime cannot read it.
    """
    import onnxruntime

    try:
        external = has_external_data(model)
    except ValueError as error:
        raise Refused(f"{name} is damaged: it is not an ONNX model ({error}).") from None
    if external:
        raise Refused(f"{name} refers to data in other files. A bundle's model is one file; make the bundle again.")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or available_cores()
    options.log_severity_level = 4  # what matters comes as an exception
    # Threads that wait by spinning take the cores from decoding, and from whatever else the machine does.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        # Without the fallback, which is to the same provider and prints to standard output.
        return onnxruntime.InferenceSession(model, options, ["CPUExecutionProvider"], enable_fallback=0)
    except Exception as error:  # the binding's errors share no narrower class
        raise Refused(
            f"{name} cannot be opened by onnxruntime {onnxruntime.__version__}: {_first_line(error)} "
            "Try: pip install --upgrade onnxruntime"
        ) from None


def available_cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return max(1, os.cpu_count() or 1)


def run(session: Any, images: NDArray[np.uint8], outputs: tuple[str, ...]) -> dict[str, NDArray[np.float32]]:
    """(N, S, S, 3) uint8 → named outputs (N, ·) float32, computed in batches of `BATCH`, the tail padded and cut.

    Raises HeadwayError where `images` are not of that kind, or the model cannot be computed.
    """
    size = session.get_inputs()[0].shape[1]
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (size, size, 3):
        raise HeadwayError(f"expected uint8 images (B, {size}, {size}, 3), got {images.dtype} {images.shape}")
    parts: dict[str, list[NDArray[np.float32]]] = {name: [] for name in outputs}
    for start in range(0, len(images), BATCH):
        batch = images[start : start + BATCH]
        n = len(batch)
        if n < BATCH:
            batch = np.concatenate([batch, np.zeros((BATCH - n, size, size, 3), np.uint8)])
        try:
            found = session.run(list(outputs), {"image": batch})
        except Exception as error:  # the binding's errors share no narrower class
            raise HeadwayError(f"the model cannot be computed: {_first_line(error)}") from error
        for name, values in zip(outputs, found, strict=True):
            parts[name].append(values[:n])
    widths = {item.name: item.shape[1] for item in session.get_outputs()}
    empty = {name: np.zeros((0, widths[name]), np.float32) for name in outputs}
    return {name: np.concatenate([empty[name], *parts[name]]) for name in outputs}


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
        raise Refused(f"{path} is damaged: its sha256 is not the one in {MANIFEST}. Copy the bundle again.")
    return content


def _check_signature(session: Any, manifest: Manifest, name: Path) -> None:
    """The graph takes and gives what the manifest says, whatever else it gives."""
    size = manifest.preprocess.size
    found = [(item.name, item.type, list(item.shape[1:])) for item in session.get_inputs()]
    if found != [("image", "tensor(uint8)", [size, size, 3])]:
        raise Refused(f"{name} takes {found}; expected uint8 images (B, {size}, {size}, 3) named 'image'.")
    outputs = {item.name: (item.type, list(item.shape[1:])) for item in session.get_outputs()}
    for output, width in manifest.outputs.items():
        if outputs.get(output) != ("tensor(float)", [width]):
            raise Refused(f"{name} gives {outputs}; expected float32 '{output}' (B, {width}).")


def _check_probe(session: Any, manifest: Manifest, folder: Path) -> None:
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
        found = run(session, images, ("logits", "features"))
    except HeadwayError as error:
        raise Refused(f"{folder / MODEL} is damaged: {error}") from error
    worst = probe_difference(found, {"logits": logits, "features": features})
    if not worst <= TOLERANCE:
        raise Refused(
            f"{folder} computes other numbers here than where it was made: golden images differ by {worst:.1e} of the "
            f"largest value (allowed {TOLERANCE:.0e}). Made with {manifest.engine.get('made_with', 'onnxruntime')}; "
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


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return (lines[0][:200].rstrip(". ") if lines else type(error).__name__) + "."
