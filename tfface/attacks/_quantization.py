"""Formats of image files: 8-bit rounding, JPEG compression."""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from tfface.errors import UserError
from tfface.preprocessing.decoding import decode


def quantized(images: np.ndarray) -> np.ndarray:
    """Return what an 8-bit file holds of images (N, H, W, 3) in [0, 1]: every value rounded to a multiple of 1/255."""
    return to_bytes(images).astype(np.float32) / np.float32(255)


def jpeg(quality: int) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that maps images (N, H, W, 3) in [0, 1] to what survives JPEG compression.

    Args:
        quality: of the encoder, 1 to 100.

    Raises:
        UserError: a quality outside that range.
    """
    if not 1 <= quality <= 100:
        raise UserError(f"`jpeg` quality {quality} is outside 1 to 100", parameter="jpeg")

    def through_file(pixels: np.ndarray) -> np.ndarray:
        bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
        return decode(cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes())

    def judge(images: np.ndarray) -> np.ndarray:
        return np.stack([through_file(pixels) for pixels in to_bytes(images)]).astype(np.float32) / np.float32(255)

    return judge


def to_bytes(images: np.ndarray) -> np.ndarray:
    """Return uint8 of images in [0, 1], rounded to the nearest level."""
    return np.rint(np.asarray(images) * 255).clip(0, 255).astype(np.uint8)


@dataclass(frozen=True)
class ImageFormat:
    """Format in which an adversarial image is stored before it is judged.

    Attributes:
        name: `float` as the attack made it, `8-bit` as a PNG file holds it, or `JPEG quality ...`.
        quality: of the JPEG encoder; 0 for none.
    """

    name: str = "float"
    quality: int = 0

    @classmethod
    def of(cls, *, quantize: bool, quality: int | None) -> "ImageFormat":
        """Return 8-bit PNG or JPEG; a JPEG file is 8-bit already."""
        if quality is not None:
            jpeg(quality)  # refuses what is out of range
            return cls(f"JPEG quality {quality}", quality)
        return cls("8-bit") if quantize else cls()

    @property
    def judge(self) -> Callable[[np.ndarray], np.ndarray] | None:
        """Return the function from images to what the file holds of them; None: they stay as they are."""
        if self.quality:
            return jpeg(self.quality)
        return None if self.name == "float" else quantized

    def seen(self, images: np.ndarray) -> np.ndarray:
        """Return images as the file holds them."""
        return images if self.judge is None else self.judge(images)
