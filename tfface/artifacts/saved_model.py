"""SavedModels with preprocessing inside, in core TensorFlow operations alone.

The same model is written as the same bytes. TensorFlow numbers the functions of a process as it traces them, lists them
in the order of a hash table, and signs what it writes with a random identifier. None of it is part of the model, and
all of it would change an artifact's hash with every export, so `settle` takes it out.
"""

import functools
import logging
import re
import tempfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from tensorflow.core.protobuf import saved_model_pb2

from tfface.artifacts.artifact import SIGNATURES, given_of
from tfface.artifacts.graph_decoding import decode
from tfface.models._embedder import Embedder, Preset
from tfface.preprocessing.images import BOX, FIVE_POINTS, Recipe, crop_resize, least_squares, recipe, warp
from tfface.utils.files import write_json

if TYPE_CHECKING:
    import keras

logger = logging.getLogger(__name__)

LABELS = ("different people", "same person")
"""Meanings of the verdicts 0 and 1."""
_NUMBERED = re.compile(r"(.+)_(\d+)")
_ARGUMENT = "_user_specified_name"
"""An attribute of placeholders; of a captured variable its number."""


class Service(tf.Module):
    """Functions of a SavedModel.

    Photographs are decoded one by one inside `tf.data`, whose `ignore_errors` drops those that cannot be decoded: a bad
    one costs its own row alone. Its kernels are TensorFlow's, so that a server without Python has them.
    """

    def __init__(self, model: "keras.Model", preset: Preset, cut: Recipe, *, notes: Path | None = None) -> None:
        """
        Args:
            model: (N, S, S, 3) in [0, 1] to (N, D) unit vectors.
            preset: its record.
            cut: crop recipe of `embed_jpeg`; takes no faces.
            notes: folder whose files go into `assets/`.
        """
        super().__init__(name="tfface")
        self._variables = [weight.value for weight in model.weights]
        self._assets = [tf.saved_model.Asset(str(path)) for path in sorted(notes.iterdir())] if notes else []
        self._model = functools.partial(model, training=False)
        self._preset = preset
        self._cut = cut
        self._own = recipe(preset.recipe)
        self._decision = preset.decide()  # a refusal belongs to the caller, not into the middle of a trace

    def signatures(self) -> dict[str, Callable[..., Any]]:
        """Return the functions by the names that clients call them."""
        size = self._preset.input_size
        images: list[int | None] = [None, size, size, 3]

        def signature(function: Callable[..., Any], **inputs: tuple[list[int | None], tf.DType]) -> Any:
            specs = [tf.TensorSpec(shape, dtype, name) for name, (shape, dtype) in inputs.items()]
            return tf.function(function, input_signature=specs)

        files: tuple[list[int | None], tf.DType] = ([None], tf.string)
        if self._own.aligned:
            of_faces = signature(self.embed_jpeg_points, file=files, points=([None, 10], tf.float32))
        else:
            of_faces = signature(self.embed_jpeg_boxes, file=files, box=([None, 4], tf.float32))
        return {
            "serving_default": signature(self.embed, image=(images, tf.float32)),
            SIGNATURES[None]: signature(self.embed_jpeg, file=files),
            SIGNATURES[given_of(self._own)]: of_faces,
            "verify": signature(self.verify, first=(images, tf.float32), second=(images, tf.float32)),
        }

    def embed(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        """Map crops, float32 (N, S, S, 3) in [0, 1], to `embedding` (N, D)."""
        return {"embedding": self._model(self._checked(image))}

    def embed_jpeg(self, file: tf.Tensor) -> dict[str, tf.Tensor]:
        """Map JPEG or PNG files (N,) to `embedding` (N, D) and `valid` (N,); zeros where one cannot be read."""

        def crop(data: tf.Tensor) -> tf.Tensor:
            pixels = decode(data)
            return crop_resize(pixels, fixed_box(self._cut, pixels), self._preset.input_size)

        return self._embed_files((file,), crop)

    def embed_jpeg_boxes(self, file: tf.Tensor, box: tf.Tensor) -> dict[str, tf.Tensor]:
        """Do the same with face boxes (N, 4): y0, x0, y1, x1 of the upright photograph, its sides being 1.

        They are grown by the margin of the preset's recipe. A box that is none, or lies outside, makes its row invalid.
        """

        def crop(data: tf.Tensor, face: tf.Tensor) -> tf.Tensor:
            pixels = decode(data)
            return crop_resize(pixels, grown_box(face, pixels, self._own.margin), self._preset.input_size)

        return self._embed_files((file, box), crop)

    def embed_jpeg_points(self, file: tf.Tensor, points: tf.Tensor) -> dict[str, tf.Tensor]:
        """Do the same with five points of a face (N, 10): x0, y0, ..., x4, y4, the upright photograph's sides being 1.

        They are left eye, right eye, nose, left and right mouth corner, left as the viewer sees it, and are laid onto
        the template of the preset's recipe. Points that coincide, or a face outside, make their row invalid.
        """

        def crop(data: tf.Tensor, face: tf.Tensor) -> tf.Tensor:
            pixels = decode(data)
            return warp(pixels, aligned_square(face, pixels, self._own), self._preset.input_size)

        return self._embed_files((file, points), crop)

    def verify(self, first: tf.Tensor, second: tf.Tensor) -> dict[str, tf.Tensor]:
        """Map two batches of crops to `distance` (N,) and `same` (N,): 1 up to the preset's threshold."""
        a, b = self._model(self._checked(first)), self._model(self._checked(second))
        metric, threshold, _ = self._decision
        is_cosine = metric == "cosine"
        distance = 1.0 - tf.reduce_sum(a * b, 1) if is_cosine else tf.norm(a - b, axis=1)
        return {"distance": distance, "same": tf.cast(distance <= threshold, tf.int32)}

    def _checked(self, images: tf.Tensor) -> tf.Tensor:
        """Fail on images of another shape: a server does not look, and one of another rank would end it."""
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
    """Compute `Recipe.box` of a recipe without faces in the graph: float32 (x0, y0, x1, y1)."""
    height, width = (tf.cast(tf.shape(pixels)[axis], tf.float64) for axis in (0, 1))
    if cut.name == "whole":
        return tf.cast(tf.stack([0.0, 0.0, width, height]), tf.float32)
    side = cut.fraction * tf.minimum(height, width)
    x0, y0 = (width - side) / 2, (height - side) / 2
    return tf.cast(tf.stack([x0, y0, x0 + side, y0 + side]), tf.float32)


def grown_box(face: tf.Tensor, pixels: tf.Tensor, margin: float) -> tf.Tensor:
    """Compute `Recipe.box` of a face y0, x0, y1, x1, in fractions of the sides; fails where nothing is inside."""
    sides = tf.cast(tf.shape(pixels)[:2], tf.float64)
    corners = tf.reshape(tf.cast(face, tf.float64), (2, 2)) * sides
    grow = (corners[1] - corners[0]) * margin / 2
    low, high = (tf.clip_by_value(corner, 0.0, sides) for corner in (corners[0] - grow, corners[1] + grow))
    sound = tf.reduce_all(tf.math.is_finite(corners)) & tf.reduce_all(high > low)
    with tf.control_dependencies([tf.debugging.Assert(sound, ["no box inside the photograph"])]):
        return tf.cast(tf.concat([low[::-1], high[::-1]], 0), tf.float32)


def aligned_square(face: tf.Tensor, pixels: tf.Tensor, own: Recipe) -> tf.Tensor:
    """Compute `Recipe.place` of five points in fractions of the sides; fails where there is none, or it is outside."""
    assert own.template is not None, "the recipe is aligned"
    sides = tf.cast(tf.shape(pixels)[1::-1], tf.float64)
    rows, apart, alike = least_squares(tf.unstack(tf.cast(face, tf.float64) * tf.tile(sides, [5])), own.template)
    transform = tf.reshape(tf.stack([value for row in rows for value in row]), (2, 3))
    corners = tf.matmul(transform, tf.constant([[0, 1, 0, 1], [0, 0, 1, 1], [1, 1, 1, 1]], tf.float64)) + 0.5
    inside = tf.reduce_all((tf.reduce_max(corners, 1) > 0) & (tf.reduce_min(corners, 1) < sides))
    with tf.control_dependencies([tf.debugging.Assert(apart & alike & inside, ["no five points of a face inside"])]):
        return tf.identity(transform)


def write(embedder: Embedder, cut: Recipe, folder: Path, notes: dict[str, Any], requests: list[bytes]) -> None:
    """Write a SavedModel, ready to be served.

    Args:
        embedder: the model.
        cut: crop recipe of `embed_jpeg`.
        folder: output; must not exist.
        notes: content of `assets/metadata.json`.
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


def write_requests(folder: Path, preset: Preset, photographs: list[bytes]) -> None:
    """Write `assets.extra/tf_serving_warmup_requests`: one request for each signature.

    TensorFlow Serving sends them to itself before it takes calls, so that the first caller does not wait. Without the
    package tensorflow-serving-api, which has their format, there are none.

    Args:
        folder: the SavedModel.
        preset: gives the input size.
        photographs: JPEG or PNG files.
    """
    try:
        from tensorflow_serving.apis import predict_pb2, prediction_log_pb2
    except ImportError:
        logger.warning("no warm-up requests are written: they need pip install 'tfface[serving]'")
        return

    def record(signature: str, inputs: dict[str, np.ndarray]) -> bytes:
        request = predict_pb2.PredictRequest()
        request.model_spec.signature_name = signature
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
        log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
        return bytes(log.SerializeToString(deterministic=True))

    image = np.full((1, preset.input_size, preset.input_size, 3), 0.5, np.float32)
    files = np.array(photographs, object)
    # Corners of a box, or a face that looks out of it.
    faces = {BOX: [0.25, 0.25, 0.75, 0.75], FIVE_POINTS: [0.4, 0.4, 0.6, 0.4, 0.5, 0.5, 0.42, 0.6, 0.58, 0.6]}
    given = given_of(recipe(preset.recipe))
    face = np.tile(np.array(faces[given], np.float32), (len(photographs), 1))
    requests = {
        "serving_default": {"image": image},
        SIGNATURES[None]: {"file": files},
        SIGNATURES[given]: {"file": files, given: face},
        "verify": {"first": image, "second": image},
    }
    path = folder / "assets.extra" / "tf_serving_warmup_requests"
    path.parent.mkdir()
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature, inputs in requests.items():
            writer.write(record(signature, inputs))


def settle(folder: Path) -> None:
    """Rewrite a SavedModel, just written by `tf.saved_model.save`, without traces of the process that wrote it.

    Functions are numbered anew by name, in the order in which they were traced. The fingerprint, which
    TensorFlow does not ask for, is of the former bytes and goes.

    Args:
        folder: the SavedModel.
    """
    path = folder / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    for graph in model.meta_graphs:
        functions = graph.graph_def.library.function
        _rename(graph, _renaming([function.signature.name for function in functions]))
        ordered = sorted((type(function).FromString(function.SerializeToString()) for function in functions), key=_name)
        del functions[:]
        functions.extend(ordered)
        nodes = [*graph.graph_def.node, *(node for function in functions for node in function.node_def)]
        arguments = [argument for function in functions for argument in function.arg_attr.values()]
        for part in [*nodes, *arguments]:
            if _ARGUMENT in part.attr and part.attr[_ARGUMENT].s.isdigit():
                del part.attr[_ARGUMENT]
    path.write_bytes(model.SerializeToString(deterministic=True))
    (folder / "fingerprint.pb").unlink(missing_ok=True)


def _name(function: Any) -> str:
    return str(function.signature.name)


def _renaming(names: list[str]) -> Callable[[str], str]:
    """Number from 0 within each stem, in the order of the old numbers; other names may hold such a name as a part."""
    numbers: dict[str, list[int]] = defaultdict(list)
    for name in names:
        if match := _NUMBERED.fullmatch(name):
            numbers[match[1]].append(int(match[2]))
    new = {
        f"{stem}_{old}": f"{stem}_{place}" for stem, olds in numbers.items() for place, old in enumerate(sorted(olds))
    }
    longest_first = sorted(new, key=len, reverse=True)
    pattern = re.compile(rf"({'|'.join(map(re.escape, longest_first))})(?!\d)")
    return lambda text: pattern.sub(lambda match: new[match[1]], text) if new else text


def _rename(message: Message, rename: Callable[[str], str]) -> None:
    """Rename in every string of a message, however deep."""
    for field, value in message.ListFields():
        if _is_map(field):
            _rename_map(field, value, rename)
        elif field.message_type:
            for part in value if field.is_repeated else [value]:
                _rename(part, rename)
        elif field.type == FieldDescriptor.TYPE_STRING:
            if field.is_repeated:
                value[:] = [rename(text) for text in value]
            else:
                setattr(message, field.name, rename(value))


def _rename_map(field: FieldDescriptor, entries: Any, rename: Callable[[str], str]) -> None:
    """Rename in keys and values alike."""
    holds_messages = field.message_type.fields_by_name["value"].message_type is not None
    kept = {key: _copied(value) if holds_messages else value for key, value in entries.items()}
    entries.clear()
    for key, value in kept.items():
        name = rename(key) if isinstance(key, str) else key
        if holds_messages:
            _rename(value, rename)
            entries[name].CopyFrom(value)
        else:
            entries[name] = rename(value) if isinstance(value, str) else value


def _is_map(field: FieldDescriptor) -> bool:
    return bool(field.message_type and field.message_type.GetOptions().map_entry)


def _copied(message: Message) -> Message:
    copy = type(message)()
    copy.CopyFrom(message)
    return copy
