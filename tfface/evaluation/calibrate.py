"""Calibrate thresholds of a face embedder at stated false accept rates, on all pairs of some people.

A threshold is the highest one that accepts at most the rate of impostor pairs. Pairs share people, so its interval is
not that of independent pairs: the interval of the false accept rate at the threshold, which lets pairs that share a
person be correlated (`tfface.metrics.intervals`), is read back as thresholds off the curve of all pairs (Woodruff 1952,
https://doi.org/10.1080/01621459.1952.10483443, the interval of a quantile in surveys that draw clusters).
"""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tfface.evaluation.embeddings import Embeddings, embed_dataset, report_failures, with_flip
from tfface.evaluation.inputs import (
    Embedder,
    FaceDataset,
    FarThreshold,
    Model,
    Preset,
    Source,
    as_embedder,
    calibrations_file,
    load_dataset,
    recipe,
)
from tfface.evaluation.protocols import AllPairsScores, estimate_entry
from tfface.metrics import intervals
from tfface.metrics.distances import checked_far, to_cosine
from tfface.metrics.roc import ErrorCurve
from tfface.models._files import WrappedEmbedder, write_record
from tfface.utils.files import lock, read_json, write_json
from tfface.utils.public import Clock, Result, Table, UserError, as_list, configured, run_record

FEWEST = 30
"""Impostor pairs that must lie at or below a threshold: of fewer, nobody can tell the rate."""
OWN_FARS = (0.001, 0.01)
"""Rates that presets are calibrated at; the first that its people support is of a preset's own threshold."""
_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class CalibrationConfig:
    """Configuration of a calibration.

    Attributes:
        far: false accept rate, as 0.001; one or several.
        people: of the data set: `all`; `fold1` to `fold10`, the people of a fold of LFW's View 2; or those of a list of
            pairs, as `view1-train`.
        recipe: crop recipe; the preset's by default, or `whole` where a data set holds crops.
        flip: add the mirrored photographs' embeddings.
        write: write the thresholds into the model's record; a preset's are kept in the cache.
        strict: stop if a photograph fails, instead of counting it.
        manual_dir: folder of data set archives at hand.
        offline: never touch a network.
    """

    far: float | Sequence[float] = (0.001,)
    people: str = "all"
    recipe: str | None = None
    flip: bool = False
    write: bool = True
    strict: bool = False
    manual_dir: str | Path | None = None
    offline: bool = False


@dataclass(frozen=True)
class ThresholdCalibration(Result):
    """Thresholds of a model at false accept rates.

    Attributes:
        metrics: as `metrics.json` holds them.
        thresholds: one for each rate, in the preset's metric.
        embedder: the model with these thresholds; None where only embeddings were given.
    """

    metrics: dict[str, Any]
    thresholds: tuple[FarThreshold, ...]
    embedder: Embedder | None = None

    def to_dict(self) -> dict[str, Any]:
        return self.metrics

    def tables(self) -> list[Table]:
        found = self.metrics
        columns = ["FAR", "threshold", "95% interval", "impostor pairs beyond", "of", "TAR", "95% interval"]
        rows = [
            [
                f"{entry['far']:g}",
                f"{entry['threshold']:.4f}",
                f"{entry['low']:.4f} to {entry['high']:.4f}",
                f"{entry['impostors_beyond']:,}",
                f"{found['impostor']:,}",
                f"{100 * entry['tar']:.2f}%",
                "{:.2f}% to {:.2f}%".format(*(100 * end for end in entry["tar_ci95"])),
            ]
            for entry in found["thresholds"]
        ]
        head = f"{found.get('preset', 'the model')}, {found['metric']} distance, {found['where']}"
        notes = [f"the lowest FAR that these people support is {found['lowest_far']:g}"]
        if found.get("record"):
            notes.append(f"written in {found['record']}: `far` takes these rates from now on")
        return [Table(columns, rows, title=head, notes=[*notes, *found["remarks"]])]


@configured(CalibrationConfig)
def calibrate(embedder: Model, dataset: Source = "lfw", *, config: CalibrationConfig) -> ThresholdCalibration:
    """Calibrate thresholds of a model at stated false accept rates, and write them into its record.

    Every pair of the people counts, not a list of pairs. A rate that fewer than 30 impostor pairs would stand for is
    refused. `evaluate`, `verify`, `mine`, `attack` and `certify` take the thresholds by `far`. A model that has no
    threshold of its own gets the first.

    Args:
        embedder: a model, its name or its file.
        dataset: a data set, its name, or a folder with one subfolder per person.

    Returns:
        A `ThresholdCalibration`: thresholds with intervals, the impostor pairs that each stands on, the TAR at each.

    Raises:
        UserError: a rate is none or the people cannot support it, or the model or data set cannot be had.

    Example:
        >>> import tfface
        >>> found = tfface.calibrate("facenet", "five_faces", far=0.01, write=False)  # doctest: +SKIP
        >>> found.thresholds[0].impostors_beyond  # doctest: +SKIP
        54
    """
    clock = Clock()
    rates = [checked_far(rate) for rate in dict.fromkeys(as_list(config.far))]
    if not rates:
        raise UserError("`far` is empty: give a rate between 0 and 1, as 0.001", parameter="far")
    model = as_embedder(embedder, offline=config.offline)
    if config.write and model.defense:
        raise UserError("a threshold belongs to the model itself: leave its defenses out, or set `write` to False")
    faces = load_dataset(dataset, manual_dir=config.manual_dir, offline=config.offline)
    faces.whose(config.people)
    chosen = recipe(config.recipe or faces.own_recipe or model.preset.recipe)
    embeddings = embed_dataset(faces, model, chosen, flip=config.flip)
    report_failures(embeddings.failed, len(faces), strict=config.strict)
    used = with_flip(chosen.name, flip=config.flip)
    found = calibrate_embeddings(faces, embeddings, model.preset, far=rates, people=config.people, recipe=used)
    is_file = hasattr(model, "path")
    preset = (_own_first(model.preset) if is_file else model.preset).calibrated(found.thresholds)
    record = {**run_record("calibrate", model, chosen.name, faces, 0, clock), "flip": config.flip}
    written = _write(model, preset) if config.write else None
    record |= {"record": str(written)} if written else {}
    return ThresholdCalibration(
        {**record, **found.metrics}, found.thresholds, dataclasses.replace(model, preset=preset)
    )


def calibrate_embeddings(
    dataset: FaceDataset,
    embeddings: Embeddings,
    preset: Preset,
    *,
    far: Sequence[float],
    people: str = "all",
    recipe: str = "",
) -> ThresholdCalibration:
    """Calibrate thresholds on the embeddings of a data set.

    Args:
        dataset: images with their people.
        embeddings: one for each image, in the order of the data set's keys.
        preset: metric of the thresholds.
        far: false accept rates; none: those of `OWN_FARS` that the people support, which may be none.
        people: which of them, as `calibrate` takes it.
        recipe: crop recipe of the embeddings (`with_flip`).

    Raises:
        UserError: too few impostor pairs for a rate, or no genuine pair.
    """
    chosen = dataset.whose(people)
    part = dataclasses.replace(embeddings, ok=embeddings.ok & chosen)
    names = np.array(dataset.identities)
    who = _people(dataset, names[chosen], people)
    where = f"all pairs of {who}"
    if len(np.unique(names[part.ok])) < 2:
        raise UserError(f"{where} are none: take a larger data set, or more `people`", parameter="dataset")
    scores = AllPairsScores(part, np.unique(names, return_inverse=True)[1], preset.metric, 0)
    far = far or [rate for rate in OWN_FARS if _beyond(scores.curve, rate) >= FEWEST]
    lowest = _lowest_far(scores.curve, who) if far else None
    for rate in far:
        _check_supported(scores.curve, rate, lowest, who)
    found = _measured(scores, far, f"{where}, {recipe}" if recipe else where, recipe)
    metrics = {
        "people": people,
        "where": where,
        "images": int(chosen.sum()),
        "identities": len(np.unique(names[chosen])),
        "failed_images": int((chosen & ~embeddings.ok).sum()),
        "metric": preset.metric,
        "genuine": scores.curve.genuine,
        "impostor": scores.curve.impostors,
        "lowest_far": lowest,
        "thresholds": [{**asdict(row), **rates} for row, rates in found],
        "remarks": _remarks(preset, set(names[chosen].tolist())),
    }
    return ThresholdCalibration(metrics, tuple(row for row, _ in found))


def _measured(
    scores: AllPairsScores, far: Sequence[float], where: str, recipe: str
) -> list[tuple[FarThreshold, dict[str, Any]]]:
    """Return the threshold of each rate, with the rates measured at it and their intervals."""
    curve = scores.curve
    places = [_at_far(curve, rate) for rate in far]
    limits = [float(curve.thresholds[place]) for place in places]
    errors = scores.errors([to_cosine(limit, scores.metric) for limit in limits])
    found = []
    for rate, limit, place, counted in zip(far, limits, places, errors, strict=True):
        measured = intervals.false_match(counted)
        accepted = intervals.true_accept(counted, roc_slope=curve.slope_at_far(rate))
        assert measured is not None, "there are impostor pairs"
        low, high = (_threshold_of(curve, end) for end in (measured.low, measured.high))
        beyond = int(curve.impostor_accepted[place])
        row = FarThreshold(rate, limit, min(low, limit), max(high, limit), beyond, f"FAR {rate:g} on {where}", recipe)
        rates = {**estimate_entry("measured_far", measured, "far_ci95"), **estimate_entry("tar", accepted, "tar_ci95")}
        found.append((row, rates))
    return found


def _own_first(preset: Preset) -> Preset:
    """Let a file's threshold that an earlier calibration set be set anew."""
    return dataclasses.replace(preset, threshold=None) if preset.threshold_source.startswith("FAR ") else preset


def _write(embedder: Embedder, preset: Preset) -> Path | None:
    """Write a model's thresholds where `load_embedder` finds them: beside its file, or in the cache.

    Returns:
        The record; None for a function of this process, which nobody loads by name.
    """
    rows = [asdict(row) for row in preset.thresholds]
    if path := getattr(embedder, "path", None):
        own = {"threshold": preset.threshold, "threshold_source": preset.threshold_source}
        return write_record(path, {"thresholds": rows, **(own if preset.threshold_source.startswith("FAR ") else {})})
    if isinstance(embedder, WrappedEmbedder):
        return None
    if len(embedder.sha256) < 64:
        raise UserError(f"{preset.name} does not say which weights it has, so nothing is kept: leave out `write`")
    path = calibrations_file(preset.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with lock(path):
        weights = read_json(path)["weights"] if path.exists() else {}
        write_json(path, {"format": _FORMAT, "preset": preset.name, "weights": {**weights, embedder.sha256: rows}})
    return path


def _people(dataset: FaceDataset, names: np.ndarray, people: str) -> str:
    count = f"the {len(np.unique(names)):,} people of"
    if people == "all":
        return f"{count} {dataset.name}"
    if people.startswith("fold"):
        return f"{count} fold {people[4:]} of {dataset.name}'s view2"
    return f"{count} {dataset.name}'s {people}"


def _remarks(preset: Preset, people: set[str]) -> list[str]:
    seen = people & preset.identities_seen
    if not seen:
        return []
    share = f"{len(seen):,} of these {len(people):,} people"
    return [f"{preset.name} saw {share} in training or validation: on others FAR may be higher"]


def _lowest_far(curve: ErrorCurve, who: str) -> float:
    """Return the lowest rate that `FEWEST` impostor pairs stand for, rounded up to two digits."""
    place = int(np.searchsorted(curve.impostor_accepted, FEWEST))
    if place == len(curve.impostor_accepted):
        raise UserError(
            f"{who} make {curve.impostors:,} impostor pairs, and {FEWEST} must lie beyond a threshold: take a larger "
            "data set, or more `people`",
            parameter="dataset",
        )
    rate = int(curve.impostor_accepted[place]) / curve.impostors
    unit = 10.0 ** (math.floor(math.log10(rate)) - 1)
    return float(f"{math.ceil(rate / unit * (1 - 1e-12)) * unit:.2g}")


def _beyond(curve: ErrorCurve, far: float) -> int:
    """Return the number of impostor pairs that the highest threshold of a rate accepts."""
    place = _at_far(curve, far)
    return int(curve.impostor_accepted[place]) if place >= 0 else 0


def _check_supported(curve: ErrorCurve, far: float, lowest: float | None, who: str) -> None:
    beyond = _beyond(curve, far)
    if beyond < FEWEST:
        raise UserError(
            f"`far` {far:g}: only {beyond} of the {curve.impostors:,} impostor pairs of {who} lie beyond such a "
            f"threshold, and {FEWEST} must: the lowest FAR that they support is {lowest:g}; give that, or more people",
            parameter="far",
        )


def _at_far(curve: ErrorCurve, far: float) -> int:
    """Return the place of the highest threshold that accepts at most `far` of the impostor pairs; -1 for none."""
    # What decimal fractions lose in binary is forgiven, as the curve itself does.
    most = math.floor(curve.impostors * far * (1 + 1e-12))
    return int(np.searchsorted(curve.impostor_accepted, most, side="right")) - 1


def _threshold_of(curve: ErrorCurve, far: float) -> float:
    place = _at_far(curve, far)
    return float(curve.thresholds[place]) if place >= 0 else 0.0
