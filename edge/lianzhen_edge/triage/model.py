"""The learned score: onnxruntime over a verified bundle, one thread, golden vectors first."""

import math
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import onnxruntime

from lianzhen_protocol.triage import Factor, Forecast

from .bundle import FOLDER, RELEASED, Bundle, ModelRefused, Patient, load, row_of, value_text

TOLERANCE: Final = 1e-4
TOP_FACTORS: Final = 4


class Model:
    """A model that computes what it was released to compute; else ModelRefused."""

    def __init__(self, folder: Path = FOLDER, released: str = RELEASED) -> None:
        self.bundle, onnx = load(folder, released)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        try:
            self._session = onnxruntime.InferenceSession(
                onnx, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # noqa: BLE001 - onnxruntime's own errors share no base class
            raise ModelRefused(
                f"{self.bundle.onnx} does not load: {type(error).__name__}"
            ) from None
        self._prove()

    def forecast(self, patient: Patient) -> Forecast:
        """A probability with what it came from, or why there is none."""
        bundle = self.bundle
        row, known, silence = row_of(bundle, patient)
        if silence:
            return _said(bundle, silence=tuple(silence))
        probability, parts = self.compute(row)
        factors = [
            Factor(
                input=column.name,
                value=value_text(patient, column.name),
                log_odds=round(part, 4),
            )
            for column, part in zip(bundle.inputs, parts, strict=True)
            if column.name in known and part >= 0.01
        ]
        factors.sort(key=lambda factor: -factor.log_odds)
        return _said(
            bundle, probability=round(probability, 4), factors=tuple(factors[:TOP_FACTORS])
        )

    def compute(self, row: list[float]) -> tuple[float, list[float]]:
        """Probability, and what each input added to the log-odds."""
        signs = np.array([row], dtype=np.float32)
        probability, parts = self._session.run(["probability", "parts"], {"signs": signs})
        return float(probability[0]), [float(part) for part in parts[0]]

    def _prove(self) -> None:
        for golden in self.bundle.golden:
            probability, parts = self.compute(list(golden.row))
            found, wanted = (probability, *parts), (golden.probability, *golden.parts)
            if not all(
                math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
                for a, b in zip(found, wanted, strict=True)
            ):
                raise ModelRefused("the model does not compute its golden vectors on this machine")


def _said(bundle: Bundle, **more: object) -> Forecast:
    forecast = Forecast(model=bundle.title, sha256=bundle.sha256, threshold=bundle.threshold)
    return msgspec.structs.replace(forecast, **more)
