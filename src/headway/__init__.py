"""headway: from a folder of labelled images to a classifier you can ship.

The public verbs are imported on first use, so that `import headway` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headway.deployment.bundle import load_bundle
    from headway.deployment.predictor import predict
    from headway.verbs import (
        audit,
        compare,
        evaluate,
        extract,
        fit,
        list_backbones,
        list_recipes,
        load_dataset,
        plan,
        probe,
        save_bundle,
        split,
        summary,
    )

__version__ = "0.1.0"

__all__ = [
    "audit",
    "compare",
    "evaluate",
    "extract",
    "fit",
    "list_backbones",
    "list_recipes",
    "load_bundle",
    "load_dataset",
    "plan",
    "predict",
    "probe",
    "save_bundle",
    "split",
    "summary",
]

_HOMES = {"load_bundle": "headway.deployment.bundle", "predict": "headway.deployment.predictor"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'headway' has no attribute {name!r}")
    from importlib import import_module

    # Not kept as a global: a verb is always what its home says it is.
    return getattr(import_module(_HOMES.get(name, "headway.verbs")), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
