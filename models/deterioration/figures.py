"""What the model is worth, with its doubt: figures on rows that it never saw."""

from collections.abc import Callable
from typing import Final

import numpy as np
from icu import Floats, Ints

RESAMPLES: Final = 2000
BINS: Final = 10

Figure = Callable[[Floats, Ints], float]


def auroc(score: Floats, y: Ints) -> float:
    """Area under the receiver operating characteristic; ties count half."""
    _, place, count = np.unique(score, return_inverse=True, return_counts=True)
    middle = np.cumsum(count) - (count - 1) / 2  # mean rank of each value
    positive = int(y.sum())
    negative = len(y) - positive
    return float(
        (middle[place][y == 1].sum() - positive * (positive + 1) / 2) / positive / negative
    )


def calibration_error(p: Floats, y: Ints) -> float:
    """ECE over ten bins with equally many rows each."""
    order = np.argsort(p, kind="stable")
    bins = np.array_split(order, BINS)
    return float(sum(len(b) * abs(p[b].mean() - y[b].mean()) for b in bins) / len(y))


def interval(figure: Figure, score: Floats, y: Ints, seed: int = 7) -> tuple[float, float]:
    """95 % bootstrap interval; each row is a stay of its own."""
    draw = np.random.default_rng(seed)
    picks = (draw.integers(0, len(y), len(y)) for _ in range(RESAMPLES))
    found = [figure(score[pick], y[pick]) for pick in picks]
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)


def difference(
    figure: Figure, one: Floats, other: Floats, y: Ints, seed: int = 7
) -> tuple[float, float]:
    """95 % bootstrap interval of figure(one) - figure(other) on the same rows."""
    draw = np.random.default_rng(seed)
    picks = (draw.integers(0, len(y), len(y)) for _ in range(RESAMPLES))
    found = [figure(one[pick], y[pick]) - figure(other[pick], y[pick]) for pick in picks]
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)


def at_threshold(p: Floats, y: Ints, threshold: float) -> dict[str, float]:
    """What a bell at this threshold does."""
    rings = p >= threshold
    return {
        "sensitivity": float(rings[y == 1].mean()),
        "specificity": float((~rings[y == 0]).mean()),
        "positive_predictive_value": float(y[rings].mean()) if rings.any() else 0.0,
        "rings": float(rings.mean()),
    }


def threshold_for(p: Floats, y: Ints, sensitivity: float) -> float:
    """The highest threshold that still finds this part of those who died."""
    return float(np.quantile(p[y == 1], 1 - sensitivity, method="lower"))
