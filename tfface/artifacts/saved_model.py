"""A preset as a SavedModel with its preprocessing inside, in core TensorFlow operations alone."""

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from tfface.artifacts.graph_decoding import decode
from tfface.artifacts.same_bytes import settle
from tfface.artifacts.warmup import write_requests
from tfface.errors import UserError
from tfface.preprocessing.images import Recipe, crop_resize, recipe
from tfface.utils.files import write_json

if TYPE_CHECKING:
    import keras

    from tfface.models._embedder import Embedder, Preset

LABELS = ("different people", "same person")
"""What the verdicts 0 and 1 mean."""


class Service(tf.Module):
    """What a SavedModel answers.

    Photographs are decoded one by one inside `tf.data`, whose `ignore_errors` lets those pass that
    can be decoded: a bad one costs its own row alone. Its kernels are TensorFlow's, so that a
    server without Python has them.
    """

    def __init__(self, model: "keras.Model", preset: "Preset", cut: Recipe, *, notes: Path | None = None) -> None:
        """
        Args:
            model: (N, S, S, 3) in [0, 1] to (N, D) unit vectors.
            preset: its record.
            cut: how `embed_jpeg` crops; takes no faces.
            notes: a folder whose files go into `assets/`.
        """
        super().__init__(name="tfface")
        self._variables = [weight.value for weight in model.weights]
        self._assets = [tf.saved_model.Asset(str(path)) for path in sorted(notes.iterdir())] if notes else []
        self._model = functools.partial(model, training=False)
        self._preset = preset
        self._cut = cut
        self._margin = recipe(preset.recipe).margin

    def signatures(self) -> dict[str, Callable[..., Any]]:
        """The functions by the names that clients call them."""
        size = self._preset.input_size
        images: list[int | None] = [None, size, size, 3]

        def signature(function: Callable[..., Any], **inputs: tuple[list[int | None], tf.DType]) -> Any:
            specs = [tf.TensorSpec(shape, dtype, name) for name, (shape, dtype) in inputs.items()]
            return tf.function(function, input_signature=specs)

        files: tuple[list[int | None], tf.DType] = ([None], tf.string)
        return {
            "serving_default": signature(self.embed, image=(images, tf.float32)),
            "embed_jpeg": signature(self.embed_jpeg, file=files),
            "embed_jpeg_boxes": signature(self.embed_jpeg_boxes, file=files, box=([None, 4], tf.float32)),
            "verify": signature(self.verify, first=(images, tf.float32), second=(images, tf.float32)),
        }

    def embed(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        """Crops, float32 (N, S, S, 3) in [0, 1], to `embedding` (N, D)."""
        return {"embedding": self._model(self._checked(image))}

    def embed_jpeg(self, file: tf.Tensor) -> dict[str, tf.Tensor]:
        """JPEG or PNG files (N,) to `embedding` (N, D) and `valid` (N,); zeros where one cannot be read."""

        def crop(data: tf.Tensor) -> tf.Tensor:
            pixels = decode(data)
            return crop_resize(pixels, fixed_box(self._cut, pixels), self._preset.input_size)

        return self._embed_files((file,), crop)

    def embed_jpeg_boxes(self, file: tf.Tensor, box: tf.Tensor) -> dict[str, tf.Tensor]:
        """The same from face boxes (N, 4): y0, x0, y1, x1 of the upright photograph, its sides being 1.

        They are grown by the margin of the preset's recipe. A box that is none, or lies outside,
        makes its row invalid.
        """

        def crop(data: tf.Tensor, face: tf.Tensor) -> tf.Tensor:
            pixels = decode(data)
            return crop_resize(pixels, grown_box(face, pixels, self._margin), self._preset.input_size)

        return self._embed_files((file, box), crop)

    def verify(self, first: tf.Tensor, second: tf.Tensor) -> dict[str, tf.Tensor]:
        """Two batches of crops to `distance` (N,) and `same` (N,): 1 up to the preset's threshold."""
        a, b = self._model(self._checked(first)), self._model(self._checked(second))
        is_cosine = self._preset.metric == "cosine"
        distance = 1.0 - tf.reduce_sum(a * b, 1) if is_cosine else tf.norm(a - b, axis=1)
        return {"distance": distance, "same": tf.cast(distance <= self._preset.threshold, tf.int32)}

    def _checked(self, images: tf.Tensor) -> tf.Tensor:
        """Fails on images of another shape: a server does not look, and one of another rank would end it."""
        size = self._preset.input_size
        return tf.ensure_shape(images, (None, size, size, 3))

    def _embed_files(self, parts: tuple[tf.Tensor, ...], crop: Callable[..., tf.Tensor]) -> dict[str, tf.Tensor]:
        size = self._preset.input_size
        count = tf.shape(parts[0], tf.int64)[0]
        rows = tf.data.Dataset.from_tensor_slices((tf.range(count), *parts))
        crops = rows.map(lambda row, *part: (row, crop(*part)), tf.data.AUTOTUNE, deterministic=True).ignore_errors()
        # One more, which stands in where all failed: neither `tf.data` nor every network takes an empty batch.
        crops = crops.concatenate(tf.data.Dataset.from_tensors((count, tf.zeros((size, size, 3)))))
        found, images = crops.batch(count + 1).get_single_element()
        found = found[:-1, None]
        good = tf.size(found)
        vectors = self._model(images[: tf.maximum(good, 1)])[:good]
        shape = tf.stack([count, self._preset.embedding_size])
        return {
            "embedding": tf.scatter_nd(found, vectors, shape),
            "valid": tf.scatter_nd(found, tf.ones(good, tf.int32), shape[:1]),
        }


def fixed_box(cut: Recipe, pixels: tf.Tensor) -> tf.Tensor:
    """`Recipe.box` of a recipe without faces, in the graph: float32 (x0, y0, x1, y1)."""
    height, width = (tf.cast(tf.shape(pixels)[axis], tf.float64) for axis in (0, 1))
    if cut.name == "whole":
        return tf.cast(tf.stack([0.0, 0.0, width, height]), tf.float32)
    side = cut.fraction * tf.minimum(height, width)
    x0, y0 = (width - side) / 2, (height - side) / 2
    return tf.cast(tf.stack([x0, y0, x0 + side, y0 + side]), tf.float32)


def grown_box(face: tf.Tensor, pixels: tf.Tensor, margin: float) -> tf.Tensor:
    """`Recipe.box` of a face given as y0, x0, y1, x1 in fractions of the sides; fails where nothing is inside."""
    sides = tf.cast(tf.shape(pixels)[:2], tf.float64)
    corners = tf.reshape(tf.cast(face, tf.float64), (2, 2)) * sides
    grow = (corners[1] - corners[0]) * margin / 2
    low, high = (tf.clip_by_value(corner, 0.0, sides) for corner in (corners[0] - grow, corners[1] + grow))
    sound = tf.reduce_all(tf.math.is_finite(corners)) & tf.reduce_all(high > low)
    with tf.control_dependencies([tf.debugging.Assert(sound, ["no box inside the photograph"])]):
        return tf.cast(tf.concat([low[::-1], high[::-1]], 0), tf.float32)


def fixed_recipe(name: str | None, preset: "Preset") -> Recipe:
    """The recipe that an artifact crops with: the one named, else the preset's, else `center-140`.

    Raises:
        UserError: the recipe takes faces, which no artifact looks for.
    """
    own = recipe(preset.recipe)
    chosen = recipe(name) if name else own if own.source == "image" else recipe("center-140")
    if chosen.source != "image":
        raise UserError(
            f"an artifact cannot look for faces, as recipe {chosen.name} does: give whole or center-N here, and face "
            "boxes of your own detector to the signature embed_jpeg_boxes"
        )
    return chosen


def write(embedder: "Embedder", cut: Recipe, folder: Path, notes: dict[str, Any], requests: list[bytes]) -> None:
    """Writes a SavedModel, ready to be served.

    Args:
        embedder: what to write.
        cut: how `embed_jpeg` crops.
        folder: where; replaced by nothing but this, so it should not exist.
        notes: what `assets/metadata.json` holds.
        requests: photographs that a server tries before it takes calls.
    """
    with tempfile.TemporaryDirectory() as name:
        assets = Path(name)
        (assets / "labels.txt").write_text("".join(f"{label}\n" for label in LABELS))
        write_json(assets / "metadata.json", notes)
        service = Service(embedder.model, embedder.preset, cut, notes=assets)
        tf.saved_model.save(service, str(folder), signatures=service.signatures())
    settle(folder)
    write_requests(folder, embedder.preset, requests)
