"""Photographs for tests, made here: plain, turned in every way that files know, transparent, profiled, damaged."""

import io
import struct
import zlib
from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image


def scene(height: int = 61, width: int = 83, seed: int = 0) -> np.ndarray:
    """uint8 RGB with smooth colours and sharp edges; odd sides, so that chroma blocks do not fit."""
    generator = np.random.default_rng(seed)
    pixels = cv2.resize(
        generator.integers(0, 256, (6, 8, 3)).astype(np.uint8), (width, height), interpolation=cv2.INTER_CUBIC
    )
    pixels[10:20, 30:40] = (255, 0, 0)
    return pixels


def file_of(pixels: np.ndarray | Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    """A PNG's chunk."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def segment(content: bytes, marker: int = 0xE1) -> bytes:
    """A JPEG's segment."""
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def exif(orientation: int, kind: int = 3, endian: str = ">", count: int = 1) -> bytes:
    """A TIFF directory of one entry, the orientation, of a kind of whole number: 3 has 16 bits, 4 has 32."""
    value = struct.pack(f"{endian}H2x" if kind == 3 else f"{endian}L", orientation)
    head = (b"MM" if endian == ">" else b"II") + struct.pack(f"{endian}HL", 42, 8)
    return head + struct.pack(f"{endian}HHHL", 1, 0x0112, kind, count) + value + bytes(4)


def xmp(orientation: int) -> bytes:
    return f'<x:xmpmeta><rdf:Description tiff:Orientation="{orientation}"/></x:xmpmeta>'.encode()


_START = file_of(scene(), "JPEG", quality=95)
_PNG = file_of(scene(), "PNG")
_EXIF = b"Exif\0\0"
_XMP = b"http://ns.adobe.com/xap/1.0/\0"


def jpeg(*segments: bytes) -> bytes:
    """The scene with segments before its first table."""
    return _START[:2] + b"".join(segments) + _START[2:]


def png(*chunks: bytes, late: bool = False) -> bytes:
    """The scene with chunks after the header, or before the end."""
    place = len(_PNG) - 12 if late else 33
    return _PNG[:place] + b"".join(chunks) + _PNG[place:]


def raw_profile(orientation: int, compressed: bool) -> bytes:
    """As ImageMagick writes an EXIF block into a PNG: hexadecimal text."""
    content = _EXIF + exif(orientation)
    text = f"\nexif\n{len(content):8}\n{content.hex()}\n".encode()
    if compressed:
        return chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text))
    return chunk(b"tEXt", b"Raw profile type exif\0" + text)


def _itxt(text: bytes, compressed: bool) -> bytes:
    return chunk(b"iTXt", b"XML:com.adobe.xmp\0" + bytes([compressed, 0, 0, 0]) + text)


TURNED: dict[str, Callable[[int], bytes]] = {
    "jpeg": lambda n: jpeg(segment(_EXIF + exif(n))),
    "jpeg, little-endian": lambda n: jpeg(segment(_EXIF + exif(n, endian="<"))),
    "jpeg, 32 bits": lambda n: jpeg(segment(_EXIF + exif(n, kind=4))),
    "jpeg, 32 bits, little-endian": lambda n: jpeg(segment(_EXIF + exif(n, kind=4, endian="<"))),
    "jpeg, fill bytes": lambda n: jpeg(b"\xff\xff\xff", segment(_EXIF + exif(n))),
    "jpeg, an empty first block": lambda n: jpeg(segment(_EXIF), segment(_EXIF + exif(n))),
    "jpeg, a second block": lambda n: jpeg(segment(_EXIF + exif(n)), segment(_EXIF + exif(9 - n))),
    "jpeg, the name twice": lambda n: jpeg(segment(_EXIF + _EXIF + exif(n))),
    "jpeg, late": lambda n: _late(n),
    "jpeg, after a comment": lambda n: jpeg(segment(b"\xff\xe1" * 99, 0xFE), segment(_EXIF + exif(n))),
    "jpeg, two values": lambda n: jpeg(segment(_EXIF + exif(n, count=2))),
    "jpeg, xmp": lambda n: jpeg(segment(_XMP + xmp(n))),
    "jpeg, xmp and exif": lambda n: jpeg(segment(_XMP + xmp(9 - n)), segment(_EXIF + exif(n))),
    "jpeg, two xmp": lambda n: jpeg(segment(_XMP + xmp(9 - n)), segment(_XMP + xmp(n))),
    "png": lambda n: png(chunk(b"eXIf", exif(n))),
    "png, little-endian": lambda n: png(chunk(b"eXIf", exif(n, endian="<"))),
    "png, late": lambda n: png(chunk(b"eXIf", exif(n)), late=True),
    "png, twice": lambda n: png(chunk(b"eXIf", exif(9 - n)), chunk(b"eXIf", exif(n))),
    "png, xmp": lambda n: png(_itxt(xmp(n), False)),
    "png, compressed xmp": lambda n: png(_itxt(zlib.compress(xmp(n)), True)),
    "png, raw profile": lambda n: png(raw_profile(n, False)),
    "png, compressed raw profile": lambda n: png(raw_profile(n, True)),
    "tiff": lambda n: file_of(scene(), "TIFF", exif=_oriented(n)),
    "webp": lambda n: file_of(scene(), "WEBP", lossless=True, exif=_oriented(n)),
    # Pillow writes an AVIF's orientation as `irot` and `imir`, not as EXIF.
    "avif": lambda n: file_of(scene(), "AVIF", quality=100, subsampling="4:4:4", exif=_oriented(n)),
}
"""By its way of naming an orientation, the scene turned."""


def _late(orientation: int) -> bytes:
    """After the tables and the frame's header, right before the scan."""
    scan = _START.index(b"\xff\xda")
    return _START[:scan] + segment(_EXIF + exif(orientation)) + _START[scan:]


def _oriented(orientation: int) -> Image.Exif:
    found = Image.Exif()
    found[0x0112] = orientation
    return found


def alpha_files() -> dict[str, bytes]:
    """Files with every way of being transparent, of the same colours."""
    shades = np.tile(np.linspace(0, 255, 83).astype(np.uint8), (61, 1))
    layers = Image.fromarray(np.dstack([scene(), shades]))
    grey = Image.fromarray(scene()).convert("L")
    palette = Image.fromarray(scene()).convert("P")
    entry = int(np.asarray(palette)[5, 5])
    two = grey.copy()
    two.putalpha(Image.fromarray(shades))
    return {
        "png": file_of(layers, "PNG"),
        "grey png": file_of(two, "PNG"),
        "png, a transparent colour": file_of(Image.fromarray(scene()), "PNG", transparency=(255, 0, 0)),
        "png, a transparent grey": file_of(grey, "PNG", transparency=int(np.asarray(grey)[5, 5])),
        "png, a transparent palette entry": file_of(palette, "PNG", transparency=entry),
        "png, a palette with alpha": file_of(palette, "PNG", transparency=bytes(range(256))),
        "png of two bits, a transparent palette entry": file_of(
            Image.fromarray(scene()).quantize(4), "PNG", bits=2, transparency=1
        ),
        "png of one bit, a transparent grey": file_of(grey.convert("1"), "PNG", transparency=1),
        "webp": file_of(layers, "WEBP", lossless=True, exact=True),
        "tiff": file_of(layers, "TIFF"),
        "gif": file_of(palette, "GIF", transparency=entry),
    }


def icc(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    """An ICC profile, version 2, of a display."""
    tags = {b"wtpt": xyz(0.9642, 1.0, 0.8249), **tags}
    place = 132 + 12 * len(tags)
    table, body = struct.pack(">L", len(tags)), b""
    for name, content in tags.items():
        content += bytes(-len(content) % 4)
        table += name + struct.pack(">LL", place + len(body), len(content))
        body += content
    size = 128 + len(table) + len(body)
    head = struct.pack(">L4sL4s4s4s12s4s", size, b"lcms", 0x02400000, b"mntr", space, b"XYZ ", bytes(12), b"acsp")
    return head.ljust(68, b"\0") + xyz(0.9642, 1.0, 0.8249)[8:].ljust(60, b"\0") + table + body


def xyz(*values: float) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(struct.pack(">l", round(value * 65536)) for value in values)


def gamma(value: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">LH", 1, round(value * 256))


RED, GREEN, BLUE = xyz(0.4361, 0.2225, 0.0139), xyz(0.3851, 0.7169, 0.0971), xyz(0.1431, 0.0606, 0.7141)
"""sRGB's primaries, as its profiles have them."""


def rgb_profile(red: bytes = RED, green: bytes = GREEN, blue: bytes = BLUE, curve: float = 2.2) -> bytes:
    curves = {name: gamma(curve) for name in (b"rTRC", b"gTRC", b"bTRC")}
    return icc(b"RGB ", {b"rXYZ": red, b"gXYZ": green, b"bXYZ": blue, **curves})
