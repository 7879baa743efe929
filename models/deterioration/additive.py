"""The model: a logistic sum of hinges, none of which can pull the wrong way.

Each sign adds ``sum(weight * max(0, side * (value - knot)))`` to the log-odds. Knots stand at the
edges of the NEWS2 chart (one more for cool skin), and weights are never negative: a value further
from normal never lowers the probability, and what each sign added can be told exactly.
"""

from typing import Final, NamedTuple

import numpy as np
from icu import INPUTS, Floats, Ints

KNOTS: Final[dict[str, tuple[tuple[int, float], ...]]] = {
    "age": ((1, 40), (1, 60), (1, 80)),
    "respiration": ((-1, 12), (-1, 9), (1, 20), (1, 24)),
    "spo2": ((-1, 96), (-1, 94), (-1, 92)),
    "oxygen": ((1, 0),),
    "systolic": ((-1, 111), (-1, 101), (-1, 91), (1, 219)),
    "pulse": ((-1, 51), (-1, 41), (1, 90), (1, 110), (1, 130)),
    "consciousness": ((1, 0), (1, 1), (1, 2), (1, 3)),
    "temperature": ((-1, 36.6), (-1, 36.1), (-1, 35.1), (1, 38), (1, 39)),
}
"""Input -> (side, knot): side 1 counts what is above the knot, -1 what is below."""

FILL: Final = {
    "age": 60.0,
    "respiration": 16.0,
    "spo2": 97.0,
    "oxygen": 0.0,
    "systolic": 120.0,
    "pulse": 75.0,
    "consciousness": 0.0,
    "temperature": 37.0,
}
"""Stands for what was not measured, and adds nothing (age is always known)."""

RIDGE: Final = 5.0
STEPS: Final = 4000


class Hinges(NamedTuple):
    """All hinges in one row: which input, side, knot, weight; and the sum's own start."""

    column: Ints
    side: Floats
    knot: Floats
    weight: Floats
    start: float


def shape() -> Hinges:
    """Hinges before they have weights."""
    rows = [(INPUTS.index(name), *pair) for name, pairs in KNOTS.items() for pair in pairs]
    column, side, knot = zip(*rows, strict=True)
    return Hinges(
        np.array(column, dtype=np.int64),
        np.array(side, dtype=np.float64),
        np.array(knot, dtype=np.float64),
        np.zeros(len(rows)),
        0.0,
    )


def filled(x: Floats) -> Floats:
    """Rows without NaN."""
    return np.where(np.isnan(x), np.array([FILL[name] for name in INPUTS]), x)


def bent(hinges: Hinges, x: Floats) -> Floats:
    """(rows, hinges): how far each value is beyond each knot."""
    return np.maximum(0.0, hinges.side * (filled(x)[:, hinges.column] - hinges.knot))


def log_odds(hinges: Hinges, x: Floats) -> Floats:
    """(rows,)"""
    return np.asarray(bent(hinges, x) @ hinges.weight + hinges.start)


def sigmoid(z: Floats) -> Floats:
    """Probabilities of log-odds."""
    return np.asarray(1.0 / (1.0 + np.exp(-z)))


def fit(x: Floats, y: Ints) -> Hinges:
    """Weights by projected, accelerated gradient steps; deterministic."""
    hinges = shape()
    raw = bent(hinges, x)
    scale = raw.std(axis=0) + 1e-9
    design = np.column_stack([np.ones(len(y)), raw / scale])
    ridge = np.r_[0.0, np.full(raw.shape[1], RIDGE / len(y))]
    step = 1.0 / (0.25 * np.linalg.norm(design, 2) ** 2 / len(y) + ridge.max())
    weights = ahead = np.zeros(design.shape[1])
    pace = 1.0
    for _ in range(STEPS):
        slope = design.T @ (sigmoid(design @ ahead) - y) / len(y) + ridge * ahead
        moved = ahead - step * slope
        moved[1:] = np.maximum(0.0, moved[1:])
        faster = (1 + np.sqrt(1 + 4 * pace * pace)) / 2
        ahead = moved + (pace - 1) / faster * (moved - weights)
        weights, pace = moved, faster
    return hinges._replace(weight=weights[1:] / scale, start=float(weights[0]))


def platt(z: Floats, y: Ints) -> tuple[float, float]:
    """(slope, shift) that make ``sigmoid(slope * z + shift)`` a probability; Newton's steps."""
    design = np.column_stack([z, np.ones(len(z))])
    found = np.array([1.0, 0.0])
    for _ in range(50):
        p = sigmoid(design @ found)
        curve = (design * (p * (1 - p))[:, None]).T @ design
        found = found - np.linalg.solve(curve, design.T @ (p - y))
    return float(found[0]), float(found[1])


def calibrated(hinges: Hinges, slope: float, shift: float) -> Hinges:
    """The same model with its calibration inside. ``slope`` must not turn it around."""
    if slope <= 0:
        raise ValueError("the calibration turns the model around")
    return hinges._replace(weight=hinges.weight * slope, start=hinges.start * slope + shift)
