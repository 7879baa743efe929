"""How much comes in, by lane, and from which box just now."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from lianzhen_protocol.errors import TopicError
from lianzhen_protocol.identity import NodeId
from lianzhen_protocol.lanes import Lane, lane_of
from lianzhen_runtime.flow import Flow

_MOST_BOXES: Final = 20_000
"""Flows of single boxes that are kept; those that rest are forgotten first."""


class TrafficSum(NamedTuple):
    """What several ingests told of theirs."""

    lanes: Mapping[Lane, Flow]
    boxes: Mapping[tuple[str, str], float]

    def rates(self) -> Mapping[tuple[str, str], float]:
        """As of a ``Traffic``."""
        return self.boxes


class Traffic:
    """Counts frames as they arrive, repetitions included."""

    def __init__(self) -> None:
        self.lanes: dict[Lane, Flow] = {}
        self._boxes: dict[tuple[NodeId, str], Flow] = {}

    def received(self, node: NodeId, stream: str, size: int) -> None:
        """A frame of ``size`` bytes; one that names no lane is nobody's, and is turned away."""
        try:
            lane = lane_of(stream)
        except TopicError:
            return
        self.lanes.setdefault(lane, Flow()).passed(1, size)
        key = (node, lane.word)
        if key not in self._boxes and len(self._boxes) >= _MOST_BOXES:
            self.rates()
            if len(self._boxes) >= _MOST_BOXES:
                return
        self._boxes.setdefault(key, Flow()).passed(1, size)

    def rates(self) -> Mapping[tuple[str, str], float]:
        """Bytes a second by (node, lane), of those that send."""
        self._boxes = {key: flow for key, flow in self._boxes.items() if flow.rate > 0}
        return {key: flow.rate for key, flow in self._boxes.items()}
