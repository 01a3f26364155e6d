"""Several processes on one port: the first one opens it, watches over the others and starts those anew that end.

The port stays the parent's, so a worker that dies takes no waiting connection with it. They are forked before any
engine is opened; each opens its own.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from types import FrameType

from headway.errors import HeadwayError, Refused
from headway.serving.logs import Write, event_line

Ready = Callable[[str], None]  # takes the line that tells where it listens
Stop = Callable[[], bool]
Work = Callable[[int, Ready, Stop], None]  # number of the worker; serves until it shall stop

_PAUSE = 1.0  # seconds before a worker that ended is started anew
_TURN, _STARTING = 0.2, 0.02  # seconds at most until the parent looks up: later, and while workers start


@dataclass
class _Worker:
    process: ForkProcess
    told: Connection
    line: str | None = None  # what it said when it was ready
    refusal: Refused | None = None


def supervise(n: int, work: Work, *, ready: Ready, log: Write, patience: float) -> None:
    """Run `work` in `n` processes until SIGINT or SIGTERM; `ready` is called once all of them serve.

    patience  seconds for which workers may finish what they were asked, before they are killed

    Raises Refused where a worker refuses to start, HeadwayError where one ends before all of them were ready.
    """
    asked: list[int] = []

    def leave(number: int, frame: FrameType | None) -> None:
        asked.append(number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGINT, signal.SIGTERM)}
    workers: dict[int, _Worker] = {}
    due = dict.fromkeys(range(1, n + 1), 0.0)  # number → when it is to be started
    all_ready = False
    try:
        while not asked:
            now = time.monotonic()
            for number in [number for number, at in due.items() if at <= now]:
                del due[number]
                workers[number] = _start(number, work)
            wait([worker.process.sentinel for worker in workers.values()], _TURN if all_ready else _STARTING)
            for number, worker in list(workers.items()):
                ended = not worker.process.is_alive()  # asked first: what it said before its end is then there
                _hear(worker)
                if not ended:
                    continue
                if not all_ready:
                    raise worker.refusal or HeadwayError(f"worker {number} ended while it started ({_end(worker)}).")
                log(
                    event_line(
                        "worker ended", worker=number, how=_end(worker), told=worker.refusal and str(worker.refusal)
                    )
                )
                worker.told.close()
                del workers[number]
                due[number] = time.monotonic() + _PAUSE
            if not all_ready and len(workers) == n and all(worker.line is not None for worker in workers.values()):
                all_ready = True
                ready(workers[1].line or "")
    finally:
        _stop(list(workers.values()), patience)
        for number, handler in before.items():
            signal.signal(number, handler)


def _start(number: int, work: Work) -> _Worker:
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(number, work, theirs, os.getpid()), name=f"headway-{number}")
    process.start()
    theirs.close()
    return _Worker(process, ours)


def _child(number: int, work: Work, told: Connection, parent: int) -> None:
    """A worker's whole life. It ends, too, where its parent is no longer there."""
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_DFL)  # until it serves there is nothing to finish
    try:
        work(number, lambda line: told.send((True, line)), lambda: os.getppid() != parent)
    except HeadwayError as error:
        told.send((False, str(error)))
        os._exit(error.exit_code)
    os._exit(0)


def _hear(worker: _Worker) -> None:
    """Note what a worker said: that it is ready, or why it refuses."""
    with suppress(EOFError):  # it has ended
        while worker.told.poll():
            good, words = worker.told.recv()
            if good:
                worker.line = words
            else:
                worker.refusal = Refused(words)


def _end(worker: _Worker) -> str:
    """How a process ended, in a few words."""
    code = worker.process.exitcode or 0
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"


def _stop(workers: list[_Worker], patience: float) -> None:
    """Let all of them finish what they were asked, and end."""
    for worker in workers:
        worker.process.terminate()
    until = time.monotonic() + patience
    for worker in workers:
        worker.process.join(max(0.0, until - time.monotonic()))
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()
        worker.told.close()
