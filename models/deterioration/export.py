"""The model as an ONNX graph, written out node by node, and its bundle."""

import hashlib
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import onnxruntime
from additive import FILL, Hinges, bent, log_odds, sigmoid
from icu import INPUTS, SHA256, Floats
from onnx import TensorProto, helper, numpy_helper

from lianzhen_edge.triage.bundle import NAME, Bundle, Golden, Hinge, Input

OPSET = 17
IR = 8
PARITY = 1e-4


def graph(hinges: Hinges) -> bytes:
    """``signs`` (rows, inputs) -> ``probability`` (rows,), ``parts`` (rows, inputs) in log-odds."""
    many, few = len(hinges.column), len(INPUTS)
    spread = np.zeros((few, many))
    spread[hinges.column, np.arange(many)] = hinges.side
    gather = np.zeros((many, few))
    gather[np.arange(many), hinges.column] = hinges.weight
    constants = {
        "spread": spread,
        "knots": -hinges.side * hinges.knot,
        "gather": gather,
        "start": np.array(hinges.start),
    }
    nodes = [
        helper.make_node("MatMul", ["signs", "spread"], ["turned"]),
        helper.make_node("Add", ["turned", "knots"], ["beyond"]),
        helper.make_node("Relu", ["beyond"], ["bent"]),
        helper.make_node("MatMul", ["bent", "gather"], ["parts"]),
        helper.make_node("ReduceSum", ["parts", "axis"], ["sum"], keepdims=0),
        helper.make_node("Add", ["sum", "start"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["probability"]),
    ]
    tensors = [numpy_helper.from_array(v.astype(np.float32), n) for n, v in constants.items()]
    tensors.append(numpy_helper.from_array(np.array([1], dtype=np.int64), "axis"))
    made = helper.make_graph(
        nodes,
        NAME,
        [helper.make_tensor_value_info("signs", TensorProto.FLOAT, ["rows", few])],
        [
            helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["rows"]),
            helper.make_tensor_value_info("parts", TensorProto.FLOAT, ["rows", few]),
        ],
        tensors,
    )
    model = helper.make_model(
        made, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="lianzhen"
    )
    model.ir_version = IR
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def parity(onnx_bytes: bytes, hinges: Hinges, rows: Floats) -> float:
    """The greatest difference in probability between the graph and the formula, on real rows."""
    session = onnxruntime.InferenceSession(onnx_bytes, providers=["CPUExecutionProvider"])
    (found,) = session.run(["probability"], {"signs": rows.astype(np.float32)})
    return float(np.abs(found - sigmoid(log_odds(hinges, rows))).max())


def golden(hinges: Hinges) -> tuple[Golden, ...]:
    """Rows that bend every hinge, made up; no patient's."""
    low, high = [38.0, 6, 85, 0, 85, 38, 0, 34.5], [88.0, 32, 99, 1, 225, 140, 4, 40.0]
    middle = [FILL[name] for name in INPUTS]
    mixed = [70.0, 26, 91, 1, 98, 118, 2, 38.7]
    rows = np.array([middle, low, high, mixed])
    parts = np.zeros_like(rows)
    for at, column in enumerate(hinges.column):
        parts[:, column] += bent(hinges, rows)[:, at] * hinges.weight[at]
    probability = sigmoid(log_odds(hinges, rows))
    return tuple(
        Golden(
            row=tuple(map(float, row)),
            probability=round(float(p), 6),
            parts=tuple(round(float(part), 6) for part in added),
        )
        for row, p, added in zip(rows, probability, parts, strict=True)
    )


def write(
    folder: Path, hinges: Hinges, ranges: dict[str, tuple[float, float]], words: dict[str, Any]
) -> str:
    """Model and bundle into ``folder``; the bundle's SHA-256, which the program is to know."""
    onnx_bytes = graph(hinges)
    required = {"age", "systolic", "pulse", "consciousness", "temperature"}
    bundle = Bundle(
        onnx=f"{NAME}.onnx",
        sha256=hashlib.sha256(onnx_bytes).hexdigest(),
        inputs=tuple(
            Input(
                name=name,
                fill=FILL[name],
                low=ranges[name][0],
                high=ranges[name][1],
                required=name in required,
            )
            for name in INPUTS
        ),
        start=hinges.start,
        hinges=tuple(
            Hinge(input=INPUTS[column], side=float(side), knot=float(knot), weight=float(weight))
            for column, side, knot, weight in zip(*hinges[:4], strict=True)
        ),
        golden=golden(hinges),
        data=SHA256,
        **words,
    )
    text = msgspec.json.format(msgspec.json.encode(bundle), indent=1) + b"\n"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / bundle.onnx).write_bytes(onnx_bytes)
    (folder / f"{NAME}.json").write_bytes(text)
    return hashlib.sha256(text).hexdigest()
