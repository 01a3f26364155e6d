"""Short measurements of this machine with this network on some of the user's images: what `cost` computes with.

What is about the machine and the network alone (a step of training, a graph, a product) is kept in the cache and only
scaled the next time, by a fixed computation that is timed anew. No label is looked at, and no image that the data gives
as test.
"""

from __future__ import annotations

import contextlib
import copy
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headway import files
from headway.data.dataset import TEST, Dataset
from headway.features.reading import ReadTask, content_digest
from headway.features.scaling import open_scaler
from headway.features.store import Store
from headway.machine import machine, usable_cores, versions

if TYPE_CHECKING:
    from headway.backbones.engines import Engine
    from headway.backbones.opening import BackboneSession
    from headway.backbones.preprocess import Preprocess
    from headway.training.finetune import RoadSettings

VERSION = 2  # of what is measured under which name
IMAGES = 64  # of the user's, that are decoded and trained on
SOUGHT = 1_000  # whose content is looked up in the store
_PIECE = 8
_FRONT = 32  # images that the front looks at together, as training.activations
_MOST_BATCH = 64  # images a step: of more the seconds for an image hardly change
_STEPS, _LONG = (2, 10), 2.0  # timed steps at least and at most; seconds after which there are enough
_WRITTEN = 24 << 20
_CHANCE = 1.2  # two readings of `reference` differ by as much though the machine is as fast as before


@dataclass
class Notebook:
    """What was measured of a network on this machine before, with the speed of the machine then. In the cache.

    now  seconds of `reference` at present
    """

    place: Path
    now: float
    known: dict[str, Any] = field(default_factory=dict)

    @staticmethod
    def open(cache: Path, network: Mapping[str, Any], threads: int) -> Notebook:
        """network: name, side and whatever else of it decides how fast it is."""
        here = {key: value for key, value in machine().items() if key != "system"}
        asked = {"rules": VERSION, "network": dict(network), "threads": threads}
        key = files.digest_json({**asked, "machine": here, "versions": versions()})
        place, known = cache / "costs" / f"{key[:32]}.json", {}
        with contextlib.suppress(OSError, ValueError, TypeError):  # not there, or not ours: measured anew
            known = dict(files.read_json(place))
        return Notebook(place, statistics.median(reference() for _ in range(3)), known)

    def measured(self, name: str, measure: Callable[[], list[float]], seconds: int = 1) -> list[float]:
        """Numbers that were noted under `name`, as long as this machine would take now; else measured and noted.

        seconds  how many of them are such; what comes after these stays as it is
        """
        found = self.remembered(name)
        if found is not None:
            return found
        values = measure()
        self.now = statistics.median([self.now, reference(), reference()])
        self.known[name] = {"values": values, "seconds": seconds, "reference": self.now}
        self.place.parent.mkdir(parents=True, exist_ok=True)
        files.write_json(self.place, self.known)
        return values

    def remembered(self, name: str) -> list[float] | None:
        """As `measured`, None where nothing is noted."""
        try:
            noted = self.known[name]
            slower, values = _slower(self.now / float(noted["reference"])), [float(value) for value in noted["values"]]
            return [value * slower for value in values[: noted["seconds"]]] + values[noted["seconds"] :]
        except (KeyError, TypeError, ValueError, ZeroDivisionError):
            return None


def _slower(ratio: float) -> float:
    """How much longer something takes now, of what `reference` takes now over what it took then: less than it says.

    On a machine that others use, too, readings a second apart differ by up to 1.5, averages over the ten seconds that a
    run takes by 1.1. What is beyond `_CHANCE` counts (a soft threshold): in simulated plans, from 150 s of readings,
    predictions were off by 0.06 in the middle and 0.15 in one of ten; 0.11 and 0.27 with the ratio as it is.
    """
    return max(ratio / _CHANCE, min(ratio * _CHANCE, 1.0))


def reference(threads: int | None = None) -> float:
    """Seconds of a fixed computation, done by every core at once: how fast this machine is at present.

    The median of five. Sorting, as it asks for no library whose threads would wait for each other on a busy machine.
    """
    numbers = np.random.default_rng(0).integers(0, 1 << 30, 250_000, dtype=np.int64)
    cores, seconds = threads or usable_cores(), []
    with ThreadPoolExecutor(cores, "headway-measure") as pool:
        for _ in range(6):
            start = time.perf_counter()
            list(pool.map(np.sort, [numbers] * cores))
            seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


def sampled(dataset: Dataset, n: int) -> NDArray[np.intp]:
    """At most `n` samples, evenly spread over those that the data does not give as test."""
    free = np.flatnonzero(dataset.given != TEST)
    return free[np.unique(np.linspace(0, len(free) - 1, min(n, len(free))).astype(np.intp))] if len(free) else free


def decoding(
    dataset: Dataset, indices: NDArray[np.intp], preprocess: Preprocess, threads: int
) -> tuple[float, NDArray[np.uint8]]:
    """Seconds that an image takes on all cores to become the network's input; the inputs (n, S, S, 3)."""
    task = ReadTask(dataset, preprocess, scaler=open_scaler())
    pieces = [indices[at : at + _PIECE].tolist() for at in range(0, len(indices), _PIECE)]
    task(pieces[0])  # what is imported or opened on first use
    start = time.perf_counter()
    with ThreadPoolExecutor(threads, "headway-measure") as pool:
        readings = [reading for found in pool.map(task, pieces) for reading in found]
    seconds = (time.perf_counter() - start) / max(1, len(indices))
    images = [reading.image for reading in readings if reading.image is not None]
    return seconds, np.stack(images) if images else np.zeros((1, preprocess.size, preprocess.size, 3), np.uint8)


def looking_up(dataset: Dataset, indices: NDArray[np.intp], stores: list[Store], threads: int) -> list[float]:
    """Seconds that an image takes to be read and sought, then the share of them that each store holds."""

    def digests(piece: list[int]) -> list[bytes]:
        found = []
        for index in piece:
            with contextlib.suppress(Exception):  # the pass will say what is wrong with it
                found.append(content_digest(dataset.source.read(index)))
        return found

    pieces = [indices[at : at + _PIECE].tolist() for at in range(0, len(indices), _PIECE)]
    start = time.perf_counter()
    with ThreadPoolExecutor(threads, "headway-measure") as pool:
        found = [digest for digests_of in pool.map(digests, pieces) for digest in digests_of]
    seconds = (time.perf_counter() - start) / max(1, len(indices))
    array = np.frombuffer(b"".join(found), np.uint8).reshape(-1, 32)
    return [seconds, *(float((store.find(array) >= 0).mean()) if len(array) else 0.0 for store in stores)]


def engine(open_engine: Callable[[], Engine], batch: int, images: NDArray[np.uint8]) -> list[float]:
    """[Seconds of an image through an engine], the best of three rounds.

    images  (n, S, S, 3) uint8, of which the engine sees `batch` at a time
    """
    opened, seconds = open_engine(), []
    rows = np.resize(images, (max(1, len(images) // batch) * batch, *images.shape[1:]))
    opened.run(rows[:batch])  # what is set up on first use
    for _ in range(3):
        start = time.perf_counter()
        for at in range(0, len(rows), batch):
            opened.run(rows[at : at + batch])
        seconds.append(time.perf_counter() - start)
    return [min(seconds) / len(rows)]


def product(columns: int, classes: int) -> list[float]:
    """[Seconds of 1e9 multiplications of features (n, D) with weights (D, C) and back, as a head is solved; bytes of
    memory at the most, torch imported]."""
    import torch

    n = min(4096, (64 << 20) // (4 * columns))  # whatever the data: it is remembered for others of as many classes
    features, weight = torch.full((n, columns), 0.5), torch.full((columns, classes), 0.5)
    seconds = []
    for _ in range(4):
        start = time.perf_counter()
        logits = features @ weight
        logits.T @ features
        seconds.append(time.perf_counter() - start)
    return [min(seconds[1:]) / (2 * n * columns * classes) * 1e9, float(peak_memory())]


def disk(folder: Path) -> list[float]:
    """Seconds in which 1e9 bytes are digested and brought to the disk, as a checkpoint is."""
    content = np.random.default_rng(0).bytes(_WRITTEN)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".cost-") as place:
        start = time.perf_counter()
        files.digest_bytes(content)
        files.write_bytes(Path(place) / "content", content)
        seconds = time.perf_counter() - start
    return [seconds / _WRITTEN * 1e9]


def graph(session: BackboneSession, images: NDArray[np.uint8], engine: str) -> list[float]:
    """Seconds in which a trained network of this kind becomes a graph and its engine is chosen."""
    from headway.backbones.opening import trained_session
    from headway.backbones.prepare import keep_trained

    module = copy.deepcopy(session.module())
    with tempfile.TemporaryDirectory(prefix="headway-cost-") as place:
        start = time.perf_counter()
        trunk = keep_trained(Path(place) / "trained", module, session.facts())
        trained = trained_session(Path(place) / "cache", trunk, module, session.threads, session.device)
        trained.choose(trunk, engine, None, lambda: images)
        return [time.perf_counter() - start]


def training(
    session: BackboneSession, preprocess: Preprocess, road: RoadSettings, classes: int, images: NDArray[np.uint8]
) -> list[float]:
    """Seconds of an image: [front, step, forward], then bytes [of an activation, of memory at the most].

    images  (n, S, S, 3) uint8. The network of the session is copied, not changed
    """
    import torch

    from headway.machine import keep_freed_memory
    from headway.training.finetune import build_model, cut_frozen
    from headway.training.judging import predict
    from headway.training.task import Rows, Task

    torch.set_num_threads(road.threads)
    keep_freed_memory()
    resident = resident_memory()
    n = min(road.loop.batch, _MOST_BATCH)
    model = build_model(copy.deepcopy(session.module()), _brief(preprocess, classes), road)
    given, front, bytes_kept = torch.from_numpy(np.resize(images, (n, *images.shape[1:]))), 0.0, 0
    fed, parts = model, cut_frozen(model, road)
    if parts is not None:
        front, given = _front(parts[0], given)
        fed, bytes_kept = parts[1], given[0].numel() * 4
    labels = np.arange(n, dtype=np.int64) % classes
    rows = Rows(lambda batches, epoch: (given[torch.from_numpy(batch)] for batch in batches), labels)
    step = _step(Task(fed, rows, rows, fed.depths()), replace(road.loop, batch=n))
    predict(fed, rows, n)
    start = time.perf_counter()
    predict(fed, rows, n)
    forward, peak = (time.perf_counter() - start) / n, peak_memory()
    most = peak + (road.loop.batch / n - 1) * max(0, peak - resident)  # of a step with more images than were tried
    return [front, step, forward, float(bytes_kept), most]


def _front(front: Any, images: Any) -> tuple[float, Any]:
    """Seconds of an image in the frozen front, and what it gives of `images`."""
    import torch

    front.eval()
    seconds, found = [], []
    with torch.no_grad():
        front(images[:_FRONT])
        for part in (*images.split(_FRONT), images[:_FRONT]):
            start = time.perf_counter()
            found.append(front(part))
            seconds.append((time.perf_counter() - start) / len(part))
    return statistics.median(seconds), torch.cat(found[:-1])


def _step(task: Any, loop: Any) -> float:
    """Seconds of an image in a step: the median of some, after one that warms up."""
    from headway.training.batch import Batch
    from headway.training.stepping import Stepper
    from headway.world import ALONE

    stepper, seconds = Stepper(task, loop, ALONE), []
    positions = np.arange(len(task.train), dtype=np.intp)
    began = time.perf_counter()
    try:
        (images,) = task.train.feed([positions], 1)
        for number in range(_STEPS[1] + 1):
            start = time.perf_counter()
            stepper.gradients(
                Batch.of(positions, 1, (number + 1, _STEPS[1] + 1), loop, ALONE), images, loop.micro_batch
            )
            stepper.apply()
            seconds.append(time.perf_counter() - start)
            if number >= _STEPS[0] and time.perf_counter() - began > _LONG:
                break
    finally:
        stepper.release()
    return statistics.median(seconds[1:]) / len(positions)


def _brief(preprocess: Preprocess, classes: int) -> Any:
    """What a model is built by, with no images in it and a random head."""
    from headway.data.dataset import Contents, Split
    from headway.training.finetune import Brief

    nothing, none = np.zeros((0, 32), np.uint8), np.zeros((0, 2), np.int32)
    contents = Contents(np.zeros(0, bool), {}, nothing, nothing, none)
    return Brief(contents, Split(np.zeros(0, np.int8), ()), preprocess, classes, None)


def resident_memory() -> int:
    """Bytes that this process holds now; what it needed at the most where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return peak_memory()


def peak_memory() -> int:
    """Bytes that this process has needed at the most; 0 where the system does not tell."""
    if sys.platform == "win32":
        return 0
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(most if sys.platform == "darwin" else most << 10)
