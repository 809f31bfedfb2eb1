"""Readers of model files: Keras, SavedModel, TFLite and ONNX, each seen as a function of prepared images.

Nothing of a file is run that could be code of its own: Keras files are read in safe mode, with layers that Keras or
this project knows; the other three formats hold graphs of known operations.
"""

import functools
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tfface.errors import UserError
from tfface.models._h5 import as_one_vector, check_config, first_line, one_input, pick_output, read_config
from tfface.models._input_format import SUFFIXES
from tfface.utils.tensorflow_logs import as_usual, held_stderr

logger = logging.getLogger(__name__)


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

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Run any number of images.

        Args:
            images: float32 (N, ...), prepared.

        Returns:
            float32 (N, D).

        Raises:
            UserError: what it answers are no embeddings.
        """
        size = self.facts.batch or len(images)
        parts = []
        for start in range(0, len(images), max(size, 1)):
            part = images[start : start + size]
            missing = size - len(part)
            full = np.concatenate([part, np.repeat(part[-1:], missing, axis=0)]) if missing else part
            parts.append(flat(self.path.name, np.asarray(self.run(full), np.float32))[: len(part)])
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
        shape = tuple(self.model.input_shape)
        names = tuple(layer.name for layer in model.layers)
        kind = SUFFIXES[path.suffix.lower()]
        outputs = {last: tuple(self.model.output_shape)}
        self.facts = FileFacts(kind, shape, "float32", outputs, last, True, names)

    @functools.cached_property
    def _compiled(self) -> Callable[..., Any]:
        import tensorflow as tf

        return tf.function(lambda images: self.model(images, training=False), reduce_retracing=True)

    def run(self, images: np.ndarray) -> np.ndarray:
        return np.asarray(self._compiled(images))

    def apply(self, images: Any) -> Any:
        return self.model(images)


class SavedModelReader(Reader):
    """A SavedModel through its serving signature."""

    def __init__(self, path: Path, output: str | None) -> None:
        import tensorflow as tf

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
        inputs = self._function.structured_input_signature[1]
        self._input = one_input(inputs)
        spec = inputs[self._input]
        shape, outputs = tuple(spec.shape), self._function.structured_outputs
        if len(shape) != 4:
            raise UserError(f"its input has the shape {list(shape)}, not images (N, H, W, 3)", parameter="embedder")
        shapes = {key: tuple(value.shape) for key, value in outputs.items()}
        own = pick_output(shapes, output)
        dtype = spec.dtype.name
        facts = FileFacts("savedmodel", shape, dtype, shapes, own, False)
        self.facts = FileFacts("savedmodel", shape, dtype, shapes, own, self._has_gradient(facts))

    def _has_gradient(self, facts: FileFacts) -> bool:
        """Try TensorFlow's gradient on one small batch."""
        import tensorflow as tf

        if facts.dtype != "float32" or None in facts.input_shape[1:]:
            return False
        images = tf.random.stateless_uniform([facts.batch or 1, *facts.input_shape[1:]], (1, 2))
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

        size = int(self.facts.outputs[self.facts.output][-1] or 0)
        return FunctionLayer(lambda x: self._function(**{self._input: x})[self.facts.output], size)(images)


class TFLiteReader(Reader):
    """A TFLite file through LiteRT."""

    def __init__(self, path: Path, output: str | None) -> None:
        from ai_edge_litert.interpreter import Interpreter

        try:
            with held_stderr():  # it announces its delegate
                self._interpreter = Interpreter(str(path), num_threads=os.cpu_count())
                inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
                signatures = self._interpreter.get_signature_list()
        except (ValueError, RuntimeError) as error:
            raise UserError(f"LiteRT cannot read it: {first_line(error)}", parameter="embedder") from error
        # Files of several signatures share inputs: of `export` the one that takes floats, else the first.
        name = next((one for one in ("embed_float", "embed") if one in signatures), next(iter(signatures), ""))
        self._runner: Any = None
        if len(signatures) > 1 or len(inputs) > 1:
            if not name:
                one_input({entry["name"]: entry for entry in inputs})
            self._runner = runner = self._interpreter.get_signature_runner(name)
            inputs = [{**entry, "name": key} for key, entry in runner.get_input_details().items()]
            outputs = [{**entry, "name": key} for key, entry in runner.get_output_details().items()]
        one_input({entry["name"]: entry for entry in inputs})
        self._inputs, self._outputs = inputs[0], {entry["name"]: entry for entry in outputs}
        shape = tuple(None if side < 0 else int(side) for side in self._inputs.get("shape_signature", ()))
        if len(shape) != 4:
            shape = tuple(int(side) for side in self._inputs["shape"])
        if len(shape) != 4:
            raise UserError(f"its input has the shape {list(shape)}, not images (N, H, W, 3)", parameter="embedder")
        shapes = {key: tuple(int(side) for side in entry["shape"]) for key, entry in self._outputs.items()}
        own = pick_output(shapes, output)
        # A free batch is run one by one: resizing moves every tensor, and the delegate's caches are lost.
        shape = (shape[0] or 1, *shape[1:])
        dtype = np.dtype(self._inputs["dtype"]).name
        self.facts = FileFacts("tflite", shape, dtype, shapes, own, False)

    @functools.cached_property
    def _ready(self) -> Any:
        with held_stderr():
            if None in self.facts.input_shape:
                raise UserError("its input has no fixed size, which LiteRT needs here", parameter="embedder")
            self._interpreter.allocate_tensors()
        return self._interpreter

    def run(self, images: np.ndarray) -> np.ndarray:
        given, own = _quantized(images, self._inputs), self._outputs[self.facts.output]
        if self._runner is not None:
            return _dequantized(self._runner(**{self._inputs["name"]: given})[self.facts.output], own)
        interpreter = self._ready
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
        shape = tuple(side if isinstance(side, int) and side > 0 else None for side in entry.shape)
        if len(shape) != 4:
            raise UserError(f"its input has the shape {list(shape)}, not images (N, 3, H, W)", parameter="embedder")
        shapes = {one.name: tuple(one.shape) for one in self._session.get_outputs()}
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
