"""Certify verdicts on pairs: within a radius no change of the photograph turns them.

A pair counts at a radius where its certified answer is right and its certificate reaches that far.
Abstentions and wrong answers count against it, at every radius.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfface.report.certificates import certificate_tables
from tfface.robustness.certified_checks import DRAWS, STEPS, check_certificates
from tfface.robustness.certified_pairs import (
    KINDS,
    Certified,
    Smoothed,
    certificates_entry,
    certify_pairs,
    default_radii,
    noisy_distances,
)
from tfface.robustness.pairs import Threshold, by_noisy_fold, half_genuine, listed_pairs, own
from tfface.robustness.smoothing import ALPHA, GUESS, SAMPLES, Smoothing
from tfface.robustness.trial import Context, Model, Source, load_contexts
from tfface.utils.files import write_csv
from tfface.utils.public import Clock, Result, Table, UserError, as_list, configured, run_record, save_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Metrics = dict[str, Any]

_POINTS = 400


@dataclass(frozen=True, kw_only=True)
class CertificationConfig:
    """Configuration of a certification.

    Attributes:
        protocol: source of the pairs: a list of the data set (of LFW `view2`, `view1-test` ...), or `all-pairs`.
        pairs: a pairs file to draw from instead.
        count: number of pairs, half of them genuine.
        sigma: standard deviation of the noise, on the scale of [0, 1].
        samples: noisy copies counted for a pair.
        guess: further copies that choose the answer to certify.
        alpha: probability with which a certificate may be wrong.
        threshold: distance up to which a pair matches, in the preset's metric; the preset's by default.
        far: use the threshold calibrated at this false accept rate (`tfface.calibrate`), instead of the preset's.
        fold_thresholds: choose each fold's threshold on noisy copies of the other folds' pairs (LFW's View 2).
        radii: L2 radii of the table; multiples of sigma by default.
        check: attack so many certified pairs inside their radius, and at 10 times it, and count what breaks.
        recipe: crop recipe; the data set's own, or the preset's, by default.
        manual_dir: folder of data set archives at hand.
        seed: random seed.
        offline: never touch a network.
    """

    protocol: str = "view2"
    pairs: str | Path | None = None
    count: int = 1000
    sigma: float = 0.1
    samples: int = SAMPLES
    guess: int = GUESS
    alpha: float = ALPHA
    threshold: float | None = None
    far: float | None = None
    fold_thresholds: bool = False
    radii: float | Sequence[float] = ()
    check: int | None = None
    recipe: str | None = None
    manual_dir: str | Path | None = None
    seed: int = 0
    offline: bool = False


@dataclass(frozen=True, eq=False)
class Certification(Result):
    """Certificates of the pairs of a data set.

    Attributes:
        metrics: as `metrics.json` holds them.
        certified: the certificate of every pair.
        context: the model and the data set.
    """

    metrics: Metrics
    certified: Certified
    context: Context

    @property
    def accuracy(self) -> dict[float, float | None]:
        """Return the certified accuracy, the mean of genuine and impostor pairs, by radius."""
        entries = self.metrics["certified"]
        return {one["radius"]: one["accuracy"] and one["accuracy"]["value"] for one in entries}

    def to_dict(self) -> Metrics:
        return self.metrics

    def tables(self) -> list[Table]:
        return certificate_tables(self.metrics)

    def plot(self) -> "Figure":
        """Draw certified accuracy against the radius."""
        from tfface.report.certificates import plot_certificates

        metrics = self.metrics
        radii = np.linspace(0, metrics["largest_radius"], _POINTS)
        title = (
            f"{metrics['preset']} on {metrics['subjects']} of {metrics['dataset']}, "
            f"sigma {metrics['smoothing']['sigma']:g}"
        )
        curves = {kind: curve(self.certified, wanted, radii) for kind, wanted in KINDS.items()}
        return plot_certificates(title, radii, curves)

    def save_files(self, folder: Path) -> list[str]:
        save_figure(self.plot(), folder / "certified.png")
        write_csv(folder / "certificates.csv", _COLUMNS, _rows(self.context, self.certified))
        return ["certified.png", "certificates.csv"]


@configured(CertificationConfig)
def certify(embedder: Model = "facenet", dataset: Source = "lfw", *, config: CertificationConfig) -> Certification:
    """Certify verdicts on pairs by randomized smoothing: within a radius no change of the photograph turns them.

    One photograph of a pair may be changed, the reference is fixed. The smoothed verdict is the one that the model
    gives most often under Gaussian noise; its certificate is an L2 radius (Cohen, Rosenfeld and Kolter 2019,
    https://arxiv.org/abs/1902.02918). A model trained with that noise is certified much further than another.

    Args:
        embedder: a model, its name or its file.
        dataset: a data set, its name, or a folder with one subfolder per person.

    Returns:
        A `Certification`: certified accuracy at each radius, and the certificate of every pair.

    Raises:
        UserError: a value is out of range, or there is nothing to certify.

    Example:
        >>> import tfface
        >>> result = tfface.certify(  # doctest: +SKIP
        ...     "student/lfw-noise", "five_faces", protocol="all-pairs", sigma=0.1, count=20
        ... )
        >>> result.accuracy  # doctest: +SKIP
        {0.0: 0.85, 0.025: 0.8, 0.05: 0.75, 0.1: 0.6, 0.15: 0.5, 0.2: 0.4}
    """
    clock = Clock()
    smoothing = Smoothing(
        sigma=config.sigma, samples=config.samples, guess=config.guess, alpha=config.alpha, seed=config.seed
    )
    (context,) = load_contexts(
        [embedder], dataset, recipe_name=config.recipe, manual_dir=config.manual_dir, offline=config.offline
    )
    if config.count < 2:
        raise UserError(f"`count` is {config.count}: give at least 2 pairs, half of them genuine", parameter="count")
    smoothed = Smoothed(context, smoothing)
    listed = listed_pairs(context.dataset, config.protocol, config.pairs)
    pairs = half_genuine(context.dataset, config.count, protocol=config.protocol, listed=listed, seed=config.seed)
    threshold = _threshold(config, smoothed, listed)
    certified = certify_pairs(smoothed, pairs, threshold.cosine(pairs.fold))
    radii, model = as_list(config.radii) or default_radii(smoothing), context.embedder
    checks = check_certificates(smoothed, certified, config.check) if config.check else []
    metrics = {
        **run_record("certify", model, context.recipe.name, context.dataset, smoothing.seed, clock),
        "subjects": pairs.name,
        **threshold.record(),
        **certificates_entry(certified, smoothing, radii, 3 * model.preset.input_size**2),
        "check": {"steps": STEPS, "draws": DRAWS, "results": [one.record() for one in checks]} if checks else None,
        "remarks": remarks(context, certified),
    }
    return Certification({**metrics, "seconds": clock.seconds}, certified, context)


def _threshold(config: CertificationConfig, smoothed: Smoothed, listed: Any) -> Threshold:
    if not config.fold_thresholds:
        return own(smoothed.context, config.threshold, config.far)
    if config.threshold is not None or config.far is not None:
        raise UserError("`threshold`, `far` and `fold_thresholds` each choose the threshold: give one of them")
    if listed is None:
        raise UserError("`fold_thresholds` needs pairs in folds: give `protocol` view2, or `pairs` with folds")
    return by_noisy_fold(smoothed.context, listed, noisy_distances(smoothed, listed))


def remarks(context: Context, certified: Certified) -> list[str]:
    """Return the remarks that a reader needs to read the numbers rightly."""
    shown = np.unique(np.concatenate([certified.pairs.first, certified.pairs.second]))
    preset = context.embedder.preset
    people = {context.dataset.identities[index] for index in shown}
    seen = len(people & preset.identities_seen)
    if not seen:
        return []
    share = f"{seen} of the {len(people)} people of these pairs"
    return [f"{preset.name} was trained on {share}: on others it is certified less"]


_COLUMNS = ("photograph", "reference", "same", "distance", "threshold", "answer", "probability", "radius")
"""Of `certificates.csv`; distances and thresholds are cosine."""


def _rows(context: Context, certified: Certified) -> Iterator[tuple[Any, ...]]:
    """Yield one line a pair; its answer is same, different, abstains, or failed where cropping failed."""
    names = {True: "same", False: "different", None: "abstains"}
    pairs = certified.pairs
    for row, one in enumerate(certified.certificates):
        yield (
            context.dataset.keys[pairs.first[row]],
            context.dataset.keys[pairs.second[row]],
            int(pairs.same[row]),
            f"{certified.distances[row]:.6f}",
            f"{certified.limits[row]:.6f}",
            names[one.answer] if certified.usable[row] else "failed",
            f"{one.probability:.6f}",
            f"{one.radius:.6f}",
        )


def curve(certified: Certified, wanted: bool, radii: np.ndarray) -> np.ndarray:
    """Return (R,) certified accuracy of genuine or impostor pairs at each radius; NaN where there are none."""
    chosen = certified.usable & (certified.pairs.same == wanted)
    if not chosen.any():
        return np.full(len(radii), np.nan)
    reach = np.where(certified.correct, certified.radii, -1.0)[chosen]
    return (reach[None] >= radii[:, None]).mean(axis=1)
