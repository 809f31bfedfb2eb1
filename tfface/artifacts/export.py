"""Export embedders as files that run elsewhere, and measure each beside the Keras model on the same photographs."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tfface.artifacts.artifact import Artifact, fixed_recipe, typical_recipe
from tfface.artifacts.attacking import ArtifactAttacks, attack_artifact, attack_keras, entries, threshold_of
from tfface.artifacts.golden import golden_pair, write_card
from tfface.artifacts.making import Calibration, calibration_of, make, orders
from tfface.artifacts.measure import milliseconds, peak_megabytes
from tfface.data.catalogue import describe_dataset, load_dataset
from tfface.evaluation.embeddings import Embeddings, embed_dataset
from tfface.evaluation.inputs import Embedder, FaceDataset, Recipe, apply, as_embedder
from tfface.evaluation.scoring import check_protocol, evaluate_embeddings
from tfface.report.export_tables import artifacts_table, attacks_table
from tfface.utils.public import Clock, Result, Table, UserError, as_list, configured, run_record, user_path

Metrics = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Configuration of an export.

    Attributes:
        format: `savedmodel`, `tflite`, or both.
        quantize: of TFLite: `none`, `float16`, `dynamic`, `int8`, or several.
        recipe: crop recipe of the artifact for photographs without a face box; `center-140` by default where the
            preset's looks for faces. A model that aligns is calibrated and evaluated at crops of its own recipe.
        defense: input defenses in front of the model, as `jpeg:quality=75`.
        calibration: data set that int8 is calibrated on; LFW if it is at hand, else `five_faces`.
        calibration_images: most photographs to calibrate on.
        evaluate: evaluate a data set through every artifact.
        dataset: data set to evaluate on.
        protocol: pairs to evaluate on; `view2` of LFW, `all-pairs` of other data sets by default.
        attack: attacks to evaluate under: `fgsm` and `pgd` are made on the Keras model and tried on each artifact,
            `square` is made on each by its answers alone.
        attack_pairs: number of genuine pairs, and of impostor pairs, to attack.
        epsilon: budget of the attacks: the largest change of a value in [0, 1].
        square_queries: of `square`, for an image.
        manual_dir: folder of data set archives at hand.
        seed: random seed.
        offline: never touch a network.
    """

    format: str | Sequence[str] = ("savedmodel", "tflite")
    quantize: str | Sequence[str] = "none"
    recipe: str | None = None
    defense: str | Sequence[str] = ()
    calibration: str | Path | FaceDataset | None = None
    calibration_images: int = 200
    evaluate: bool = False
    dataset: str | Path | FaceDataset = "lfw"
    protocol: str | None = None
    attack: str | Sequence[str] = ()
    attack_pairs: int = 50
    epsilon: float = 0.01
    square_queries: int = 100
    manual_dir: str | Path | None = None
    seed: int = 0
    offline: bool = False

    def attacks(self) -> ArtifactAttacks:
        """Return the attacks of the evaluation."""
        names = tuple(dict.fromkeys(as_list(self.attack)))
        return ArtifactAttacks(names, self.attack_pairs, self.epsilon, self.square_queries, self.seed)

    def load(self, dataset: str | Path | FaceDataset) -> FaceDataset:
        """Return a data set."""
        return load_dataset(dataset, manual_dir=self.manual_dir, offline=self.offline)

    def photographs(self) -> Calibration | None:
        """Return the photographs to calibrate on; None where nothing is calibrated."""
        if "int8" not in as_list(self.quantize):
            return None
        name = self.calibration
        if name is None:
            at_hand = self.manual_dir or os.environ.get("TFFACE_LFW") or describe_dataset("lfw").facts["prepared"]
            name = "lfw" if at_hand else "five_faces"
        return calibration_of(self.load(name), images=self.calibration_images, seed=self.seed)


@dataclass(frozen=True)
class Exports(Result):
    """Artifacts of one embedder.

    Attributes:
        folder: output folder, which holds a folder for each artifact.
        artifacts: the artifacts.
        metrics: what was measured, JSON-able.
    """

    folder: Path
    artifacts: Sequence[Artifact]
    metrics: Metrics = field(repr=False)

    @property
    def paths(self) -> list[Path]:
        """Files or SavedModel folders of the artifacts."""
        return [artifact.path for artifact in self.artifacts]

    def to_dict(self) -> Metrics:
        return self.metrics

    def tables(self) -> list[Table]:
        attacked = [attacks_table(self.metrics)] if "attacks" in self.metrics["keras"] else []
        return [artifacts_table(self.metrics), *attacked]

    def save_files(self, folder: Path) -> list[str]:
        """Return the paths of the artifacts in the output folder, where they were written already."""
        return [entry["path"] for entry in self.metrics["artifacts"]] if folder == self.folder else []


@configured(ExportConfig)
def export(embedder: str | Embedder, out: str | Path, *, config: ExportConfig) -> Exports:
    """Export an embedder as SavedModel or TFLite, preprocessing inside.

    Beside each artifact lie a JSON record with its hash, `golden.json` with inputs and its answers to them, and a model
    card. An artifact that is there already is not made again. A SavedModel lies in a versioned folder as TensorFlow
    Serving wants it, with warm-up requests.

    Args:
        embedder: a model, defended or not, or its name.
        out: output folder.

    Returns:
        The artifacts and what was measured of them.

    Raises:
        UserError: a model, data set or recipe cannot be had, a format cannot hold the model, or it has no threshold.

    Example:
        >>> import tfface
        >>> found = tfface.export("student", "out", format="tflite", quantize="int8")  # doctest: +SKIP
        >>> found.paths[0].name  # doctest: +SKIP
        'student-lfw-distilled-int8.tflite'
    """
    clock, out = Clock(), user_path(out)
    if config.attack and not config.evaluate:
        message = "`attack` goes with `evaluate`, which finds the thresholds that attacks are judged at"
        raise UserError(message, parameter="attack")
    model = apply(as_embedder(embedder, offline=config.offline), as_list(config.defense))
    if not model.differentiable or _holds_function(model):
        known = "its signature" if model.differentiable else "its answers"
        raise UserError(
            f"{model.preset.name} is known by {known} alone, there is no network of it to export: give the Keras model "
            "that it was made of",
            parameter="embedder",
        )
    cut = fixed_recipe(config.recipe, model.preset)
    model.preset.decide()  # an artifact says what matches: without a threshold nothing is made
    todo = orders(model, cut, as_list(config.format), as_list(config.quantize), config.photographs())
    evaluated = _Evaluated.of(config, typical_recipe(cut, model.preset)) if config.evaluate else None
    artifacts = [make(order, out) for order in todo]
    metrics = _measured(model, artifacts, evaluated, out)
    dataset = evaluated.dataset if evaluated else None
    record = run_record("export", model, cut.name, dataset, config.seed, clock)
    return Exports(out, artifacts, {**record, **metrics})


def _holds_function(model: Embedder) -> bool:
    # It imports Keras.
    from tfface.models._layers import holds_function

    return holds_function(model.model)


@dataclass(frozen=True)
class _Evaluated:
    """Data set that the Keras model and all artifacts are evaluated on."""

    dataset: FaceDataset
    protocol: str
    cut: Recipe
    seed: int
    attacks: ArtifactAttacks | None

    @classmethod
    def of(cls, config: ExportConfig, cut: Recipe) -> "_Evaluated":
        dataset = config.load(config.dataset)
        protocol = config.protocol or ("view2" if dataset.name.startswith("lfw") else "all-pairs")
        check_protocol(dataset, protocol)
        attacks = config.attacks() if config.attack else None
        if attacks:
            attacks.drawn(dataset, protocol)  # refuses a data set without pairs before all is made
        return cls(dataset, protocol, cut, config.seed, attacks)

    def judge(self, embedder: Embedder) -> tuple[Embeddings, Metrics]:
        return judge(embedder, self.dataset, self.cut, protocol=self.protocol, seed=self.seed)


def _measured(embedder: Embedder, artifacts: Sequence[Artifact], evaluated: _Evaluated | None, out: Path) -> Metrics:
    """Measure the Keras model and all artifacts, and write the model cards."""
    readers = [artifact.embedder(as_bytes=True) for artifact in artifacts]
    times = milliseconds({"keras": embedder, **{reader.sha256: reader for reader in readers}})
    keras: Metrics = {"ms": times["keras"], "evaluate": None}
    if evaluated:
        own, keras["evaluate"] = evaluated.judge(embedder)
    found = []
    for artifact, reader in zip(artifacts, readers, strict=True):
        judged = None
        if evaluated:
            through, judged = evaluated.judge(reader)
            pair = through.vectors[through.ok], own.vectors[own.ok]
        else:
            pair = golden_pair(artifact, embedder.embed)
        ms, peak = times[artifact.sha256], peak_megabytes(artifact.path)
        found.append(entry(artifact, out, pair, ms=ms, peak_megabytes=peak, evaluation=judged, keras=keras))
        write_card(artifact, artifact.path.parent / "README.md", found[-1])
    if evaluated and evaluated.attacks:
        _attack(evaluated.attacks, evaluated, embedder, readers, keras, found)
    return {"keras": keras, "artifacts": found}


def _attack(
    attacks: ArtifactAttacks,
    evaluated: _Evaluated,
    embedder: Embedder,
    readers: Sequence[Embedder],
    keras: Metrics,
    artifacts: Sequence[Metrics],
) -> None:
    """Add `attacks` to the entries of the Keras model and of each artifact."""
    pairs = attacks.drawn(evaluated.dataset, evaluated.protocol)
    limit = threshold_of(keras["evaluate"])
    made = attack_keras(attacks, evaluated.dataset, pairs, embedder, evaluated.cut, limit)
    keras["attacks"] = entries(made, limit, keras=True)
    for artifact, reader in zip(artifacts, readers, strict=True):
        limit = threshold_of(artifact["evaluate"])
        found = attack_artifact(attacks, made, pairs, reader, limit)
        artifact["attacks"] = entries(found, limit, keras=False)


def judge(
    embedder: Embedder, dataset: FaceDataset, cut: Recipe, *, protocol: str, seed: int = 0
) -> tuple[Embeddings, Metrics]:
    """Embed a data set and evaluate it; embeddings come from the cache where they were made before.

    Returns:
        The embeddings, and an `evaluate` object that also names data set and recipe.
    """
    embeddings = embed_dataset(dataset, embedder, cut)
    evaluation = evaluate_embeddings(dataset, embeddings, embedder.preset, protocol=protocol, seed=seed)
    names = {"dataset": dataset.name, "dataset_version": dataset.version, "recipe": cut.name}
    return embeddings, {**names, **evaluation.metrics}


def entry(
    artifact: Artifact,
    out: Path,
    pair: tuple[np.ndarray, np.ndarray],
    *,
    ms: float,
    peak_megabytes: float,
    evaluation: Metrics | None,
    keras: Metrics,
) -> Metrics:
    """Return an artifact's entry in `metrics.json`.

    Args:
        artifact: the artifact.
        out: folder that its path is relative to.
        pair: embeddings of the same photographs through the artifact and by the Keras model, (N, D) each.
        ms: milliseconds of one image.
        peak_megabytes: of a process that embeds one image.
        evaluation: through the artifact; None where it was not evaluated.
        keras: entry of the Keras model.
    """
    near = cosines(*pair)
    return {
        "path": artifact.path.relative_to(out).as_posix(),
        "format": artifact.format,
        "quantization": artifact.quantization,
        "sha256": artifact.sha256,
        "bytes": artifact.bytes,
        "ms": ms,
        "peak_megabytes": peak_megabytes,
        "embedding_cosine_min": float(near.min()),
        "embedding_cosine_mean": float(near.mean()),
        "embeddings_compared": len(near),
        "threshold_shift": _shift(evaluation, keras["evaluate"]),
        "evaluate": evaluation,
    }


def cosines(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the cosine of each row of one matrix with that of the other, float64 (N,)."""
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return (first * second).sum(1) / np.maximum(norms, 1e-12)


def _shift(found: Metrics | None, keras: Metrics | None) -> float | None:
    """Return how far the calibrated threshold moved."""
    if not found or not keras or not found["calibrated"] or not keras["calibrated"]:
        return None
    return found["calibrated"]["threshold"] - keras["calibrated"]["threshold"]
