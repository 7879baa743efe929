"""What a box's records of patients, bindings and joins do at the hub."""

from typing import Final

from lianzhen_hub.page import Meanings
from lianzhen_protocol.common_meanings import DESK_BODIES, apply_desk

MEANINGS: Final[Meanings] = dict.fromkeys(DESK_BODIES, apply_desk)
