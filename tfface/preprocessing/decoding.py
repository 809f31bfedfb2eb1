"""One decoder for every photograph: uint8 RGB, upright, sRGB, on one background; or an `ImageError`.

JPEG goes through OpenCV, whose transform is the accurate integer one, everything else through Pillow, which also
reads a JPEG's header. Orientation is Pillow's (`ImageOps.exif_transpose`), colours are converted by its `ImageCms`.
"""

import functools
import io
import logging
import os
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from tfface.errors import ImageError
from tfface.utils.tensorflow_logs import listening

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS = 2**27
"""More than a phone's sensor has; a header that claims more is taken for a decompression bomb."""
MAX_SIDE = 2**16 - 1
"""The most that a JPEG can have; libraries are slow or give up on rows of millions of pixels."""
MIN_SIDE = 16
BACKGROUND = 255
"""What lies behind transparent pixels: white."""
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "DIB", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF", "SUN")
"""Pillow's names of the formats that are read; its parsers of other formats are never run."""

XMP_SEGMENT = b"http://ns.adobe.com/xap/1.0/\0"
XMP_CHUNK = b"XML:com.adobe.xmp\0"
RAW_PROFILE = b"Raw profile type exif\0"
"""How a JPEG's segment and a PNG's texts begin that may name an orientation."""

# Measured: the most that decoding holds at once, in a WebP; for a JPEG, more than that and a crop of all of it.
_BYTES_A_PIXEL, _BYTES_OF_A_JPEG = 24, 16
_MOST_MEMORY = 2**31
_JPEG = ("JPEG", "MPO")
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_CHUNK = struct.Struct(">I4s")  # the length of a chunk's content and its kind; 4 bytes of checksum follow
_ORIENTATION_TAG = 0x0112
_ORIENTATIONS = {value: value for value in range(1, 9)}
_UNREADABLE = "is no image that can be read"
_DAMAGED = "is cut short or damaged"
_KIND = "of a kind that is not supported; convert it to JPEG or PNG"


@functools.cache
def _opencv() -> ModuleType:
    """Import OpenCV when a photograph is decoded: readers of crops do without it."""
    import cv2

    # A bad image is ours to report. Set once and for all, since photographs are read in many threads.
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    return cv2


@functools.cache
def _pillow() -> ModuleType:
    from PIL import Image

    # How large an image may be, and what is wrong with it, is ours to say, as above.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    Image.MAX_IMAGE_PIXELS = None
    Image.init()
    return Image


def read_size(data: bytes) -> tuple[int, int]:
    """Read (height, width) from an image file's header, without decoding.

    Raises:
        ImageError: empty, no image, too small to hold a face, or a decompression bomb.
    """
    with _header(data) as header:
        return header.height, header.width


def decode(data: bytes) -> np.ndarray:
    """Decode an image file to uint8 RGB (H, W, 3).

    Grey, CMYK, 16-bit and palette images are converted, what is transparent lies on white, colours of an ICC
    profile become sRGB, EXIF orientation is applied (a mirrored or rotated AVIF too), the first frame of an
    animation is taken.

    Raises:
        ImageError: the header is refused (see `read_size`), the data is cut short or damaged, or the pixels are of
            a kind that has no colours on a scale of 0 to 255.
    """
    with decoded(data) as pixels:
        return pixels


@contextmanager
def decoded(data: bytes) -> Iterator[np.ndarray]:
    """Decode as `decode` does, and keep other threads' large photographs waiting while this one is used."""
    with _header(data) as image:
        bytes_a_pixel = _BYTES_OF_A_JPEG if image.format in _JPEG else _BYTES_A_PIXEL
        with _memory.hold(image.width * image.height * bytes_a_pixel):
            yield _pixels(data, image)


def _pixels(data: bytes, image: "Image.Image") -> np.ndarray:
    size, is_jpeg = (image.height, image.width), image.format in _JPEG
    with listening() as heard:
        try:
            pixels = _jpeg(data, image) if is_jpeg else _others(data, image)
            orientation = _orientation(image)
        except ImageError:
            raise
        except Exception as error:  # the parsers raise what they please on broken data
            raise ImageError(_DAMAGED) from error
    # Warnings of the other libraries are about what surrounds the pixels.
    if heard and is_jpeg:
        raise ImageError(f"{_DAMAGED} ({b''.join(heard).decode('ascii', 'replace').strip()})")
    if pixels.shape != (*size, 3) or pixels.dtype != np.uint8:
        raise ImageError("cannot be decoded")
    return _upright(pixels, orientation)


@contextmanager
def _header(data: bytes) -> Iterator["Image.Image"]:
    """Open an image file and check its size; nothing is decoded yet."""
    if not data:
        raise ImageError("is empty (0 bytes)")
    try:
        image = _pillow().open(io.BytesIO(data), formats=FORMATS)
    except Exception as error:  # Pillow's parsers raise what they please on broken headers
        raise ImageError(_unread(data)) from error
    with image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise ImageError(f"claims {width}x{height} pixels, more than {MAX_PIXELS // 10**6} million: refused unread")
        if max(width, height) > MAX_SIDE:
            raise ImageError(f"claims {width}x{height} pixels, more than {MAX_SIDE} a side: refused unread")
        if min(width, height) < MIN_SIDE:
            raise ImageError(f"is {width}x{height} pixels, too small for a face (at least {MIN_SIDE} a side)")
        yield image


def _unread(data: bytes) -> str:
    """Say why a file has no header that can be read: some kinds are known by their first bytes."""
    if data[4:8] == b"ftyp" and data[8:12] in (b"heic", b"heix", b"hevc", b"mif1", b"msf1"):
        return f"is a HEIC file, {_KIND}"
    if data.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL ")):
        return f"is a JPEG XL file, {_KIND}"
    if data.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")) and len(data) > 64:
        return f"is a TIFF file that is damaged or {_KIND}"
    return _UNREADABLE


def _jpeg(data: bytes, image: "Image.Image") -> np.ndarray:
    cv2 = _opencv()
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    if pixels is None:
        raise ImageError(_DAMAGED)
    return _in_srgb(image, pixels)


def _others(data: bytes, image: "Image.Image") -> np.ndarray:
    if data.startswith(_PNG) and not _is_whole_png(data):
        raise ImageError(_DAMAGED)
    image.seek(0)
    image.load()
    if image.mode == "F":
        raise ImageError(f"holds floating-point numbers, {_KIND}")
    if image.mode.startswith("I"):
        return _deep(image)
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        alpha = np.array(image.convert("RGBA"))
        return _composed(_in_srgb(image, np.ascontiguousarray(alpha[:, :, :3])), alpha[:, :, 3:])
    try:
        pixels = np.array(image.convert("RGB"))
    except ValueError as error:
        raise ImageError(f"has {image.mode} colours, {_KIND}") from error
    return _in_srgb(image, pixels)


def _deep(image: "Image.Image") -> np.ndarray:
    """Take the upper 8 of 16 bits of grey."""
    grey = np.asarray(image)
    if grey.min() < 0 or grey.max() > 0xFFFF:
        raise ImageError(f"holds numbers of more than 16 bits, {_KIND}")
    return _in_srgb(image, np.repeat((grey >> 8).astype(np.uint8)[:, :, None], 3, 2))


def _composed(pixels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Lay pixels on the background; in whole numbers, so that every reader rounds alike."""
    strips = np.array_split(np.arange(len(pixels)), max(len(pixels) // 256, 1))
    for rows in strips:
        part, opaque = pixels[rows[0] : rows[-1] + 1], alpha[rows[0] : rows[-1] + 1].astype(np.uint16)
        part[:] = (part * opaque + BACKGROUND * (255 - opaque) + 127) // 255
    return pixels


def _is_whole_png(data: bytes) -> bool:
    """Check that all chunks are there and undamaged: a decoder does without the last ones."""
    position = len(_PNG)
    while position + _PNG_CHUNK.size <= len(data):
        length, kind = _PNG_CHUNK.unpack_from(data, position)
        end = position + _PNG_CHUNK.size + length
        checksum = zlib.crc32(memoryview(data)[position + 4 : end])
        if data[end : end + 4] != checksum.to_bytes(4, "big"):
            return False
        if kind == b"IEND":
            return True
        position = end + 4
    return False


def for_server(data: bytes) -> bytes:
    """Return an image file as a SavedModel's own decoder reads it rightly: as it is, or decoded here and as a PNG.

    JPEG and PNG stay as they are, unless an ICC profile changes their colours or a PNG names its orientation in text.
    What is no image at all is the server's to refuse.

    Raises:
        ImageError: it must be decoded here, and cannot be.
    """
    try:
        with _header(data) as image:
            profile = image.info.get("icc_profile")
            has_text = image.format == "PNG" and (RAW_PROFILE in data or XMP_CHUNK in data)
            plain = image.format in (*_JPEG, "PNG") and not has_text
            if plain and (not profile or _conversion(profile)[0] is None):
                return data
    except ImageError:
        return data
    return encode_png(decode(data))


def encode_png(pixels: np.ndarray) -> bytes:
    """Encode uint8 RGB (H, W, 3) as a PNG file's bytes."""
    cv2 = _opencv()
    _, data = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    return data.tobytes()


# -- orientation ------------------------------------------------------------------------------------------------------


def _orientation(image: "Image.Image") -> int:
    """Return the orientation that `ImageOps.exif_transpose` would apply: 1 to 8."""
    try:
        return _ORIENTATIONS.get(image.getexif().get(_ORIENTATION_TAG, 1), 1)
    except Exception:  # a damaged block says nothing
        return 1


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    vertical = -1 if orientation in (3, 4, 7, 8) else 1
    horizontal = -1 if orientation in (2, 3, 6, 7) else 1
    return np.ascontiguousarray(pixels[::vertical, ::horizontal])


# -- colours ----------------------------------------------------------------------------------------------------------

_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}


def _in_srgb(image: "Image.Image", pixels: np.ndarray) -> np.ndarray:
    """Convert pixels by the file's ICC profile; as they are where it has none, or one that is damaged or not theirs."""
    profile = image.info.get("icc_profile")
    if not profile:
        return pixels
    conversion, space = _conversion(profile)
    if conversion is None:
        return pixels
    is_grey = image.mode in ("1", "L", "LA", "La") or image.mode.startswith("I")
    if space == "L" and is_grey:
        source = _pillow().fromarray(np.ascontiguousarray(pixels[:, :, 0]))
    elif space == "RGB" and image.mode != "CMYK":
        source = _pillow().fromarray(pixels)
    elif space == image.mode == "CMYK":
        source = image
    else:
        return pixels
    return np.array(conversion.apply(source))


@functools.lru_cache(maxsize=64)
def _conversion(profile: bytes) -> tuple[Any, str]:
    """Return the transform of an ICC profile to sRGB, and the mode that it takes; None if it changes nothing."""
    from PIL import Image, ImageCms

    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        mode = _MODES[opened.profile.xcolor_space.strip()]
        transform = ImageCms.buildTransform(opened, ImageCms.createProfile("sRGB"), mode, "RGB")
    except Exception:  # a damaged profile, or one for another kind of colours: as if there were none
        return None, ""
    if mode != "CMYK":
        # sRGB has many spellings, which differ by a rounding: its pixels stay as they are.
        levels = np.arange(0, 256, 15, dtype=np.uint8)
        grid = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(-1, levels.size, 3)
        source = Image.fromarray(grid if mode == "RGB" else grid[:, :, 0])
        change = np.asarray(transform.apply(source)).astype(int) - np.asarray(source.convert("RGB"))
        if np.abs(change).max() <= 2:
            return None, mode
    return transform, mode


# -- memory -----------------------------------------------------------------------------------------------------------


class _Memory:
    """Memory that photographs may take while they are decoded, in all threads together."""

    def __init__(self, most: int) -> None:
        self.most, self._held, self._changed = most, 0, threading.Condition()

    @contextmanager
    def hold(self, need: int) -> Iterator[None]:
        """Wait until `need` bytes are free.

        Raises:
            ImageError: there will never be as many.
        """
        if need > self.most:
            raise ImageError(
                f"needs about {need / 2**30:.1f} GiB to decode, of {self.most / 2**30:.1f} GiB that may be used: "
                "scale it down"
            )
        with self._changed:
            self._changed.wait_for(lambda: self._held + need <= self.most)
            self._held += need
        try:
            yield
        finally:
            with self._changed:
                self._held -= need
                self._changed.notify_all()


def _half_of_the_machine() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (ValueError, OSError):
        return _MOST_MEMORY


_memory = _Memory(min(_MOST_MEMORY, _half_of_the_machine()))
