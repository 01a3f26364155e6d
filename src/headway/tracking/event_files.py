"""TensorBoard: event files in the folder `tensorboard` of the run, by the writer that comes with torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from headway.tracking.points import Ended, Point

FOLDER = "tensorboard"


class EventFiles:
    """The event files of one run. A later start adds a file; TensorBoard reads all of them as one."""

    def __init__(self, run: Path) -> None:
        self.run, self.folder = run, run / FOLDER
        self.known: set[tuple[str, int]] = set()

    def begin(self) -> None:
        """Find out which figures an earlier start has written."""
        from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator

        if not self.folder.exists():
            return
        found = EventAccumulator(str(self.folder), size_guidance={SCALARS: 0})  # 0 = all of them
        found.Reload()
        for name in found.Tags()[SCALARS]:
            self.known |= {(name, event.step) for event in found.Scalars(name)}

    def log(self, told: Sequence[Point]) -> None:
        """Write what is not there yet, and see it on the disk."""
        from torch.utils.tensorboard import SummaryWriter

        missing = [point for point in told if (point.name, point.step) not in self.known]
        if not missing:
            return
        with SummaryWriter(str(self.folder)) as writer:
            for point in missing:
                writer.add_scalar(point.name, point.value, point.step)
        self.known |= {(point.name, point.step) for point in missing}

    def finish(self, whole: Ended) -> None:
        """The rest of the curves; then settings beside final figures, for the page HPARAMS, and a summary as text."""
        from torch.utils.tensorboard import SummaryWriter

        self.log(whole.curves)
        if all((point.name, point.step) in self.known for point in whole.final):
            return
        with SummaryWriter(str(self.folder)) as writer:
            writer.add_text("run", f"{whole.summary}\n\nReport: {self.run / 'report.html'}")
            # The figures are written with it, into this folder and not one of their own.
            writer.add_hparams(
                dict(whole.settings), {point.name: point.value for point in whole.final}, run_name=".", global_step=0
            )
        self.known |= {(point.name, point.step) for point in whole.final}

    def leave(self, status: str) -> None:
        """Nothing: what is written is written."""

    def place(self) -> str:
        """Where to look, for people."""
        return f"{self.folder}   (look: tensorboard --logdir {self.run.parent})"
