"""headway: from a folder of labelled images to a classifier you can ship.

The public verbs are imported on first use, so that `import headway` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headway.deployment.bundle import load_bundle
    from headway.deployment.predictor import predict
    from headway.ecosystem.classifier import HeadwayClassifier
    from headway.ecosystem.features import HeadwayFeatures
    from headway.ecosystem.head import HeadwayHead
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
        pull,
        push,
        save_bundle,
        split,
        summary,
    )

__version__ = "0.1.0"

__all__ = [
    "HeadwayClassifier",
    "HeadwayFeatures",
    "HeadwayHead",
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
    "pull",
    "push",
    "save_bundle",
    "split",
    "summary",
]

_HOMES = {
    "HeadwayClassifier": "headway.ecosystem.classifier",
    "HeadwayFeatures": "headway.ecosystem.features",
    "HeadwayHead": "headway.ecosystem.head",
    "load_bundle": "headway.deployment.bundle",
    "predict": "headway.deployment.predictor",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'headway' has no attribute {name!r}")
    from importlib import import_module

    try:
        home = import_module(_HOMES.get(name, "headway.verbs"))
    except ModuleNotFoundError as error:
        if (error.name or "headway").startswith("headway"):
            raise
        from headway.errors import Refused

        what = f"headway.{name} needs {(error.name or '').partition('.')[0]}, which is not installed"
        raise Refused(f"{what}: pip install 'headway[train]'") from None
    # Not kept as a global: a verb is always what its home says it is.
    return getattr(home, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
