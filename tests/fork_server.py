"""A process that imports everything once and forks a headway for each request: starts that take 8 s take 0.

One JSON object a line on standard input:
    {"words": [...], "cwd": "...", "env": {...}, "out": FILE}   → forks; answers {"pid": N}
    {"words": [], "code": "...", ...}                           → the same with Python instead of a command
    {"wait": N}                                                 → answers {"status": exit code, -9 = killed}

Nothing here starts a thread before the fork: a child would hold locks that nobody releases.
"""

from __future__ import annotations

import json
import os
import sys
import threading


def main() -> None:
    import accelerate
    import onnx
    import onnxruntime
    import onnxscript
    import pyarrow.parquet
    import sklearn.metrics
    import timm
    import torch

    import headway.cli
    import headway.records
    import headway.reporting.page
    import headway.roads
    import headway.workflow

    assert all((accelerate, onnx, onnxruntime, onnxscript, pyarrow, sklearn, timm, torch, headway))
    assert threading.active_count() == 1, threading.enumerate()
    for line in sys.stdin:
        asked = json.loads(line)
        answer = {"status": _status(asked["wait"])} if "wait" in asked else {"pid": _start(asked)}
        print(json.dumps(answer), flush=True)  # noqa: T201 - the protocol


def _start(asked: dict[str, object]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 99
    try:
        os.setsid()
        os.chdir(str(asked["cwd"]))
        os.environ.update(asked["env"])  # type: ignore[call-overload]
        out = os.open(str(asked["out"]), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(out, 1)
        os.dup2(out, 2)
        sys.argv = ["headway", *asked["words"]]  # type: ignore[misc]
        if asked.get("code") is not None:
            exec(compile(str(asked["code"]), "<asked>", "exec"), {"__name__": "__main__"})
        else:
            from headway.cli import program

            program()
        code = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def _status(pid: object) -> int:
    assert isinstance(pid, int)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    main()
