"""From a preset to an artifact on disk: the file, its record, golden vectors and model card."""

import logging
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfface import __version__
from tfface.artifacts import card, golden
from tfface.artifacts.artifact import (
    FLOAT_SIGNATURE,
    FORMAT,
    SIGNATURE,
    Artifact,
    digest,
    open_artifact,
    record_of,
    sidecar_of,
    size_of,
)
from tfface.artifacts.calibration import Calibration
from tfface.errors import UserError
from tfface.preprocessing.images import Recipe, recipe
from tfface.utils.files import atomic_write, digest_of, explain_full_disk, write_json

if TYPE_CHECKING:
    from tfface.models._embedder import Embedder

logger = logging.getLogger(__name__)

FORMATS = ("savedmodel", "tflite")
QUANTIZATIONS = ("none", "float16", "dynamic", "int8")


@dataclass(frozen=True)
class Order:
    """One artifact to make.

    Attributes:
        embedder: of what.
        cut: how it crops photographs that come without a face box.
        format: one of `FORMATS`.
        quantization: one of `QUANTIZATIONS`; a SavedModel holds `none` alone.
        calibration: for `int8`.
    """

    embedder: "Embedder"
    cut: Recipe
    format: str
    quantization: str
    calibration: Calibration | None = None

    @property
    def name(self) -> str:
        """Of its folder: `facenet-msceleb`, `facenet-msceleb-int8`."""
        # `+` alone stands before a defense.
        stem = "+".join([self.embedder.preset.name, *self.embedder.defense])
        stem = re.sub(r"[/:=,]", "-", stem)
        precision = "float32" if self.quantization == "none" else self.quantization
        return stem if self.format == "savedmodel" else f"{stem}-{precision}"

    def path(self, out: Path) -> Path:
        """Where the artifact goes: `NAME/1`, which TensorFlow Serving takes for version 1, or `NAME/NAME.tflite`."""
        return out / self.name / ("1" if self.format == "savedmodel" else f"{self.name}.tflite")

    def facts(self) -> dict[str, Any]:
        """All that the artifact depends on, JSON-able."""
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
    embedder: "Embedder",
    cut: Recipe,
    formats: tuple[str, ...],
    quantizations: tuple[str, ...],
    calibration: Calibration | None = None,
) -> list[Order]:
    """The artifacts that formats and quantisations make together; a SavedModel is made once, unquantised.

    Raises:
        UserError: a SavedModel alone was asked for, quantised.
    """
    found = []
    for form in dict.fromkeys(formats):
        chosen = tuple(dict.fromkeys(quantizations))
        if form == "savedmodel":
            if "none" not in chosen and "tflite" not in formats:
                raise UserError(f"a SavedModel holds float32 weights: --quantize {chosen[0]} needs --format tflite")
            chosen = ("none",)
        found += [Order(embedder, cut, form, quantization, calibration) for quantization in chosen]
    return found


def make(order: Order, out: Path) -> Artifact:
    """Makes an artifact, or takes the one that is there if the same was made before.

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
    record = {**facts, **_interface(order), "sha256": digest(path), "bytes": size_of(path)}
    record["made_from"] = digest_of(facts)
    artifact = Artifact(path, record)
    golden.write(artifact, path.parent)
    card.write(artifact, path.parent / "README.md")
    write_json(sidecar_of(path), record)
    return artifact


def _write_savedmodel(order: Order, path: Path, facts: dict[str, Any]) -> None:
    from tfface.artifacts import saved_model

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
    from tfface.artifacts import tflite

    model, size = order.embedder.model, order.embedder.preset.input_size
    calibration = None
    if order.quantization == "int8":
        assert order.calibration is not None, "int8 is calibrated on photographs"
        calibration = order.calibration.images(order.cut, size)
    data = tflite.convert(model, size, order.quantization, calibration)
    with atomic_write(path) as temporary:
        temporary.write_bytes(data)


def _interface(order: Order) -> dict[str, Any]:
    """What goes in and comes out, for a reader in another language."""
    preset = order.embedder.preset
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
        return {"signatures": signatures, "output": output}
    crop = {**image, "dtype": "float32", "range": [0, 1], "batch": "1 or more"}
    files = {"dtype": "string", "content": "a JPEG or PNG file", "batch": "any"}
    box = {
        "dtype": "float32",
        "order": "y0, x0, y1, x1, in fractions of the upright photograph's sides",
        "margin": recipe(preset.recipe).margin,
        "batch": "any",
    }
    signatures = {
        "serving_default": {"image": crop},
        "embed_jpeg": {"file": files},
        "embed_jpeg_boxes": {"file": files, "box": box},
        "verify": {"first": crop, "second": crop},
    }
    return {"signatures": signatures, "output": output}


def _versions() -> dict[str, str]:
    import importlib.metadata

    return {name: importlib.metadata.version(name) for name in ("tensorflow", "keras")}
