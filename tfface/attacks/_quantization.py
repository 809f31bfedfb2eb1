"""What becomes of an image in a file: 8-bit rounding, JPEG compression. Both serve as a judge."""

from collections.abc import Callable

import cv2
import numpy as np

from tfface.errors import UserError
from tfface.preprocessing.images import decode


def quantized(images: np.ndarray) -> np.ndarray:
    """What an 8-bit file holds of images (N, H, W, 3) in [0, 1]: every value rounded to a multiple of 1/255."""
    return to_bytes(images).astype(np.float32) / np.float32(255)


def jpeg(quality: int) -> Callable[[np.ndarray], np.ndarray]:
    """A function that maps images (N, H, W, 3) in [0, 1] to what survives JPEG compression.

    Args:
        quality: of the encoder, 1 to 100.

    Raises:
        UserError: a quality outside that range.
    """
    if not 1 <= quality <= 100:
        raise UserError(f"JPEG quality {quality} is outside 1 to 100")

    def through_file(pixels: np.ndarray) -> np.ndarray:
        bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
        return decode(cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes())

    def judge(images: np.ndarray) -> np.ndarray:
        return np.stack([through_file(pixels) for pixels in to_bytes(images)]).astype(np.float32) / np.float32(255)

    return judge


def to_bytes(images: np.ndarray) -> np.ndarray:
    """uint8 of images in [0, 1], rounded to the nearest level."""
    return np.rint(np.asarray(images) * 255).clip(0, 255).astype(np.uint8)
