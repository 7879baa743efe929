"""Bits whose odds are learned on the way, as one number (docs/vitals.md, A minute in columns).

An adaptive binary range coder (G. N. N. Martin, 1979; the coder of LZMA). What is likely takes a
fraction of a bit, which no code of whole bits can. The encoder keeps its low end exactly, as one
large number, so that there is no carry to hold back; of the interval that remains it gives the
number with the most zero bytes at its end, and leaves those out.
"""

from typing import Final

from .errors import ReadingError

MAX_BITS: Final = 48
"""Of one number."""

_TOP: Final = 1 << 32
_RENEW: Final = 1 << 24
_EVEN: Final = 1 << 15
_ONE: Final = 1 << 16
_SLOWEST: Final = 5
_LENGTH_BITS: Final = 6


class Odds:
    """Of a zero, in 1/65536. Each bit moves them: half the way at first, in the end a 32nd."""

    __slots__ = ("share", "slowness")

    def __init__(self, share: int = _EVEN, slowness: int = 1) -> None:
        self.share, self.slowness = share, slowness

    def learn(self, bit: int) -> None:
        """One more bit was this."""
        if bit:
            self.share -= self.share >> self.slowness
        else:
            self.share += (_ONE - self.share) >> self.slowness
        self.slowness = min(self.slowness + 1, _SLOWEST)


class Steps:
    """The odds of whole numbers that are mostly 0 or little."""

    __slots__ = ("less", "longer", "zero")

    def __init__(self) -> None:
        self.zero = (Odds(57_000, 4), Odds(36_000, 3))
        """After a step that was none, and after one."""
        self.less = (Odds(), Odds())
        """After the last step up, and down."""
        self.longer = [Odds(45_000, 2) for _ in range(MAX_BITS)]


class Encoder:
    """Takes bits; ``finish`` gives the bytes."""

    def __init__(self) -> None:
        self._low, self._range, self._bytes = 0, _TOP - 1, 4

    def bit(self, odds: Odds, bit: int) -> None:
        """One bit under its odds, which learn."""
        bound = (self._range >> 16) * odds.share
        if bit:
            self._low += bound
            self._range -= bound
        else:
            self._range = bound
        odds.learn(bit)
        self._renew()

    def plain(self, number: int, bits: int) -> None:
        """``bits`` bits of which nothing is known, the highest first."""
        for at in reversed(range(bits)):
            self._range >>= 1
            if number >> at & 1:
                self._low += self._range
            self._renew()

    def number(self, number: int) -> None:
        """A number from 0 of which nothing is known: how many bits it has, and those."""
        length = number.bit_length()
        self.plain(length, _LENGTH_BITS)
        self.plain(number, max(0, length - 1))

    def step(self, steps: "Stepper", step: int) -> None:
        """A difference."""
        odds = steps.odds
        self.bit(odds.zero[steps.moved], int(step != 0))
        if step:
            self.bit(odds.less[steps.fell], int(step < 0))
            more = abs(step)
            length = more.bit_length()
            for at in range(1, length):
                self.bit(odds.longer[at], 1)
            self.bit(odds.longer[length], 0)
            self.plain(more, length - 1)
        steps.took(step)

    def finish(self) -> bytes:
        """The code; what is missing at its end are zeros."""
        for zeros in range(32, -1, -8):
            number = -(-self._low >> zeros) << zeros
            if number < self._low + self._range:
                break
        return number.to_bytes(self._bytes, "big").rstrip(b"\0")

    def _renew(self) -> None:
        while self._range < _RENEW:
            self._range <<= 8
            self._low <<= 8
            self._bytes += 1


class Stepper:
    """The odds of one column's steps, and what its last one was."""

    __slots__ = ("fell", "moved", "odds")

    def __init__(self) -> None:
        self.odds, self.moved, self.fell = Steps(), 0, 0

    def took(self, step: int) -> None:
        """It was this."""
        self.moved = int(step != 0)
        if step:
            self.fell = int(step < 0)


class Decoder:
    """Gives the bits back. ReadingError for numbers that ``Encoder`` never wrote."""

    def __init__(self, code: bytes) -> None:
        self._code, self._at, self._range = code, 4, _TOP - 1
        self._value = int.from_bytes(code[:4].ljust(4, b"\0"), "big")

    def bit(self, odds: Odds) -> int:
        """One bit under its odds, which learn."""
        bound = (self._range >> 16) * odds.share
        bit = int(self._value >= bound)
        if bit:
            self._value -= bound
            self._range -= bound
        else:
            self._range = bound
        odds.learn(bit)
        self._renew()
        return bit

    def plain(self, bits: int) -> int:
        """``bits`` bits."""
        found = 0
        for _ in range(bits):
            self._range >>= 1
            bit = int(self._value >= self._range)
            if bit:
                self._value -= self._range
            found = found << 1 | bit
            self._renew()
        return found

    def number(self, low: int, high: int) -> int:
        """A number that lies within these."""
        length = self.plain(_LENGTH_BITS)
        if length > MAX_BITS:
            raise ReadingError(f"a series has a number of {length} bits")
        found = self.plain(length - 1) | 1 << length - 1 if length else 0
        if not low <= found <= high:
            raise ReadingError(f"a series has a number of {found}; {low} to {high}")
        return found

    def step(self, steps: Stepper) -> int:
        """A difference."""
        odds = steps.odds
        found = 0
        if self.bit(odds.zero[steps.moved]):
            less = self.bit(odds.less[steps.fell])
            length = 1
            while self.bit(odds.longer[length]):
                length += 1
                if length >= MAX_BITS:
                    raise ReadingError("a series has a step without an end")
            found = self.plain(length - 1) | 1 << length - 1
            found = -found if less else found
        steps.took(found)
        return found

    def _renew(self) -> None:
        while self._range < _RENEW:
            self._range <<= 8
            following = self._code[self._at] if self._at < len(self._code) else 0
            self._value = self._value << 8 | following
            self._at += 1
