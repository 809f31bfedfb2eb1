"""Presets as artifacts on disk: the file, its record, golden vectors and model card."""

import importlib.metadata
import logging
import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from tfface import __version__
from tfface.artifacts import golden, saved_model
from tfface.artifacts.artifact import (
    FLOAT_SIGNATURE,
    FORMAT,
    SIGNATURE,
    SIGNATURES,
    Artifact,
    given_of,
    open_artifact,
    record_of,
    sidecar_of,
    size_of,
    typical_recipe,
)
from tfface.artifacts.measure import milliseconds
from tfface.data.crops import crop_stream
from tfface.defenses._stack import portable
from tfface.errors import UserError
from tfface.evaluation.inputs import Embedder, FaceDataset, Recipe, recipe
from tfface.preprocessing.images import POINTS
from tfface.training.split import split_people
from tfface.utils.files import atomic_write, digest_of, digest_of_tree, explain_full_disk, write_json
from tfface.utils.tensorflow_logs import held_stderr

if TYPE_CHECKING:
    import keras

logger = logging.getLogger(__name__)

FORMATS = ("savedmodel", "tflite")
_ORDERS = {
    "box": "y0, x0, y1, x1, in fractions of the upright photograph's sides",
    "points": "x0, y0, ..., x4, y4, in fractions of the upright photograph's sides",
}
QUANTIZATIONS = ("none", "float16", "dynamic", "int8")


@dataclass(frozen=True, eq=False)
class Calibration:
    """Photographs that int8 takes the ranges of its activations from.

    Attributes:
        photographs: a part of a data set, not read yet.
        rule: people that may be in it, in words.
    """

    photographs: FaceDataset
    rule: str

    def record(self) -> dict[str, Any]:
        """Return its entry in an artifact's record, JSON-able."""
        return {
            "dataset": self.photographs.name,
            "version": self.photographs.version,
            "photographs": len(self.photographs),
            "people": len(set(self.photographs.identities)),
            "rule": self.rule,
        }

    def images(self, cut: Recipe, size: int) -> np.ndarray:
        """Return their crops, float32 (N, size, size, 3) in [0, 1]; photographs that cannot be read are left out.

        Raises:
            UserError: none can be read.
        """
        found = [crop.numpy() for crop, reason in crop_stream(self.photographs, cut, size) if not reason.numpy()]
        if not found:
            raise UserError(f"no photograph of {self.photographs.name} can be read to calibrate on")
        return np.stack(found)


def calibration_of(dataset: FaceDataset, *, images: int = 200, seed: int = 0) -> Calibration:
    """Draw photographs; of LFW only of training people, never of those for validation or held out.

    Args:
        dataset: LFW, or any other, of whose people all may be drawn.
        images: number of photographs at most.
        seed: random seed.
    """
    allowed = np.arange(len(dataset))
    rule = f"all people of {dataset.name}"
    if dataset.name.split("/")[0] == "lfw":
        allowed = split_people(dataset).train
        rule = "no one of LFW View 2's folds 8, 9 and 10"
    chosen = np.sort(np.random.default_rng(seed).permutation(allowed)[:images])
    return Calibration(dataset.take(chosen, f"calibration-{images}-seed{seed}"), rule)


@dataclass(frozen=True)
class Order:
    """Configuration of one artifact.

    Attributes:
        embedder: the model.
        cut: crop recipe for photographs that come without a face box.
        format: one of `FORMATS`.
        quantization: one of `QUANTIZATIONS`; a SavedModel holds `none` alone.
        calibration: for `int8`.
    """

    embedder: Embedder
    cut: Recipe
    format: str
    quantization: str
    calibration: Calibration | None = None

    @property
    def name(self) -> str:
        """Name of its folder: `facenet-msceleb`, `facenet-msceleb-int8`."""
        # `+` alone stands before a defense.
        stem = "+".join([self.embedder.preset.name, *self.embedder.defense])
        stem = re.sub(r"[/:=,]", "-", stem)
        precision = "float32" if self.quantization == "none" else self.quantization
        return stem if self.format == "savedmodel" else f"{stem}-{precision}"

    def path(self, out: Path) -> Path:
        """Return its path: `NAME/1`, which TensorFlow Serving takes for version 1, or `NAME/NAME.tflite`."""
        return out / self.name / ("1" if self.format == "savedmodel" else f"{self.name}.tflite")

    def facts(self) -> dict[str, Any]:
        """Return all that the artifact depends on, JSON-able."""
        return {
            "format": FORMAT,
            "artifact": self.format,
            "name": self.name,
            "quantization": self.quantization,
            "preset": record_of(self.embedder.preset),
            "weights_sha256": self.embedder.sha256,
            **self.embedder.defense_record,
            "recipe": self.cut.name,
            "calibration": self.calibration.record() if self.calibration and self.quantization == "int8" else None,
            "made_with": {"tfface": __version__, **_versions()},
        }


def orders(
    embedder: Embedder,
    cut: Recipe,
    formats: Sequence[str],
    quantizations: Sequence[str],
    calibration: Calibration | None = None,
) -> list[Order]:
    """Return the artifacts of all formats and quantisations; a SavedModel is made once, unquantised.

    Raises:
        UserError: no such format or quantisation, or a SavedModel alone, quantised.
    """
    _check("format", formats, FORMATS)
    _check("quantize", quantizations, QUANTIZATIONS)
    found = []
    for form in dict.fromkeys(formats):
        chosen = tuple(dict.fromkeys(quantizations))
        if form == "savedmodel":
            if "none" not in chosen and "tflite" not in formats:
                raise UserError(
                    f"a SavedModel holds float32 weights: `quantize` {chosen[0]} needs `format` tflite",
                    parameter="quantize",
                )
            chosen = ("none",)
        held = portable(embedder) if form == "tflite" else embedder
        found += [Order(held, cut, form, quantization, calibration) for quantization in chosen]
    return found


def _check(parameter: str, values: Sequence[str], valid: Sequence[str]) -> None:
    for value in values:
        if value not in valid:
            raise UserError(f"`{parameter}` {value!r}: give {', '.join(valid)}", parameter=parameter)


def make(order: Order, out: Path) -> Artifact:
    """Make an artifact, or take the one that is there if the same was made before.

    Raises:
        UserError: the format cannot hold the model, or the disk says no.
    """
    path = order.path(out)
    facts = order.facts()
    if sidecar_of(path).exists() and path.exists():
        made = open_artifact(path)
        if made.record["made_from"] == digest_of(facts) and (path.parent / "golden.json").exists():
            logger.warning(f"{path} is there already")
            return made
    logger.warning(f"making {path}")
    # What is there of an older one would vouch for the new one until all is written.
    sidecar_of(path).unlink(missing_ok=True)
    with explain_full_disk(path):
        if order.format == "savedmodel":
            _write_savedmodel(order, path, facts)
        else:
            _write_tflite(order, path)
    record = {**facts, **_interface(order), "sha256": digest_of_tree(path), "bytes": size_of(path)}
    record["made_from"] = digest_of(facts)
    artifact = Artifact(path, record)
    golden.write_golden(artifact, path.parent)
    golden.write_card(artifact, path.parent / "README.md")
    write_json(sidecar_of(path), record)
    return artifact


def lite_speed(student: Embedder, teacher: Embedder) -> dict[str, Any]:
    """Time a student and its teacher as unquantised TFLite files, one image at a time, by turns.

    Returns:
        JSON-able: `ms` of each for one image (medians), and `speedup`, the teacher's by the student's.
    """
    with tempfile.TemporaryDirectory() as folder:
        artifacts = {
            name: make(Order(embedder, recipe(embedder.preset.recipe), "tflite", "none"), Path(folder) / name)
            for name, embedder in (("student", student), ("teacher", teacher))
        }
        found = milliseconds({name: artifact.embedder() for name, artifact in artifacts.items()})
    return {"ms": found, "speedup": found["teacher"] / found["student"]}


def _write_savedmodel(order: Order, path: Path, facts: dict[str, Any]) -> None:
    photographs = [golden.jpeg_of(golden.drawn_photograph(seed)) for seed in range(2)]
    partial = path.with_name(".part-" + path.name)
    shutil.rmtree(partial, ignore_errors=True)
    try:
        saved_model.write(order.embedder, order.cut, partial, {**facts, **_interface(order)}, photographs)
        shutil.rmtree(path, ignore_errors=True)
        partial.rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write_tflite(order: Order, path: Path) -> None:
    model, size = order.embedder.model, order.embedder.preset.input_size
    calibration = None
    if order.quantization == "int8":
        assert order.calibration is not None, "int8 is calibrated on photographs"
        calibration = order.calibration.images(typical_recipe(order.cut, order.embedder.preset), size)
    data = convert(model, size, order.quantization, calibration)
    with atomic_write(path) as temporary:
        temporary.write_bytes(data)


def _interface(order: Order) -> dict[str, Any]:
    """Return inputs and outputs, for a reader in another language."""
    preset = order.embedder.preset
    own = recipe(preset.recipe)
    given = given_of(own)
    aligned = {"alignment": {"recipe": own.name, "points": POINTS, "template": own.template}} if own.template else {}
    output = {
        "name": "embedding",
        "dtype": "float32",
        "size": preset.embedding_size,
        "labels": f"embedding: {preset.embedding_size} values of one vector of length 1",
        "renormalise": order.quantization in ("dynamic", "int8"),
    }
    image = {"layout": "NHWC", "channels": "RGB", "size": preset.input_size}
    if order.format == "tflite":
        signatures: dict[str, Any] = {
            SIGNATURE: {"image": {**image, "dtype": "uint8", "range": [0, 255], "batch": 1}},
        }
        if order.quantization == "none":
            signatures[FLOAT_SIGNATURE] = {"image": {**image, "dtype": "float32", "range": [0, 1], "batch": 1}}
        return {"signatures": signatures, "output": output, **aligned}
    crop = {**image, "dtype": "float32", "range": [0, 1], "batch": "1 or more"}
    files = {"dtype": "string", "content": "a JPEG or PNG file", "batch": "any"}
    face = {"dtype": "float32", "order": _ORDERS[given], **({} if aligned else {"margin": own.margin}), "batch": "any"}
    signatures = {
        "serving_default": {"image": crop},
        SIGNATURES[None]: {"file": files},
        SIGNATURES[given]: {"file": files, given: face},
        "verify": {"first": crop, "second": crop},
    }
    return {"signatures": signatures, "output": output, **aligned}


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in ("tensorflow", "keras")}


class _Single(tf.Module):
    """Model of one image at a time: accelerators of phones take fixed shapes."""

    def __init__(self, model: "keras.Model", size: int) -> None:
        super().__init__(name="tfface")
        self._variables = [weight.value for weight in model.weights]
        shape = (1, size, size, 3)

        def embed_float(image: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"embedding": model(image, training=False)}

        def embed(image: tf.Tensor) -> dict[str, tf.Tensor]:
            return embed_float(tf.cast(image, tf.float32) / 255.0)

        self.of_floats = tf.function(embed_float, input_signature=[tf.TensorSpec(shape, tf.float32, "image")])
        self.of_bytes = tf.function(embed, input_signature=[tf.TensorSpec(shape, tf.uint8, "image")])


def convert(model: "keras.Model", size: int, quantization: str, calibration: np.ndarray | None = None) -> bytes:
    """Convert an embedder to TFLite, in builtin operations alone.

    The file's signature `embed` takes `image`, uint8 (1, S, S, 3), and gives `embedding`, float32 (1, D). An
    unquantised file also has `embed_float`, which takes the image in [0, 1]; both share their weights.

    Args:
        model: (N, S, S, 3) in [0, 1] to (N, D) unit vectors.
        size: S.
        quantization: `none`; `float16` weights; `dynamic`: int8 weights; `int8`: activations too.
        calibration: for `int8`: float32 (N, S, S, 3) in [0, 1], typical crops.

    Raises:
        UserError: TFLite has no builtin operation for a part of the model, which it names.
    """
    single = _Single(model, size)
    with tempfile.TemporaryDirectory() as folder:
        # From int8, an image of bytes is one of [0, 1] in steps of 1/255: the input's own quantisation.
        signatures = {SIGNATURE: single.of_floats if quantization == "int8" else single.of_bytes}
        if quantization == "none":
            signatures[FLOAT_SIGNATURE] = single.of_floats
        failure: Exception | None = None
        with held_stderr():
            tf.saved_model.save(single, folder, signatures=signatures)
            converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=list(signatures))
            _set_quantization(converter, quantization, calibration)
            try:
                return converter.convert()
            except Exception as error:  # what it raises has changed with every version
                failure = error
    raise UserError(f"TFLite cannot hold {model.name}: {_reason(model, str(failure))}; export it as a SavedModel")


def _set_quantization(converter: tf.lite.TFLiteConverter, quantization: str, calibration: np.ndarray | None) -> None:
    if quantization == "none":
        return
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantization == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if quantization == "int8":
        assert calibration is not None, "int8 is calibrated on images"
        images = calibration.copy()
        # The range of the input is that of all bytes, whatever the photographs: steps of exactly 1/255.
        images[0, 0, 0, 0], images[0, 0, 1, 0] = 0, 1
        converter.representative_dataset = lambda: ({"image": image[None]} for image in images)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.uint8


def _reason(model: "keras.Model", message: str) -> str:
    """Name the operation that has no builtin, and its layer, as far as the converter says."""
    lines = [line for line in message.splitlines() if "op is neither" in line]
    if not lines:
        return message.strip().splitlines()[0] if message.strip() else "the converter does not say why"
    operations = sorted({match[1] for line in lines if (match := re.search(r"'tf\.(\w+)' op is neither", line))})
    # A path is the network, the layer, and what the layer calls; a second trace numbers each.
    paths = [match[1].split("/") for line in lines if (match := re.search(r'"([^"@]+)@', line))]
    parts = {re.sub(r"_\d+$", "", part) for path in paths for part in path} | {part for path in paths for part in path}
    layers = [layer.name for layer in model.layers if layer.name in parts]
    where = f" (layer {', '.join(layers)})" if layers else ""
    return f"it has no builtin operation for {', '.join(operations)}{where}"
