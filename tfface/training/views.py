"""Views of a photograph: the same face cropped, turned, lit and blurred in other ways, by seed.

Teacher and student see the same view, as training on the same distorted images with
a patient teacher asks (Beyer et al. 2021, https://arxiv.org/abs/2106.05237). View number K of
image I is drawn from (seed, K, I) alone, so every process makes the same one.
"""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class Augmentation:
    """Configuration of the views; sizes are fractions of the crop's side.

    Attributes:
        name: part of every cache key; changes with the meaning of the numbers below.
        scale: the crop's sides are multiplied by up to 1 + scale, or divided by as much.
        shift: the crop's centre moves by up to this, each way.
        rotation: turned by up to so many degrees, each way.
        flip: probability of mirroring.
        brightness: added, up to this of the full range, each way.
        contrast: multiplied around the mean by 1 plus or minus up to this.
        grey: probability of losing the colours.
        blur: probability of a Gaussian blur (up to 1% of the side).
        jpeg: probability of a JPEG round trip (quality 25 to 80).
        erase: probability of a grey rectangle (10 to 40% of each side).
        mix: probability of another face shining through (10 to 50%): faces between the people there are.
        patch: probability that such a face does not shine through but takes the place of 10 to 50% of the view, in
            regions with soft borders: one's eyes with another's mouth.
        warp: standard deviation, at most, of a smooth displacement that is drawn at 5x5 knots: longer noses, eyes
            wider apart.
    """

    name: str = "v1"
    scale: float = 0.18
    shift: float = 0.08
    rotation: float = 10.0
    flip: float = 0.5
    brightness: float = 0.12
    contrast: float = 0.3
    grey: float = 0.1
    blur: float = 0.15
    jpeg: float = 0.15
    erase: float = 0.1
    mix: float = 0.3
    patch: float = 0.0
    warp: float = 0.0

    def record(self) -> dict[str, str | float]:
        """Return it JSON-able, for cache keys and results; without `patch` and `warp` where they are 0."""
        found = dataclasses.asdict(self)
        return {name: value for name, value in found.items() if value or name not in ("patch", "warp")}


PLAIN = Augmentation(
    name="none", scale=0, shift=0, rotation=0, flip=0, brightness=0, contrast=0, grey=0, blur=0, jpeg=0, erase=0, mix=0
)
"""No change at all: the recipe's own crop."""

Photograph = tuple[np.ndarray, np.ndarray]
"""uint8 RGB (H, W, 3), and the recipe's box: float (x0, y0, x1, y1)."""

_LIGHT = 2.0
"""How many times as much contrast and brightness change as positions do."""


def make_view(
    index: int,
    number: int,
    photograph: Callable[[int], Photograph],
    count: int,
    size: int,
    augmentation: Augmentation,
    seed: int,
) -> np.ndarray:
    """Make one view of one photograph.

    Args:
        index: of the photograph, below `count`.
        number: of the view.
        photograph: returns the photograph of an index.
        count: number of photographs to mix with.
        size: side of the view, in pixels.
        augmentation: difference from the plain crop.
        seed: random seed.

    Returns:
        uint8 (size, size, 3).
    """
    random = np.random.default_rng([seed, number, index])
    view = _one_face(photograph(index), size, augmentation, random)
    if random.random() < augmentation.mix:
        other = _one_face(photograph(int(random.integers(count))), size, augmentation, random)
        share: float | np.ndarray = random.uniform(0.1, 0.5)
        if augmentation.patch and random.random() < augmentation.patch:
            share = _regions(float(share), size, random)
        view = (1 - share) * view + share * other
    return np.clip(np.rint(view), 0, 255).astype(np.uint8)


def jittered(views: np.ndarray, amount: float, random: np.random.Generator) -> np.ndarray:
    """Change each view of a batch: mirrored or not, moved, turned, scaled, lit.

    A bank holds few views of each photograph, since each costs an embedding of the teacher, and a student of many
    epochs learns them by heart. Here each is changed again in every epoch; the teacher's answer stays that to the view.
    The teacher hardly sees it: FaceNet standardises each image, so light and contrast are nothing to it but where they
    clip, and its embedding of a mirrored or slightly moved face is nearly the same.

    Args:
        views: uint8 (N, S, S, 3).
        amount: largest change, each way: moved by this share of the side, turned by as many radians, scaled by 1 plus
            as much; brightness and contrast by twice as much.
        random: generator of the changes.

    Returns:
        uint8 (N, S, S, 3).
    """
    changed = np.empty_like(views)
    mirrored = random.random(len(views)) < 0.5
    draws = amount * random.uniform(-1, 1, (len(views), 6))
    levels = np.arange(256, dtype=np.float32)
    for view, mirror, draw, target in zip(views, mirrored, draws, changed, strict=True):
        gain, added = 1 + _LIGHT * draw[4], 255 * _LIGHT * draw[5]
        light = np.clip(np.rint((levels - 127.5) * gain + 127.5 + added), 0, 255).astype(np.uint8)
        matrix = _matrix(len(view), mirror=bool(mirror), move=draw[:2], turn=draw[2], scale=1 + draw[3])
        moved = cv2.warpAffine(
            view, matrix, view.shape[1::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
        )
        target[:] = cv2.LUT(moved, light)
    return changed


def _regions(share: float, size: int, random: np.random.Generator) -> np.ndarray:
    """Draw random regions that cover a share of the view: float32 (size, size, 1) from 0 to 1."""
    field = cv2.resize(random.random((4, 4), dtype=np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
    return np.clip(8 * (field - np.quantile(field, 1 - share)) + 0.5, 0, 1)[:, :, None].astype(np.float32)


def _one_face(photograph: Photograph, size: int, augmentation: Augmentation, random: np.random.Generator) -> np.ndarray:
    """Make a view of one face: float32 (size, size, 3) from 0 to 255."""
    pixels, box = photograph
    view = _cut(pixels, *_jitter(box, augmentation, random), size)
    for step in (_warp, _light, _fade, _blur, _compress, _erase):
        view = step(view, augmentation, random)
    return view


def _jitter(
    box: np.ndarray, augmentation: Augmentation, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, float]:
    """Draw centre and extent (negative width: mirrored) of the crop, in pixels, and its turn in radians."""
    x0, y0, x1, y1 = (float(value) for value in box)
    extent = np.array([x1 - x0, y1 - y0]) * math.exp(random.uniform(-1, 1) * math.log1p(augmentation.scale))
    centre = np.array([x0 + x1, y0 + y1]) / 2 + random.uniform(-1, 1, 2) * augmentation.shift * extent
    angle = math.radians(random.uniform(-1, 1) * augmentation.rotation)
    if random.random() < augmentation.flip:
        extent[0] = -extent[0]
    return centre, extent, angle


def _cut(pixels: np.ndarray, centre: np.ndarray, extent: np.ndarray, angle: float, size: int) -> np.ndarray:
    """Cut a turned box out and scale it to a square; what lies outside of the photograph is mirrored in.

    A photograph much larger than the view is scaled down first, so that nothing aliases.
    """
    shrink = min(1.0, size / float(np.abs(extent).min()))
    if shrink < 0.99:
        height, width = pixels.shape[:2]
        shape = (max(round(width * shrink), 1), max(round(height * shrink), 1))
        pixels = cv2.resize(pixels, shape, interpolation=cv2.INTER_AREA)
        centre, extent = centre * np.divide(shape, (width, height)), extent * np.divide(shape, (width, height))
    cosine, sine = math.cos(angle), math.sin(angle)
    # From the view's pixels to the photograph's; both count from the middle of a pixel.
    linear = np.array([[cosine, -sine], [sine, cosine]]) @ np.diag(extent / size)
    offset = centre - 0.5 - linear @ np.full(2, size / 2 - 0.5)
    matrix = np.column_stack([linear, offset])
    # OpenCV's fast path rounds positions to 1/32 of a pixel on bytes; floats are exact enough.
    return cv2.warpAffine(
        pixels.astype(np.float32),
        matrix,
        (size, size),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REFLECT_101,
    )


def _warp(view: np.ndarray, augmentation: Augmentation, random: np.random.Generator) -> np.ndarray:
    if not augmentation.warp:
        return view
    size = len(view)
    strength = random.uniform(0, augmentation.warp) * size
    moved = random.normal(0, strength, (5, 5, 2)).astype(np.float32)
    rows, columns = np.mgrid[:size, :size].astype(np.float32)
    places = np.stack([columns, rows], axis=-1) + cv2.resize(moved, (size, size), interpolation=cv2.INTER_CUBIC)
    return cv2.remap(
        view, places[..., 0], places[..., 1], interpolation=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )


def _light(view: np.ndarray, augmentation: Augmentation, random: np.random.Generator) -> np.ndarray:
    gain = 1 + random.uniform(-1, 1) * augmentation.contrast
    added = 255 * random.uniform(-1, 1) * augmentation.brightness
    if gain == 1 and added == 0:
        return view
    mean = view.mean()
    return np.clip((view - mean) * np.float32(gain) + np.float32(mean + added), 0, 255)


def _fade(view: np.ndarray, augmentation: Augmentation, random: np.random.Generator) -> np.ndarray:
    if random.random() >= augmentation.grey:
        return view
    return cv2.cvtColor(cv2.cvtColor(view, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


def _blur(view: np.ndarray, augmentation: Augmentation, random: np.random.Generator) -> np.ndarray:
    if random.random() >= augmentation.blur:
        return view
    return cv2.GaussianBlur(view, (0, 0), random.uniform(0.003, 0.01) * len(view))


def _compress(view: np.ndarray, augmentation: Augmentation, random: np.random.Generator) -> np.ndarray:
    if random.random() >= augmentation.jpeg:
        return view
    quality = int(random.integers(25, 81))
    pixels = np.clip(np.rint(view), 0, 255).astype(np.uint8)
    data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    again = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    assert again is not None, "it was encoded just now"
    return again.astype(np.float32)


def _erase(view: np.ndarray, augmentation: Augmentation, random: np.random.Generator) -> np.ndarray:
    if random.random() >= augmentation.erase:
        return view
    size = len(view)
    sides = (random.uniform(0.1, 0.4, 2) * size).astype(int)
    row, column = (random.random(2) * (size - sides)).astype(int)
    view = view.copy()
    view[row : row + sides[0], column : column + sides[1]] = 255 * random.random()
    return view


def _matrix(side: int, *, mirror: bool, move: np.ndarray, turn: float, scale: float) -> np.ndarray:
    """Return the affine map (2, 3) around the middle of a square view; `move` in shares of its side."""
    cosine, sine = scale * np.cos(turn), scale * np.sin(turn)
    linear = np.array([[cosine, -sine], [sine, cosine]]) @ np.diag([-1.0 if mirror else 1.0, 1.0])
    middle = np.full(2, (side - 1) / 2)
    return np.column_stack([linear, middle - linear @ middle + side * move])
