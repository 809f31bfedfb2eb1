"""Median smoothing: each value becomes the median of its neighbourhood."""

from collections.abc import Iterator
from typing import Any, ClassVar

from keras import ops

from tfface.augmentation.changes import Level
from tfface.defenses._defense import Defense, register


@register
class Median(Defense):
    """The median of a square window around each value, channel by channel; of an even number the upper one.

    Borders are mirrored. A window of even side reaches one pixel further up and left, as in the paper, whose
    choice for colour photographs is a side of 2. The gradient is the median's own: that of the value taken.

    Paper: feature squeezing, https://arxiv.org/abs/1704.01155.
    """

    title = "median smoothing"
    paper = "Xu et al. 2018, https://arxiv.org/abs/1704.01155"
    differentiable = True
    options: ClassVar[dict[str, Level]] = {"window": Level("pixels, the window's side", 2, 7, default=2, whole=True)}

    window: int

    def call(self, images: Any, draws: Any = None) -> Any:
        before = self.window // 2
        around = (before, self.window - 1 - before)
        padded = ops.pad(images, [(0, 0), around, around, (0, 0)], mode="symmetric")
        return _smoothed(padded, self.window)


def _smoothed(padded: Any, window: int) -> Any:
    """Take medians of all windows; backward each goes to the values it equals, in equal shares.

    Through the minima and maxima themselves the gradient would be the same at many times the cost.
    """
    height, width, channels = (padded.shape[1] - window + 1, padded.shape[2] - window + 1, padded.shape[3])
    places = [(row, column) for row in range(window) for column in range(window)]

    def shifted(place: tuple[int, int]) -> Any:
        return ops.slice(padded, (0, *place, 0), (ops.shape(padded)[0], height, width, channels))

    @ops.custom_gradient
    def median(_: Any) -> Any:
        found = _ranked([shifted(place) for place in places], len(places) // 2)

        def gradient(*arguments: Any, upstream: Any = None) -> Any:
            upstream = arguments[-1] if upstream is None else upstream
            taken = [ops.cast(ops.equal(shifted(place), found), upstream.dtype) for place in places]
            share = upstream / sum(taken)
            sides = [[(0, 0), *((at, window - 1 - at) for at in place), (0, 0)] for place in places]
            return sum(ops.pad(share * mask, side) for mask, side in zip(taken, sides, strict=True))

        return found, gradient

    return median(padded)


def _ranked(values: list[Any], rank: int) -> Any:
    """Return the value of a rank, counted from 0, in each place: minima and maxima alone, on whole images at once."""
    values = list(values)
    for first, second, low, high in _selection(len(values), rank):
        one, other = values[first], values[second]
        if low:
            values[first] = ops.minimum(one, other)
        if high:
            values[second] = ops.maximum(one, other)
    return values[rank]


def _selection(count: int, rank: int) -> list[tuple[int, int, bool, bool]]:
    """List the exchanges (first, second, is the smaller wanted, the larger) of a sorting network for one rank."""
    wanted, found = {rank}, []
    for first, second in reversed(list(_merge_exchange(count))):
        low, high = first in wanted, second in wanted
        if low or high:
            found.append((first, second, low, high))
            wanted |= {first, second}
    return found[::-1]


def _merge_exchange(count: int) -> Iterator[tuple[int, int]]:
    """Return the pairs that Batcher's merge exchange compares, in order (Knuth, volume 3, algorithm 5.2.2M)."""
    top = 1 << max(count - 1, 1).bit_length() - 1
    size = top
    while size:
        step, remainder, distance = top, 0, size
        while True:
            yield from ((i, i + distance) for i in range(count - distance) if i & size == remainder)
            if step == size:
                break
            distance, step, remainder = step - size, step // 2, size
        size //= 2


DEFENSE = Median
