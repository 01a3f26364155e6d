"""docs/settings.md, made from the settings and their help: `python -m tests.settings_page > docs/settings.md`."""

from __future__ import annotations

import sys
from itertools import groupby

from headway.conflicts import spelt
from headway.defaults import BY_EPOCHS, BY_STRATEGY, STRATEGIES, understands
from headway.settings import FitSettings
from headway.terminal.options import FIT, Option

HEAD = """# Settings

Made by `make docs` from the code. Every setting of `headway fit` and of the verbs that take its options. On the command
line `--thaw-every 2`, in Python `headway.fit(data, thaw_every=2)`, in a [recipe](recipes.md) or `settings.yaml`
`thaw_every: 2`. Everything is checked before work begins, all problems are told at once, and what was used stands in
`settings.yaml` of the run.

A default with bars is that of the probe, of fine-tuning, of training from scratch. The last column says which of them
know the setting; *epochs* adds that it acts only where epochs are run: a linear head of the probe is solved in one go.
"""


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for section, options in groupby(FIT, key=lambda option: option.section):
        rows = "\n".join(_row(option) for option in options)
        head = "| setting | what it is | values | default | for |\n|---|---|---|---|---|"
        parts.append(f"\n## {section}\n\n{head}\n{rows}\n")
    return "".join(parts)


def _row(option: Option) -> str:
    expected = FitSettings.model_fields[option.name].description or ""
    cells = (f"`{option.name}`", option.help, expected, _default(option), _for(option.name))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _default(option: Option) -> str:
    if option.name in BY_STRATEGY:
        values = [_spelt(value) for value in BY_STRATEGY[option.name]]
        return values[0] if len(set(values)) == 1 else " | ".join(values)
    return option.default or _spelt(FitSettings.model_fields[option.name].default)


def _spelt(value: object) -> str:
    if value is None:
        return ""
    return ("yes" if value else "no") if isinstance(value, bool) else spelt(value)


def _for(name: str) -> str:
    known = [strategy for strategy in STRATEGIES if understands(name, strategy, "mlp:8")]
    return ("all" if len(known) == len(STRATEGIES) else ", ".join(known)) + (" · epochs" if name in BY_EPOCHS else "")


if __name__ == "__main__":
    sys.stdout.write(page())
