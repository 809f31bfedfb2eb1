"""Decoding of photographs by TensorFlow's own operations, so that a SavedModel takes image files as they are.

The result equals `tfface.preprocessing.decoding.decode`: the accurate integer JPEG transform, the orientation that
Pillow finds (in EXIF or XMP), alpha on the same background, the same limits on size. Only JPEG and PNG are read; no
ICC profile is, nor an orientation in compressed text: `tfface.preprocessing.decoding.for_server` converts such files.
"""

import tensorflow as tf

from tfface.preprocessing.decoding import (
    BACKGROUND,
    MAX_PIXELS,
    MAX_SIDE,
    MIN_SIDE,
    RAW_PROFILE,
    XMP_CHUNK,
    XMP_SEGMENT,
)

_JPEG = b"\xff\xd8\xff"
_PNG = b"\x89PNG\r\n\x1a\n"
_EXIF = b"Exif\x00\x00"
_ORIENTATION_TAG = 0x0112
_INTEGERS = {3: 2, 4: 4, 8: 2, 9: 4, 13: 4}
"""TIFF's whole numbers by code, and their bytes."""
_BYTES = (0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8, 0)
"""Bytes of each of TIFF's kinds of values, by code."""
_MOST_SEGMENTS = 2**13
"""Segments or chunks that are walked; a file of more is refused."""
_NONE = 1


def decode(data: tf.Tensor) -> tf.Tensor:
    """Decode one JPEG or PNG file.

    Fails, as an operation does, on files that `tfface.preprocessing.decoding.decode` refuses for what they are, and on
    other formats. Damage that the JPEG decoder can fill in is not seen here.

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
    exif, xmp, whole = _walk_jpeg(tf.io.decode_raw(data, tf.uint8), data)
    walked = tf.debugging.Assert(whole, ["a JPEG whose header is damaged"])
    with tf.control_dependencies([_assert_size(shape[0], shape[1]), walked]):
        pixels = tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE")
    return pixels, _orientation(exif, xmp)


def _png(data: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    raw = tf.io.decode_raw(data, tf.uint8)
    # The decoder itself does not ask for the end.
    exif, xmp, clear, whole = _walk_png(raw, data)
    sized = _assert_size(_number(raw, 20, 4), _number(raw, 16, 4))
    walked = tf.debugging.Assert(whole, ["a PNG that is cut short, or with its orientation in compressed text"])
    with tf.control_dependencies([sized, walked]):
        has_alpha = clear | tf.reduce_any(_number(raw, 25, 1) == [4, 6])
        # Asked for alpha that is not there, the decoder makes up a wrong one for less than 8 bits.
        pixels = tf.cond(has_alpha, lambda: _composed(data), lambda: tf.io.decode_png(data, channels=3))
    return pixels, _orientation(exif, xmp)


def _composed(data: tf.Tensor) -> tf.Tensor:
    layers = tf.cast(tf.io.decode_png(data, channels=4), tf.int32)
    pixels, alpha = layers[:, :, :3], layers[:, :, 3:]
    return tf.cast((pixels * alpha + BACKGROUND * (255 - alpha) + 127) // 255, tf.uint8)


def _assert_size(height: tf.Tensor, width: tf.Tensor) -> tf.Operation:
    """Check the size before decoding: a file of a few bytes may claim any."""
    sides = tf.stack([height, width])
    fits = tf.reduce_all((sides >= MIN_SIDE) & (sides <= MAX_SIDE)) & (height * width <= MAX_PIXELS)
    return tf.debugging.Assert(fits, ["too small, or a decompression bomb"])


def _walk_jpeg(raw: tf.Tensor, data: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Walk the segments before the scan.

    Returns:
        Bytes of all EXIF blocks, one after the other, as Pillow reads them; of the last XMP block; and True if the
        scan was reached.
    """
    size = tf.size(raw, tf.int64)

    def more(position: tf.Tensor, exif: tf.Tensor, xmp: tf.Tensor, ended: tf.Tensor) -> tf.Tensor:
        return ~ended & tf.cond(position + 4 <= size, lambda: raw[position] == 0xFF, lambda: False)

    def step(
        position: tf.Tensor, exif: tf.Tensor, xmp: tf.Tensor, ended: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        marker = tf.cast(raw[position + 1], tf.int32)
        is_fill, is_app1 = marker == 0xFF, marker == 0xE1
        length = _number(raw, position + 2, 2)
        segment = tf.where(is_app1, _text(data, position + 4, length - 2), "")
        is_exif = tf.strings.substr(segment, 0, len(_EXIF)) == _EXIF
        is_xmp = tf.strings.substr(segment, 0, len(XMP_SEGMENT)) == XMP_SEGMENT
        exif = tf.where(is_exif, tf.strings.join([exif, _text(segment, len(_EXIF), length)]), exif)
        xmp = tf.where(is_xmp, _text(segment, len(XMP_SEGMENT), length), xmp)
        # Any number of 0xFF may fill up before a marker. Even a length of 0, which is none, moves on.
        return position + tf.where(is_fill, tf.constant(1, tf.int64), 2 + length), exif, xmp, marker == 0xDA

    start = tf.constant(2, tf.int64), tf.constant(b""), tf.constant(b""), tf.constant(False)
    _, exif, xmp, ended = tf.while_loop(more, step, start, maximum_iterations=_MOST_SEGMENTS)
    return exif, xmp, ended


def _walk_png(raw: tf.Tensor, data: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Walk the chunks.

    Returns:
        Bytes of the last EXIF chunk and of the last XMP text; True if a colour is transparent; and True if the last
        chunk is there, and none was passed that may name an orientation in compressed form.
    """
    size = tf.size(raw, tf.int64)

    def more(position: tf.Tensor, exif: tf.Tensor, xmp: tf.Tensor, seen: tf.Tensor) -> tf.Tensor:
        return ~seen[0] & (position + 12 <= size)

    def step(
        position: tf.Tensor, exif: tf.Tensor, xmp: tf.Tensor, seen: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        kind, length = _text(data, position + 4, 4), _number(raw, position, 4)
        is_text = (kind == b"iTXt") | (kind == b"tEXt") | (kind == b"zTXt")
        content = tf.where(is_text | (kind == b"eXIf"), _text(data, position + 8, length), "")
        is_xmp = (kind == b"iTXt") & (tf.strings.substr(content, 0, len(XMP_CHUNK)) == XMP_CHUNK)
        is_compressed = is_xmp & (_text(content, len(XMP_CHUNK), 1) != b"\0")
        is_profile = is_text & (tf.strings.substr(content, 0, len(RAW_PROFILE)) == RAW_PROFILE)
        following = position + 12 + length
        now = tf.stack([(kind == b"IEND") & (following <= size), kind == b"tRNS", is_compressed | is_profile])
        return following, tf.where(kind == b"eXIf", content, exif), tf.where(is_xmp, content, xmp), seen | now

    start = tf.constant(len(_PNG), tf.int64), tf.constant(b""), tf.constant(b""), tf.constant([False] * 3)
    _, exif, xmp, seen = tf.while_loop(more, step, start, maximum_iterations=_MOST_SEGMENTS)
    ended, clear, hidden = tf.unstack(seen)
    return exif, xmp, clear, ended & ~hidden


def _orientation(exif: tf.Tensor, xmp: tf.Tensor) -> tf.Tensor:
    """Return the orientation that an EXIF block names, else an XMP block; 1 where they name none, or are damaged."""
    named, value = _in_exif(tf.io.decode_raw(tf.strings.regex_replace(exif, r"\A(Exif\x00\x00){1,2}", ""), tf.uint8))
    digit = tf.strings.regex_replace(xmp, r"\A\C*?tiff:Orientation(?:=\"|>)([0-9])\C*\z", r"\1", replace_global=False)
    has_digit = tf.strings.regex_full_match(digit, "[0-9]")
    value = tf.where(named, value, tf.strings.to_number(tf.where(has_digit, digit, "1"), tf.int64))
    return tf.where((value >= 1) & (value <= 8), value, _NONE)


def _in_exif(tiff: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return whether the first directory of an EXIF block has an orientation, and its value."""
    size = tf.size(tiff, tf.int64)
    # Offsets in a damaged block may point anywhere: padded, they read zeros.
    tiff = tf.pad(tiff, [(0, 16)])
    little = tf.reduce_all(tiff[:2] == tf.constant(list(b"II"), tf.uint8))
    big = tf.reduce_all(tiff[:2] == tf.constant(list(b"MM"), tf.uint8))
    # Some writers put the number in the wrong order.
    is_tiff = (little | big) & ((_number(tiff, 2, 2, True) == 42) | (_number(tiff, 2, 2, False) == 42))
    directory = tf.minimum(_number(tiff, 4, 4, little), size)
    count = tf.minimum(_number(tiff, directory, 2, little), (size - directory - 2) // 12)
    entries = tiff[directory + 2 : directory + 2 + 12 * tf.maximum(count, 0)]
    entries = tf.reshape(entries, (-1, 12))
    tags, kinds, counts, places = (
        _numbers(entries[:, start:stop], little) for start, stop in ((0, 2), (2, 4), (4, 8), (8, 12))
    )
    sizes = counts * tf.gather(tf.constant(_BYTES, tf.int64), tf.minimum(kinds, len(_BYTES) - 1))
    # Values of more than four bytes lie elsewhere: past the end of the block, Pillow reads no further; of more bytes in
    # all than it has, it leaves them out.
    is_far = sizes > 4
    is_too_much = is_far & (tf.cumsum(tf.where(is_far, sizes, 0)) > size)
    is_cut = is_far & ~is_too_much & (places + sizes > size)
    is_read = (sizes > 0) & ~is_too_much & (tf.cumsum(tf.cast(is_cut, tf.int32)) == 0)
    own = directory + 10 + 12 * tf.range(tf.size(tags, tf.int64))
    first = tf.where(is_far, places, own)[:, None] + tf.range(4, dtype=tf.int64)
    held = tf.gather(tiff, tf.minimum(first, size))
    values = tf.zeros_like(kinds)
    for kind, width in _INTEGERS.items():
        values = tf.where(kinds == kind, _numbers(held[:, :width], little), values)
    values = tf.boolean_mask(values, (tags == _ORIENTATION_TAG) & is_read & is_tiff)
    return tf.size(values) > 0, tf.concat([values, [_NONE]], 0)[0]


def _text(data: tf.Tensor, position: tf.Tensor | int, length: tf.Tensor | int) -> tf.Tensor:
    """Return bytes of a string, fewer than asked for at its end."""
    size = tf.strings.length(data)
    position = tf.clip_by_value(tf.cast(position, tf.int32), 0, size)
    return tf.strings.substr(data, position, tf.cast(tf.clip_by_value(length, 0, 2**31 - 1), tf.int32))


def _number(raw: tf.Tensor, position: tf.Tensor | int, count: int, little: tf.Tensor | bool = False) -> tf.Tensor:
    """Read the unsigned number of `count` bytes at a position, as int64; big-endian unless `little`."""
    return _numbers(tf.reshape(raw[position : position + count], (1, count)), little)[0]


def _numbers(raw: tf.Tensor, little: tf.Tensor | bool) -> tf.Tensor:
    """Read those in the rows of (N, count) bytes."""
    places = tf.range(raw.shape[1], dtype=tf.int64)
    places = tf.where(little, places, places[::-1])
    return tf.reduce_sum(tf.bitwise.left_shift(tf.cast(raw, tf.int64), 8 * places), 1)
