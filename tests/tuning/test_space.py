"""What may be drawn: whatever a search proposes is a `fit` that is accepted, and what was typed is left alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.errors import Refused
from headway.tuning.request import read_request
from headway.tuning.space import propose


class Drawn:
    """A trial that hypothesis draws."""

    def __init__(self, data: st.DataObject) -> None:
        self.data = data
        self.names: list[str] = []

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        self.names.append(name)
        return self.data.draw(st.sampled_from(list(choices)), label=name)

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        self.names.append(name)
        if step is not None:
            return low + step * self.data.draw(st.integers(0, round((high - low) / step)), label=name)
        return self.data.draw(st.floats(low, high), label=name)

    def suggest_int(self, name: str, low: int, high: int) -> int:
        self.names.append(name)
        return self.data.draw(st.integers(low, high), label=name)


@pytest.mark.parametrize(
    "words",
    [
        {},
        {"metric": "balanced-accuracy"},
        {"head": "linear"},
        {"head": "prototype"},
        {"head": "mlp:32", "dropout": "0.5"},
        {"views": "4", "taps": "last"},
        {"strategy": "finetune"},
        {"strategy": "finetune", "thaw": "1", "metric": "balanced-accuracy"},
    ],
    ids=str,
)
@given(data=st.data())
def test_propose__every_draw_is_a_fit_without_idle_options(words: dict[str, str], data: st.DataObject) -> None:
    request = read_request("photos", **words)
    trial = Drawn(data)

    options = propose(trial, request, several_taps=True)

    settings = request.settings(options)  # Refused where they do not go together
    assert settings.notes() == ()
    assert not {name for name in words if name not in ("metric", "views")} & set(options)
    for name, value in options.items():
        assert getattr(settings, name) == ((value,) if name == "dropout" else value)
    assert len(trial.names) == len(set(trial.names))
    assert ("balance" in trial.names) == (words.get("metric") == "balanced-accuracy" and settings.head != "prototype")


def test_propose__one_tap_is_no_choice() -> None:
    class First:
        def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
            return choices[0]

        def suggest_float(self, name: str, low: float, high: float, **_: Any) -> float:
            return low

        def suggest_int(self, name: str, low: int, high: int) -> int:
            return low

    request = read_request("photos", views="none")
    assert propose(First(), request, several_taps=False) == {"head": "linear", "l2": 1e-5}
    assert propose(First(), request, several_taps=True) == {"taps": "last", "head": "linear", "l2": 1e-5}


def test_read_request__tells_every_problem_at_once() -> None:
    with pytest.raises(Refused) as refused:
        read_request("photos", trials="many", metric="f1", head="mpl", views="none")

    assert str(refused.value) == (
        "3 problems:\n"
        "  --metric f1: expected log-loss, accuracy or balanced-accuracy\n"
        "  --trials many: expected a whole number of 1 or more\n"
        "  --head mpl: expected linear, prototype, or mlp: with the widths of the hidden layers, as mlp:256 or "
        "mlp:1024,256"
    )
