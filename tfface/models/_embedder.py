"""Presets, embedders, and loading an embedder by name.

An architecture's file defines `PRESETS` (in the order they are tried), `build(preset)`, which returns a `keras.Model`
with fresh weights, and `load_weights(model, path)`, which fills it from the published file of its kind.
"""

import dataclasses
import functools
import importlib
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfface.errors import Unavailable, UserError
from tfface.hub import weights
from tfface.metrics.distances import FarThreshold, chosen_threshold, far_thresholds
from tfface.metrics.distances import view1_thresholds as view1_thresholds
from tfface.utils import registry
from tfface.utils.files import cache_path, check_package_data, fields_of, package_data, read_json, sha256_of, write_json
from tfface.utils.tensorflow_logs import as_usual, check_backend

if TYPE_CHECKING:
    import keras

logger = logging.getLogger(__name__)

SAVED_MODELS = package_data("saved_models")

_PACKAGES = {"deepface": "tfface.models._deepface_package"}
"""Modules that build the models of other packages, by the prefix of a name; imported when such a name is loaded."""
_FILES = "tfface.models._files"
"""Module that opens models of the user's own."""


@dataclass(frozen=True)
class Preset:
    """All facts about one weight file.

    Attributes:
        name: `architecture/training`.
        sources: where the weights come from, tried in order.
        file_name: the file's name in the cache.
        sha256: the published hash; None where nobody published one (recorded at first use).
        input_size: side of the square input, in pixels.
        embedding_size: length of the embedding.
        recipe: its default crop recipe.
        metric: `cosine` or `euclidean`: the metric of `threshold`.
        threshold: distances up to it mean "same person"; None where none was measured.
        threshold_source: where that threshold was measured.
        training_data: what it was trained on, and what is known of overlap with test sets.
        licence: of the weights.
        config: arguments of the architecture's `build` that differ between its presets.
        other_thresholds: (metric, threshold, source) of further published thresholds.
        thresholds: those calibrated at false accept rates, in `metric`.
        identities_seen: the people it was trained on, where the project knows them.
        by_name_only: never chosen by the bare architecture name.
    """

    name: str
    sources: tuple[weights.Source, ...]
    file_name: str
    sha256: str | None
    input_size: int
    embedding_size: int
    recipe: str
    metric: str
    threshold: float | None
    threshold_source: str
    training_data: str
    licence: str
    config: dict[str, Any] = field(default_factory=dict, hash=False)
    other_thresholds: tuple[tuple[str, float, str], ...] = ()
    thresholds: tuple[FarThreshold, ...] = ()
    identities_seen: frozenset[str] = frozenset()
    by_name_only: bool = False

    @property
    def architecture(self) -> str:
        return self.name.split("/")[0]

    def decide(
        self, threshold: float | None = None, far: float | None = None, recipe: str | None = None
    ) -> tuple[str, float, str]:
        """Choose the threshold of a decision: one given by hand, one calibrated at a FAR, or the preset's own.

        Args:
            threshold: given by hand, in `metric`.
            far: false accept rate that a threshold was calibrated at.
            recipe: crop recipe in use, with `+flip` where mirrored photographs are added.

        Returns:
            Metric, threshold, and where it was measured (`given` for one given by hand).

        Raises:
            UserError: both are given, no threshold was calibrated at that rate, or none is known.
        """
        if threshold is None and far is None and self.threshold is not None:
            own = next((row for row in self.thresholds if row.source == self.threshold_source), None)
            return self.metric, self.threshold, own.said(recipe) if own else self.threshold_source
        return self.metric, *chosen_threshold(self.name, self.thresholds, threshold, far, recipe)

    def calibrated(self, rows: Sequence[FarThreshold]) -> "Preset":
        """Add calibrated thresholds, in place of those at the same rate and with the same recipe.

        A preset without a threshold of its own gets the first.
        """
        new = {(row.far, row.recipe) for row in rows}
        kept = [row for row in self.thresholds if (row.far, row.recipe) not in new]
        preset = dataclasses.replace(self, thresholds=(*rows, *kept))
        if not rows or self.threshold is not None:
            return preset
        return dataclasses.replace(preset, threshold=rows[0].threshold, threshold_source=rows[0].source)

    def to_dict(self) -> dict[str, Any]:
        """Return the content of `preset.json`; the weights lie beside it, so no sources are named."""
        record = {"format": 1, **{entry.name: getattr(self, entry.name) for entry in dataclasses.fields(self)}}
        record["identities_seen"] = sorted(self.identities_seen)
        record["other_thresholds"] = [list(row) for row in self.other_thresholds]
        record["thresholds"] = [dataclasses.asdict(row) for row in self.thresholds]
        del record["sources"]
        return record

    def write(self, folder: Path) -> None:
        """Write `preset.json` into the folder of the weights."""
        write_json(folder / "preset.json", self.to_dict())

    @classmethod
    def read(cls, path: Path) -> "Preset":
        """Read `preset.json`.

        Raises:
            UserError: the file is damaged, or was written by a newer version.
        """
        record = read_json(path)
        known = {entry.name for entry in dataclasses.fields(cls)}
        if unknown := set(record) - known - {"format"}:
            raise UserError(f"{path} has unknown fields {sorted(unknown)}: it was written by a newer version")
        fields = {key: value for key, value in record.items() if key in known}
        fields["sources"] = (weights.BundledSource(path.with_name(record["file_name"])),)
        fields["other_thresholds"] = tuple(tuple(row) for row in record.get("other_thresholds", ()))
        fields["thresholds"] = far_thresholds(record.get("thresholds", ()), path)
        fields["identities_seen"] = frozenset(record.get("identities_seen", ()))
        return cls(**fields)


@dataclass(frozen=True)
class Embedder:
    """A preset with its weights at hand; the network is built when first needed.

    So an answer that is all in the cache needs neither TensorFlow nor the network.

    Attributes:
        preset: the record.
        sha256: of the weights.
        build: makes the network.
        defense: input defenses in front of it (`tfface.defenses`), each with all its options.
    """

    preset: Preset
    sha256: str
    build: Callable[[], "keras.Model"]
    defense: tuple[str, ...] = field(default=(), kw_only=True)

    def __reduce__(self) -> tuple[Any, ...]:
        # Another process finds the weights by name: neither they nor the network are sent.
        if type(self) is Embedder:
            return _arrived, (self.preset, self.sha256)
        return functools.partial(type(self), **fields_of(self)), ()

    @property
    def differentiable(self) -> bool:
        """Tell if gradients pass through `model`; of a model known by its answers alone they do not."""
        return True

    @property
    def defense_record(self) -> dict[str, list[str]]:
        """Return the entry of the defenses in cache keys and results; empty where there are none."""
        return {"defense": list(self.defense)} if self.defense else {}

    def fingerprint(self) -> dict[str, Any]:
        """Return what cache keys hold of the model, JSON-able."""
        return {"preset": self.preset.name, "weights_sha256": self.sha256, **self.defense_record}

    def record(self) -> dict[str, Any]:
        """Return what a result names of the model, JSON-able."""
        return {"model": self.preset.architecture, **self.fingerprint()}

    @functools.cached_property
    def model(self) -> "keras.Model":
        """(N, H, W, 3) float32 RGB in [0, 1] to (N, D) float32 unit vectors."""
        with as_usual():
            return self.build()

    def open(self) -> None:
        """Load the network before `embed` is first called.

        Raises:
            UserError: it cannot be had.
        """
        self.model  # noqa: B018 - built by being asked for

    def embed(self, images: np.ndarray) -> np.ndarray:
        """Embed one batch.

        Args:
            images: (N, H, W, 3) float32 in [0, 1], at the preset's input size.

        Returns:
            (N, D) float32 unit vectors.
        """
        return self._compiled(images).numpy()

    @functools.cached_property
    def _compiled(self) -> Callable[..., Any]:
        # `predict` in a loop would let memory grow.
        import tensorflow as tf

        check_backend()
        model = self.model  # built before the trace: inside it, its weights would never be assigned
        return tf.function(lambda images: model(images, training=False), reduce_retracing=True)


def presets(architecture: str) -> tuple[Preset, ...]:
    """Return the presets of an architecture: those in its file, then those in `saved_models/`."""
    return tuple(registry.load("models", architecture).PRESETS) + tuple(_bundled(architecture))


def all_presets() -> Iterator[Preset]:
    """Yield every preset, by architecture."""
    for architecture in registry.names("models"):
        yield from presets(architecture)


def candidates(name: str) -> tuple[Preset, ...]:
    """Return the presets that a name may mean, in order.

    A bare architecture means those of its presets that may be chosen without being named; a
    full name means that preset alone.

    Raises:
        UserError: no such architecture or preset.
    """
    architecture, _, training = name.partition("/")
    if architecture not in registry.names("models"):
        raise registry.unknown("model", name, [*registry.names("models"), "deepface:<Name>", "PATH"])
    found = presets(architecture)
    if not training:
        return tuple(preset for preset in found if not preset.by_name_only)
    for preset in found:
        if preset.name == name:
            return (preset,)
    raise registry.unknown("preset", name, [preset.name for preset in found])


def locate(name: str, *, offline: bool = False) -> tuple[Preset, weights.WeightsFile]:
    """Find the first preset of a name whose weights can be had, and its weights file.

    Where that is not the first of the list, the log says why.

    Raises:
        UserError: none can be had; says for each why, and how to supply it.
    """
    refused: list[weights.WeightsUnavailable] = []
    for preset in candidates(name):
        try:
            file = weights.obtain(preset.name, preset.file_name, preset.sources, preset.sha256, offline=offline)
        except weights.WeightsUnavailable as error:
            refused.append(error)
            continue
        if refused:
            logger.warning(f"`embedder` {name} falls to {preset.name}: {'; '.join(error.reason for error in refused)}")
        return preset, file
    raise Unavailable("; ".join(map(str, refused)) or f"{name} has no presets yet: train one, or name another model")


def load(preset: Preset, file: weights.WeightsFile) -> Embedder:
    """Make an embedder whose network is built and filled when first needed.

    Using its `model` raises UserError when the file does not hold this network's weights.
    """

    def build() -> "keras.Model":
        module = registry.load("models", preset.architecture)
        model = module.build(preset)
        try:
            module.load_weights(model, file.path)
        except (OSError, KeyError, ValueError) as error:
            raise UserError(f"{file.path} does not hold the weights of {preset.name}: {error}") from error
        model.trainable = False
        return model

    return Embedder(preset, file.sha256, build)


def load_file(preset: Preset, path: Path) -> Embedder:
    """Make an embedder of a weights file; its preset names the file and its hash.

    Args:
        preset: all other facts.
        path: weights of the preset's architecture.
    """
    sha256 = sha256_of(path)
    preset = dataclasses.replace(preset, sources=(weights.BundledSource(path),), sha256=sha256)
    return load(preset, weights.WeightsFile(path, sha256))


@functools.lru_cache(maxsize=4)
def _arrived(preset: Preset, sha256: str) -> Embedder:
    """Make an embedder that came from another process: built and compiled once, however many jobs come with it."""

    def build() -> "keras.Model":
        found = load_embedder(preset.name, offline=True)
        if found.sha256 != sha256:
            raise UserError(f"{preset.name} has weights {found.sha256[:12]} here, not {sha256[:12]}: share the cache")
        return found.build()

    return Embedder(preset, sha256, build)


def load_embedder(name: str | Path, *, offline: bool = False, **facts: Any) -> Embedder:
    """Load an embedder: a preset, an architecture, a file of one's own, or a model of the `deepface` package.

    Args:
        name: `resnet50/vggface2`, `resnet50` (its first preset whose weights can be had), `deepface:<Name>`, or a path
            (.keras, .h5, .tflite, .onnx, a SavedModel's folder), with facts after a colon:
            `my.onnx:scale=-1..1,colour=bgr`.
        offline: never touch a network.
        **facts: of a file of one's own, where no record beside it says them: `scale`, `colour`, `layout`, `output`,
            `size`, `recipe`, `metric`, `threshold` (see `tfface.probe`, which finds the first two).

    Returns:
        The embedder; its network is built when it is first needed.

    Raises:
        UserError: no such model, none of its weights can be had, or a file cannot be read as a model.

    Example:
        >>> import numpy as np
        >>> import tfface
        >>> embedder = tfface.load_embedder("student/lfw-distilled", offline=True)
        >>> embedder.embed(np.zeros((2, 160, 160, 3), np.float32)).shape
        (2, 128)
    """
    package, _, model = str(name).partition(":")
    if model and package in _PACKAGES:
        return _calibrated(importlib.import_module(_PACKAGES[package]).load(model, offline=offline))
    files = importlib.import_module(_FILES)
    if isinstance(name, Path) or files.is_file(name):
        found: Embedder = files.load(name, **facts)
        return found
    if facts:
        raise UserError(
            f"{name} is no file: {', '.join(facts)} are facts of a model of one's own", parameter="embedder"
        )
    return _calibrated(load(*locate(name, offline=offline)))


def calibrations_file(name: str) -> Path:
    """Return the path of the thresholds that `tfface.calibrate` measured here for a preset, by weights hash."""
    return cache_path("thresholds", re.sub(r"[^\w./-]", "-", name) + ".json")


def _calibrated(embedder: Embedder) -> Embedder:
    """Add the thresholds that were calibrated here; they go before those of the preset's record."""
    path = calibrations_file(embedder.preset.name)
    if not path.exists():
        return embedder
    try:
        rows = far_thresholds(read_json(path)["weights"].get(embedder.sha256, ()), path)
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is damaged: delete it, and calibrate {embedder.preset.name} again") from error
    return dataclasses.replace(embedder, preset=embedder.preset.calibrated(rows))


def as_embedder(embedder: str | Path | Embedder, *, offline: bool = False) -> Embedder:
    """Return an embedder as it is, or load it by its name or path (see `load_embedder`).

    Raises:
        UserError: it is none of these.
    """
    if isinstance(embedder, str | Path):
        return load_embedder(embedder, offline=offline)
    if not hasattr(embedder, "embed"):
        raise UserError(f"a {type(embedder).__name__} is no embedder: wrap it by `tfface.wrap`", parameter="embedder")
    return embedder


def _bundled(architecture: str) -> Iterator[Preset]:
    for path in sorted(check_package_data(SAVED_MODELS).glob(f"{architecture}/*/preset.json")):
        yield Preset.read(path)
