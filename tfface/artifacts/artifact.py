"""Artifacts: a file or folder with a record beside it, opened as embedders.

Opening a TFLite artifact imports no TensorFlow.
"""

import dataclasses
import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from tfface.errors import UserError
from tfface.metrics.distances import far_thresholds, unit
from tfface.models._embedder import Embedder, Preset
from tfface.preprocessing.images import BOX, FIVE_POINTS, Recipe, recipe
from tfface.utils.files import digest_of_tree, read_json
from tfface.utils.tensorflow_logs import held_stderr

if TYPE_CHECKING:
    import keras

FORMAT = 1
SIGNATURE = "embed"
FLOAT_SIGNATURE = "embed_float"
SIGNATURES = {None: "embed_jpeg", BOX: "embed_jpeg_boxes", FIVE_POINTS: "embed_jpeg_points"}
"""A SavedModel's function for files, by the way that their faces are given."""
_PARAMETERS = {BOX: "boxes", FIVE_POINTS: "points"}
_PRESET_FIELDS = (
    "name",
    "input_size",
    "embedding_size",
    "recipe",
    "metric",
    "threshold",
    "threshold_source",
    "thresholds",
    "training_data",
    "licence",
)


@dataclass(frozen=True)
class Artifact:
    """Artifact whose bytes are those that were exported.

    Attributes:
        path: a `.tflite` file, or a SavedModel's version folder.
        record: content of the JSON file beside it.
    """

    path: Path
    record: dict[str, Any]

    @property
    def format(self) -> str:
        """`tflite` or `savedmodel`."""
        return self.record["artifact"]

    @property
    def name(self) -> str:
        """Name of the folder that it was exported into."""
        return self.record["name"]

    @property
    def sha256(self) -> str:
        return self.record["sha256"]

    @property
    def quantization(self) -> str:
        return self.record["quantization"]

    @property
    def recipe(self) -> str:
        """Crop recipe for photographs that come without a face box."""
        return self.record["recipe"]

    @property
    def renormalise(self) -> bool:
        """True where the reader must scale its vectors to length 1."""
        return self.record["output"]["renormalise"]

    @property
    def preset(self) -> Preset:
        """Record of the preset that was exported, without what only its weights file needs."""
        fields = dict(self.record["preset"])
        fields["thresholds"] = far_thresholds(fields.get("thresholds", ()), sidecar_of(self.path))
        return Preset(sources=(), file_name="", sha256=self.record["weights_sha256"], **fields)

    @property
    def bytes(self) -> int:
        return self.record["bytes"]

    def origin(self) -> dict[str, Any]:
        """Return what a result names besides: the weights that were exported, and the artifact."""
        return {
            "weights_sha256": self.record["weights_sha256"],
            "artifact": {"name": self.name, "sha256": self.sha256, "quantization": self.quantization},
        }

    def embedder(self, *, as_bytes: bool = False) -> Embedder:
        """Return an embedder like the preset's own that runs the artifact.

        Args:
            as_bytes: for TFLite, round crops to bytes, as a phone gives them, even where the artifact also takes
                floats.
        """
        defense = tuple(self.record.get("defense", ()))
        if self.format == "tflite":
            return TFLiteEmbedder(self.preset, self.sha256, _no_keras_model, self, as_bytes, defense=defense)
        return SavedModelEmbedder(self.preset, self.sha256, _no_keras_model, self, defense=defense)


@dataclass(frozen=True)
class TFLiteEmbedder(Embedder):
    """Embedder that runs a TFLite artifact, one image after the other."""

    artifact: Any = None
    as_bytes: bool = False
    differentiable: ClassVar[bool] = False

    def open(self) -> None:
        self._runner  # noqa: B018 - made at its first use

    def embed(self, images: np.ndarray) -> np.ndarray:
        if images.dtype != np.uint8:
            images = np.asarray(images, np.float32)
            if self.takes_bytes:
                images = to_bytes(images)
        vectors = [self._runner(image=image[None])["embedding"] for image in images]
        found = np.concatenate([np.zeros((0, self.preset.embedding_size), np.float32), *vectors])
        return unit(found) if self.artifact.renormalise else found

    @property
    def takes_bytes(self) -> bool:
        """True where it takes bytes: floats are rounded, and bytes may be given as they are."""
        return self.as_bytes or FLOAT_SIGNATURE not in self.artifact.record["signatures"]

    @functools.cached_property
    def _runner(self) -> Callable[..., dict[str, np.ndarray]]:
        from ai_edge_litert.interpreter import Interpreter

        try:
            with held_stderr():  # it announces its delegate
                interpreter = Interpreter(str(self.artifact.path), num_threads=os.cpu_count())
                interpreter.allocate_tensors()
                runner = interpreter.get_signature_runner(SIGNATURE if self.takes_bytes else FLOAT_SIGNATURE)
        except (ValueError, RuntimeError) as error:
            raise UserError(f"{self.artifact.path} cannot be run: {error}") from error
        return runner


@dataclass(frozen=True)
class SavedModelEmbedder(Embedder):
    """Embedder that runs a SavedModel artifact."""

    artifact: Any = None
    differentiable: ClassVar[bool] = False

    def open(self) -> None:
        self._signatures  # noqa: B018 - loaded at its first use

    def embed(self, images: np.ndarray) -> np.ndarray:
        return self.call("serving_default", image=np.asarray(images, np.float32))["embedding"]

    def call(self, signature: str, **inputs: Any) -> dict[str, np.ndarray]:
        """Call a signature with arrays (files: a list of bytes)."""
        import tensorflow as tf

        answer = self._signatures[signature](**{name: tf.constant(value) for name, value in inputs.items()})
        return {name: value.numpy() for name, value in answer.items()}

    @functools.cached_property
    def _signatures(self) -> dict[str, Callable[..., Any]]:
        import tensorflow as tf

        self.__dict__["_loaded"] = loaded = tf.saved_model.load(str(self.artifact.path))  # its functions do not keep it
        return loaded.signatures


def open_artifact(path: Path) -> Artifact:
    """Open an artifact, checked against the record beside it.

    Args:
        path: a `.tflite` file, a SavedModel's version folder, or the folder around that.

    Raises:
        UserError: it is no artifact, its record is missing, or its bytes are not those that were exported.
    """
    path = _located(path)
    sidecar = sidecar_of(path)
    if not sidecar.exists():
        raise UserError(f"{path} has no {sidecar.name} beside it, which says what it is: copy both, or export it again")
    record = read_json(sidecar)
    if not isinstance(record, dict) or record.get("format") != FORMAT or "sha256" not in record:
        raise UserError(f"{sidecar} is no record of an artifact that this version reads: export it again")
    if digest_of_tree(path) != record["sha256"]:
        raise UserError(f"{path} is not what was exported: its sha256 is not that of {sidecar.name}; copy it again")
    return Artifact(path, record)


def open_reader(path: Path) -> Artifact:
    """Open a TFLite artifact.

    Raises:
        UserError: it is none, its bytes are not those that were exported, or it is a SavedModel.
    """
    artifact = open_artifact(path)
    if artifact.format != "tflite":
        raise UserError(f"{path} is a SavedModel, which only TensorFlow reads: give a .tflite file")
    return artifact


def fixed_recipe(name: str | None, preset: Preset) -> Recipe:
    """Return the recipe that an artifact crops with: the one named, else the preset's, else `center-140`.

    Raises:
        UserError: the recipe takes faces, which no artifact looks for.
    """
    own = recipe(preset.recipe)
    chosen = recipe(name) if name else own if own.source == "image" else recipe("center-140")
    if chosen.source != "image":
        face = "five points" if own.aligned else "face boxes"
        raise UserError(
            f"an artifact cannot look for faces, as recipe {chosen.name} does: give whole or center-N here, and {face} "
            f"of your own detector to the signature {SIGNATURES[given_of(own)]}"
        )
    return chosen


def typical_recipe(cut: Recipe, preset: Preset) -> Recipe:
    """Return the recipe of the crops that an artifact is calibrated and evaluated on.

    That of a preset that aligns is its own, since such an artifact is given points; else the artifact's fixed one.

    Args:
        cut: recipe of the artifact for photographs that come without a face.
        preset: the preset that is exported.
    """
    own = recipe(preset.recipe)
    return own if own.aligned else cut


def given_of(own: Recipe) -> str:
    """Return how an artifact of a preset with that recipe takes a face: `points` where it is aligned, else `box`."""
    return FIVE_POINTS if own.aligned else BOX


def reader_recipe(artifact: Artifact, name: str | None, *, given: str | None) -> Recipe:
    """Return the crop recipe for photographs that go through an artifact here, where no detector runs.

    Args:
        artifact: gives the recipe where none is named.
        name: a recipe.
        given: `box` or `points` where faces are given so; margin or template are then those of the preset's recipe.

    Raises:
        UserError: the recipe needs faces and there are none, or has no use for them.
    """
    if given is None:
        chosen = recipe(name or artifact.recipe)
        if chosen.source != "image":
            raise UserError(
                f"recipe {chosen.name} needs faces, and without TensorFlow none are looked for: give "
                f"`{_PARAMETERS[given_of(chosen)]}`, a fixed recipe (whole, center-140), or an embedder instead of an "
                "artifact"
            )
        return chosen
    parameter = _PARAMETERS[given]
    chosen = recipe(name or artifact.preset.recipe)
    if chosen.source == "image" and name:
        raise UserError(f"recipe {name} takes no faces: leave out `{parameter}` or `recipe`", parameter=parameter)
    if chosen.source == "image" and given == BOX:
        return recipe("given-margin0.0")
    if given_of(chosen) != given:
        raise UserError(
            f"recipe {chosen.name} cuts out no face that is given in `{parameter}`: "
            + ("give `points` instead" if chosen.aligned else "give `boxes`, or a recipe like align5-112"),
            parameter=parameter,
        )
    return recipe("given-" + chosen.name.removeprefix("mtcnn-v1-").removeprefix("given-"))


def sidecar_of(path: Path) -> Path:
    """Return the path of an artifact's record: its own path and `.json`."""
    return path.with_name(path.name + ".json")


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)


def record_of(preset: Preset) -> dict[str, Any]:
    """Return what an artifact's record holds of a preset."""
    return {name: value for name, value in dataclasses.asdict(preset).items() if name in _PRESET_FIELDS}


def _located(path: Path) -> Path:
    if path.is_file() and path.suffix == ".tflite":
        return path
    if path.is_dir():
        if (path / "saved_model.pb").is_file():
            return path
        versions = [file.parent for file in path.glob("*/saved_model.pb") if file.parent.name.isdecimal()]
        if versions:
            return max(versions, key=lambda version: int(version.name))
    raise UserError(f"{path} is no artifact: give a .tflite file or the folder of a SavedModel")


def to_bytes(images: np.ndarray) -> np.ndarray:
    """Return values in [0, 1] as bytes, as a phone has them."""
    return np.rint(images * 255).astype(np.uint8)


class NoKerasModel(UserError, AttributeError):
    """An artifact runs, but holds no Keras model: its embedder has no attribute `model`."""


def _no_keras_model() -> "keras.Model":
    raise NoKerasModel("an artifact holds no Keras model: name the preset instead")
