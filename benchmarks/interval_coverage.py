"""Do 95 % intervals hold the truth in 95 of 100 test sets? Simulated test sets, exact sums where they can be.

python -m benchmarks.interval_coverage [--draws 1000] [--again 2000] [--seed 0]

accuracy           Wilson's interval, exact over the binomial; true accuracies of 0.5 to 0.99
paired difference  Tango's interval, exact over the counts of images that only one of two classifiers gets right; the
                   better one 0.5 to 0.99, the other 0, 0.02, 0.05 or 0.1 below, mistakes correlated by 0, 0.3, 0.6, 0.9
resampled          the paired bootstrap of `compare`, simulated, for the same differences; n = 30 to 300
macro-F1, balanced accuracy
                   `macro_intervals`, simulated: 2, 5, 20 and 100 classes; even and uneven test sets of at least 30
                   images a class; accuracies of 0.6 to 0.995; mistakes that fall on all classes alike, mostly on the
                   largest, or mostly in the smallest classes. Only where at least 5 mistakes are expected. Coverage
                   is of the intervals that are shown, in cases where 8 of 10 test sets get one; "wrong": of all test
                   sets of a case the share with an interval that does not hold the truth, in the worst of all cases.
                   A case that comes out under 0.93 or over 0.98 is drawn again, --again times: of many cases some do
                   so by chance
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headway.evaluation.bootstrap import resample
from headway.evaluation.compare import tango_statistic
from headway.evaluation.intervals import Z95, macro_intervals, wilson

SIZES = (30, 100, 300, 1000, 3000)
MOSTLY = 0.8
DIFFERENCES = (0.0, 0.02, 0.05, 0.1)
CORRELATIONS = (0.0, 0.3, 0.6, 0.9)
Floats = NDArray[np.float64]


def of_accuracy(n: int, truths: Floats) -> Floats:
    """Exact coverage of Wilson's interval at each of `truths`."""
    from scipy.stats import binom

    ends = np.array([wilson(right / n, n) for right in range(n + 1)])
    chances = binom.pmf(np.arange(n + 1)[None, :], n, truths[:, None])  # (T, n + 1)
    inside = (ends[None, :, 0] <= truths[:, None]) & (truths[:, None] <= ends[None, :, 1])
    return np.asarray((chances * inside).sum(axis=1))


def discordant(accuracy: float, difference: float, correlation: float) -> tuple[float, float] | None:
    """Chances that only a, and only b, is right; None where two such classifiers cannot be."""
    a, b = accuracy, accuracy - difference
    both = a * b + correlation * float(np.sqrt(a * (1 - a) * b * (1 - b)))
    return None if both > min(a, b) + 1e-12 else (max(a - both, 0.0), max(b - both, 0.0))


def of_difference(n: int, only_a: float, only_b: float) -> float:
    """Exact coverage of Tango's interval: the sum over every pair of counts whose score test does not reject."""
    from scipy.stats import binom

    either = only_a + only_b
    if either == 0:
        return 1.0
    low, high = binom.ppf([1e-10, 1 - 1e-10], n, either).astype(int)
    covered = 0.0
    for count in range(max(low - 1, 0), high + 1):
        of_a = np.arange(count + 1)
        chances = binom.pmf(count, n, either) * binom.pmf(of_a, count, only_a / either)
        inside = np.abs(tango_statistic(of_a, count - of_a, n, only_a - only_b)) <= Z95
        covered += float(chances[inside].sum())
    return covered


def paired_cases(n_truths: int) -> Iterator[tuple[float, float, float, float, float]]:
    """(accuracy, difference, correlation, only a, only b) of every case that can be."""
    for difference in DIFFERENCES:
        for correlation in CORRELATIONS:
            for accuracy in np.linspace(0.5, 0.99, n_truths):
                if (chances := discordant(float(accuracy), difference, correlation)) is not None:
                    yield float(accuracy), difference, correlation, *chances


def of_resampled(n: int, only_a: float, only_b: float, draws: int, rng: np.random.Generator) -> float:
    """Simulated coverage of the paired bootstrap."""
    counts = rng.multinomial(n, [only_a, only_b, 1 - only_a - only_b], size=draws)
    kinds, times = np.unique(counts[:, :2], axis=0, return_counts=True)
    covered = 0
    for (a, b), often in zip(kinds.tolist(), times.tolist(), strict=True):
        right = np.zeros((2, n), np.bool_)
        right[0, :a] = right[1, a : a + b] = True
        low, high = resample(right[0], right[1], seed=0, resamples=500)
        covered += often * (low <= only_a - only_b <= high)
    return covered / draws


def shapes(n_classes: int) -> Iterator[tuple[str, NDArray[np.intp]]]:
    """Test images of each class, by name."""
    yield "30 each", np.full(n_classes, 30)
    yield "100 each", np.full(n_classes, 100)
    small = np.full(n_classes, 100 if n_classes == 100 else 300)
    small[0] = 30
    yield "one class of 30", small
    large = np.full(n_classes, 30)
    large[-1] = 1000
    yield "one class of 1,000", large
    yield "30 to 300", np.round(np.geomspace(30, 300, n_classes)).astype(np.intp)
    if n_classes < 100:
        yield "30 to 3,000", np.round(np.geomspace(30, 3000, n_classes)).astype(np.intp)


def chances(supports: NDArray[np.intp], accuracy: float, mistakes: str) -> Floats:
    """(C, C): how often an image of a class (row) is taken for each class."""
    n_classes, largest = len(supports), int(np.argmax(supports))
    recall = np.full(n_classes, accuracy)
    if mistakes == "in the smallest":
        rank = np.argsort(np.argsort(supports, kind="stable"), kind="stable") / (n_classes - 1)  # 0 ... 1
        recall = accuracy - 0.8 * (1 - accuracy) * (1 - 2 * rank)
    table = np.full((n_classes, n_classes), 1 / (n_classes - 1))
    if mistakes == "for the largest":
        table[:largest] *= 0.3
        table[largest + 1 :] *= 0.3
        table[np.arange(n_classes) != largest, largest] += 0.7
    np.fill_diagonal(table, 0)
    table *= ((1 - recall) / table.sum(axis=1))[:, None]
    np.fill_diagonal(table, recall)
    return table


def true_means(supports: NDArray[np.intp], table: Floats) -> tuple[float, float]:
    """Macro-F1 and balanced accuracy of these chances, classes as common as in the test set."""
    expected = supports[:, None] * table
    hits = np.diag(expected)
    return float((2 * hits / (supports + expected.sum(axis=0))).mean()), float(np.diag(table).mean())


def of_means(supports: NDArray[np.intp], table: Floats, draws: int, rng: np.random.Generator) -> dict[str, float]:
    """Share of test sets with an interval, and coverage of those: of macro-F1 and of balanced accuracy."""
    names = [str(number) for number in range(len(supports))]
    y = np.repeat(np.arange(len(supports)), supports)
    truths = true_means(supports, table)
    shown, held = np.zeros(2), np.zeros(2)
    for _ in range(draws):
        predicted = np.concatenate(
            [
                np.repeat(np.arange(len(supports)), rng.multinomial(n, row))
                for n, row in zip(supports, table, strict=True)
            ]
        )
        found = macro_intervals(y, predicted, names)
        for place, interval in enumerate((found.f1, found.balanced)):
            if interval is not None:
                shown[place] += 1
                held[place] += interval[0] <= truths[place] <= interval[1]
    with np.errstate(invalid="ignore"):
        f1, balanced = held / shown
    return {"f1 shown": shown[0] / draws, "f1": f1, "balanced shown": shown[1] / draws, "balanced": balanced}


def mean_cases() -> Iterator[tuple[int, str, NDArray[np.intp], float, str, Floats]]:
    """Every case with at least 5 mistakes expected."""
    for n_classes in (2, 5, 20, 100):
        for shape, supports in shapes(n_classes):
            for accuracy in (0.6, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995):
                for mistakes in ("alike", "for the largest", "in the smallest"):
                    table = chances(supports, accuracy, mistakes)
                    if (supports * (1 - np.diag(table))).sum() >= 5:
                        yield n_classes, shape, supports, accuracy, mistakes, table


def tell_shares(asked: argparse.Namespace) -> dict[str, Any]:
    """Tables of accuracy and of paired differences."""
    found: dict[str, Any] = {}
    print(f"{'':<34}{'n':>6} {'mean':>7} {'least':>7} {'most':>7}")

    def row(name: str, n: int, covered: list[float] | Floats) -> None:
        print(f"{name:<34}{n:>6,} {np.mean(covered):>7.4f} {np.min(covered):>7.4f} {np.max(covered):>7.4f}", flush=True)
        found[f"{name}, n={n}"] = [round(float(of(covered)), 4) for of in (np.mean, np.min, np.max)]

    for n in SIZES:
        row("accuracy, exact", n, of_accuracy(n, np.linspace(0.5, 0.99, 99)))
    for n in SIZES:
        cases = list(paired_cases(50 if n < 1000 else 15))
        row("paired difference, exact", n, [of_difference(n, a, b) for *_, a, b in cases])
    rng = np.random.default_rng([asked.seed, 1])
    for n in (30, 100, 300):
        cases = [case for case in paired_cases(6) if case[1] in (0.0, 0.05)]
        row("paired difference, resampled", n, [of_resampled(n, a, b, 400, rng) for *_, a, b in cases])
    return found


def tell_means(asked: argparse.Namespace) -> dict[str, Any]:
    """Tables of macro-F1 and balanced accuracy: by number of classes and shape, and the worst cases."""
    rows = []
    rng = np.random.default_rng([asked.seed, 2])
    for n_classes, shape, supports, accuracy, mistakes, table in mean_cases():
        draws = max(200, asked.draws // 5) if n_classes == 100 else asked.draws
        found = of_means(supports, table, draws, rng)
        if not all(0.93 <= found[key] <= 0.98 for key in ("f1", "balanced")):
            found = of_means(supports, table, asked.again, rng)
        rows.append((n_classes, shape, accuracy, mistakes, found))
    for name, key in (("macro-F1", "f1"), ("balanced accuracy", "balanced")):
        print(f"\n{name:<34}{'cases':>6} {'mean':>7} {'least':>7} {'most':>7} {'wrong':>7}")
        for n_classes, shape in dict.fromkeys(row[:2] for row in rows):
            own = [row[4] for row in rows if row[:2] == (n_classes, shape)]
            covered = [one[key] for one in own if one[f"{key} shown"] >= MOSTLY] or [float("nan")]
            wrong = max(one[f"{key} shown"] * (1 - one[key]) for one in own if one[f"{key} shown"])
            label = f"{n_classes} classes, {shape}"
            numbers = f"{np.mean(covered):>7.4f} {min(covered):>7.4f} {max(covered):>7.4f} {wrong:>7.4f}"
            print(f"{label:<34}{len(covered):>3} of {len(own)} {numbers}")
        every = sorted((row[4][key], *row[:4]) for row in rows if row[4][f"{key} shown"] >= MOSTLY)
        values = np.array([one[0] for one in every])
        within = ((values >= 0.93) & (values <= 0.98)).mean()
        print(f"all: mean {values.mean():.4f}, within 0.93 to 0.98 in {within:.3f} of {len(every)} cases")
        for value, n_classes, shape, accuracy, mistakes in (*every[:4], *every[-2:]):
            print(f"  {value:.3f}  {n_classes} classes, {shape}, accuracy {accuracy}, mistakes {mistakes}")
    return {f"{c} classes, {shape}, {accuracy}, {mistakes}": found for c, shape, accuracy, mistakes, found in rows}


def main() -> None:
    """Print every table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--again", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    found = {"shares": tell_shares(asked), "means": tell_means(asked)}
    print(json.dumps({"benchmark": "interval_coverage", "draws": asked.draws, "seed": asked.seed, **found}))


if __name__ == "__main__":
    main()
