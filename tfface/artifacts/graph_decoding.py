"""Decoding of photographs by TensorFlow's own operations, so that a SavedModel takes image files as they are.

The result equals `tfface.preprocessing.images.decode`: the accurate integer JPEG transform, EXIF orientation,
the same limits on size. Only JPEG and PNG are read.
"""

import tensorflow as tf

from tfface.preprocessing.images import MAX_PIXELS, MIN_SIDE

_JPEG = b"\xff\xd8\xff"
_PNG = b"\x89PNG\r\n\x1a\n"
_EXIF = b"Exif\x00\x00"
_ORIENTATION_TAG = 0x0112
_LONGEST_TIFF = 2**16
"""A JPEG segment holds no more; a PNG's is cut there."""


def decode(data: tf.Tensor) -> tf.Tensor:
    """Decode one JPEG or PNG file.

    Fails, as an operation does, on files that `tfface.preprocessing.images.decode` refuses, and on other formats.

    Args:
        data: scalar string, the file's bytes.

    Returns:
        uint8 (H, W, 3) RGB, upright.
    """
    is_jpeg = tf.strings.substr(data, 0, len(_JPEG)) == _JPEG
    is_png = tf.strings.substr(data, 0, len(_PNG)) == _PNG
    with tf.control_dependencies([tf.debugging.Assert(is_jpeg | is_png, ["neither JPEG nor PNG"])]):
        data = tf.identity(data)
    pixels, orientation = tf.cond(is_jpeg, lambda: _jpeg(data), lambda: _png(data))
    return tf.ensure_shape(turned(pixels, orientation), (None, None, 3))


def turned(pixels: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Apply an EXIF orientation (1 to 8) to uint8 (H, W, 3)."""

    def turn() -> tf.Tensor:
        upright = tf.cond(orientation >= 5, lambda: tf.transpose(pixels, (1, 0, 2)), lambda: pixels)
        upside_down = tf.reduce_any(orientation == [3, 4, 7, 8])
        mirrored = tf.reduce_any(orientation == [2, 3, 6, 7])
        return tf.reverse(upright, tf.boolean_mask([0, 1], tf.stack([upside_down, mirrored])))

    return tf.cond(orientation == 1, lambda: pixels, turn)


def _jpeg(data: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    shape = tf.io.extract_jpeg_shape(data, tf.int64)
    with tf.control_dependencies([_assert_size(shape[0], shape[1])]):
        pixels = tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE")
    found = _exif_of_jpeg(tf.io.decode_raw(data, tf.uint8), data)
    return pixels, _orientation(found)


def _png(data: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    raw = tf.io.decode_raw(data, tf.uint8)
    # The decoder itself does not ask for the end.
    exif, whole = _walk_png(raw, data)
    sized = _assert_size(_number(raw, 20, 4), _number(raw, 16, 4))
    with tf.control_dependencies([sized, tf.debugging.Assert(whole, ["a PNG that is cut short"])]):
        pixels = tf.io.decode_png(data, channels=3)
    return pixels, _orientation(exif)


def _assert_size(height: tf.Tensor, width: tf.Tensor) -> tf.Operation:
    """Check the size before decoding: a file of a few bytes may claim any."""
    fits = (tf.minimum(height, width) >= MIN_SIDE) & (height * width <= MAX_PIXELS)
    return tf.debugging.Assert(fits, ["too small, or a decompression bomb"])


def _exif_of_jpeg(raw: tf.Tensor, data: tf.Tensor) -> tf.Tensor:
    """Return the bytes of the first EXIF block, none if there is none; walks the segments before the scan."""
    size = tf.size(raw, tf.int64)

    def more(position: tf.Tensor, found: tf.Tensor) -> tf.Tensor:
        def segment() -> tf.Tensor:
            marker = tf.cast(raw[position + 1], tf.int32)
            return (raw[position] == 0xFF) & (marker != 0xDA) & (marker != 0xD9)

        return (found == 0) & tf.cond(position + 4 <= size, segment, lambda: False)

    def step(position: tf.Tensor, found: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        is_app1 = raw[position + 1] == 0xE1
        is_exif = is_app1 & (_text(data, position + 4, len(_EXIF)) == _EXIF)
        length = _number(raw, position + 2, 2)
        # Even a length of 0, which is none, moves on.
        return position + 2 + length, tf.where(is_exif, position + 4 + len(_EXIF), 0)

    start = tf.constant(2, tf.int64), tf.constant(0, tf.int64)
    _, found = tf.while_loop(more, step, start)
    return tf.cond(found > 0, lambda: raw[found : found + _LONGEST_TIFF], lambda: raw[:0])


def _walk_png(raw: tf.Tensor, data: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the bytes of the EXIF chunk (none if there is none), and True if the last chunk is there."""
    size = tf.size(raw, tf.int64)

    def more(position: tf.Tensor, found: tf.Tensor, ended: tf.Tensor) -> tf.Tensor:
        return ~ended & (position + 12 <= size)

    def step(position: tf.Tensor, found: tf.Tensor, ended: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        kind = _text(data, position + 4, 4)
        following = position + 12 + _number(raw, position, 4)
        is_first_exif = (kind == b"eXIf") & (found == 0)
        return following, tf.where(is_first_exif, position + 8, found), (kind == b"IEND") & (following <= size)

    start = tf.constant(len(_PNG), tf.int64), tf.constant(0, tf.int64), tf.constant(False)
    _, found, ended = tf.while_loop(more, step, start)
    return tf.cond(found > 0, lambda: raw[found : found + _LONGEST_TIFF], lambda: raw[:0]), ended


def _orientation(tiff: tf.Tensor) -> tf.Tensor:
    """Return the orientation that an EXIF block names; 1 where it names none, or is damaged."""
    size = tf.size(tiff, tf.int64)
    # Offsets in a damaged block may point anywhere: padded, they read zeros.
    tiff = tf.pad(tiff, [(0, 16)])
    little = tf.reduce_all(tiff[:2] == tf.constant(list(b"II"), tf.uint8))
    directory = tf.minimum(_number(tiff, 4, 4, little), size)
    count = tf.minimum(_number(tiff, directory, 2, little), (size - directory - 2) // 12)
    entries = tiff[directory + 2 : directory + 2 + 12 * tf.maximum(count, 0)]
    entries = tf.reshape(entries, (-1, 12))
    values = tf.boolean_mask(_numbers(entries[:, 8:10], little), _numbers(entries[:, :2], little) == _ORIENTATION_TAG)
    value = tf.concat([values, [1]], 0)[0]
    is_tiff = _number(tiff, 2, 2, little) == 42
    return tf.where(is_tiff & (value >= 1) & (value <= 8), value, 1)


def _text(data: tf.Tensor, position: tf.Tensor, length: int) -> tf.Tensor:
    return tf.strings.substr(data, tf.cast(position, tf.int32), length)


def _number(raw: tf.Tensor, position: tf.Tensor | int, count: int, little: tf.Tensor | bool = False) -> tf.Tensor:
    """Read the unsigned number of `count` bytes at a position, as int64; big-endian unless `little`."""
    return _numbers(tf.reshape(raw[position : position + count], (1, count)), little)[0]


def _numbers(raw: tf.Tensor, little: tf.Tensor | bool) -> tf.Tensor:
    """Read those in the rows of (N, count) bytes."""
    places = tf.range(raw.shape[1], dtype=tf.int64)
    places = tf.where(little, places, places[::-1])
    return tf.reduce_sum(tf.bitwise.left_shift(tf.cast(raw, tf.int64), 8 * places), 1)
