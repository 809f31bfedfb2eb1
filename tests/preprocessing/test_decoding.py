"""One decoder: what every reader sees of a photograph, and what no reader should see."""

import io
import struct
import subprocess
import sys
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageOps

from tests.preprocessing.photographs import (
    BLUE,
    GREEN,
    RED,
    TURNED,
    alpha_files,
    exif,
    file_of,
    gamma,
    icc,
    jpeg,
    png,
    rgb_profile,
    scene,
    segment,
)
from tfface.errors import ImageError
from tfface.preprocessing import decoding
from tfface.preprocessing.decoding import decode, encode_png, for_server, read_size


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
    @pytest.mark.parametrize("kind", ["png", "jpeg"])
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
        plain = decode({"png": png, "jpeg": jpeg}[kind]())
        assert np.array_equal(decode(TURNED[kind](orientation)), seen(plain))

    @pytest.mark.parametrize("way", TURNED)
    def test_every_way_of_naming_an_orientation_is_pillow_s(self, way):
        files = {orientation: TURNED[way](orientation) for orientation in range(1, 9)}
        for data in files.values():
            theirs = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
            assert np.array_equal(decode(data), np.asarray(theirs))
        # The table says what it says: 6 and 8 are turned, and not alike.
        assert decode(files[6]).shape == (83, 61, 3)
        assert not np.array_equal(decode(files[6]), decode(files[8]))

    def test_a_first_directory_without_it_is_the_one_that_counts(self):
        empty = exif(6)[:8] + bytes(6)
        data = jpeg(segment(b"Exif\0\0" + empty), segment(b"Exif\0\0" + exif(6)))
        assert ImageOps.exif_transpose(Image.open(io.BytesIO(data))).size == (83, 61)
        assert decode(data).shape == (61, 83, 3)

    @pytest.mark.parametrize("orientation", [0, 9, 65535])
    def test_other_numbers_are_no_orientation(self, orientation):
        for way in ("jpeg", "png"):
            assert decode(TURNED[way](orientation)).shape == (61, 83, 3)

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

    @pytest.mark.parametrize("size", [(65_536, 16), (16, 65_536), (2_555_944, 32)])
    def test_a_side_beyond_all_photographs(self, size, undecoded):
        # A WebP of 1,230 bytes that claimed the last of these took half a minute.
        reason = rf"^claims {size[0]}x{size[1]} pixels, more than 65535 a side: refused unread$"
        with pytest.raises(ImageError, match=reason):
            decode(png_header(*size))

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


def grey_pfm() -> bytes:
    """A grey Portable FloatMap, which OpenCV would decode to two dimensions."""
    return b"Pf\n40 30\n-1.0\n" + np.linspace(0, 1, 1200).astype("<f4").tobytes()


def tiff(pixels: np.ndarray, **options) -> bytes:
    return file_of(Image.fromarray(pixels), "TIFF", **options)


class TestKinds:
    """A photograph is uint8 (H, W, 3), or the file is refused, in words that say what it is."""

    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (grey_pfm(), "holds floating-point numbers, of a kind that is not supported; convert it to JPEG or PNG"),
            (tiff(np.ones((40, 30), np.float32)), "holds floating-point numbers, of a kind that is not supported; .*"),
            (tiff(np.full((40, 30), 2**20, np.int32)), "holds numbers of more than 16 bits, of a kind that is not .*"),
            (b"\0\0\0\x18ftypheic" + bytes(99), "is a HEIC file, of a kind that is not supported; .*"),
            (b"\xff\x0a" + bytes(99), "is a JPEG XL file, of a kind that is not supported; .*"),
            (b"II*\0\x08\0\0\0" + bytes(99), "is a TIFF file that is damaged or of a kind that is not supported; .*"),
        ],
    )
    def test_refused(self, data, reason):
        with pytest.raises(ImageError, match=f"^{reason}$"):
            decode(data)

    def test_a_compressed_tiff(self):
        for compression in ("zstd", "tiff_lzw", "tiff_adobe_deflate"):
            assert np.array_equal(decode(tiff(scene(), compression=compression)), scene())

    def test_numbers_of_16_bits(self):
        deep = np.full((40, 30), 0x7F80, np.uint16)
        for data in (tiff(deep), file_of(Image.fromarray(deep), "PPM"), file_of(Image.fromarray(deep), "PNG")):
            assert decode(data)[0, 0].tolist() == [0x7F] * 3

    def test_the_parsers_of_other_formats_are_not_run(self):
        # PostScript, which Pillow would give to a program of its own.
        with pytest.raises(ImageError, match=r"^is no image that can be read$"):
            decode(file_of(scene(), "EPS"))

    def test_a_parser_may_fail_as_it_pleases(self, monkeypatch):
        for error in (RecursionError, MemoryError, ZeroDivisionError, struct.error):
            monkeypatch.setattr(decoding, "_others", lambda *_, error=error: (_ for _ in ()).throw(error()))
            with pytest.raises(ImageError, match=r"^is cut short or damaged$"):
                decode(png())

    def test_whatever_a_decoder_returns(self, monkeypatch):
        for pixels in (np.zeros((61, 83), np.uint8), np.zeros((61, 83, 3), np.float32), np.zeros((9, 9, 3), np.uint8)):
            monkeypatch.setattr(decoding, "_others", lambda *_, pixels=pixels: pixels)
            with pytest.raises(ImageError, match=r"^cannot be decoded$"):
                decode(png())


class TestAlpha:
    def test_by_hand(self):
        # (100 * 128 + 255 * 127) / 255 = 177.2; (0 * 64 + 255 * 191) / 255 = 191.
        layers = np.zeros((20, 20, 4), np.uint8)
        layers[:] = (100, 0, 255, 128)
        assert decode(file_of(layers, "PNG"))[0, 0].tolist() == [177, 127, 255]
        layers[:] = (0, 100, 200, 0)
        assert decode(file_of(layers, "PNG"))[0, 0].tolist() == [255, 255, 255]

    def test_opaque_pixels_are_as_they_were(self):
        assert np.array_equal(decode(file_of(np.dstack([scene(), np.full((61, 83), 255, np.uint8)]), "PNG")), scene())

    @pytest.mark.parametrize("way", alpha_files())
    def test_every_way_lies_on_white(self, way):
        data = alpha_files()[way]
        layers = np.asarray(Image.open(io.BytesIO(data)).convert("RGBA")).astype(float)
        assert (layers[:, :, 3] < 255).any()
        expected = layers[:, :, :3] * layers[:, :, 3:] / 255 + 255 - layers[:, :, 3:]
        assert np.abs(decode(data) - expected).max() <= 0.51


def profiled(pixels: np.ndarray, profile: bytes, kind: str = "PNG") -> bytes:
    image = Image.fromarray(pixels)
    return file_of(image, kind, icc_profile=profile, **({"quality": 95} if kind == "JPEG" else {}))


def plain(*colour: int) -> np.ndarray:
    return np.full((32, 32, len(colour)) if len(colour) > 1 else (32, 32), colour, np.uint8)


class TestProfiles:
    def test_colours_become_srgb(self):
        # A device whose first channel is green and whose second is red.
        swapped = rgb_profile(red=GREEN, green=RED)
        for kind in ("PNG", "JPEG", "TIFF", "WEBP"):
            assert np.abs(decode(profiled(plain(255, 0, 0), swapped, kind))[5, 5] - [0.0, 255, 0]).max() <= 3

    def test_it_is_what_pillow_makes_of_it(self):
        wide = rgb_profile(red=RED, green=GREEN, blue=BLUE, curve=1.8)
        data = profiled(scene(), wide)
        theirs = ImageCms.profileToProfile(
            Image.fromarray(scene()), io.BytesIO(wide), ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
        assert np.array_equal(decode(data), np.asarray(theirs))
        assert not np.array_equal(decode(data), scene())

    def test_grey(self):
        # A linear grey of 55 of 255 is, in sRGB, 1.055 * (55 / 255) ** (1 / 2.4) - 0.055 = 0.502 of 255: 128.
        linear = icc(b"GRAY", {b"kTRC": gamma(1.0)})
        for kind in ("PNG", "JPEG", "TIFF"):
            assert np.abs(decode(profiled(plain(55), linear, kind))[5, 5] - [128.0] * 3).max() <= 1

    def test_srgb_stays_as_it_is(self):
        own = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        for kind in ("PNG", "JPEG"):
            assert np.array_equal(decode(profiled(scene(), own, kind)), decode(profiled(scene(), b"", kind)))

    @pytest.mark.parametrize(
        "profile",
        [b"no profile", bytes(200), icc(b"CMYK", {}), icc(b"GRAY", {b"kTRC": gamma(1.0)}), rgb_profile()[:300]],
    )
    def test_a_profile_that_is_damaged_or_not_theirs_changes_nothing(self, profile):
        assert np.array_equal(decode(profiled(scene(), profile)), scene())

    def test_transparent_and_turned_besides(self):
        swapped = rgb_profile(red=GREEN, green=RED)
        layers = np.dstack([plain(255, 0, 0), plain(0)])
        layers[:, 16:, 3] = 255
        turned = Image.Exif()
        turned[0x0112] = 2
        seen = decode(file_of(layers, "PNG", icc_profile=swapped, exif=turned))
        assert np.abs(seen[0, 0] - [0.0, 255, 0]).max() <= 3
        assert seen[0, 31].tolist() == [255, 255, 255]


def extraneous(data: bytes, count: int = 39) -> bytes:
    """A JPEG with bytes between its last block and its end."""
    return data[:-2] + b"\x5a" * count + data[-2:]


def premature(data: bytes) -> bytes:
    """A JPEG that ends half way, with an end."""
    return data[: len(data) * 2 // 3] + b"\xff\xd9"


class TestWarnings:
    """What libjpeg fills in is damaged, and nothing of its words reaches the terminal."""

    @pytest.mark.parametrize(
        ("damage", "said"),
        [
            (extraneous, r"Corrupt JPEG data: \d+ extraneous bytes before marker 0xd9"),
            (premature, "Corrupt JPEG data: premature end of data segment"),
        ],
    )
    def test_damaged(self, damage, said, capfd):
        with pytest.raises(ImageError, match=rf"^is cut short or damaged \({said}\)$"):
            decode(damage(jpeg()))
        assert capfd.readouterr().err == ""

    def test_each_thread_hears_its_own_photograph(self, capfd):
        files = [jpeg(), extraneous(jpeg()), premature(jpeg())] * 40

        def judge(data: bytes) -> str:
            try:
                return str(decode(data).shape)
            except ImageError as error:
                return str(error)

        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(judge, files))
        assert found == [judge(data) for data in files[:3]] * 40
        assert capfd.readouterr().err == ""

    def test_others_are_heard_as_usual(self):
        # In a process of its own: another C library's line, printed while a photograph is decoded elsewhere.
        script = (
            "import ctypes, threading\n"
            "from tfface.utils.tensorflow_logs import listening\n"
            "say = lambda: ctypes.CDLL(None).perror(b'somebody else')\n"
            "with listening() as heard:\n"
            "    thread = threading.Thread(target=say); thread.start(); thread.join()\n"
            "    ctypes.CDLL(None).perror(b'this decoder')\n"
            "assert b'this decoder' in b''.join(heard) and b'somebody' not in b''.join(heard)\n"
            "say()\n"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        assert done.stderr.count("somebody else") == 2
        assert "this decoder" not in done.stderr


class TestMemory:
    def test_large_photographs_wait_for_each_other(self):
        memory, most, lock = decoding._Memory(100), [0, 0], threading.Lock()

        def take(need: int) -> None:
            with memory.hold(need):
                with lock:
                    most[0] += need
                    most[1] = max(most)
                time.sleep(0.001)
                with lock:
                    most[0] -= need

        with ThreadPoolExecutor(16) as pool:
            list(pool.map(take, [10, 60, 100, 30, 5] * 20))
        assert most[0] == 0
        assert 60 < most[1] <= 100

    def test_one_over_the_budget_is_refused(self, monkeypatch, undecoded):
        monkeypatch.setattr(decoding, "_memory", decoding._Memory(2**20))
        with pytest.raises(ImageError, match=r"^needs about 0.1 GiB to decode, of 0.0 GiB that may be used: scale it"):
            decode(png_header(3000, 2000))

    def test_the_largest_jpeg_fits(self):
        assert decoding.MAX_PIXELS * decoding._BYTES_OF_A_JPEG <= decoding._MOST_MEMORY


class TestForServer:
    """A SavedModel's own decoder reads JPEG and PNG, and neither profiles nor compressed text."""

    @pytest.mark.parametrize("data", [jpeg(), png(), TURNED["jpeg"](6), TURNED["png"](3), b"no image", b""])
    def test_sent_as_it_is(self, data):
        assert for_server(data) is data

    @pytest.mark.parametrize(
        "data",
        [
            *(file_of(scene(), kind) for kind in ("BMP", "GIF", "WEBP", "TIFF", "AVIF", "PPM", "JPEG2000")),
            profiled(scene(), rgb_profile(curve=1.8)),
            profiled(scene(), rgb_profile(curve=1.8), "JPEG"),
            TURNED["png, raw profile"](6),
            TURNED["png, compressed xmp"](6),
            TURNED["avif"](6),
        ],
    )
    def test_converted(self, data):
        sent = for_server(data)
        assert sent.startswith(b"\x89PNG")
        assert np.array_equal(decode(sent), decode(data))

    def test_damaged(self):
        with pytest.raises(ImageError, match="damaged"):
            for_server(file_of(scene(), "BMP")[:-400])
