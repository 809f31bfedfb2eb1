"""One decoder, one resize: what TensorFlow's readers would see, and what no reader should see."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from tfface.errors import ImageError, UserError
from tfface.preprocessing import images
from tfface.preprocessing.images import crop_array, crop_resize, decode, encode_png, read_size, recipe


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


def png_header(width: int, height: int) -> bytes:
    """A PNG of 57 bytes that claims to be of any size."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.fixture
def undecoded(monkeypatch):
    """Whoever decodes fails."""

    def refuse(*arguments):
        raise AssertionError("decoded")

    monkeypatch.setattr("cv2.imdecode", refuse)
    monkeypatch.setattr(Image.Image, "load", refuse)


class TestDecode:
    @pytest.mark.parametrize(
        "options",
        [
            {"quality": 95, "subsampling": 0},
            {"quality": 75, "subsampling": 2},
            {"quality": 30, "subsampling": 1},
            {"quality": 90, "progressive": True},
        ],
    )
    @pytest.mark.parametrize("size", [(61, 83), (64, 64), (250, 250)])
    def test_equals_tensorflow_s_accurate_jpeg_bit_by_bit(self, options, size):
        import tensorflow as tf

        data = file_of(scene(*size), "JPEG", **options)
        theirs = tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE").numpy()
        assert np.array_equal(decode(data), theirs)

    @pytest.mark.parametrize("kind", ["PNG", "BMP", "PPM", "TIFF"])
    def test_lossless_kinds(self, kind):
        pixels = decode(file_of(scene(), kind))
        assert pixels.dtype == np.uint8
        assert np.array_equal(pixels, scene())

    def test_lossless_webp(self):
        assert np.array_equal(decode(file_of(scene(), "WEBP", lossless=True)), scene())

    @pytest.mark.parametrize("kind", ["PNG", "JPEG"])
    def test_grey_is_three_equal_channels(self, kind):
        data = file_of(Image.fromarray(scene()).convert("L"), kind)
        assert np.array_equal(decode(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))

    def test_cmyk(self):
        data = file_of(Image.fromarray(scene()).convert("CMYK"), "JPEG", quality=100)
        assert np.abs(decode(data).astype(int) - scene()).mean() < 2

    def test_16_bits_lose_the_lower_8(self):
        deep = scene().astype(np.uint16) * 256 + 77
        data = cv2.imencode(".png", deep[:, :, ::-1])[1].tobytes()
        assert np.array_equal(decode(data), scene())

    def test_16_bit_grey(self):
        deep = scene()[:, :, 0].astype(np.uint16) * 256 + 77
        assert np.array_equal(decode(cv2.imencode(".png", deep)[1].tobytes())[:, :, 1], scene()[:, :, 0])

    def test_alpha_is_dropped(self):
        alpha = np.dstack([scene(), np.arange(61 * 83).reshape(61, 83) % 256]).astype(np.uint8)
        assert np.array_equal(decode(file_of(alpha, "PNG")), scene())

    def test_palettes_and_single_bits(self):
        for mode in ("P", "1"):
            image = Image.fromarray(scene()).convert(mode)
            assert np.array_equal(decode(file_of(image, "PNG")), np.asarray(image.convert("RGB")))

    def test_the_first_frame_of_an_animation(self):
        frames = [Image.new("RGB", (40, 30), colour) for colour in ("red", "blue", "lime")]
        for kind in ("GIF", "WEBP"):
            data = file_of(frames[0], kind, save_all=True, append_images=frames[1:], duration=100)
            pixels = decode(data)
            assert pixels.shape == (30, 40, 3)
            assert np.abs(pixels.astype(int) - (255, 0, 0)).max() <= 2

    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("kind", ["PNG", "JPEG"])
    def test_exif_orientation_is_applied(self, orientation, kind):
        # By the definition of the tag: what is stored, turned or mirrored, is what is seen.
        seen = {
            1: lambda p: p,
            2: lambda p: p[:, ::-1],
            3: lambda p: p[::-1, ::-1],
            4: lambda p: p[::-1],
            5: lambda p: p.transpose(1, 0, 2),
            6: lambda p: np.rot90(p, -1),
            7: lambda p: p.transpose(1, 0, 2)[::-1, ::-1],
            8: lambda p: np.rot90(p),
        }[orientation]
        exif = Image.Exif()
        exif[0x0112] = orientation
        plain = decode(file_of(scene(), kind, **({"quality": 95} if kind == "JPEG" else {})))
        turned = file_of(scene(), kind, exif=exif, **({"quality": 95} if kind == "JPEG" else {}))
        assert np.array_equal(decode(turned), seen(plain))
        assert np.array_equal(decode(turned), np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(turned)))))

    def test_png_goes_round(self):
        assert np.array_equal(decode(encode_png(scene())), scene())


class TestRefusals:
    @pytest.mark.parametrize("fraction", [0.2, 0.5, 0.9, 0.99])
    @pytest.mark.parametrize(
        ("kind", "options"),
        [
            ("JPEG", {}),
            ("JPEG", {"progressive": True}),
            ("PNG", {}),
            ("BMP", {}),
            ("GIF", {}),
            ("WEBP", {}),
        ],
    )
    def test_cut_short(self, kind, options, fraction, capfd):
        data = file_of(scene(), kind, **options)
        with pytest.raises(ImageError, match=r"^is (cut short or damaged|no image that can be read)$"):
            decode(data[: int(len(data) * fraction)])
        assert capfd.readouterr().err == "", "the decoder complained on its own"

    @pytest.mark.parametrize("missing", [1, 4, 12, 20])
    def test_a_png_without_its_last_bytes(self, missing, capfd):
        with pytest.raises(ImageError, match=r"cut short or damaged"):
            decode(file_of(scene(), "PNG")[:-missing])
        assert capfd.readouterr().err == ""

    def test_a_damaged_png(self, capfd):
        data = bytearray(file_of(scene(), "PNG"))
        data[len(data) // 2] ^= 0xFF
        with pytest.raises(ImageError, match=r"cut short or damaged"):
            decode(bytes(data))
        assert capfd.readouterr().err == ""

    def test_bytes_after_the_end_are_harmless(self):
        for kind in ("PNG", "JPEG"):
            data = file_of(scene(), kind)
            assert np.array_equal(decode(data + b"appended"), decode(data))

    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (b"", r"is empty \(0 bytes\)"),
            (b"this is a text file\n" * 50, "is no image that can be read"),
            (b"<!DOCTYPE html><html><body>404</body></html>", "is no image that can be read"),
            (b"\xff\xd8\xff", "is no image that can be read"),
            (b"\x89PNG\r\n\x1a\n", "is no image that can be read"),
            (bytes(4096), "is no image that can be read"),
            (b"%PDF-1.7\n", "is no image that can be read"),
        ],
    )
    def test_what_is_no_image(self, data, reason, undecoded):
        with pytest.raises(ImageError, match=rf"^{reason}$"):
            decode(data)

    @pytest.mark.parametrize("size", [(1, 1), (15, 200), (200, 15)])
    def test_too_small_for_a_face(self, size, undecoded):
        data = cv2.imencode(".png", np.zeros((*size, 3), np.uint8))[1].tobytes()
        with pytest.raises(ImageError, match=rf"^is {size[1]}x{size[0]} pixels, too small for a face \(at least 16"):
            decode(data)

    def test_just_large_enough(self):
        data = cv2.imencode(".png", np.zeros((16, 16, 3), np.uint8))[1].tobytes()
        assert decode(data).shape == (16, 16, 3)

    def test_a_bomb_is_refused_by_its_header(self, undecoded):
        data = png_header(20_000, 20_000)
        assert len(data) == 57
        with pytest.raises(ImageError, match=r"^claims 20000x20000 pixels, more than 134 million: refused unread$"):
            decode(data)

    def test_a_real_bomb_is_refused_by_its_header(self, request):
        # 400 million black pixels in 50 kB.
        bomb = file_of(Image.new("1", (20_000, 20_000)), "PNG", compress_level=1)
        assert len(bomb) < 500_000
        request.getfixturevalue("undecoded")
        with pytest.raises(ImageError, match=r"refused unread"):
            decode(bomb)

    def test_the_largest_that_is_read(self):
        assert read_size(png_header(2**14, 2**13)) == (2**13, 2**14)
        with pytest.raises(ImageError, match=r"refused unread"):
            read_size(png_header(2**14, 2**13 + 1))

    @given(st.binary(max_size=300))
    def test_any_bytes_are_an_image_or_an_image_error(self, data):
        for start in (b"", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"GIF89a", b"RIFF", b"BM", b"II*\0"):
            try:
                decode(start + data)
            except ImageError as error:
                assert str(error)


class TestRecipe:
    def test_whole(self):
        assert recipe("whole").box(80, 60).tolist() == [0, 0, 60, 80]

    def test_center_of_an_lfw_image(self):
        # (250 - 140) / 2 = 55.
        assert recipe("center-140").box(250, 250).tolist() == [55, 55, 195, 195]

    def test_center_of_another_shape(self):
        # 140 / 250 of the shorter side of 100 is 56: x from (200 - 56) / 2 = 72, y from (100 - 56) / 2 = 22.
        assert recipe("center-140").box(100, 200).tolist() == [72, 22, 128, 78]

    def test_mtcnn_grows_both_sides_by_the_margin_in_total(self):
        # A face of 40x80 at (30, 60) grows by a quarter: 5 px left and right, 10 px above and below.
        assert recipe("mtcnn-v1-margin0.25").box(250, 250, np.array([30, 60, 40, 80])).tolist() == [25, 50, 75, 150]

    def test_given_boxes_do_too(self):
        assert recipe("given-margin0.30").box(200, 300, np.array([100, 50, 20, 40])).tolist() == [97, 44, 123, 96]

    def test_no_margin(self):
        assert recipe("given-margin0.0").box(200, 300, np.array([1, 2, 3, 4])).tolist() == [1, 2, 4, 6]

    def test_boxes_end_at_the_edges(self):
        # Grown by half: 10 px each side of 40, 20 px each side of 80.
        found = recipe("mtcnn-v1-margin0.50").box(100, 60, np.array([-4, 10, 40, 80]))
        assert found.tolist() == [0, 0, 46, 100]

    @given(
        name=st.sampled_from(["whole", "center-16", "center-250", "mtcnn-v1-margin0.25", "given-margin2.0"]),
        height=st.integers(16, 5000),
        width=st.integers(16, 5000),
        x=st.floats(-6000, 6000),
        y=st.floats(-6000, 6000),
        w=st.floats(0, 6000),
        h=st.floats(0, 6000),
    )
    def test_a_box_is_always_inside(self, name, height, width, x, y, w, h):
        x0, y0, x1, y1 = recipe(name).box(height, width, np.array([x, y, w, h])).tolist()
        assert 0 <= x0 <= x1 <= width
        assert 0 <= y0 <= y1 <= height

    @pytest.mark.parametrize("name", images.RECIPES)
    def test_examples_are_valid(self, name):
        assert recipe(name).name == name

    @pytest.mark.parametrize(
        "name",
        [
            "",
            "center",
            "center-",
            "center-15",
            "center-251",
            "center-9.5",
            "Whole",
            "mtcnn",
            "mtcnn-v1-margin",
            "mtcnn-v2-margin0.25",
            "mtcnn-v1-margin1",
            "given-margin2.1",
            "given-margin-0.1",
            " whole",
            "center-140\n",
        ],
    )
    def test_other_names_list_the_forms(self, name):
        with pytest.raises(UserError, match=r"^unknown recipe .*valid: whole, center-N \(16 to 250\), mtcnn-v1-m"):
            recipe(name)


def cropped(pixels: np.ndarray, box, size: int) -> np.ndarray:
    return crop_resize(pixels, np.asarray(box, np.float32), size).numpy()


class TestCropResize:
    def test_two_by_two_to_one_is_the_mean(self):
        # The four pixels lie equally far from the new one's centre.
        pixels = np.array([[[0, 10, 20], [100, 30, 20]], [[200, 50, 20], [60, 70, 20]]], np.uint8)
        assert cropped(pixels, [0, 0, 2, 2], 1)[0, 0] * 255 == pytest.approx([90, 40, 20])

    def test_two_to_four_by_hand(self):
        # New centres lie at -0.25, 0.25, 0.75 and 1.25 between the old ones at 0 and 1; the edge is repeated.
        row = np.repeat(np.array([[0, 100], [0, 100]], np.uint8)[:, :, None], 3, axis=2)
        assert cropped(row, [0, 0, 2, 2], 4)[:, :, 0] * 255 == pytest.approx(np.tile([0, 25, 75, 100], (4, 1)))

    @pytest.mark.parametrize("size", [20, 61, 160])
    def test_the_whole_equals_tensorflow_s_antialiased_resize(self, size):
        import tensorflow as tf

        theirs = tf.image.resize(scene().astype(np.float32), (size, size), antialias=True).numpy() / 255
        assert np.abs(cropped(scene(), [0, 0, 83, 61], size) - theirs).max() < 1e-5

    @pytest.mark.parametrize("size", [12, 30, 100])
    def test_a_box_of_whole_pixels_equals_tensorflow_s_resize_of_the_slice(self, size):
        import tensorflow as tf

        x0, y0, x1, y1 = 20, 10, 60, 50
        theirs = tf.image.resize(scene()[y0:y1, x0:x1].astype(np.float32), (size, size), antialias=True).numpy() / 255
        assert np.abs(cropped(scene(), [x0, y0, x1, y1], size) - theirs).max() < 1e-5

    def test_a_box_of_its_own_size_is_the_slice(self):
        found = cropped(scene(), [20, 10, 52, 42], 32)
        assert np.abs(found * 255 - scene()[10:42, 20:52]).max() < 1e-3

    def test_fractions_of_a_pixel_count(self):
        # A ramp of 10 levels a pixel: moving the box by a quarter pixel moves the values by 2.5.
        ramp = np.repeat(np.tile(np.arange(0, 250, 10, np.uint8), (25, 1))[:, :, None], 3, axis=2)
        whole, moved = cropped(ramp, [5, 5, 15, 15], 10), cropped(ramp, [5.25, 5, 15.25, 15], 10)
        assert (moved - whole) * 255 == pytest.approx(np.full((10, 10, 3), 2.5), abs=1e-3)

    def test_boxes_are_stretched_to_a_square(self):
        pixels = np.zeros((40, 80, 3), np.uint8)
        pixels[:, 40:] = 200
        found = cropped(pixels, [0, 0, 80, 40], 16)
        assert found.shape == (16, 16, 3)
        assert found[:, 2].max() == 0
        assert found[:, 13].min() == pytest.approx(200 / 255)

    @given(
        st.integers(0, 2**32 - 1),
        st.integers(1, 50),
        st.tuples(st.floats(0, 80), st.floats(0, 60), st.floats(0, 80), st.floats(0, 60)),
    )
    def test_values_stay_in_the_image_space(self, seed, size, box):
        pixels = np.random.default_rng(seed).integers(0, 256, (60, 80, 3)).astype(np.uint8)
        x0, x1 = sorted((box[0], box[2]))
        y0, y1 = sorted((box[1], box[3]))
        found = cropped(pixels, [x0, y0, x1, y1], size)
        assert found.dtype == np.float32
        assert found.shape == (size, size, 3)
        assert 0 <= found.min() <= found.max() <= 1

    def test_float_images_are_on_the_same_scale(self):
        box = [0, 0, 83, 61]
        assert np.array_equal(cropped(scene().astype(np.float32), box, 32), cropped(scene(), box, 32))

    @given(
        st.integers(0, 2**32 - 1),
        st.integers(1, 90),
        st.tuples(st.floats(0, 83), st.floats(0, 61), st.floats(0, 83), st.floats(0, 61)),
    )
    @example(0, 2, (0.0, 2.8161424712292385e-10, 0.0, 1.0))
    def test_without_tensorflow_it_is_the_same(self, seed, size, box):
        pixels = np.random.default_rng(seed).integers(0, 256, (61, 83, 3)).astype(np.uint8)
        corners = np.array([*np.minimum(box[:2], box[2:]), *np.maximum(box[:2], box[2:])], np.float32)
        assert np.abs(crop_array(pixels, corners, size) - cropped(pixels, corners, size)).max() < 5e-5
