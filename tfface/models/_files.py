"""Models of one's own: a file, a folder or a function as an embedder, with the facts that no file states beside it.

A model's text is its path, and after a colon what nothing else says: `my.onnx:scale=-1..1,colour=bgr`. What is not
given there is read from the record beside the file (`my.onnx.tfface.json`, or `.toml` written by hand), then from the
record that `tfface.export` writes beside an artifact, then from the file itself.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfface.metrics.distances import checked_metric, far_thresholds, unit
from tfface.models._embedder import Embedder, Preset
from tfface.models._formats import FileFacts, Reader, flat, open_reader
from tfface.models._input_format import (
    COLOURS,
    SCALES,
    SUFFIXES,
    InputFormat,
    located,
    of_export,
    read_record,
    saved_model,
    write_record,
)
from tfface.utils.files import digest_of_tree, fields_of
from tfface.utils.public import UserError, configured

if TYPE_CHECKING:
    import keras

__all__ = [
    "COLOURS",
    "FACTS",
    "SCALES",
    "FileEmbedder",
    "InputFormat",
    "WrappedEmbedder",
    "inspect",
    "load",
    "read_record",
    "wrap",
    "write_record",
]

FACTS = ("scale", "colour", "layout", "output", "size", "recipe", "metric", "threshold")
"""Facts of a model that may be given with it."""
_ALIGNED = 112
"""Side of the input for which embedders are trained on faces aligned by five points."""


@dataclass(frozen=True)
class FileEmbedder(Embedder):
    """Embedder of a file of the user's own.

    Attributes:
        path: the file, or the folder of a SavedModel.
        input_format: how it is fed.
    """

    path: Path = Path()
    input_format: InputFormat = InputFormat()  # noqa: RUF009 it is frozen

    def __reduce__(self) -> tuple[Any, ...]:
        return functools.partial(type(self), **fields_of(self)), ()

    @property
    def reader(self) -> Reader:
        """The file opened; once in a process."""
        return _reader(self.path, self.input_format.output, self.sha256)

    @property
    def differentiable(self) -> bool:
        return self.reader.facts.differentiable

    def fingerprint(self) -> dict[str, Any]:
        return {**super().fingerprint(), "input_format": self.input_format.to_dict()}

    def raw(self, images: np.ndarray, input_format: InputFormat | None = None) -> np.ndarray:
        """Run crops through the file, fed in one format or another.

        Args:
            images: (N, S, S, 3) float32 RGB in [0, 1].
            input_format: instead of its own.

        Returns:
            Its answers as they are, float32 (N, D).
        """
        return self.reader((input_format or self.input_format).known(self.path).array(images))

    def embed(self, images: np.ndarray) -> np.ndarray:
        if self.differentiable:
            return super().embed(images)
        return unit(self.raw(images))


@dataclass(frozen=True)
class WrappedEmbedder(Embedder):
    """Embedder of a function or Keras model in this process.

    Attributes:
        differentiable: it gives gradients.
        function: images as the function takes them, (N, ...), to answers (N, D).
        input_format: how it is fed.
    """

    differentiable: bool = True
    function: Callable[[np.ndarray], Any] | None = None
    input_format: InputFormat = InputFormat()  # noqa: RUF009 it is frozen

    def __reduce__(self) -> tuple[Any, ...]:
        raise UserError(
            f"{self.preset.name} is a function of this process and cannot be sent to others: save it to a file"
        )

    def fingerprint(self) -> dict[str, Any]:
        return {**super().fingerprint(), "input_format": self.input_format.to_dict()}

    def embed(self, images: np.ndarray) -> np.ndarray:
        if self.differentiable or self.function is None:
            return super().embed(images)
        return unit(np.asarray(self.function(self.input_format.array(images)), np.float32))


def is_file(text: str) -> bool:
    """Tell if a model's text names a file or a SavedModel's folder."""
    path, _ = split(text)
    return path.suffix.lower() in SUFFIXES or saved_model(path) is not None


def split(text: str) -> tuple[Path, dict[str, str]]:
    """Return the path and the facts of a model's text.

    Raises:
        UserError: a fact is none.
    """
    path, colon, rest = text.rpartition(":")
    if not colon or "=" not in rest:
        return Path(text).expanduser(), {}
    facts = {}
    for part in rest.split(","):
        name, equals, value = part.partition("=")
        if not equals or name.strip() not in FACTS:
            known = ", ".join(FACTS)
            raise UserError(f"{text}: {part!r} is no fact of a model; valid: {known}, as in scale=-1..1,colour=bgr")
        facts[name.strip()] = value.strip()
    return Path(path).expanduser(), facts


def inspect(path: str | Path, output: str | None = None) -> FileFacts:
    """Return the facts that a model's file states of itself."""
    place = located(Path(path))
    return _reader(place, output, digest_of_tree(place)).facts


def load(text: str | Path, **given: Any) -> FileEmbedder:
    """Load a model's file as an embedder; it is opened, and its facts are checked.

    Args:
        text: its path, with facts after a colon (see the module).
        **given: facts, of `FACTS`.

    Raises:
        UserError: it cannot be read, a record is another file's, or facts contradict the file.
    """
    path, facts = split(str(text))
    path = located(path)
    if unknown := set(given) - set(FACTS):
        valid = ", ".join(FACTS)
        raise UserError(f"{', '.join(sorted(unknown))}: no fact of a model; valid: {valid}", parameter="embedder")
    stated: dict[str, Any] = {**facts, **{name: value for name, value in given.items() if value is not None}}
    if "size" in stated:
        stated["input_size"] = stated.pop("size")
    if "threshold" in stated:
        stated["threshold_source"] = "given"  # whatever a record says of its own
    sha256 = digest_of_tree(path)
    known = {**of_export(path, sha256), **read_record(path, sha256), **stated}
    output = None if known.get("output") is None else str(known["output"])
    preset, input_format = _described(path, sha256, _reader(path, output, sha256).facts, known)
    build = functools.partial(_build, path, sha256, input_format, preset.input_size)
    return FileEmbedder(preset, sha256, build, path=path, input_format=input_format)


def _described(path: Path, sha256: str, file: FileFacts, known: Mapping[str, Any]) -> tuple[Preset, InputFormat]:
    """Return the preset and the input format that a file and what is known of it make."""
    layout = str(known.get("layout") or file.layout)
    if file.input_shape[1 if layout == "nchw" else 3] not in (3, None):
        raise UserError(
            f"{path} takes images of shape {list(file.input_shape)}, not three colours", parameter="embedder"
        )
    size = _size(path, file, known.get("input_size"))
    input_format = InputFormat(
        colour=str(known.get("colour") or "rgb"),
        scale=known.get("scale"),
        layout=layout,
        batch=file.batch,
        output=known.get("output"),
    )
    name = path.name if not path.name.isdecimal() else f"{path.parent.name}-{path.name}"
    known = {**known, "file_name": path.name, "sha256": sha256}
    return _preset(name, size, int(file.outputs[file.output][-1] or 0), known), input_format


def _preset(name: str, input_size: int, embedding_size: int, known: Mapping[str, Any]) -> Preset:
    """Return the preset of a model of one's own, of what is known of it."""
    threshold = known.get("threshold")
    return Preset(
        name=name,
        sources=(),
        file_name=known["file_name"],
        sha256=known["sha256"],
        input_size=input_size,
        embedding_size=embedding_size,
        recipe=str(known.get("recipe") or ("align5-112" if input_size == _ALIGNED else "mtcnn-v1-margin0.20")),
        metric=checked_metric(str(known.get("metric") or "cosine")),
        threshold=None if threshold is None else float(threshold),
        threshold_source=str(known.get("threshold_source") or ("given" if threshold is not None else "not measured")),
        training_data=str(known.get("training_data") or "not stated"),
        licence=str(known.get("licence") or "not stated"),
        thresholds=far_thresholds(known.get("thresholds", ()), f"the record of {name}"),
    )


def _size(path: Path, file: FileFacts, given: Any) -> int:
    height, width = file.sides
    if height != width:
        raise UserError(f"{path} takes {height}x{width} pixels, and crops are square: wrap it by `tfface.wrap`")
    if given is not None and not (str(given).isdecimal() and 16 <= int(given) <= 1024):
        raise UserError(f"{path}: a side of {given} pixels is none: give a size from 16 to 1024", parameter="embedder")
    if height is None:
        if given is None:
            raise UserError(f"{path} takes images of any size: say which, as {path.name}:size=112")
        return int(given)
    if given is not None and int(given) != height:
        raise UserError(f"{path} takes {height} pixels a side, not {given} as its record or `size` says")
    return height


@dataclass(frozen=True, kw_only=True)
class WrapConfig:
    """Facts of a wrapped model.

    Attributes:
        name: for results.
        scale: range of its input: `0..1`, `-1..1`, `127.5/128`, `0..255`, `imagenet`, `imagenet-means`,
            `vggface2-means`, `vggface-means` or `per-image`.
        colour: order of its channels, `rgb` or `bgr`.
        layout: `nhwc`, or `nchw` for images (N, 3, S, S).
        output: of a Keras model, the output or layer to take.
        recipe: crop recipe; `align5-112` for 112 pixels, else `mtcnn-v1-margin0.20` by default.
        metric: of the threshold, `cosine` or `euclidean` (of embeddings scaled to length 1).
        threshold: distance up to which two photographs match.
        differentiable: the function takes and gives TensorFlow tensors, and gradients pass through; a Keras model's do.
    """

    name: str = "wrapped"
    scale: str = "0..1"
    colour: str = "rgb"
    layout: str = "nhwc"
    output: str | None = None
    recipe: str | None = None
    metric: str = "cosine"
    threshold: float | None = None
    differentiable: bool | None = None


@configured(WrapConfig)
def wrap(function: Any, input_size: int, *, config: WrapConfig) -> WrappedEmbedder:
    """Wrap a Keras model or any function of images as an embedder.

    Args:
        function: a Keras model, or a function from images (N, S, S, 3) to embeddings (N, D), of any length.
        input_size: S, side of its input in pixels.

    Returns:
        The embedder. Caches know it by its answers to fixed images, so that another function is another model.

    Raises:
        UserError: it does not take such images, or answers no embeddings.

    Example:
        >>> import numpy as np
        >>> import tfface
        >>> embedder = tfface.wrap(lambda images: images.mean(axis=(1, 2)), 32)
        >>> embedder.embed(np.ones((2, 32, 32, 3), np.float32)).shape
        (2, 3)
    """
    import keras

    from tfface.models._formats import as_one_vector

    is_keras = isinstance(function, keras.Model)
    input_format = InputFormat(colour=config.colour, scale=config.scale, layout=config.layout, output=config.output)
    given = as_one_vector(function, config.output) if is_keras else function
    follows = is_keras if config.differentiable is None else config.differentiable
    answers = _tried(config.name, given, input_format, input_size)
    sha256 = hashlib.sha256(np.round(unit(answers), 3).astype(np.float32).tobytes()).hexdigest()
    known = dataclasses.asdict(config) | {"file_name": "", "sha256": sha256}
    preset = _preset(config.name, input_size, answers.shape[1], known)

    def build() -> "keras.Model":
        answer = given if is_keras else function_layer(given, answers.shape[1], follows=follows)
        return network(input_size, input_format, answer)

    return WrappedEmbedder(preset, sha256, build, differentiable=follows, function=given, input_format=input_format)


def _tried(name: str, function: Any, input_format: InputFormat, size: int) -> np.ndarray:
    """Return a function's answers to two fixed images, checked."""
    images = np.random.default_rng(0).uniform(0, 1, (2, size, size, 3)).astype(np.float32)
    try:
        answers = np.asarray(function(input_format.array(images)), np.float32)
    except Exception as error:  # the function is the user's own
        reason = f"{name} does not take images of shape {images.shape}: {error}"
        raise UserError(reason, parameter="function") from error
    check_answers(name, answers := flat(name, answers), images)
    return answers


def check_answers(name: str, answers: np.ndarray, images: np.ndarray) -> None:
    """Check that a model's answers to a few different images can be embeddings.

    Raises:
        UserError: they are not finite, zero, or class probabilities.
    """
    if len(answers) != len(images):
        raise UserError(f"{name} gives {len(answers)} answers to {len(images)} images", parameter="embedder")
    if not np.isfinite(answers).all():
        raise UserError(f"{name} gives embeddings that are not finite: its weights or its scale are wrong")
    if not np.linalg.norm(answers, axis=1).all():
        raise UserError(f"{name} gives embeddings that are zero: its weights or its scale are wrong")
    if answers.shape[1] > 1 and answers.min() >= 0 and np.allclose(answers.sum(axis=1), 1, atol=1e-3):
        raise UserError(f"{name} gives class probabilities, not embeddings: name by `output` the layer before them")


@functools.lru_cache(maxsize=4)
def _reader(path: Path, output: str | None, sha256: str) -> Reader:
    """Open a file once for all who ask; its hash is given, so that another file of the same name is another."""
    return open_reader(path, output)


def _build(path: Path, sha256: str, input_format: InputFormat, size: int) -> "keras.Model":
    reader = _reader(path, input_format.output, sha256)
    images = np.random.default_rng(0).uniform(0, 1, (2, size, size, 3)).astype(np.float32)
    answers = reader(input_format.known(path).array(images))
    check_answers(path.name, answers, images)
    if reader.facts.differentiable:
        return network(size, input_format, reader.apply)
    return network(size, input_format, function_layer(reader, answers.shape[1], follows=False))


def function_layer(function: Callable[[Any], Any], size: int, *, follows: bool) -> Callable[[Any], Any]:
    """Return a layer that calls a function: on tensors, whose gradient it gives, or on arrays."""
    import tensorflow as tf

    from tfface.models._layers import FunctionLayer

    def answered(images: np.ndarray) -> np.ndarray:
        return np.asarray(function(images), np.float32).reshape(len(images), size)

    def called(images: Any) -> Any:
        return function(images) if follows else tf.numpy_function(answered, [images], tf.float32)

    layer: Callable[[Any], Any] = FunctionLayer(called, size)
    return layer


def network(
    size: int, input_format: InputFormat, answer: Callable[[Any], Any], fit: Callable[[Any], Any] | None = None
) -> "keras.Model":
    """Return a model from (N, S, S, 3) in [0, 1] to unit vectors.

    Args:
        size: S.
        input_format: how `answer` is fed.
        answer: prepared images to (N, D), as Keras tensors.
        fit: changes the images' sides before they are prepared.
    """
    import keras

    from tfface.models._layers import UnitNorm

    inputs = keras.Input((size, size, 3), name="image")
    outputs = answer(input_format.prepare(fit(inputs) if fit else inputs))
    outputs = keras.layers.Flatten()(outputs) if len(outputs.shape) > 2 else outputs
    last = outputs._keras_history.operation
    while isinstance(last, keras.Model):
        last = last.outputs[0]._keras_history.operation
    # Scaled a second time, the vectors differ by a rounding, which attacks that follow signs make large.
    if not isinstance(last, UnitNorm | keras.layers.UnitNormalization):
        outputs = UnitNorm(dtype="float32", name="embedding")(outputs)
    model = keras.Model(inputs, outputs, name="own")
    model.trainable = False
    return model
