"""Input formats: how pixels are fed to a model, and the record beside its file that says so.

The record is `my.onnx.tfface.json`, which `tfface.probe` and `tfface.calibrate` write, or `my.onnx.tfface.toml`,
written by hand; beside an artifact of `tfface.export` that one's own record is read.
"""

import dataclasses
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tfface.errors import UserError
from tfface.utils.files import digest_of_tree, read_json, write_json

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
        one = (1.0, 1.0, 1.0)
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
        return tuple(factor * part for part in one), tuple(offset * part for part in one)

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
    """Return the file, or the folder that holds `saved_model.pb`.

    Raises:
        UserError: there is none.
    """
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
    sha256 = digest_of_tree(place)
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
    takes_bytes = path.suffix == ".tflite" and "embed_float" not in record.get("signatures", ())
    output = "embedding" if record["artifact"] in ("tflite", "savedmodel") else None
    return {**facts, "scale": "0..255" if takes_bytes else "0..1", "output": output}
