"""Images/s of the predictor called directly, bytes of images to answers, on as many threads as it has cores.

python -m benchmarks.serve_direct DATA BUNDLE [--images 256] [--seconds 8]

`serve_load` runs this on one core beside the server and compares. Prints one line of JSON: the rate, seconds of the
processor for an image, and the answer to every image (digest, label, probability), which the server must give too.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from time import perf_counter, process_time

from benchmarks.served import some_images
from headway.deployment.bundle import Bundle, load_bundle
from headway.deployment.confidence import Levels
from headway.deployment.predictor import predict

COVERAGE, UNKNOWN = 0.95, 0.01  # what the server answers where nothing is asked for


def default_levels(bundle: Bundle) -> Levels:
    """The levels of an answer that nobody asked anything of, as far as the bundle can promise them."""
    sets, unknown = bundle.confidence.sets, bundle.confidence.unknown
    return Levels(
        COVERAGE if sets is not None and sets.promises(COVERAGE) else None,
        UNKNOWN if unknown is not None and unknown.least <= UNKNOWN else None,
    )


def main() -> None:
    """Answer the images over and over, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=8.0)
    asked = parser.parse_args()
    bundle, images = load_bundle(asked.bundle), some_images(asked.data, asked.images)
    levels = default_levels(bundle)
    answers = [(answer.digest, answer.label, answer.probability) for answer in predict(bundle, images, levels=levels)]
    done, start, before = 0, perf_counter(), process_time()
    while (taken := perf_counter() - start) < asked.seconds:
        done += sum(1 for _ in predict(bundle, images, levels=levels))
    processor = (process_time() - before) / done
    print(json.dumps({"rate": done / taken, "processor": processor, "answers": answers}))


if __name__ == "__main__":
    main()
