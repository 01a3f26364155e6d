"""Run folders: numbered, gone on with by the same command, never mixed, never anybody else's."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from headway import files
from headway.choices import compare_settings
from headway.errors import Refused
from headway.machine import machine
from headway.runs import ComparisonFolder, Run, open_comparison, open_run, resume_settings
from headway.settings import FitSettings, fit_settings, from_yaml, to_yaml

FIRST = {"versions", "machine", "world_size", "threads", "started_in"}  # what a run writes down before anything else


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


def test_name__of_a_ring_of_links() -> None:
    Path("ring").symlink_to("gnir")
    Path("gnir").symlink_to("ring")

    assert opened("ring").path == Path("runs/ring-1")


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
    assert told.keys() == FIRST
    assert told["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))


def test_resolved__keeps_what_was_settled_before() -> None:
    first = opened()
    first.resolve({"engine": {"name": "torch"}, "seed": 0})
    opened().resolve({"seed": 0, "prepare_seconds": 1.0})

    told = files.read_json(first.path / "resolved.json")
    assert (told["engine"], told["seed"], told["prepare_seconds"]) == ({"name": "torch"}, 0, 1.0)


def test_resolved__adds_up_within_one_start() -> None:
    run = opened()
    run.resolve({"engine": {"name": "torch"}, "seed": 0})
    run.resolve({"lr": 0.1, "seed": 1})

    told = files.read_json(run.path / "resolved.json")
    assert (told["engine"], told["lr"], told["seed"]) == ({"name": "torch"}, 0.1, 1)


def test_resolved__knows_where_and_with_how_many_threads_it_began(tmp_path: Path) -> None:
    told = files.read_json(opened(threads=3).path / "resolved.json")

    assert (told["world_size"], told["threads"], told["started_in"]) == (1, 3, str(tmp_path))


def test_resolved__two_processes_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    cores = files.read_json(opened().path / "resolved.json")["threads"]
    for name, value in (("WORLD_SIZE", "2"), ("LOCAL_WORLD_SIZE", "2"), ("RANK", "0")):
        monkeypatch.setenv(name, value)

    told = files.read_json(opened(seed=1).path / "resolved.json")
    assert (told["world_size"], told["threads"]) == (2, max(1, cores // 2))


# Another machine ------------------------------------------------------------------------------------------------


def test_differences__none_where_nothing_differs() -> None:
    assert opened().differences == ()
    assert opened().differences == ()


def test_differences__each_is_said_and_stays_so() -> None:
    first = opened(threads=1)
    told = files.read_json(first.path / "resolved.json")
    told["versions"].update(torch="1.0", numpy=None, old="3")
    del told["versions"]["numpy"]
    told["machine"].update(processor="Abacus", memory_gb=0.1)
    told.update(world_size=4, threads=2)
    files.write_json(first.path / "resolved.json", told)

    again, now = opened(threads=1), files.read_json
    rest = "when this run began and is {} now: its bits may differ from those of an unbroken run"
    versions = importlib.metadata.version
    assert again.differences == (
        "numpy was none " + rest.format(versions("numpy")),
        "old was 3 " + rest.format("none"),
        "torch was 1.0 " + rest.format(versions("torch")),
        "the processor was Abacus " + rest.format(machine()["processor"]),
        "the number of processes was 4 " + rest.format(1),
        "the number of threads was 2 " + rest.format(1),
    )
    again.resolve({"seed": 0})
    assert now(first.path / "resolved.json")["versions"]["torch"] == "1.0"
    assert opened(threads=1).differences == again.differences


def test_differences__an_older_run_that_wrote_less_down() -> None:
    first = opened(threads=1)
    told = files.read_json(first.path / "resolved.json")
    files.write_json(first.path / "resolved.json", {"versions": told["versions"], "engine": {"name": "torch"}})

    assert opened(threads=1).differences == ()


# Going on by the folder alone -----------------------------------------------------------------------------------


def test_resume__the_settings_of_the_run() -> None:
    run = opened(seed=3, head="mlp:8")

    settings, said = resume_settings(run.path)

    assert settings == run.settings.model_copy(update={"run": run.path})
    assert said == ()
    again = open_run(settings)
    again.lock.close()
    assert again.path == run.path


def test_resume__a_finished_run_tells_its_result() -> None:
    run = opened()
    finish(run)
    again = open_run(resume_settings(str(run.path))[0])
    again.lock.close()

    assert again.result == {"run": "runs/photos-1"}


def test_resume__from_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("kept.csv").touch()
    Path("nets").mkdir()
    run = opened(split="kept.csv", weights="local-dir:nets")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")

    settings, said = resume_settings(Path("..") / run.path)

    assert settings.data == tmp_path / "photos"
    assert settings.split == tmp_path / "kept.csv"
    assert settings.weights == f"local-dir:{tmp_path}/nets"
    assert said == (
        f"photos is not here: {tmp_path}/photos is taken",
        f"kept.csv is not here: {tmp_path}/kept.csv is taken",
        f"local-dir:nets is not here: local-dir:{tmp_path}/nets is taken",
    )
    again = open_run(settings)
    again.lock.close()
    assert again.path.resolve() == tmp_path / run.path


def test_resume__what_is_here_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = opened()
    (tmp_path / "elsewhere" / "photos").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "elsewhere")

    settings, said = resume_settings(tmp_path / run.path)

    assert (settings.data, said) == (Path("photos"), ())


def unresumable(path: str) -> str:
    with pytest.raises(Refused) as caught:
        resume_settings(path)
    return str(caught.value)


def test_resume__what_is_no_run() -> None:
    Path("out").mkdir()
    assert unresumable("nope") == "--resume nope: no such folder. Expected the folder of a run, as runs/photos-1"
    assert unresumable("out") == "--resume out: no run of headway, as it has no readable settings.yaml"
    Path("out/settings.yaml").touch()
    assert unresumable("out") == (
        "--resume out: stopped before its settings were written. Give the first command again"
    )
    Path("out/settings.yaml").write_bytes(b"\xff\xfe")
    assert unresumable("out") == "--resume out: no run of headway, as it has no readable settings.yaml"
    Path("out/settings.yaml").write_text("data: photos\nepochs: 0\n")
    assert unresumable("out") == "out/settings.yaml: --epochs 0: expected auto, or a whole number of 1 or more"
    Path("out/comparison.yaml").touch()
    assert unresumable("out") == "--resume out: a comparison. The same headway compare goes on with it"


# Comparisons ----------------------------------------------------------------------------------------------------


def compared(data: str = "photos", **options: Any) -> ComparisonFolder:
    folder = open_comparison(compare_settings(data, **{"strategies": "probe,scratch", **options}))
    folder.lock.close()
    return folder


def test_comparison__its_folder_and_those_of_its_ways() -> None:
    folder = compared()

    assert folder.path == Path("runs/photos-compare-1")
    assert os.fspath(folder) == "runs/photos-compare-1"
    assert [settings.run for settings in folder.settings] == [folder.path / "probe", folder.path / "scratch"]
    assert [settings.strategy for settings in folder.settings] == ["probe", "scratch"]
    assert (folder.result, folder.made) == (None, True)


def test_comparison__the_same_goes_on_another_does_not() -> None:
    assert compared().path == Path("runs/photos-compare-1")
    assert compared().path == Path("runs/photos-compare-1")
    assert compared(seed=1).path == Path("runs/photos-compare-2")
    assert compared(strategies="probe,finetune").path == Path("runs/photos-compare-3")
    assert compared().path == Path("runs/photos-compare-1")
    assert opened().path == Path("runs/photos-1")


def test_comparison__finished() -> None:
    folder = compared(run="out")
    files.write_json(folder.path / "comparison.json", {"choices": []})
    (folder.path / "report.html").touch()

    assert compared(run="out").result == {"choices": []}
    (folder.path / "comparison.json").write_text("{")
    assert compared(run="out").result is None


def test_comparison__another_s_folder_is_refused() -> None:
    compared(run="out")
    with pytest.raises(Refused) as other:
        compared(run="out", seed=1)
    opened(run="run")
    with pytest.raises(Refused) as run:
        compared(run="run")

    assert str(other.value) == ("out/ holds another comparison, or the same with other options. Choose another --run.")
    assert str(run.value) == (
        "run/ is not empty and not a run of headway. Choose another --run; nothing in it was touched."
    )


def test_comparison__refused_before_anything_was_written_leaves_nothing() -> None:
    folder = compared()
    folder.discard()
    assert not Path("runs").exists()

    folder = compared()
    (folder.path / "probe").mkdir()
    folder.discard()
    assert (folder.path / "comparison.yaml").exists()


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
    assert json.loads((run.path / "resolved.json").read_text()).keys() == FIRST


# Refusals -------------------------------------------------------------------------------------------------------


def test_named__other_settings_are_refused() -> None:
    run = opened(run="out", seed=1)
    before = tree(run.path)

    assert refusal(run="out", seed=2, balance="logit") == (
        "out/ holds a run with other settings (--balance, --seed). "
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


def test_named__the_same_place_by_another_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = opened(run="out")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")

    assert opened("../photos", run="../out").path.resolve() == (tmp_path / run.path)
    assert refusal("../pictures", run="../out").startswith("../out/ holds a run with other settings (data). ")


def test_named__a_recipe_and_the_same_without_it() -> None:
    settings = fit_settings("photos", recipe="fast")
    opened(run="out", recipe="fast")

    assert opened(run="out", taps=settings.taps).path == Path("out")


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
