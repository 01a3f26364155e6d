"""Serves a bundle with any limits, as `headway serve` does with its own: deadlines of a second make tests short.

python -m tests.serving.limited BUNDLE [--port 0] [--limits '{"header_s": 1}']
"""

from __future__ import annotations

import argparse
import json
import sys

from headway.deployment.bundle import load_bundle
from headway.serving.app import make_app
from headway.serving.limits import Limits
from headway.serving.listening import address_of, open_port, serve


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("bundle")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--limits", type=json.loads, default={})
    asked = parser.parse_args()
    limits = Limits(**asked.limits)
    app = make_app(load_bundle(asked.bundle, threads=1), limits, log=sys.stderr.write, threads=1)
    opened = open_port("127.0.0.1", asked.port)
    serve(
        app,
        opened,
        limits,
        lambda: print("serving ", address_of(opened), flush=True),  # noqa: T201
        crowded=app,
    )


if __name__ == "__main__":
    main()
