"""The story of `headway tune`, in the order in which it happens; `workflow` hands in how a run is fitted."""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headway import files
from headway.errors import Refused
from headway.events import Event, Line, Note, Opened
from headway.settings import FitSettings
from headway.tuning import study
from headway.tuning.folder import FOUND, open_search, told
from headway.tuning.request import Request

if TYPE_CHECKING:
    from optuna.study import Study

    from headway.tuning.searching import Ground, Judge

Story = Generator[Event, None, dict[str, Any]]


def tune(request: Request, fitting: Callable[[FitSettings], Story]) -> Story:
    """Trials on training images, the winner judged on validation images, then fitted as any run."""
    study.check_optuna()
    folder = open_search(request)
    yield Opened(folder.path)
    if folder.result is not None:
        yield Note(f"{folder.path}/ is finished; nothing was done again")
        return folder.result
    found = folder.found
    if found is None:
        try:
            ground, judge, kept, place = yield from _prepare(request, folder.path)
        except Refused:
            folder.discard()
            raise
        from headway.tuning import searching

        with study.quiet(), study.reached(place):
            spent = yield from searching.run_trials(ground, judge, kept, place)
            found = yield from searching.conclude(ground, judge, kept, place, spent)
        files.write_json(folder.path / FOUND, found)
        del ground, judge  # the run reads features of its own
    yield Line("fit", f"the winner, as: {found['command']}")
    return told((yield from fitting(request.settings(found["winner"]["options"], folder.path))), found)


def join(request: Request) -> Story:
    """Trials of a search that another process began, and nothing else."""
    study.check_optuna()
    ground, judge, kept, place = yield from _prepare(request, Path())

    from headway.tuning import searching

    with study.quiet(), study.reached(place):
        spent = yield from searching.run_trials(ground, judge, kept, place)
    yield Line("joined", f"{spent.ran:,} trials run here in {spent.seconds:.1f} s; the search that was joined tells")
    return {"study": place.told, "name": kept.study_name, "ran": spent.ran, "seconds": round(spent.seconds, 2)}


def _prepare(request: Request, folder: Path) -> Generator[Event, None, tuple[Ground, Judge, Study, study.Place]]:
    """What trials need: the images seen once, how a trial is judged, the study; the usual settings come first."""
    from headway.data.sources import load_dataset
    from headway.telling import told_dataset

    place = study.place_of(request.study, folder)
    with study.quiet():
        study.reach(place)  # what cannot work is refused before any image is looked at
    dataset = load_dataset(request.base.data)
    yield Line("data", told_dataset(dataset))

    from headway.tuning import searching

    ground = yield from searching.look(dataset, request)
    judge = searching.judge_of(ground)
    with study.quiet(), study.reached(place):
        kept = study.open_study(place, ground.name(), request)
        if not place.shared:
            study.tidy(kept)
        if not request.join:
            searching.begin(ground, judge, kept)
    return ground, judge, kept, place
