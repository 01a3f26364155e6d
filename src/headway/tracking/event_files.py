"""TensorBoard: event files in the folder `tensorboard` of the run, by the writer that comes with torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from headway.tracking.points import Ended, Point

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

FOLDER = "tensorboard"


class EventFiles:
    """The event files of one run. A later start adds a file; TensorBoard reads all of them as one."""

    def __init__(self, run: Path) -> None:
        self.run, self.folder = run, run / FOLDER
        self.known: set[tuple[str, int]] = set()
        self.writer: SummaryWriter | None = None

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
        missing = [point for point in told if (point.name, point.step) not in self.known]
        if not missing:
            return
        if self.writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(str(self.folder))
        for point in missing:
            self.writer.add_scalar(point.name, point.value, point.step)
        self.writer.flush()
        self.known |= {(point.name, point.step) for point in missing}

    def finish(self, whole: Ended) -> None:
        """The rest of the curves; then settings beside final figures, for the page HPARAMS, and a summary as text."""
        self.log(whole.curves)
        self._close()
        if all((point.name, point.step) in self.known for point in whole.final):
            return
        from torch.utils.tensorboard import SummaryWriter

        with SummaryWriter(str(self.folder)) as writer:
            writer.add_text("run", f"{whole.summary}\n\nReport: {self.run / 'report.html'}")
            # The figures are written with it, into this folder and not one of their own.
            writer.add_hparams(
                dict(whole.settings), {point.name: point.value for point in whole.final}, run_name=".", global_step=0
            )
        self.known |= {(point.name, point.step) for point in whole.final}

    def leave(self, status: str) -> None:
        """Close the file: what is written is written."""
        self._close()

    def _close(self) -> None:
        if self.writer is not None:
            self.writer.close()
            self.writer = None

    def place(self) -> str:
        """Where to look, for people."""
        return f"{self.folder}   (look: tensorboard --logdir {self.run.parent})"
