"""The command line: what is typed wrong, how each end looks, what is imported when, and what is drawn."""

from __future__ import annotations

import errno
import gc
import io
import json
import os
import pty
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import typer

from headway import __version__
from headway.cli import app, program
from headway.errors import HeadwayError, Refused, Stopped
from headway.events import Detail, Event, Line, Note, Opened, Progress
from headway.files import write_json
from headway.runs import open_run
from headway.settings import fit_settings
from headway.terminal import outcome
from headway.terminal.screen import Screen, duration, labelled, printable, table
from tests import make
from tests.deployment import toys


def headway(*words: str) -> int:
    """Run the program in this process; returns its exit code."""
    return outcome.run(typer.main.get_command(app), words)


def process(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the program as a process of its own."""
    command = [sys.executable, "-m", "headway", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=250, **options)


# What is typed wrong


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("fitt photos", "no command 'fitt'. Did you mean headway fit ?"),
        ("cache prun", "no command 'prun'. Did you mean headway cache prune ?"),
        (
            "xyzzy",
            "no command 'xyzzy'. There are: fit, compare, tune, plan, rank, audit, fetch, convert, recipes, predict, "
            "explain, evaluate, export, serve, view, push, pull, summary, backbones, cache",
        ),
        ("--versio", "no option --versio. Did you mean --version ?"),
        ("fit", "headway fit needs DATA. See: headway fit --help"),
        ("predict bundle", "headway predict needs IMAGE.... See: headway predict --help"),
        ("fit photos --backbon resnet18", "no option --backbon. Did you mean --backbone ?"),
        ("fit photos --xyzzy", "no option --xyzzy. See: headway fit --help"),
        ("fit photos --epochs", "--epochs needs a value. See: headway fit --help"),
        ("fit photos --no-cache=3", "--no-cache takes no value. See: headway fit --help"),
        ("fit photos more", "headway fit does not expect more. See: headway fit --help"),
        (
            "export b --to openvno",
            "--to openvno: expected one of onnx, openvino, torch, torchscript, triton, mlflow, browser. "
            "Did you mean --to openvino ?",
        ),
        ("predict b x.jpg --top 0", "--top 0: expected a whole number of 1 or more"),
        ("predict b x.jpg --coverage 95", "--coverage 95: expected a number between 0 and 1, as 0.95"),
        ("predict b x.jpg --unknown nan", "--unknown nan: expected a number between 0 and 1, as 0.95"),
        ("cache prune --days x", "--days x: expected a whole number of 0 or more"),
        ("summary --classes 1", "--classes 1: expected a whole number of 2 or more"),
        ("fit photos --no-freezebn", "no option --no-freezebn. Did you mean --no-freeze-bn ?"),
        (
            "fit photos --thaw 2",
            "--thaw 2 does not go with --strategy probe, which trains the head alone. "
            "Thawing needs --strategy finetune",
        ),
        ("fit photos --recipe seed-c --epochs 0", "--epochs 0: expected auto, or a whole number of 1 or more"),
        ("fit --resume nope", "--resume nope: no such folder. Expected the folder of a run, as runs/photos-1"),
        (
            "fit photos --resume runs/x --epochs 3 --no-offline --json",
            "--resume runs/x goes on with the data and the options of that run: "
            "leave out photos, --epochs, --no-offline",
        ),
        ("compare", "headway compare needs DATA. See: headway compare --help"),
        (
            "compare photos",
            "a comparison needs either --strategies or --recipes, as --strategies probe,finetune,scratch",
        ),
        ("compare photos --strategies probe,fintune", "--strategies: no strategy fintune. Did you mean finetune ?"),
        ("compare photos --strategy probe", "no option --strategy. Did you mean --strategies ?"),
        ("recipes seed-b", "no recipe seed-b. Did you mean seed-b-cnn or seed-b-transfer or seed-b-cnn-until ?"),
        ("fit photos --optimizer sdg", "--optimizer sdg: expected sgd, adam or adamw. Did you mean sgd ?"),
        (
            "fit photos --epochs 0 --image x",
            "2 problems:\n"
            "  --image x: expected a whole number from 16 to 2048 (pixels)\n"
            "  --epochs 0: expected auto, or a whole number of 1 or more",
        ),
    ],
)
def test_cli__wrong_words(capsys: pytest.CaptureFixture[str], words: str, said: str) -> None:
    code = headway(*words.split())

    out, err = capsys.readouterr()
    assert (code, err) == (2, f"headway: {said}\n")
    assert out == ("" if "--json" not in words else json.dumps({"error": said, "exit_code": 2}) + "\n")


def test_cli__refusal_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    code = headway("fit", "photos", "--epochs", "0", "--json")
    out, err = capsys.readouterr()

    said = "--epochs 0: expected auto, or a whole number of 1 or more"
    assert (code, json.loads(out), err) == (2, {"error": said, "exit_code": 2}, f"headway: {said}\n")


def test_cli__two_forms_of_answer(capsys: pytest.CaptureFixture[str]) -> None:
    assert headway("predict", "b", "x.jpg", "--json", "--csv") == 2
    assert capsys.readouterr().err == "headway: --json and --csv are two answers to one question. Leave one out.\n"


@pytest.mark.parametrize(
    "words", [[], ["--help"], ["cache"], ["fit", "--help"], ["compare", "--help"], ["recipes", "--help"]]
)
def test_cli__help(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    code = headway(*words)
    out, err = capsys.readouterr()

    assert (code, err) == (0, "")
    assert out.startswith("Usage: headway")


def test_cli__version(capsys: pytest.CaptureFixture[str]) -> None:
    assert (headway("--version"), *capsys.readouterr()) == (0, f"headway {__version__}\n", "")


def finished(folder: Path, **options: Any) -> Path:
    """A run as it is when all is done, as far as the command line looks at it."""
    make.class_folders(folder / "photos", {"cats": 1, "dogs": 1}, size=(16, 12))
    run = open_run(fit_settings("photos", run="out", **options))
    write_json(run.path / "evaluation.json", {"result": {"run": "out", "strategy": run.settings.strategy}})
    (run.path / "report.html").touch()
    run.lock.close()
    return run.path


def test_cli__resume_of_a_finished_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    finished(tmp_path, head="mlp:8", dropout=0.5)

    done = process("fit", "--resume", "out", "--json")

    assert (done.returncode, json.loads(done.stdout)) == (0, {"run": "out", "strategy": "probe"})
    assert done.stderr == "note     out/ is finished; nothing was done again\n"


def test_cli__resume_from_elsewhere_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    finished(tmp_path)
    (tmp_path / "elsewhere").mkdir()

    done = process("fit", "--resume", "../out", "--quiet", cwd=tmp_path / "elsewhere")

    assert (done.returncode, done.stdout, done.stderr) == (
        0,
        "",
        f"note     photos is not here: {tmp_path}/photos is taken\n"
        "note     ../out/ is finished; nothing was done again\n",
    )


# What is imported when


@pytest.mark.parametrize(
    ("name", "given", "kept"),
    [
        ("OPENBLAS_THREAD_TIMEOUT", None, "4"),
        ("OPENBLAS_THREAD_TIMEOUT", "20", "20"),
        ("GOMP_SPINCOUNT", None, "2000"),
        ("GOMP_SPINCOUNT", "0", "0"),
    ],
)
def test_program__threads_spin_as_long_as_pays(
    name: str, given: str | None, kept: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended, seldom = list[int](), list[tuple[int, ...]]()
    monkeypatch.setattr(os, "_exit", ended.append)
    monkeypatch.setattr(gc, "set_threshold", lambda *counts: seldom.append(counts))
    monkeypatch.setattr(sys, "argv", ["headway", "--version"])
    for variable in ("OPENBLAS_THREAD_TIMEOUT", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(variable, raising=False)
    if given is not None:
        monkeypatch.setenv(name, given)

    program()

    assert os.environ[name] == kept
    assert ended == [0]
    assert seldom == [(20_000, 10, 10)]


def modules_after(*words: str) -> set[str]:
    """Every module that the program imports for `words`, and the packages they are in, as Python itself tells."""
    command = [sys.executable, "-X", "importtime", "-m", "headway", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=250)
    names = [line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")]
    assert "headway.cli" in names, done.stderr
    return {*names, *(name.split(".")[0] for name in names)}


TRAINING = {"torch", "timm", "torchvision", "sklearn", "onnx", "pyarrow", "jinja2", "accelerate", "safetensors"}
HEAVY = {*TRAINING, "numpy", "PIL", "onnxruntime", "openvino", "rich", "yaml", "pydantic", "importlib.metadata"}


HELPED = ("fit", "compare", "recipes", "summary", "predict", "explain", "serve", "view")


@pytest.mark.parametrize(
    "words",
    ["--help", "cache --help", *(f"{name} --help" for name in HELPED)],
)
def test_cli__help_is_light(words: str) -> None:
    assert modules_after(*words.split()) & {*HEAVY, "headway.settings"} == set()


def test_cli__refusing_a_setting_is_light() -> None:
    assert modules_after("fit", "x", "--epochs", "0") & {*TRAINING, "numpy", "PIL", "onnxruntime", "openvino"} == set()


def test_cli__predicting_is_light(tmp_path: Path) -> None:
    bundle, image = toys.bundle(tmp_path / "toy"), make.write(tmp_path / "x.jpg", make.jpeg())

    assert modules_after("predict", str(bundle), str(image)) & {*TRAINING, "openvino", "yaml", "pydantic"} == set()


def test_cli__serving_is_light(tmp_path: Path) -> None:
    loaded = modules_after("serve", str(tmp_path / "absent"), "--port", "0")

    assert {"headway.serving.listening", "headway.deployment.bundle"} <= loaded
    assert loaded & {*TRAINING, "openvino", "yaml", "pydantic", "starlette"} == set()


# How a command ends


class Ending:
    """A program of one command whose work is `body`: how `outcome.run` tells its end."""

    def __init__(self, body: Any, resumable: bool = False) -> None:
        self.command = typer.Typer(add_completion=False)

        @self.command.command()
        def work(context: typer.Context) -> None:
            context.obj.resumable = resumable
            body(context.obj)

    def run(self) -> int:
        return outcome.run(typer.main.get_command(self.command), [])


def raising(error: BaseException) -> Any:
    def body(session: outcome.Session) -> None:
        raise error

    return body


KEPT = "What was computed is kept; the same command goes on from there."


@pytest.mark.parametrize(
    ("error", "resumable", "code", "said"),
    [
        (HeadwayError("it broke"), False, 1, "it broke"),
        (Refused("no such folder"), True, 2, "no such folder"),
        (Stopped("the hub went away"), True, 75, "the hub went away"),
        (KeyboardInterrupt(), False, 130, "stopped."),
        (KeyboardInterrupt(), True, 75, f"stopped. {KEPT}"),
        (outcome.Terminated(), False, 143, "stopped."),
        (outcome.Terminated(), True, 75, f"stopped. {KEPT}"),
        (OSError(errno.ENOSPC, "x", "/a"), False, 1, "no space left on the disk: /a."),
        (OSError(errno.ENOSPC, "x"), True, 75, f"no space left on the disk. Make room. {KEPT}"),
        (OSError(errno.EDQUOT, "x"), True, 75, f"no space left on the disk. Make room. {KEPT}"),
        (PermissionError(errno.EACCES, "Permission denied", "/a"), True, 1, "Permission denied: /a"),
        (MemoryError(), True, 1, "not enough memory. A smaller --batch or --image needs less."),
        (
            ModuleNotFoundError("x", name="torch"),
            True,
            1,
            "torch is not installed. Training needs more than a bundle does: pip install 'headway[train]'",
        ),
    ],
)
def test_end__one_line_and_one_code(
    capsys: pytest.CaptureFixture[str], error: BaseException, resumable: bool, code: int, said: str
) -> None:
    ended = Ending(raising(error), resumable).run()

    assert (ended, *capsys.readouterr()) == (code, "", f"headway: {said}\n")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_end__a_signal_that_a_callback_swallowed_is_heard(
    capsys: pytest.CaptureFixture[str], number: signal.Signals, code: int
) -> None:
    def body(session: outcome.Session) -> None:
        watched = Ending(body)
        watch = weakref.ref(watched, lambda _: signal.raise_signal(number))  # as Ctrl-C within the lock of an import
        del watched
        assert watch() is None
        time.sleep(5)

    assert (Ending(body).run(), *capsys.readouterr()) == (code, "", "headway: stopped.\n")


def test_end__our_own_fault_leaves_a_report_in_the_run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    def body(session: outcome.Session) -> None:
        session.run = tmp_path
        raise KeyError("a secret of ours")

    code = Ending(body).run()
    err = capsys.readouterr().err

    (report,) = tmp_path.iterdir()
    assert code == 1
    assert err == f"headway: this is a fault of headway, not yours (KeyError). What happened stands in {report}\n"
    assert "KeyError: 'a secret of ours'" in report.read_text()


def test_end__our_own_fault_before_there_is_a_run(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    code = Ending(raising(ZeroDivisionError())).run()

    (report,) = tmp_path.iterdir()
    assert code == 1
    assert capsys.readouterr().err.endswith(f"{report}\n")


def test_end__a_name_cannot_command_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    Ending(raising(HeadwayError("\x1b[31mred.jpg and " + os.fsdecode(b"\xff.jpg")))).run()

    assert capsys.readouterr().err == "headway: \\x1b[31mred.jpg and \\xff.jpg\n"


SLEEPER = """
import sys, time, typer
from headway.terminal import outcome
app = typer.Typer(add_completion=False)
@app.command()
def work(context: typer.Context) -> None:
    context.obj.resumable = {resumable}
    print("ready", flush=True)
    for _ in range(600):  # a signal that comes just before a sleep waits for its end
        time.sleep(0.1)
sys.exit(outcome.run(typer.main.get_command(app), []))
"""


@pytest.mark.parametrize(
    ("sent", "resumable", "code"),
    [
        (signal.SIGINT, True, 75),
        (signal.SIGINT, False, 130),
        (signal.SIGTERM, True, 75),
        (signal.SIGTERM, False, 143),
    ],
)
def test_end__signals(sent: signal.Signals, resumable: bool, code: int) -> None:
    program = SLEEPER.format(resumable=resumable)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", program], **pipes) as child:  # type: ignore[call-overload]  # a dict
        child.stdout.readline()
        child.send_signal(sent)
        _, err = child.communicate(timeout=20)

    assert (child.returncode, err) == (code, f"headway: stopped.{' ' + KEPT if resumable else ''}\n")


def test_end__reader_went_away() -> None:
    # More than a pipe holds, so that the writer meets the closed end.
    program = (
        "import sys, typer\nfrom headway.terminal import outcome\napp = typer.Typer(add_completion=False)\n"
        "@app.command()\ndef work() -> None:\n    for _ in range(100_000): sys.stdout.write('line\\n')\n"
        "sys.exit(outcome.run(typer.main.get_command(app), []))\n"
    )
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", program], **pipes) as child:  # type: ignore[call-overload]  # a dict
        child.stdout.readline()
        child.stdout.close()
        err = child.stderr.read()

    assert (child.returncode, err) == (1, "")


def test_follow__returns_the_result_and_learns_the_run(tmp_path: Path) -> None:
    def story() -> Generator[Event, None, dict[str, int]]:
        yield Opened(tmp_path)
        yield Line("test", "fine")
        return {"n": 3}

    session, out = outcome.Session(), io.StringIO()
    result = session.follow(story(), Screen(out, io.StringIO()))

    assert (result, session.run, out.getvalue()) == ({"n": 3}, tmp_path, "test     fine\n")


def test_follow__closes_the_story_when_nobody_listens() -> None:
    closed = []

    def story() -> Generator[Event, None, None]:
        try:
            yield Line("a", "b")
        finally:
            closed.append(True)

    out, told = io.StringIO(), story()
    out.close()
    with pytest.raises(ValueError, match="closed file"):
        outcome.Session().follow(told, Screen(out, io.StringIO()))

    assert closed == [True]


# What is drawn


def drawn(*events: Event, clock: list[float] | None = None, **options: bool) -> tuple[str, str]:
    """What `events` leave on the two streams when neither is a terminal; `clock` gives a time per Progress."""
    out, err, times = io.StringIO(), io.StringIO(), iter(clock or [0.0] * 100)
    screen = Screen(out, err, **options, clock=lambda: next(times))
    for event in events:
        screen.show(event)
    screen.close()
    return out.getvalue(), err.getvalue()


STORY = (Opened(Path("runs/p-1")), Line("photos/", "3 images\nset aside: 1"), Detail("engine", "torch"), Note("odd"))


def test_screen__aligned_lines() -> None:
    assert drawn(*STORY) == ("photos/  3 images\n         set aside: 1\n", "note     odd\n")


def test_screen__verbose() -> None:
    out, _ = drawn(*STORY, verbose=True)

    assert out == "run      runs/p-1\nphotos/  3 images\n         set aside: 1\nengine   torch\n"


def test_screen__quiet() -> None:
    assert drawn(*STORY, Progress("features", 1, 1), quiet=True) == ("", "note     odd\n")


def test_screen__plain_progress_comes_every_few_seconds() -> None:
    steps = [Progress("features", done, 100) for done in (0, 10, 20, 45, 60, 70)]

    out, err = drawn(*steps, Progress("features", 100, 100, set_aside=2), clock=[0, 1, 2, 4.5, 6, 7, 10])

    assert err == "features 20/100  10/s, 8.0 s left\nfeatures 60/100  10/s, 4.0 s left\n"
    assert out == ""


def test_screen__rate_counts_only_what_was_computed() -> None:
    _, err = drawn(Progress("features", 900, 1000), Progress("features", 920, 1000), clock=[0, 10])

    assert err == "features 920/1,000  2.0/s, 40 s left\n"


def test_screen__each_epoch_has_a_rate_of_its_own() -> None:
    """What lay between, a validation of 90 s, does not count for the second epoch."""
    first = [Progress("training", done, 100, unit="batches of epoch 1/2") for done in (10, 90)]
    second = [Progress("training", done, 100, unit="batches of epoch 2/2") for done in (10, 60)]

    _, err = drawn(*first, *second, clock=[0, 4, 94, 104])

    assert err == "training 90/100  20/s, 0.5 s left\ntraining 60/100  5.0/s, 8.0 s left\n"


def test_screen__total_unknown() -> None:
    assert drawn(Progress("look", 0, 0), Progress("look", 50, 0), clock=[0, 5]) == ("", "look     50  10/s\n")


def test_screen__a_name_cannot_command_the_terminal() -> None:
    out, _ = drawn(Line("photos/", "\x1b]0;owned\x07.jpg and \u202egnp.exe"))

    assert out == "photos/  \\x1b]0;owned\\x07.jpg and \\u202egnp.exe\n"


def read_all(handle: int) -> str:
    """What a terminal was told, its other end being closed."""
    parts = []
    with suppress(OSError):  # Linux says so when nothing is left
        while part := os.read(handle, 4096):
            parts.append(part)
    os.close(handle)
    return b"".join(parts).decode()


def test_screen__bar_on_a_terminal_leaves_nothing_behind() -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal:
        screen = Screen(terminal, terminal)
        for done in (0, 5, 10):
            screen.show(Progress("features", done, 10))
            if done == 5:
                screen.show(Line("photos/", "in the midst"))
        screen.close()
    shown = read_all(ours)

    assert "━" in shown
    assert "\x1b[2Kphotos/  in the midst\r\n" in shown, "the bar is wiped before a line comes"
    assert "features" in shown
    assert shown.endswith("\x1b[2K"), "the line of the bar is wiped"
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h"), "the cursor is shown again"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0.0 s"), (1.12, "1.1 s"), (9.96, "10 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"), (3900, "1 h 05 min")],
)
def test_duration__in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_table__columns_as_wide_as_they_must_be() -> None:
    rows = [{"name": "resnet18", "n": "5"}, {"name": "vit\x1b", "n": "1,000"}]

    assert table(rows, right=("n",)) == "name          n\nresnet18      5\nvit\\x1b   1,000"
    assert table([]) == ""


def test_labelled__a_long_label_keeps_a_blank() -> None:
    assert labelled("a-long-name/", "x") == "a-long-name/ x"
    assert printable("line\nend") == "line\nend"


# The whole way


# Says what heavy is there at the moment when the run folder is complete, by the file that is made last in it.
TELLING = """
import sys

def seen(event, args):
    if event == "os.rename" and str(args[1]).endswith("resolved.json"):
        print([m for m in ("torch", "numpy", "pyarrow", "onnx", "onnxruntime", "timm") if m in sys.modules], flush=True)

sys.addaudithook(seen)
sys.argv = ["headway", "fit", "photos"]
from headway.cli import main
main()
"""


@pytest.mark.slow
def test_fit__run_folder_stands_before_anything_heavy(tmp_path: Path) -> None:
    make.class_folders(tmp_path / "photos", {"cats": 20, "dogs": 20})
    command = [sys.executable, "-c", TELLING]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        heavy = child.stdout.readline()
        resolved = tmp_path / "runs" / "photos-1" / "resolved.json"
        while not resolved.exists() and child.poll() is None:
            time.sleep(0.002)
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=60)

    assert resolved.with_name("settings.yaml").exists()
    assert heavy == b"[]\n"
    assert (child.returncode, err.decode()) == (75, f"headway: stopped. {KEPT}\n")


@pytest.mark.slow
def test_fit__from_words_to_an_answer(tmp_path: Path) -> None:
    make.class_folders(tmp_path / "photos", {"cats": 40, "dogs": 40})
    make.write(tmp_path / "new.jpg", make.jpeg(kind=1, seed=9_999))

    fit = process("fit", "photos", "--json", "--taps", "last", cwd=tmp_path)
    result = json.loads(fit.stdout)
    good = process("predict", result["bundle"], "new.jpg", "--json", cwd=tmp_path)
    bad = process("predict", result["bundle"], "new.jpg", "nope.jpg", "--csv", "--top", "1", cwd=tmp_path)

    assert fit.returncode == 0
    assert set(result) >= {
        "run",
        "bundle",
        "backbone",
        "strategy",
        "classes",
        "n",
        "val",
        "test",
        "seconds",
        "features",
    }
    assert [result["n"][name] for name in ("train", "val", "test", "set_aside")] == [60, 8, 12, 0]
    assert result["test"]["accuracy"] == 1.0
    assert (good.returncode, good.stderr) == (0, "")
    assert json.loads(good.stdout)["predictions"][0]["label"] == "dogs"
    assert bad.returncode == 1
    assert bad.stdout.splitlines()[0] == "name,label,probability,error"
    assert bad.stdout.splitlines()[2] == "nope.jpg,,,does not exist"
