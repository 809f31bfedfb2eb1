"""Readers of model files: Keras, SavedModel, TFLite and ONNX, each seen as a function of prepared images.

Nothing of a file is run that could be code of its own: Keras files are read in safe mode, with layers that Keras or
this project knows; the other three formats hold graphs of known operations.
"""

import dataclasses
import functools
import logging
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tfface.errors import UserError
from tfface.models._h5 import WRITES, check_config, check_graphs, first_line, operations, read_config, refuse_operations
from tfface.models._input_format import SUFFIXES, as_one_vector, one_input, pick_output
from tfface.utils.tensorflow_logs import as_usual, held_stderr

logger = logging.getLogger(__name__)

_TRIED_SIDE = 112
"""Side of the image on which the gradient of a SavedModel for any size is tried."""


@dataclass(frozen=True)
class FileFacts:
    """Facts that a model's file states of itself.

    Attributes:
        format: `keras`, `h5`, `savedmodel`, `tflite` or `onnx`.
        input_shape: of its input, None where a side is free.
        dtype: of its input, `float32` or `uint8` ...
        outputs: shape of each output by name.
        output: of these the one that is taken.
        differentiable: it gives gradients.
        layers: of a Keras model, the names of its layers.
    """

    format: str
    input_shape: tuple[int | None, ...]
    dtype: str
    outputs: Mapping[str, tuple[int | None, ...]] = field(hash=False)
    output: str
    differentiable: bool
    layers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.input_shape) != 4:
            reason = f"its input has the shape {list(self.input_shape)}, not images (N, H, W, 3) or (N, 3, H, W)"
            raise UserError(reason, parameter="embedder")

    @property
    def layout(self) -> str:
        """`nchw` where the second axis holds the three channels and the last does not."""
        return "nchw" if self.input_shape[1] == 3 and self.input_shape[3] != 3 else "nhwc"

    @property
    def sides(self) -> tuple[int | None, int | None]:
        """Height and width of its input; None where free."""
        _, *rest = self.input_shape
        return (rest[1], rest[2]) if self.layout == "nchw" else (rest[0], rest[1])

    @property
    def batch(self) -> int | None:
        """Number of images that it takes at once; None for any."""
        return self.input_shape[0]

    @property
    def embedding_size(self) -> int | None:
        """Length of its answers; None where the file does not say."""
        sides = self.outputs[self.output][1:]
        known = [side for side in sides if side]
        return math.prod(known) if sides and len(known) == len(sides) else None


class Reader:
    """A model's file opened: images as it takes them, to its output.

    Attributes:
        path: the file.
        facts: of the file.
    """

    path = Path()
    facts: FileFacts

    def run(self, images: np.ndarray) -> np.ndarray:
        """Run one batch of its own size.

        Args:
            images: float32, of its input's shape.

        Returns:
            The output, float32 (N, ...).
        """
        raise NotImplementedError

    def apply(self, images: Any) -> Any:
        """Return its output for a Keras tensor of prepared images; of models that give gradients."""
        raise NotImplementedError

    def __call__(self, images: np.ndarray, batch: int | None = None) -> np.ndarray:
        """Run any number of prepared images, as `in_batches` does; a batch of the file's own goes before `batch`."""
        return in_batches(self.path.name, self.run, images, self.facts.batch or batch)


def in_batches(name: str, function: Callable[[np.ndarray], Any], images: np.ndarray, size: int | None) -> np.ndarray:
    """Run any number of images through a function that may take a fixed number of them.

    Args:
        name: of the model, for messages.
        function: one batch to answers (N, ...).
        images: float32 (N, ...), prepared.
        size: number of images in a batch, to which the last is filled up; None for any.

    Returns:
        float32 (N, D).

    Raises:
        UserError: the function fails on them, or what it answers are no embeddings.
    """
    size, parts = size or max(len(images), 1), []
    for start in range(0, len(images), size):
        part = images[start : start + size]
        missing = size - len(part)
        full = np.concatenate([part, np.repeat(part[-1:], missing, axis=0)]) if missing else part
        try:
            answers = np.asarray(function(full), np.float32)
        except UserError:
            raise
        except Exception as error:  # each format and each user's function has its own
            reason = f"{name} fails on images of shape {list(full.shape)}: {first_line(error)}"
            raise UserError(reason, parameter="embedder") from error
        parts.append(flat(name, answers)[: len(part)])
    return np.concatenate(parts) if parts else np.zeros((0, 1), np.float32)


def flat(name: str, answers: np.ndarray) -> np.ndarray:
    """Return a model's answers (N, D); maps of one pixel count as vectors.

    Raises:
        UserError: they are of another rank.
    """
    if answers.ndim == 2:
        return answers
    if answers.ndim > 2 and answers.size == len(answers) * max(answers.shape[1:]):
        return answers.reshape(len(answers), -1)
    raise UserError(
        f"{name} answers with the shape {list(answers.shape)}, not one vector an image: name another `output`, one "
        "after the pooling",
        parameter="embedder",
    )


def open_reader(path: Path, output: str | None) -> Reader:
    """Open a model's file or folder.

    Args:
        path: the file, or the folder of a SavedModel.
        output: name or number of the output to take; None for the only one.

    Raises:
        UserError: it is no model that can be read, has several inputs, or has no such output.
    """
    kind = "savedmodel" if path.is_dir() else SUFFIXES.get(path.suffix.lower(), "")
    if not kind:
        raise UserError(f"{path} is no model: give a .keras, .h5, .tflite or .onnx file, or a SavedModel's folder")
    try:
        reader = _READERS[kind](path, output)
    except UserError as error:
        raise UserError(f"{path}: {error}", parameter="embedder") from error
    reader.path = path
    return reader


class KerasReader(Reader):
    """A Keras model: a `.keras` file, or a whole-model `.h5` of Keras 2 or 3."""

    def __init__(self, path: Path, output: str | None) -> None:
        import keras

        from tfface.models import _layers  # noqa: F401 - registers the layers of this project

        check_config(read_config(path))
        try:
            with held_stderr(), as_usual():
                model = keras.saving.load_model(path, compile=False, safe_mode=True)
        except UserError:
            raise
        except Exception as error:  # Keras raises what it pleases on a broken file
            raise UserError(f"Keras cannot read it: {first_line(error)}", parameter="embedder") from error
        self.model = as_one_vector(model, output)
        last = self.model.output_names[0] if output is None else output
        shape, dtype = tuple(self.model.input_shape), str(self.model.inputs[0].dtype)
        names, outputs = tuple(layer.name for layer in model.layers), {last: tuple(self.model.output_shape)}
        kind = SUFFIXES[path.suffix.lower()]
        self.facts = FileFacts(kind, shape, dtype, outputs, last, "float" in dtype, names)

    @functools.cached_property
    def _compiled(self) -> Callable[..., Any]:
        import tensorflow as tf

        return tf.function(lambda images: self.model(images, training=False), reduce_retracing=True)

    def run(self, images: np.ndarray) -> np.ndarray:
        return np.asarray(self._compiled(images if self.facts.differentiable else as_bytes(images)))

    def apply(self, images: Any) -> Any:
        return self.model(images)


class SavedModelReader(Reader):
    """A SavedModel through its serving signature."""

    def __init__(self, path: Path, output: str | None) -> None:
        import tensorflow as tf

        check_graphs(path)
        try:
            with held_stderr():
                self._loaded = tf.saved_model.load(str(path))
        except Exception as error:  # TensorFlow raises what it pleases on a broken file
            raise UserError(f"TensorFlow cannot read it: {first_line(error)}", parameter="embedder") from error
        signatures = self._loaded.signatures
        name = "serving_default" if "serving_default" in signatures else next(iter(signatures), "")
        if not name:
            raise UserError("it has no signature: save it with one (model.export does)", parameter="embedder")
        self._function = signatures[name]
        refuse_operations(operations(self._function.graph.as_graph_def()), WRITES)
        inputs = self._function.structured_input_signature[1]
        self._input = one_input(inputs)
        spec = inputs[self._input]
        shape, outputs = _sides(spec.shape), self._function.structured_outputs
        shapes = {key: _sides(value.shape) for key, value in outputs.items()}
        own = pick_output(shapes, output)
        self.facts = FileFacts("savedmodel", shape, spec.dtype.name, shapes, own, False)
        self.facts = dataclasses.replace(self.facts, differentiable=self._has_gradient(self.facts))

    def _has_gradient(self, facts: FileFacts) -> bool:
        """Try TensorFlow's gradient on one small batch."""
        import tensorflow as tf

        if facts.dtype != "float32" or facts.embedding_size is None:
            return False
        sides = [side or _TRIED_SIDE for side in facts.input_shape[1:]]
        images = tf.random.stateless_uniform([facts.batch or 1, *sides], (1, 2))
        try:
            with tf.GradientTape() as tape:
                tape.watch(images)
                found = tf.reduce_sum(self._function(**{self._input: images})[facts.output])
            gradient = tape.gradient(found, images)
        except Exception as error:  # an operation without a gradient says so in many ways
            logger.info(f"the SavedModel gives no gradients: {first_line(error)}")
            return False
        return gradient is not None and bool(tf.reduce_all(tf.math.is_finite(gradient)))

    def run(self, images: np.ndarray) -> np.ndarray:
        import tensorflow as tf

        given = as_bytes(images) if self.facts.dtype == "uint8" else images
        return np.asarray(self._function(**{self._input: tf.constant(given)})[self.facts.output])

    def apply(self, images: Any) -> Any:
        from tfface.models._layers import FunctionLayer

        return FunctionLayer(self._follow, self.facts.embedding_size or 0)(images)

    def _follow(self, images: Any) -> Any:
        import tensorflow as tf

        def call(part: Any) -> Any:
            return self._function(**{self._input: part})[self.facts.output]

        size = self.facts.batch
        if size is None:
            return call(images)
        count = tf.shape(images)[0]
        full = tf.pad(images, [[0, -count % size], *[[0, 0]] * 3])
        parts = tf.reshape(full, [-1, size, *images.shape[1:]])
        spec = tf.TensorSpec([size, *self.facts.outputs[self.facts.output][1:]], tf.float32)
        answers = tf.map_fn(call, parts, fn_output_signature=spec)
        return tf.reshape(answers, [-1, self.facts.embedding_size])[:count]


def _sides(shape: Any) -> tuple[int | None, ...]:
    return () if shape.rank is None else tuple(shape)


def _known(shape: Any) -> tuple[int | None, ...]:
    return tuple(side if isinstance(side, int) and side > 0 else None for side in shape or ())


class TFLiteReader(Reader):
    """A TFLite file through LiteRT."""

    def __init__(self, path: Path, output: str | None) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._runner: Any = None
        try:
            with held_stderr():  # it announces its delegate
                self._interpreter = Interpreter(str(path), num_threads=os.cpu_count())
                inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
                signatures = self._interpreter.get_signature_list()
                # Files of several signatures share inputs: of `export` the one that takes floats, else the first.
                name = next((one for one in ("embed_float", "embed") if one in signatures), next(iter(signatures), ""))
                if name and (len(signatures) > 1 or len(inputs) > 1 or name.startswith("embed")):
                    self._runner = runner = self._interpreter.get_signature_runner(name)
                    inputs = [{**entry, "name": key} for key, entry in runner.get_input_details().items()]
                    outputs = [{**entry, "name": key} for key, entry in runner.get_output_details().items()]
        except (ValueError, RuntimeError) as error:
            raise UserError(f"LiteRT cannot read it: {first_line(error)}", parameter="embedder") from error
        one_input({entry["name"]: entry for entry in inputs})
        self._inputs, self._outputs = inputs[0], {entry["name"]: entry for entry in outputs}
        signed = self._inputs.get("shape_signature", ())
        shape = _known([int(side) for side in (signed if len(signed) else self._inputs["shape"])])
        shapes = {key: tuple(int(side) for side in entry["shape"]) for key, entry in self._outputs.items()}
        own = pick_output(shapes, output)
        # A free batch is run one by one: resizing moves every tensor, and the delegate's caches are lost.
        shape = (shape[0] or 1, *shape[1:]) if shape else ()
        self.facts = FileFacts("tflite", shape, np.dtype(self._inputs["dtype"]).name, shapes, own, False)

    @functools.lru_cache(maxsize=1)  # noqa: B019 a reader lives as long as its process
    def _ready(self, *shape: int) -> Any:
        with held_stderr():
            if None in self.facts.input_shape:
                self._interpreter.resize_tensor_input(self._inputs["index"], shape)
            self._interpreter.allocate_tensors()
        return self._interpreter

    def run(self, images: np.ndarray) -> np.ndarray:
        given, own = _quantized(images, self._inputs), self._outputs[self.facts.output]
        if self._runner is not None:
            return _dequantized(self._runner(**{self._inputs["name"]: given})[self.facts.output], own)
        interpreter = self._ready(*given.shape)
        interpreter.set_tensor(self._inputs["index"], given)
        interpreter.invoke()
        return _dequantized(interpreter.get_tensor(own["index"]), own)


def as_bytes(images: np.ndarray) -> np.ndarray:
    """Return values on a scale of 0..255 as bytes."""
    return np.rint(np.clip(images, 0, 255)).astype(np.uint8)


def _quantized(images: np.ndarray, details: Mapping[str, Any]) -> np.ndarray:
    dtype, (scale, zero) = np.dtype(details["dtype"]), details["quantization"]
    if dtype.kind == "f":
        return images.astype(dtype)
    if not scale:
        return as_bytes(images)
    limits = np.iinfo(dtype)
    return np.clip(np.rint(images / scale + zero), limits.min, limits.max).astype(dtype)


def _dequantized(answers: np.ndarray, details: Mapping[str, Any]) -> np.ndarray:
    scale, zero = details["quantization"]
    return (answers.astype(np.float32) - zero) * scale if scale else answers.astype(np.float32)


class OnnxReader(Reader):
    """An ONNX file through onnxruntime."""

    def __init__(self, path: Path, output: str | None) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise UserError("an .onnx file needs onnxruntime: pip install 'tfface[onnx]'") from error
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # a broken file is ours to report
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions share no class of their own
            reason = first_line(error)
            raise UserError(f"onnxruntime cannot read it: {reason}", parameter="embedder") from error
        inputs = {entry.name: entry for entry in self._session.get_inputs()}
        self._input = one_input(inputs)
        entry = inputs[self._input]
        shape = _known(entry.shape)
        shapes = {one.name: _known(one.shape) for one in self._session.get_outputs()}
        self._dtype = {"tensor(float16)": "float16", "tensor(uint8)": "uint8"}.get(entry.type, "float32")
        self.facts = FileFacts("onnx", shape, self._dtype, shapes, pick_output(shapes, output), False)

    def run(self, images: np.ndarray) -> np.ndarray:
        given = as_bytes(images) if self._dtype == "uint8" else images.astype(self._dtype)
        return np.asarray(self._session.run([self.facts.output], {self._input: given})[0])


_READERS: dict[str, Callable[[Path, str | None], Reader]] = {
    "keras": KerasReader,
    "h5": KerasReader,
    "savedmodel": SavedModelReader,
    "tflite": TFLiteReader,
    "onnx": OnnxReader,
}
