"""Run folders: numbered, gone on with by the same command, never mixed, never anybody else's."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from headway import files
from headway.errors import Refused
from headway.runs import Run, open_run
from headway.settings import FitSettings, fit_settings, from_yaml, to_yaml


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()


def opened(data: str = "photos", **options: Any) -> Run:
    """Open a run, and let go of it as a process that ends does."""
    run = open_run(fit_settings(data, **options))
    run.lock.close()
    return run


def finish(run: Run) -> None:
    files.write_json(run.path / "evaluation.json", {"result": {"run": str(run.path)}})
    (run.path / "report.html").touch()


def refusal(data: str = "photos", **options: Any) -> str:
    with pytest.raises(Refused) as caught:
        open_run(fit_settings(data, **options))
    return str(caught.value)


def tree(folder: Path) -> dict[str, bytes | None]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")
    }


@contextmanager
def held_by_another(path: Path) -> Iterator[None]:
    """Another process holds the run in `path`."""
    code = (
        "import sys; from pathlib import Path\n"
        "from headway.runs import open_run; from headway.settings import from_yaml\n"
        "run = open_run(from_yaml(sys.argv[1])); print(run.path, flush=True); sys.stdin.read()\n"
    )
    settings = to_yaml(fit_settings("photos", run=path))
    other = subprocess.Popen(
        [sys.executable, "-c", code, settings], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert other.stdout is not None
        assert other.stdout.readline().strip() == str(path)
        yield
    finally:
        other.communicate("")


# Names ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ("photos", "photos-1"),
        ("photos/", "photos-1"),
        ("my photos", "my-photos-1"),
        ("cifar-100-python.tar.gz", "cifar-100-python-1"),
        ("table.csv", "table-1"),
        ("bücher", "bücher-1"),
        ("a/../photos", "photos-1"),
        (".", None),
        ("-x-", "x-1"),
        ("…", "data-1"),
        ("/", "data-1"),
    ],
)
def test_name__of_the_data_and_a_number(tmp_path: Path, data: str, name: str | None) -> None:
    assert opened(data).path == Path("runs") / (name or f"{tmp_path.name}-1")


def test_name__a_finished_run_makes_the_next_number() -> None:
    for number in (1, 2, 3):
        run = opened()
        assert run.path == Path("runs") / f"photos-{number}"
        assert (run.resolved, run.result) == ({}, None)
        finish(run)


def test_name__other_settings_make_the_next_number() -> None:
    assert opened().path == Path("runs/photos-1")
    assert opened(seed=1).path == Path("runs/photos-2")
    assert opened(seed=1).path == Path("runs/photos-2")
    assert opened().path == Path("runs/photos-1")


def test_name__passes_over_what_is_not_ours() -> None:
    for number, content in ((1, "notes.txt"), (3, ".hidden")):
        (Path("runs") / f"photos-{number}").mkdir(parents=True)
        (Path("runs") / f"photos-{number}" / content).write_text("mine")
    Path("runs/photos-2").write_text("a file")

    assert opened().path == Path("runs/photos-4")
    assert Path("runs/photos-1/notes.txt").read_text() == "mine"


# The same command goes on ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"run": Path("out/one")}], ids=["numbered", "named"])
def test_again__an_unfinished_run_goes_on(options: dict[str, Any]) -> None:
    first = opened(**options)
    first.resolve({"engine": {"name": "torch"}})

    again = opened(**options)

    assert again.path == first.path
    assert again.resolved["engine"] == {"name": "torch"}
    assert again.result is None
    assert from_yaml((again.path / "settings.yaml").read_text()) == first.settings


def test_again__a_finished_run_by_name_tells_its_result() -> None:
    run = opened(run="out")
    finish(run)

    assert opened(run="out").result == {"run": "out"}


def test_again__settings_are_written_as_asked_and_once() -> None:
    first = opened(seed=3)
    before = (first.path / "settings.yaml").read_bytes()
    again = opened(seed=3)

    assert (again.path / "settings.yaml").read_bytes() == before
    assert from_yaml(before.decode()) == fit_settings("photos", seed=3)


def test_resolved__stands_before_anything_else_and_knows_the_versions() -> None:
    run = opened()

    told = files.read_json(run.path / "resolved.json")
    assert told.keys() == {"versions", "machine"}
    assert told["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))


def test_resolved__keeps_what_was_settled_before() -> None:
    first = opened()
    first.resolve({"engine": {"name": "torch"}, "seed": 0})
    opened().resolve({"seed": 0, "prepare_seconds": 1.0})

    told = files.read_json(first.path / "resolved.json")
    assert (told["engine"], told["seed"], told["prepare_seconds"]) == ({"name": "torch"}, 0, 1.0)


# Killed starts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("left", [[], ["settings.yaml"], ["settings.yaml", "resolved.json"], [".resolved.json.x.tmp"]])
@pytest.mark.parametrize("name", ["runs/photos-1", "out"])
def test_killed__before_anything_was_written(left: list[str], name: str) -> None:
    Path(name).mkdir(parents=True)
    for item in left:
        (Path(name) / item).touch()

    run = opened(**({"run": name} if name == "out" else {}))

    assert run.path == Path(name)
    assert from_yaml((run.path / "settings.yaml").read_text()) == run.settings
    assert run.resolved == {}
    assert sorted(path.name for path in run.path.iterdir()) == ["resolved.json", "settings.yaml"]


def test_killed__temporaries_are_cleared_away() -> None:
    run = opened()
    for name in (".evaluation.json.abc.tmp", ".settings.yaml.tmp"):
        (run.path / name).write_text("half")
    (run.path / ".bundle.abc.tmp").mkdir()
    (run.path / ".bundle.abc.tmp" / "model.onnx").touch()
    (run.path / "thumbnails.parquet").touch()

    opened()

    assert sorted(path.name for path in run.path.iterdir()) == ["resolved.json", "settings.yaml", "thumbnails.parquet"]


@pytest.mark.parametrize("content", ["", "{", '{"engine": {"na'])
def test_killed__a_torn_resolved_is_decided_anew(content: str) -> None:
    run = opened()
    (run.path / "resolved.json").write_text(content)

    again = opened()

    assert again.resolved == {}
    assert json.loads((run.path / "resolved.json").read_text()).keys() == {"versions", "machine"}


# Refusals -------------------------------------------------------------------------------------------------------


def test_named__other_settings_are_refused() -> None:
    run = opened(run="out", seed=1)
    before = tree(run.path)

    assert refusal(run="out", seed=2, class_weights=True) == (
        "out/ holds a run with other settings (--class-weights, --seed). "
        "Choose another --run, or give the settings of that run to go on with it."
    )
    assert refusal("pictures", run="out", seed=1) == (
        "out/ holds a run with other settings (data). "
        "Choose another --run, or give the settings of that run to go on with it."
    )
    assert tree(run.path) == before


@pytest.mark.parametrize("content", ["notes.txt", ".git/config", "settings.yml"])
def test_named__a_folder_of_somebody_else_is_refused_and_untouched(content: str) -> None:
    path = Path("out") / content
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    before = tree(Path("out"))

    assert refusal(run="out") == (
        "out/ is not empty and not a run of headway. Choose another --run; nothing in it was touched."
    )
    assert tree(Path("out")) == before


def test_named__held_by_another_process() -> None:
    with held_by_another(Path("out")):
        assert refusal(run="out") == "another headway is at work in out/. Wait for it, or choose another --run."

    assert opened(run="out").path == Path("out")


def test_numbered__held_by_another_process_is_passed_over() -> None:
    with held_by_another(Path("runs/photos-1")):
        assert opened().path == Path("runs/photos-2")


def test_lock__ends_with_its_process() -> None:
    settings: FitSettings = fit_settings("photos", run="out")
    run = open_run(settings)
    with pytest.raises(Refused, match="another headway is at work in out/"):
        open_run(settings)
    run.lock.close()

    again = open_run(settings)
    again.lock.close()
    assert again.path == run.path
