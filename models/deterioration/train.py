"""Trains, judges and releases the deterioration model.

``python models/deterioration/train.py --data FOLDER --out edge/lianzhen_edge/triage/models``
with the extra ``[train]``. FOLDER holds PhysioNet/CinC 2012 as icu2012_long.npz and outcomes.csv;
their digests are checked. Everything is deterministic: the same data give the same files.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Final

import numpy as np
from additive import FILL, Hinges, calibrated, filled, fit, log_odds, platt, sigmoid
from export import PARITY, graph, parity, write
from figures import at_threshold, auroc, calibration_error, difference, interval, threshold_for
from icu import INPUTS, Challenge, Floats, Ints, Rows, vitals_of

from lianzhen_edge.triage.bundle import NAME
from lianzhen_protocol import news2

TRAINING_HOURS: Final = (6, 12, 24, 36, 48)
JUDGED_HOUR: Final = 24
SENSITIVITY: Final = 0.80
REQUIRED: Final = ("age", "systolic", "pulse", "consciousness", "temperature")
LEAST_SIGNS: Final = 5
OUTER: Final = (0.001, 0.999)
"""The part of the training values that lies within the ranges of the abstain rule."""

VERSION: Final = "1.0"
MADE: Final = "2026-11-24"
WORDS: Final = {
    "name": NAME,
    "version": VERSION,
    "made": MADE,
    "population": "adults in four intensive care units of one hospital in the USA, first 48 hours "
    "(PhysioNet/Computing in Cardiology Challenge 2012, sets a to c)",
    "outcome": "death in hospital, which stands in for deterioration",
    "registration": "not registered as a medical device (NMPA notice 2021 no. 47)",
    "least_signs": LEAST_SIGNS,
}


def usable(rows: Rows) -> Rows:
    """Rows that the model would answer, ranges aside."""
    needed = [INPUTS.index(name) for name in REQUIRED]
    signs = [at for at, name in enumerate(INPUTS) if name != "age"]
    keep = ~np.isnan(rows.x[:, needed]).any(axis=1)
    keep &= (~np.isnan(rows.x[:, signs])).sum(axis=1) >= LEAST_SIGNS
    keep &= rows.x[:, INPUTS.index("age")] >= news2.ADULT_YEARS
    return Rows(rows.x[keep], rows.stay[keep])


def ranges_of(x: Floats) -> dict[str, tuple[float, float]]:
    """Input -> lowest and highest value that the model answers, to one decimal."""
    found = {}
    for at, name in enumerate(INPUTS):
        low, high = np.nanquantile(x[:, at], OUTER)
        found[name] = (round(float(low), 1), round(float(high), 1))
    return found | {"oxygen": (0.0, 1.0), "consciousness": (0.0, 4.0)}


def inside(x: Floats, ranges: dict[str, tuple[float, float]]) -> Any:
    """(rows,): whether every known value is within its range."""
    low = np.array([ranges[name][0] for name in INPUTS])
    high = np.array([ranges[name][1] for name in INPUTS])
    return (np.isnan(x) | ((x >= low) & (x <= high))).all(axis=1)


def judged(p: Floats, score: Floats, y: Ints, threshold: float) -> dict[str, Any]:
    """All figures of one set."""
    return {
        "stays": len(y),
        "died": int(y.sum()),
        "auroc": auroc(p, y),
        "auroc_95": interval(auroc, p, y),
        "ece": calibration_error(p, y),
        "mean_probability": float(p.mean()),
        "mean_outcome": float(y.mean()),
        "at_threshold": at_threshold(p, y, threshold),
        "news2_auroc": auroc(score, y),
        "news2_auroc_95": interval(auroc, score, y),
        "auroc_minus_news2_95": difference(auroc, p, score, y),
        "news2_at_5": at_threshold(score, y, 5),
        "news2_at_7": at_threshold(score, y, 7),
    }


def news2_of(x: Floats) -> Floats:
    """NEWS2 of each row; what it is at least, where signs are missing."""
    return np.array([news2.score(vitals_of(row)).at_least for row in x], dtype=np.float64)


def train(challenge: Challenge, parts: list[Ints]) -> Hinges:
    """Weights from set a at several hours, calibration from set b at one."""
    died = challenge.stays.died
    many = [usable(challenge.rows(hour, parts[0])) for hour in TRAINING_HOURS]
    raw = fit(
        np.concatenate([rows.x for rows in many]),
        np.concatenate([died[rows.stay] for rows in many]),
    )
    rows = usable(challenge.rows(JUDGED_HOUR, parts[1]))
    return calibrated(raw, *platt(log_odds(raw, rows.x), died[rows.stay]))


def main() -> None:
    """Train, judge on set c, refuse to release what the graph does not reproduce."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    challenge = Challenge(options.data)
    died = challenge.stays.died
    parts = [np.flatnonzero(challenge.stays.set == at) for at in range(3)]
    if len(np.unique(np.concatenate(parts))) != len(died):
        sys.exit("a stay is in two sets")
    model = train(challenge, parts)
    ranges = ranges_of(usable(challenge.rows(JUDGED_HOUR, parts[0])).x)
    tuned = usable(challenge.rows(JUDGED_HOUR, parts[1]))
    p = sigmoid(log_odds(model, tuned.x))
    threshold = round(threshold_for(p, died[tuned.stay], SENSITIVITY), 4)
    test = challenge.rows(JUDGED_HOUR, parts[2])
    rows = usable(test)
    answered = inside(rows.x, ranges)
    rows = Rows(rows.x[answered], rows.stay[answered])
    gap = parity(graph(model), model, filled(rows.x[:1000]))
    if gap > PARITY:
        sys.exit(f"the graph differs from the formula by {gap:g}")
    sensitivity = round(at_threshold(p, died[tuned.stay], threshold)["sensitivity"], 4)
    released = write(
        options.out, model, ranges, WORDS | {"threshold": threshold, "sensitivity": sensitivity}
    )
    report = {
        "bundle_sha256": released,
        "threshold": threshold,
        "fill": FILL,
        "parity_1000_rows": gap,
        "answered_of_set_c": len(rows.stay) / len(test.stay),
        "set_b": judged(p, news2_of(tuned.x), died[tuned.stay], threshold),
        "set_c": judged(
            sigmoid(log_odds(model, rows.x)), news2_of(rows.x), died[rows.stay], threshold
        ),
    }
    sys.stdout.write(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
