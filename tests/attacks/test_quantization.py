import cv2
import numpy as np
import pytest

from tfface.attacks import _quantization
from tfface.errors import UserError


def test_rounding_to_eight_bits_by_hand():
    levels = np.array([0, 0.4, 0.6, 127.4, 254.6, 255], np.float32).reshape(1, 1, 2, 3) / 255
    np.testing.assert_allclose(_quantization.quantized(levels).ravel() * 255, [0, 0, 1, 127, 255, 255], atol=1e-4)
    assert _quantization.quantized(levels).dtype == np.float32


def test_what_an_eight_bit_file_holds_stays(images):
    once = _quantization.quantized(images)
    np.testing.assert_array_equal(_quantization.quantized(once), once)


def test_jpeg_is_what_opencv_writes_and_reads(images):
    pixels = np.rint(images * 255).astype(np.uint8)
    read = [
        cv2.imdecode(cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 75])[1], cv2.IMREAD_COLOR)
        for image in pixels
    ]
    expected = np.stack(read)[..., ::-1] / np.float32(255)
    np.testing.assert_allclose(_quantization.jpeg(75)(images), expected, atol=1e-6)


def test_jpeg_keeps_colours_and_loses_less_at_higher_quality():
    ramp = np.linspace(0, 1, 16, dtype=np.float32)
    smooth = np.stack(np.broadcast_arrays(ramp[:, None], ramp[None, :], np.float32(0.3)), axis=-1)[None]
    errors = [np.abs(_quantization.jpeg(quality)(smooth) - smooth).mean() for quality in (20, 95)]
    assert errors[1] < errors[0] < 0.1


@pytest.mark.parametrize("quality", [0, 101, -5])
def test_other_qualities_are_refused(quality):
    with pytest.raises(UserError, match=f"^`jpeg` quality {quality} is outside 1 to 100$"):
        _quantization.jpeg(quality)
