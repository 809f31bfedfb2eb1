"""The decoder inside a SavedModel sees what the project's own decoder sees."""

import functools
import io

import cv2
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tests.preprocessing.photographs import TURNED, alpha_files, segment
from tests.preprocessing.photographs import jpeg as jpeg_with
from tfface.artifacts import graph_decoding
from tfface.errors import ImageError
from tfface.preprocessing.decoding import decode


def scene(height: int = 61, width: int = 83) -> np.ndarray:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 3)).astype(np.uint8)
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_CUBIC)


def file_of(image: Image.Image | np.ndarray, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, kind, **options)
    return buffer.getvalue()


@functools.cache
def _compiled():
    return tf.function(graph_decoding.decode, input_signature=[tf.TensorSpec((), tf.string)])


def in_graph(data: bytes) -> np.ndarray | None:
    """What the graph sees; None where it refuses."""
    try:
        return _compiled()(tf.constant(data)).numpy()
    except tf.errors.OpError:
        return None


def ours(data: bytes) -> np.ndarray | None:
    try:
        return decode(data)
    except ImageError:
        return None


IMAGE = Image.fromarray(scene())
KINDS = {
    "jpeg": file_of(scene(), "JPEG", quality=90, subsampling=0),
    "chroma halved": file_of(scene(), "JPEG", quality=75, subsampling=2),
    "progressive": file_of(scene(), "JPEG", progressive=True),
    "grey jpeg": file_of(IMAGE.convert("L"), "JPEG"),
    "png": file_of(scene(), "PNG"),
    "grey png": file_of(IMAGE.convert("L"), "PNG"),
    "grey and alpha": file_of(IMAGE.convert("LA"), "PNG"),
    "alpha": file_of(np.dstack([scene(), scene()[:, :, 0]]), "PNG"),
    "palette": file_of(IMAGE.convert("P"), "PNG"),
    "single bits": file_of(IMAGE.convert("1"), "PNG"),
    "16 bits": cv2.imencode(".png", scene().astype(np.uint16) * 256 + 77)[1].tobytes(),
    "bytes after the end": file_of(scene(), "PNG") + b"appended",
}


@pytest.mark.parametrize("kind", KINDS)
def test_equals_our_decoder(kind):
    assert np.array_equal(in_graph(KINDS[kind]), decode(KINDS[kind]))


def test_cmyk_is_converted_as_ours_does_to_one_level():
    data = file_of(IMAGE.convert("CMYK"), "JPEG", quality=95)
    assert np.abs(in_graph(data).astype(int) - decode(data)).max() <= 1


@pytest.mark.parametrize("endian", ["<", ">"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", range(10))  # 0 and 9 are none
def test_exif_orientation_is_applied(kind, endian, orientation):
    exif = Image.Exif()
    exif.endian = endian
    exif[0x010F], exif[0x0112] = "maker", orientation
    data = file_of(scene(), kind, exif=exif)
    assert np.array_equal(in_graph(data), decode(data))


READ = [way for way in TURNED if way.startswith(("jpeg", "png")) and "profile" not in way and "compressed" not in way]


@pytest.mark.parametrize("way", READ)
def test_every_way_of_naming_an_orientation(way):
    for orientation in (2, 3, 6, 8):
        data = TURNED[way](orientation)
        assert np.array_equal(in_graph(data), decode(data))


@pytest.mark.parametrize("way", sorted(set(TURNED) - set(READ)))
def test_what_it_cannot_turn_is_refused(way):
    assert in_graph(TURNED[way](6)) is None


@pytest.mark.parametrize("way", [way for way in alpha_files() if "png" in way])
def test_alpha_lies_on_the_same_background(way):
    assert np.array_equal(in_graph(alpha_files()[way]), decode(alpha_files()[way]))


def test_a_file_of_too_many_segments_is_refused():
    assert in_graph(jpeg_with(*[segment(b"", 0xFE)] * 10_000)) is None


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_damaged_exif_block_is_no_orientation(kind):
    exif = Image.Exif()
    exif[0x0112] = 6
    data = file_of(scene(), kind, exif=exif)
    start = data.index(b"MM\0*") if b"MM\0*" in data else data.index(b"II*\0")
    for offset in range(4, 18):  # where the directory lies, how many entries, the tag
        broken = data[: start + offset] + b"\xff" + data[start + offset + 1 :]
        assert in_graph(broken) is not None


@pytest.mark.parametrize("kind", ["jpeg", "progressive", "png"])
def test_cut_short_anywhere(kind):
    data = KINDS[kind]
    places = [*range(0, len(data), len(data) // 24), *range(len(data) - 16, len(data))]
    assert [in_graph(data[:place]) is None for place in places] == [ours(data[:place]) is None for place in places]
    assert in_graph(data[:-1]) is None or kind != "png"


@pytest.mark.parametrize(
    "data",
    [b"", b"text", bytes(4096), b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe1\x00\x00" * 9],
)
def test_what_is_no_image(data):
    assert in_graph(data) is None


@pytest.mark.parametrize("kind", ["BMP", "GIF", "WEBP", "TIFF"])
def test_other_formats_are_refused(kind):
    assert in_graph(file_of(scene(), kind)) is None


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_too_small_for_a_face(kind):
    assert in_graph(file_of(scene(15, 200), kind)) is None
    assert in_graph(file_of(scene(16, 200), kind)) is not None


def test_a_bomb_is_refused_by_its_header():
    # Of either format 400 million pixels, of which no more than the header is there to be read.
    png = file_of(Image.new("1", (20_000, 20_000)), "PNG", compress_level=1)
    jpeg = bytearray(KINDS["jpeg"])
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = (20_000).to_bytes(2, "big") * 2
    for data in (png, bytes(jpeg)):
        with pytest.raises(tf.errors.InvalidArgumentError, match="decompression bomb"):
            _compiled()(tf.constant(data))
