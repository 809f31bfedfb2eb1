"""Input formats: how pixels are fed to a model, which of its outputs is taken, and the record that says so.

The record is `my.onnx.tfface.json`, which `tfface.probe` and `tfface.calibrate` write, or `my.onnx.tfface.toml`,
written by hand; beside an artifact of `tfface.export` that one's own record is read.
"""

import dataclasses
import hashlib
import math
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfface.errors import UserError
from tfface.utils.files import digest_of_tree, read_json, sha256_of, user_path, write_json

if TYPE_CHECKING:
    import keras

_MEANS = {
    "imagenet-means": (123.68, 116.779, 103.939),
    "vggface2-means": (131.0912, 103.8827, 91.4953),
    "vggface-means": (129.1863, 104.7624, 93.5940),
}
"""Mean red, green and blue on a scale of 0..255 that Caffe's networks subtract: of ImageNet (Simonyan and Zisserman
2015), of VGGFace2 (Cao et al. 2018) and of VGGFace (Parkhi et al. 2015), as keras-vggface has them."""
_IMAGENET_MEAN, _IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

SCALES = ("0..1", "-1..1", "127.5/128", "0..255", "imagenet", *_MEANS, "per-image")
"""Ranges of a model's input: [0, 1]; [-1, 1], (x - 127.5) / 127.5; (x - 127.5) / 128; bytes; ImageNet's mean and
deviation; means subtracted from bytes; each image to mean 0 and deviation 1 (FaceNet's)."""
FORMAT = 1
SUFFIXES = {".keras": "keras", ".h5": "h5", ".hdf5": "h5", ".tflite": "tflite", ".onnx": "onnx"}
_RECORD = ".tfface.json"
_RECORD_BY_HAND = ".tfface.toml"
COLOURS = ("rgb", "bgr")
LAYOUTS = ("nhwc", "nchw")
RECORDED = (
    *("format", "sha256", "input_size", "colour", "scale", "layout", "batch", "output", "recipe", "metric"),
    *("threshold", "threshold_source", "thresholds", "training_data", "licence", "probe"),
)
"""Entries of a record beside a model's file."""
_PROBABILITIES = ("softmax", "sigmoid")
_CLASSES = ("logits", "predictions", "classifier", "probs", "probabilities")
_ONNX_DATA = re.compile(rb"\x0a\x08location\x12(.)", re.DOTALL)
"""How an ONNX file names a file of its weights; the length of the name follows."""


@dataclass(frozen=True)
class InputFormat:
    """Input format of a model.

    Attributes:
        colour: order of the channels, `rgb` or `bgr`.
        scale: one of `SCALES`; None where nothing says.
        layout: `nhwc`, or `nchw` with the channels before the pixels.
        batch: number of images that the model takes at once; None for any.
        output: name of the output, or of the layer whose output is taken; None for the only one.
    """

    colour: str = "rgb"
    scale: str | None = "0..1"
    layout: str = "nhwc"
    batch: int | None = None
    output: str | None = None

    def __post_init__(self) -> None:
        for name, value, valid in (
            ("colour", self.colour, COLOURS),
            ("scale", self.scale, (*SCALES, None)),
            ("layout", self.layout, LAYOUTS),
        ):
            if value not in valid:
                known = ", ".join(one for one in valid if one)
                raise UserError(f"unknown {name} {value!r} of a model's input; valid: {known}", parameter="embedder")

    def to_dict(self) -> dict[str, Any]:
        """Return the entries of a record beside a model's file."""
        return dataclasses.asdict(self)

    @property
    def affine(self) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """Return the factor and the offset of red, green and blue, for images in [0, 1]; None for `per-image`."""
        if self.scale == "per-image":
            return None
        if self.scale in _MEANS:
            return (255.0,) * 3, tuple(-mean for mean in _MEANS[self.scale])
        if self.scale == "imagenet":
            pairs = list(zip(_IMAGENET_MEAN, _IMAGENET_DEVIATION, strict=True))
            return tuple(1 / deviation for _, deviation in pairs), tuple(-mean / deviation for mean, deviation in pairs)
        factor, offset = {"-1..1": (2.0, -1.0), "127.5/128": (255 / 128, -127.5 / 128), "0..255": (255.0, 0.0)}.get(
            str(self.scale), (1.0, 0.0)
        )
        return (factor,) * 3, (offset,) * 3

    def array(self, images: np.ndarray) -> np.ndarray:
        """Return images as the model takes them.

        Args:
            images: (N, H, W, 3) float32 RGB in [0, 1].

        Returns:
            float32 (N, H, W, 3), or (N, 3, H, W) for `nchw`.
        """
        images = np.asarray(images, np.float32)
        if self.affine is None:
            pixels = images * np.float32(255)
            centred = pixels - pixels.mean((1, 2, 3), keepdims=True)
            least = 1 / math.prod(images.shape[1:])
            images = centred / np.sqrt(np.maximum(np.square(centred).mean((1, 2, 3), keepdims=True), least))
        else:
            factor, offset = (np.array(part, np.float32) for part in self.affine)
            images = images * factor + offset
        images = images[..., ::-1] if self.colour == "bgr" else images
        return np.ascontiguousarray(images.transpose(0, 3, 1, 2) if self.layout == "nchw" else images, np.float32)

    def prepare(self, images: Any) -> Any:
        """Return a Keras tensor of images (N, H, W, 3), RGB in [0, 1], as the model takes them; see `array`."""
        from tfface.models._layers import InputScaling, PerImageStandardization

        if self.affine is None:
            images = PerImageStandardization(name="standardization")(images)
        factor, offset = self.affine or ((1.0,) * 3, (0.0,) * 3)
        layer = InputScaling(
            factor, offset, reverse=self.colour == "bgr", channels_first=self.layout == "nchw", name="input_format"
        )
        return images if layer.does_nothing else layer(images)

    def network(
        self, size: int, answer: Callable[[Any], Any], fit: Callable[[Any], Any] | None = None
    ) -> "keras.Model":
        """Return a model from (N, S, S, 3) in [0, 1] to unit vectors.

        Args:
            size: S.
            answer: prepared images to (N, D), as Keras tensors.
            fit: changes the images' sides before they are prepared.
        """
        import keras

        from tfface.models._layers import UnitNorm

        inputs = keras.Input((size, size, 3), name="image")
        outputs = answer(self.prepare(fit(inputs) if fit else inputs))
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

    def known(self, path: Path) -> "InputFormat":
        """Return it, if it says how the model of a path is fed.

        Raises:
            UserError: its scale is not known.
        """
        if self.scale is None:
            raise UserError(
                f"nothing says how {path.name} is fed: run `tfface probe {path}`, or give its scale, as "
                f"{path.name}:scale=-1..1,colour=rgb",
                parameter="embedder",
            )
        return self


def located(path: Path) -> Path:
    """Return the file, or the folder that holds `saved_model.pb`, from the root.

    Raises:
        UserError: there is none.
    """
    path = user_path(path).absolute()
    if path.suffix.lower() in SUFFIXES and path.is_file():
        return path
    folder = saved_model(path)
    if folder is None:
        state = "is no model that can be read" if path.exists() else "does not exist"
        raise UserError(f"{path} {state}: give a .keras, .h5, .tflite or .onnx file, or a SavedModel's folder")
    return folder


def saved_model(path: Path) -> Path | None:
    """Return the folder of a SavedModel: the one given, or its newest numbered version."""
    if (path / "saved_model.pb").is_file():
        return path
    if not path.is_dir():
        return None
    versions = [file.parent for file in path.glob("*/saved_model.pb") if file.parent.name.isdecimal()]
    return max(versions, key=lambda version: int(version.name), default=None)


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a model: of its file, with those that an ONNX file keeps its weights in, or its folder."""
    sha256 = digest_of_tree(path)
    if path.suffix.lower() != ".onnx":
        return sha256
    content = path.read_bytes()
    named = {content[found.end() : found.end() + content[found.end() - 1]] for found in _ONNX_DATA.finditer(content)}
    folder = path.parent.resolve()
    files = [folder / name.decode(errors="replace") for name in sorted(named)]
    own = [file for file in files if file.is_file() and file.resolve().is_relative_to(folder)]
    return hashlib.sha256("".join([sha256, *map(sha256_of, own)]).encode()).hexdigest() if own else sha256


def read_record(path: Path, sha256: str | None = None) -> dict[str, Any]:
    """Read the record beside a model's file; empty where there is none.

    Args:
        path: the model's file or folder.
        sha256: of the model, which the record must name if it names one.

    Raises:
        UserError: the record is damaged or another file's.
    """
    made, by_hand = beside(path), path.with_name(path.name + _RECORD_BY_HAND)
    record: dict[str, Any] = {}
    if by_hand.is_file():
        try:
            record |= tomllib.loads(by_hand.read_text())
        except (OSError, ValueError) as error:
            raise UserError(f"cannot read {by_hand} as TOML: {error}") from error
        if odd := sorted(set(record) - set(RECORDED)):
            raise UserError(f"{by_hand}: {odd[0]} is no fact of a model; valid: {', '.join(RECORDED)}")
    if made.is_file():
        found = read_json(made)
        if not isinstance(found, dict):
            raise UserError(f"{made} is no record of a model: delete it")
        record |= found
    if sha256 and record.get("sha256") not in (None, sha256):
        raise UserError(f"{made} is the record of another file than {path.name}: delete it, and probe the model again")
    return record


def write_record(path: str | Path, changes: Mapping[str, Any]) -> Path:
    """Write facts into the record beside a model's file; what it says already stays.

    Returns:
        The record's path.
    """
    place = located(Path(path))
    sha256 = digest_of(place)
    try:
        known = read_record(place, sha256) if beside(place).is_file() else {}
    except UserError:
        known = {}  # of another file, or damaged
    record = {**known, **changes, "format": FORMAT, "sha256": sha256}
    write_json(beside(place), record)
    return beside(place)


def beside(path: Path) -> Path:
    """Return the path of the record beside a model's file."""
    return path.with_name(path.name + _RECORD)


def of_export(path: Path, sha256: str) -> dict[str, Any]:
    """Return the facts of an artifact of `tfface.export`, whose record lies beside it; empty for other files."""
    sidecar = path.with_name(path.name + ".json")
    record = read_json(sidecar) if sidecar.is_file() else None
    if not isinstance(record, dict) or "artifact" not in record or not isinstance(record.get("preset"), dict):
        return {}
    if record.get("sha256") != sha256:
        raise UserError(f"{path} is not what was exported: its sha256 is not that of {sidecar.name}; copy it again")
    named = ("recipe", "metric", "threshold", "threshold_source", "training_data", "licence", "thresholds")
    facts = {name: record["preset"][name] for name in named if name in record["preset"]}
    # An int8 file states itself how its bytes stand for [0, 1].
    takes_bytes = path.suffix == ".tflite" and "embed_float" not in record.get("signatures", ())
    takes_bytes = takes_bytes and record.get("quantization") != "int8"
    output = "embedding" if record["artifact"] in ("tflite", "savedmodel") else None
    return {**facts, "scale": "0..255" if takes_bytes else "0..1", "output": output}


def number(name: str, fact: str, value: Any) -> float | None:
    """Return a number of a model's facts, which may be text.

    Raises:
        UserError: it is none.
    """
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError) as error:
        raise UserError(f"{name}: its {fact} {value!r} is no number", parameter="embedder") from error


def pick_output(outputs: Mapping[str, Any], output: str | None) -> str:
    """Return the name of the output to take.

    Raises:
        UserError: none of that name, several and none is named, or classes and it is not named.
    """
    names = list(outputs)
    if output is None:
        if len(names) == 1 and names[0].lower().split(":")[0] in _CLASSES:
            raise UserError(
                f"its output {names[0]} gives classes, not embeddings: save the network up to the layer before, or "
                f"give `output={names[0]}` if they are",
                parameter="embedder",
            )
        if len(names) == 1:
            return names[0]
        raise UserError(f"it has {len(names)} outputs, {', '.join(names)}: name one by `output`", parameter="embedder")
    if output in outputs:
        return output
    if output.isdecimal() and int(output) < len(names):
        return names[int(output)]
    raise UserError(f"it has no output {output!r}; valid: {', '.join(names)}", parameter="embedder")


def one_input(shapes: Mapping[str, Any]) -> str:
    """Return the name of the only input.

    Raises:
        UserError: there are several.
    """
    if len(shapes) != 1:
        raise UserError(f"it has {len(shapes)} inputs ({', '.join(shapes)}), an embedder has one", parameter="embedder")
    return next(iter(shapes))


def is_graph(model: Any) -> bool:
    """Tell if a Keras model is a graph of layers from known inputs to outputs."""
    return bool(getattr(model, "inputs", None)) and bool(getattr(model, "outputs", None))


def as_one_vector(model: Any, output: str | None) -> Any:
    """Return a Keras model of one input and one output, for any batch.

    Args:
        model: as it was read, or as a user made it.
        output: name of an output or of a layer, or number of an output; None for the only one.

    Raises:
        UserError: several inputs, no such output, or an output that holds class probabilities and was not named.
    """
    import keras

    if not is_graph(model):
        raise UserError("its layers have met no input: call it once, then save it", parameter="embedder")
    one_input({tensor.name: tensor for tensor in model.inputs})
    shape = tuple(model.inputs[0].shape)
    if len(shape) != 4:
        raise UserError(f"its input has the shape {list(shape)}, not images (N, H, W, 3)", parameter="embedder")
    if isinstance(model, keras.Sequential):
        model = keras.Model(model.inputs, model.outputs, name=model.name)
    if shape[0] is not None:
        copied = keras.models.clone_model(model, input_tensors=keras.Input(shape[1:], dtype=model.inputs[0].dtype))
        copied.set_weights(model.get_weights())
        model = copied
    layers = {layer.name: layer for layer in model.layers}
    names = dict(zip(model.output_names, model.outputs, strict=True))
    if output in layers and output not in names:
        return keras.Model(model.inputs[0], layers[output].output, name=model.name)
    only = model.output_names[0] if output is None and len(names) == 1 else output  # of layers more can be said below
    chosen = names[pick_output(names, only)]
    last = next((layer for layer in model.layers[::-1] if layer.output is chosen), model.layers[-1])
    kind = getattr(getattr(last, "activation", last), "__name__", type(last).__name__.lower())
    if output is None and (kind in _PROBABILITIES or any(word in last.name.lower() for word in _CLASSES)):
        before = [layer.name for layer in model.layers[:-1] if len(layer.output.shape) == 2]
        advice = f"`output={before[-1]}`" if before else "`output=` and the name of the layer before"
        raise UserError(
            f"its last layer {last.name} gives {'class probabilities' if kind in _PROBABILITIES else 'classes'}, not "
            f"embeddings: give {advice}",
            parameter="embedder",
        )
    return keras.Model(model.inputs[0], chosen, name=model.name)


def are_probabilities(answers: np.ndarray) -> bool:
    """Tell if answers (N, D) look like class probabilities: none is negative, and each row sums to 1."""
    return bool(answers.shape[1] > 1 and answers.min() >= 0 and np.allclose(answers.sum(axis=1), 1, atol=1e-3))


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
    if are_probabilities(answers):
        raise UserError(f"{name} gives class probabilities, not embeddings: name by `output` the layer before them")
