"""Models of one's own: a file, a folder or a function as an embedder, with the facts that no file states beside it.

A model's text is its path, and after a colon what nothing else says: `my.onnx:scale=-1..1,colour=bgr`. What is not
given there is read from the record beside the file (`my.onnx.tfface.json`, or `.toml` written by hand), then from the
record that `tfface.export` writes beside an artifact, then from the file itself.
"""

import dataclasses
import functools
import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfface.metrics.distances import checked_metric, far_thresholds, unit
from tfface.models._embedder import Embedder, Preset, presets
from tfface.models._formats import FileFacts, Reader, in_batches, open_reader
from tfface.models._input_format import (
    SUFFIXES,
    InputFormat,
    as_one_vector,
    check_answers,
    digest_of,
    is_graph,
    located,
    number,
    of_export,
    read_record,
    write_record,
)
from tfface.utils import registry
from tfface.utils.public import UserError, configured, user_path

if TYPE_CHECKING:
    import keras

__all__ = [
    "FACTS",
    "FileEmbedder",
    "WrappedEmbedder",
    "inspect",
    "load",
    "read_record",
    "wrap",
    "write_record",
]

FACTS = ("scale", "colour", "layout", "batch", "output", "size", "recipe", "metric", "threshold")
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
        # Another process opens the file itself, once for all of its jobs.
        return _arrived, (self.preset, self.sha256, self.path, self.input_format)

    @property
    def reader(self) -> Reader:
        """The file opened; once in a process."""
        return _reader(self.path, self.input_format.output, self.sha256)

    @property
    def differentiable(self) -> bool:
        return _follows(self.reader, self.input_format)

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
        fed = (input_format or self.input_format).known(self.path)
        return self.reader(fed.array(images), self.input_format.batch)

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

    def raw(self, images: np.ndarray, input_format: InputFormat | None = None) -> np.ndarray:
        """Run crops through the function, as `FileEmbedder.raw` does."""
        assert self.function is not None, "made by `wrap`"
        fed = input_format or self.input_format
        return in_batches(self.preset.name, self.function, fed.array(images), fed.batch)

    def embed(self, images: np.ndarray) -> np.ndarray:
        if self.differentiable:
            return super().embed(images)
        return unit(self.raw(images))


def is_file(text: str) -> bool:
    """Tell if a model's text names a file or a SavedModel's folder."""
    path, _ = split(text)
    if path.suffix.lower() in SUFFIXES:
        return True
    architecture, _, training = text.partition("/")
    if architecture in registry.names("models"):  # presets go before folders of their names
        return bool(training) and text not in {preset.name for preset in presets(architecture)} and path.exists()
    return bool(text) and path.exists()


def split(text: str) -> tuple[Path, dict[str, str]]:
    """Return the path and the facts of a model's text.

    Raises:
        UserError: a fact is none.
    """
    start = re.search(r":(?=[^/:,=]*=)", text)  # names of outputs hold colons too
    if start is None or Path(text).exists():
        return user_path(text), {}
    path, rest = text[: start.start()], text[start.end() :]
    facts = {}
    for part in rest.split(","):
        name, equals, value = part.partition("=")
        if not equals or name.strip() not in FACTS:
            known = ", ".join(FACTS)
            raise UserError(f"{text}: {part!r} is no fact of a model; valid: {known}, as in scale=-1..1,colour=bgr")
        facts[name.strip()] = value.strip()
    return user_path(path), facts


def inspect(path: str | Path, output: str | None = None) -> FileFacts:
    """Return the facts that a model's file states of itself."""
    place = located(Path(path))
    return _reader(place, output, digest_of(place)).facts


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
    sha256 = digest_of(path)
    known = {**of_export(path, sha256), **read_record(path, sha256), **stated}
    output = None if known.get("output") is None else str(known["output"])
    preset, input_format = _described(path, sha256, _reader(path, output, sha256), known)
    return _embedder(preset, sha256, path, input_format)


def _embedder(preset: Preset, sha256: str, path: Path, input_format: InputFormat) -> FileEmbedder:
    build = functools.partial(_build, path, sha256, input_format, preset.input_size)
    return FileEmbedder(preset, sha256, build, path=path, input_format=input_format)


@functools.lru_cache(maxsize=4)
def _arrived(preset: Preset, sha256: str, path: Path, input_format: InputFormat) -> FileEmbedder:
    """Make an embedder that came from another process: built and compiled once, however many jobs come with it."""
    if digest_of(located(path)) != sha256:
        raise UserError(f"{path} is another file here than where the command runs: share its folder")
    return _embedder(preset, sha256, path, input_format)


def _described(path: Path, sha256: str, reader: Reader, known: Mapping[str, Any]) -> tuple[Preset, InputFormat]:
    """Return the preset and the input format that a file and what is known of it make."""
    file = reader.facts
    layout = str(known.get("layout") or file.layout)
    if file.input_shape[1 if layout == "nchw" else 3] not in (3, None):
        raise UserError(
            f"{path} takes images of shape {list(file.input_shape)}, not three colours where {layout} has them",
            parameter="embedder",
        )
    size = _size(path, file, known.get("input_size"))
    batch = number(path.name, "batch", known.get("batch"))
    if file.batch and batch not in (None, file.batch):
        raise UserError(f"{path} takes {file.batch} images at once, not {batch:g}", parameter="embedder")
    input_format = InputFormat(
        colour=str(known.get("colour") or "rgb"),
        scale=known.get("scale"),
        layout=layout,
        batch=file.batch or (None if batch is None else max(int(batch), 1)),
        output=known.get("output"),
    )
    name = path.name if not path.name.isdecimal() else f"{path.parent.name}-{path.name}"
    known = {**known, "file_name": path.name, "sha256": sha256}
    length = file.embedding_size
    if length is None:
        tried = InputFormat(layout=layout).array(np.zeros((1, size, size, 3), np.float32))
        length = reader(tried, input_format.batch).shape[1]
    return _preset(name, size, length, known), input_format


def _preset(name: str, input_size: int, embedding_size: int, known: Mapping[str, Any]) -> Preset:
    """Return the preset of a model of one's own, of what is known of it."""
    threshold = number(name, "threshold", known.get("threshold"))
    return Preset(
        name=name,
        sources=(),
        file_name=known["file_name"],
        sha256=known["sha256"],
        input_size=input_size,
        embedding_size=embedding_size,
        recipe=str(known.get("recipe") or ("align5-112" if input_size == _ALIGNED else "mtcnn-v1-margin0.20")),
        metric=checked_metric(str(known.get("metric") or "cosine")),
        threshold=threshold,
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
        batch: number of images that the function takes at once; any by default.
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
    batch: int | None = None
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

    from tfface.models._layers import function_layer

    if not callable(function):
        reason = f"a {type(function).__name__} is no function of images: give a file's path to `load_embedder`"
        raise UserError(reason, parameter="function")
    is_keras = isinstance(function, keras.Model)
    is_network = is_keras and is_graph(function)  # a class of the user's own is called as it is
    known = dataclasses.asdict(config)
    input_format = InputFormat(**{name: known[name] for name in ("colour", "scale", "layout", "batch", "output")})
    given = as_one_vector(function, config.output) if is_network else function
    follows = is_keras and not config.batch if config.differentiable is None else config.differentiable
    if follows and config.batch:
        raise UserError("gradients pass through batches of any size: leave out `batch` or `differentiable`")
    images = _tried(input_size)
    answers = in_batches(config.name, given, input_format.array(images), config.batch)
    check_answers(config.name, answers, images)
    weights = given.get_weights() if is_network else []
    parts = [np.round(unit(answers), 4), *weights]
    sha256 = hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in parts)).hexdigest()
    preset = _preset(config.name, input_size, answers.shape[1], known | {"file_name": "", "sha256": sha256})

    def build() -> "keras.Model":
        def asked(images: Any) -> Any:
            return given(images) if follows else in_batches(config.name, given, images, config.batch)

        layer = given if is_network else function_layer(asked, answers.shape[1], follows=follows)
        return input_format.network(input_size, layer)

    return WrappedEmbedder(preset, sha256, build, differentiable=follows, function=given, input_format=input_format)


def _tried(size: int) -> np.ndarray:
    """Return four fixed images on which a model is tried: noise, and slopes of colour."""
    draw = np.random.default_rng(0)
    slopes = np.linspace(0, 1, size)[:, None, None] * draw.uniform(0, 1, (2, 1, size, 3))
    return np.concatenate([draw.uniform(0, 1, (2, size, size, 3)), slopes]).astype(np.float32)


@functools.lru_cache(maxsize=16)
def _reader(path: Path, output: str | None, sha256: str) -> Reader:
    """Open a file once for all who ask; its hash is given, so that another file of the same name is another."""
    return open_reader(path, output)


def _build(path: Path, sha256: str, input_format: InputFormat, size: int) -> "keras.Model":
    from tfface.models._layers import function_layer

    reader = _reader(path, input_format.output, sha256)
    images = _tried(size)

    def asked(prepared: np.ndarray) -> np.ndarray:
        return reader(prepared, input_format.batch)

    answers = asked(input_format.known(path).array(images))
    check_answers(path.name, answers, images)
    if _follows(reader, input_format):
        return input_format.network(size, reader.apply)
    return input_format.network(size, function_layer(asked, answers.shape[1], follows=False))


def _follows(reader: Reader, input_format: InputFormat) -> bool:
    """Tell if gradients pass through a file; not where its batch is known by what is said beside it alone."""
    return reader.facts.differentiable and input_format.batch == reader.facts.batch
