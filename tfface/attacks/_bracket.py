"""One image's search for the smallest epsilon: what to try next, from what happened so far."""

import math
from dataclasses import dataclass, field

START = 1 / 510
"""Where the doubling begins: half a grey level, the least that an 8-bit file can show."""


@dataclass
class Bracket:
    """Doubles epsilon until the attack first succeeds, then closes in between failure and success.

    Not every attack is monotone, so only the first success of the doubling grid is bracketed. Inside,
    the next epsilon is where the margin should cross zero, pulled to the middle as the ITP method does
    (Oliveira and Takahashi 2020, https://doi.org/10.1145/3423597): a few trials where the margin is
    smooth, and never more than one above bisection.

    Attributes:
        tolerance: the bracket is closed when it is no wider.
        low: the last epsilon that failed.
        low_margin: the margin there; at first that of the clean image.
        high: the smallest that succeeded, infinite while none did.
        high_margin: the margin of the image found there.
        reach: how far that image is from the clean one; an attack that stops early stops short of `high`.
    """

    tolerance: float
    low_margin: float
    low: float = 0.0
    high: float = math.inf
    high_margin: float = 0.0
    reach: float = math.inf
    _before: tuple[float, float] = field(default=(0.0, math.inf), repr=False)
    _width: float = field(default=0.0, repr=False)
    _left: int = field(default=0, repr=False)
    _side: bool = field(default=False, repr=False)
    _repeats: int = field(default=0, repr=False)

    @property
    def done(self) -> bool:
        """Tell if it is closed, or failed even at 1."""
        return self.low >= 1 if math.isinf(self.high) else self.high - self.low <= self.tolerance

    def probe(self) -> float:
        """Return the epsilon to try next; only while not done."""
        if math.isinf(self.high):
            return min(1.0, max(START, 2 * self.low))
        middle = (self.low + self.high) / 2
        width = self.high - self.low
        guess = self._crossing(middle)
        # A guess that keeps falling on one side leaves the other end where it is: it is pulled ever harder.
        pulled = max(0.1 * width * width / self._width, 0.45 * self.tolerance * 4.0**self._repeats)
        if abs(middle - guess) <= pulled:
            return middle
        guess += math.copysign(pulled, middle - guess)
        # So near the middle that bisection, one trial granted, would have come as far by now.
        slack = max(0.0, 0.499 * self.tolerance * 2.0**self._left - width / 2)
        return min(max(guess, middle - slack), middle + slack)

    def tell(self, epsilon: float, *, success: bool, margin: float, reach: float) -> None:
        """Take in the result of a trial.

        Args:
            epsilon: as `probe` gave it.
            success: of the trial.
            margin: of its image.
            reach: how far its image is from the clean one.
        """
        bracketed = not math.isinf(self.high)
        if success:
            self.high, self.high_margin, self.reach = epsilon, margin, reach
        else:
            self._before = (self.low, self.low_margin)
            self.low, self.low_margin = epsilon, margin
        if bracketed:
            self._left -= 1
            self._repeats = self._repeats + 1 if success == self._side else 0
        elif success:
            self._width = self.high - self.low
            self._left = max(0, math.ceil(math.log2(self._width / self.tolerance))) + 1
        self._side = success

    def _crossing(self, middle: float) -> float:
        """Estimate where the margin is zero; the middle if nothing tells.

        The image that succeeded is the far end of one line. An attack that stopped early would have done
        better, so that line crosses too far out; the line through the last two failures may know better.
        """
        guesses = []
        reach, rise = min(self.reach, self.high), self.high_margin - self.low_margin
        if reach > self.low and rise > 0:
            guesses.append(self.low - self.low_margin * (reach - self.low) / rise)
        run, rise = self.low - self._before[0], self.low_margin - self._before[1]
        if run > 0 and rise > 0:
            guesses.append(self.low - self.low_margin * run / rise)
        return min((guess for guess in guesses if self.low < guess < self.high), default=middle)
