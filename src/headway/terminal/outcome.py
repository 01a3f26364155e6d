"""How a command ends: every end has its exit code and one readable message, never a traceback."""

from __future__ import annotations

import errno
import os
import signal
import sys
import tempfile
import threading
import traceback
from _thread import interrupt_main
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import typer

from headway.errors import HeadwayError, Refused, Stopped
from headway.events import Event, Opened
from headway.terminal.grammar import UsageError
from headway.terminal.screen import Screen, complain, write_json

_AGAIN = 0.05  # seconds after which a signal that went by unheard is sent again
_RESUME = "What was computed is kept; the same command goes on from there."


class Terminated(BaseException):
    """SIGTERM came. Not an Exception, so that nothing on the way takes it for a fault."""


@dataclass
class Session:
    """What is known while a command runs, for the message if it ends badly.

    resumable  the command can go on from where it was stopped
    run        its run folder, once there is one
    """

    resumable: bool = False
    run: Path | None = None

    def follow(self, events: Generator[Event, None, Any], screen: Screen) -> Any:
        """Draw every event of `events`; returns what the generator returns."""
        try:
            while True:
                event = next(events)
                if isinstance(event, Opened):
                    self.run = event.run
                screen.show(event)
        except StopIteration as stop:
            return stop.value
        finally:
            screen.close()
            events.close()


def run(command: Any, words: Sequence[str]) -> int:
    """Run the click command `command` on `words`; returns the exit code, everything said that there is to say."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a name may hold what the terminal cannot show
    with _signals():
        return _run(command, words, Session())


def _run(command: Any, words: Sequence[str], session: Session) -> int:
    try:
        with command.make_context("headway", list(words), obj=session) as context:
            command.invoke(context)
        sys.stdout.flush()
        return 0
    except typer.Exit as stop:
        return int(stop.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains once more at exit
        return Stopped.exit_code if session.resumable else 1
    except BaseException as error:
        code, text = _end(error, session)
        complain(sys.stderr, text)
        if "--json" in words:
            write_json(sys.stdout, {"error": text, "exit_code": code})
        return code


@contextmanager
def _signals() -> Iterator[None]:
    """SIGTERM raises Terminated within, and no signal goes by unheard.

    Python runs the handler of a signal between any two instructions, also within the callback of a weak reference (the
    locks of imports have one), where what is raised is printed and forgotten.
    """
    before, forget = signal.signal(signal.SIGTERM, _terminate), sys.unraisablehook

    def send_again(lost: sys.UnraisableHookArgs) -> None:
        number = {KeyboardInterrupt: signal.SIGINT, Terminated: signal.SIGTERM}.get(lost.exc_type)
        if number is None:
            forget(lost)
            return
        later = threading.Timer(_AGAIN, interrupt_main, (number,))
        later.daemon = True
        later.start()

    sys.unraisablehook = send_again
    try:
        yield
    finally:
        sys.unraisablehook = forget
        signal.signal(signal.SIGTERM, before)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated


def _end(error: BaseException, session: Session) -> tuple[int, str]:
    """Exit code and message of `error`."""
    if isinstance(error, HeadwayError):
        return error.exit_code, str(error)
    if isinstance(error, UsageError):
        return Refused.exit_code, str(error)
    if isinstance(error, KeyboardInterrupt | Terminated):
        if session.resumable:
            return Stopped.exit_code, f"stopped. {_RESUME}"
        return (130 if isinstance(error, KeyboardInterrupt) else 143), "stopped."
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        text = f"no space left on the disk{_where(error)}."
        return (Stopped.exit_code, f"{text} Make room. {_RESUME}") if session.resumable else (1, text)
    if isinstance(error, OSError) and error.filename is not None:
        return 1, f"{error.strerror}{_where(error)}"
    if isinstance(error, MemoryError):
        return 1, "not enough memory. A smaller --batch or --image needs less."
    if isinstance(error, ModuleNotFoundError) and not (error.name or "headway").startswith("headway"):
        return 1, f"{error.name} is not installed. Training needs more than a bundle does: pip install 'headway[train]'"
    report = _write_report(error, session)
    return 1, f"this is a fault of headway, not yours ({type(error).__name__}). What happened stands in {report}"


def _where(error: OSError) -> str:
    return f": {os.fsdecode(error.filename)}" if isinstance(error.filename, str | bytes) else ""


def _write_report(error: BaseException, session: Session) -> Path:
    """The traceback in a new file: in the run folder where there is one, else among temporary files."""
    folder = session.run if session.run is not None and session.run.is_dir() else None
    text = "".join(traceback.format_exception(error)).encode("utf-8", "backslashreplace")
    try:
        handle, name = tempfile.mkstemp(dir=folder, prefix="fault-", suffix=".txt")
    except OSError:
        handle, name = tempfile.mkstemp(prefix="fault-", suffix=".txt")
    with os.fdopen(handle, "wb") as stream:
        stream.write(text)
    return Path(name)
