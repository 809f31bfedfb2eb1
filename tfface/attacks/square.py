"""The Square attack: random search by queries alone, without any gradient."""

import math
from dataclasses import dataclass

import numpy as np

from tfface.attacks import _norms
from tfface.attacks._attack import Attack
from tfface.attacks._victim import Batch, Victim
from tfface.errors import UserError

_HALVED_AT = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""Of 10,000 queries: where the share of changed pixels halves."""
_TILES = 5


@dataclass(frozen=True, kw_only=True)
class Square(Attack):
    """Changes one random square after another and keeps what raises the margin.

    Paper: https://arxiv.org/abs/1912.00049.

    Attributes:
        queries: answers of the model that are used for an image at most.
        share: of the pixels, that the first squares cover. None: the paper's for ImageNet, 0.05 in linf and 0.1 in L2.
    """

    title = "Square"
    paper = "Andriushchenko et al. 2020, https://arxiv.org/abs/1912.00049"
    deterministic = False
    black_box = True

    queries: int = 10_000
    share: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.queries < 1:
            raise UserError(f"Square needs at least one query, not {self.queries}")
        if self.share is not None and not 0 < self.share <= 1:
            raise UserError(f"a share of {self.share} of the pixels is outside (0, 1]")

    def perturb(self, victim: Victim, batch: Batch) -> np.ndarray:
        """Return the best image found; an image that has succeeded is queried no more."""
        randoms = [np.random.default_rng([batch.seed, key, batch.restart]) for key in batch.keys.tolist()]
        images, targets, epsilon = batch.images, batch.targets, batch.epsilon
        start, change = (_stripes, _square) if self.norm == "linf" else (_tiles, _move_mass)
        current = np.stack(
            [start(clean, limit, random) for clean, limit, random in zip(images, epsilon, randoms, strict=True)]
        )
        success, margin = victim.assess(current, targets)
        rows = np.flatnonzero(~success)
        for query in range(1, self.queries):
            if not len(rows):
                break
            side = self.side(query, images.shape[1:3])
            tried = np.stack([change(current[row], images[row], epsilon[row], side, randoms[row]) for row in rows])
            success, new = victim.assess(tried, targets[rows])
            better = success | (new > margin[rows])
            current[rows[better]], margin[rows[better]] = tried[better], new[better]
            rows = rows[~success]
        return current

    def side(self, query: int, size: tuple[int, ...]) -> int:
        """Return the side of the square that a query changes, in pixels of an image (H, W)."""
        share = self.share or (0.05 if self.norm == "linf" else 0.1)
        halvings = sum(query * 10_000 > at * self.queries for at in _HALVED_AT)
        return min(max(1, round(math.sqrt(share / 2**halvings * math.prod(size)))), min(size) - 1)


def _stripes(clean: np.ndarray, epsilon: float, random: np.random.Generator) -> np.ndarray:
    """Move every column of every channel one epsilon up or down."""
    return (clean + epsilon * _signs(random, (1, *clean.shape[1:]))).clip(0, 1)


def _square(
    current: np.ndarray, clean: np.ndarray, epsilon: float, side: int, random: np.random.Generator
) -> np.ndarray:
    """Move one square, each channel of it one epsilon up or down from the clean image."""
    window = _window(clean.shape, side, random)
    changed = current.copy()
    changed[window] = (clean[window] + epsilon * _signs(random, (1, 1, clean.shape[2]))).clip(0, 1)
    return changed


def _tiles(clean: np.ndarray, epsilon: float, random: np.random.Generator) -> np.ndarray:
    """Add a grid of pointed tiles of random signs, of length epsilon in all."""
    height, width, channels = clean.shape
    side = max(1, min(height, width) // _TILES)
    change = np.zeros_like(clean)
    for top in range(0, height - side + 1, side):
        for left in range(0, width - side + 1, side):
            signs = _signs(random, (1, 1, channels))
            change[top : top + side, left : left + side] = _pointed(side, random)[:, :, None] * signs
    change *= _norms.length(epsilon, clean.shape) / np.linalg.norm(change)
    return (clean + change).clip(0, 1)


def _move_mass(
    current: np.ndarray, clean: np.ndarray, epsilon: float, side: int, random: np.random.Generator
) -> np.ndarray:
    """Take the change out of one window and put its length, pointed, into another.

    Algorithm 3 of the paper; what is left of the budget is shared out among the channels.
    """
    channels = clean.shape[2]
    to, source = _window(clean.shape, side, random), _window(clean.shape, side, random)
    change = current - clean
    total = _norms.length(epsilon, clean.shape) ** 2
    unused = max(0.0, total - float(np.square(change).sum()))
    either = np.zeros(clean.shape[:2], bool)
    either[to] = either[source] = True
    available = np.sqrt(np.square(change[either]).sum(axis=0) + unused / channels)
    pointed = _pointed(side, random)[:, :, None] * _signs(random, (1, 1, channels))
    new = pointed / np.linalg.norm(pointed[:, :, 0]) + _unit(change[to])
    change[source] = 0
    change[to] = _unit(new) * available
    return (clean + change).clip(0, 1)


def _window(shape: tuple[int, ...], side: int, random: np.random.Generator) -> tuple[slice, slice]:
    top, left = (int(random.integers(0, length - side + 1)) for length in shape[:2])
    return slice(top, top + side), slice(left, left + side)


def _signs(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return random.choice(np.array([-1, 1], np.float32), shape)


def _unit(change: np.ndarray) -> np.ndarray:
    """Return each channel (h, w, C) scaled to length 1; zero stays zero."""
    size = np.linalg.norm(change, axis=(0, 1), keepdims=True)
    return np.divide(change, size, out=np.zeros_like(change), where=size > 0)


def _pointed(side: int, random: np.random.Generator) -> np.ndarray:
    """Return a square (side, side) of two halves, one a peak and one a trough (the paper's equation 2)."""
    half = side // 2
    both = np.concatenate([_peak(side, half), -_peak(side, side - half)], axis=1)
    return both if random.random() < 0.5 else both.T


def _peak(height: int, width: int) -> np.ndarray:
    """Return nested squares around the middle of (height, width), the k-th adding 1/k^2 to all it holds."""
    rows, columns = (np.abs(np.arange(length) - length // 2) for length in (height, width))
    number = np.arange(1, max(height, width) // 2 + 2)
    held = np.cumsum(1.0 / np.square(number)[::-1])[::-1]
    return held[np.maximum(rows[:, None], columns[None, :])].astype(np.float32)


ATTACK = Square
