"""What headway says when it cannot go on, and with which exit code.

HeadwayError            exit 1   a failure, in one readable line
├── Refused             exit 2   refused before work starts: the input is wrong, nothing was done
└── Stopped             exit 75  stopped half way, and the same command goes on from there
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class HeadwayError(Exception):
    """Root of every error that a user may see. Its text is the whole message."""

    exit_code = 1


class Refused(HeadwayError):
    """Refused before work starts. The text says what happened, what was expected and what to do."""

    exit_code = 2


class Stopped(HeadwayError):
    """Stopped before the end; what was computed is kept, and the same command goes on from there."""

    exit_code = 75


def refuse_all(problems: Sequence[str]) -> None:
    """Raise one Refused that tells every problem at once; do nothing where there is none."""
    if len(problems) == 1:
        raise Refused(problems[0])
    if problems:
        raise Refused(f"{len(problems)} problems:\n" + "\n".join(f"  {problem}" for problem in problems))


def first_line(error: BaseException) -> str:
    """The first line of what a library's error says; the name of its kind where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def nearest(word: str, choices: Iterable[str], n: int = 3) -> list[str]:
    """The `n` choices that begin with `word`, then those most like it; empty where none is close."""
    known = list(choices)
    longer = [choice for choice in known if len(word) > 2 and choice.startswith(word)]
    found = difflib.get_close_matches(word, longer, n=n, cutoff=0.0)
    return list(dict.fromkeys([*found, *difflib.get_close_matches(word, known, n=n, cutoff=0.5)]))[:n]
