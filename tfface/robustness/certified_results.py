"""From certificates to the entries of `metrics.json`: certified accuracy against the radius.

A pair counts at a radius where its certified answer is right and its certificate reaches that far.
Abstentions and wrong answers count against it, at every radius.
"""

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tfface.data.dataset import FaceDataset
from tfface.metrics.intervals import Estimate, mean_of, wilson
from tfface.robustness.certified_pairs import Certified
from tfface.robustness.smoothing import Smoothing

if TYPE_CHECKING:
    from tfface.models._embedder import Preset

Metrics = dict[str, Any]

SHARES = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0)
"""Of sigma: the radii of the table unless others are asked for."""
_KINDS = {"genuine": True, "impostor": False}


def default_radii(smoothing: Smoothing) -> tuple[float, ...]:
    """Multiples of sigma, up to what so many samples can prove."""
    return tuple(share * smoothing.sigma for share in SHARES if share * smoothing.sigma <= smoothing.largest)


def certificates_entry(certified: Certified, smoothing: Smoothing, radii: Sequence[float], values: int) -> Metrics:
    """What certificates found.

    Args:
        certified: pairs with their certificates.
        smoothing: as they were made.
        radii: L2, on the scale of [0, 1], to give the certified accuracy at.
        values: of an image, H * W * C.
    """
    usable, same = certified.usable, certified.pairs.same
    plain = certified.distances <= certified.limits
    return {
        "smoothing": smoothing.record(),
        "largest_radius": smoothing.largest,
        "count": len(certified.pairs),
        "failed_crops": int((~usable).sum()),
        "abstained": int((usable & (certified.answers < 0)).sum()),
        "without_noise": _rates(usable & (plain == same), usable, same),
        "certified": [
            {
                "radius": float(reach),
                **in_levels(reach, values),
                **_rates(certified.correct & (certified.radii >= reach), usable, same),
            }
            for reach in radii
        ],
        "median_radius": {
            kind: _median(certified.radii[usable & certified.correct & (same == wanted)])
            for kind, wanted in _KINDS.items()
        },
    }


def remarks(dataset: FaceDataset, certified: Certified, preset: "Preset") -> list[str]:
    """What a reader must know to read the numbers rightly."""
    shown = np.unique(np.concatenate([certified.pairs.first, certified.pairs.second]))
    people = {dataset.identities[index] for index in shown}
    seen = len(people & preset.identities_seen)
    if not seen:
        return []
    share = f"{seen} of the {len(people)} people of these pairs"
    return [f"{preset.name} was trained on {share}: on others it is certified less"]


COLUMNS = ("photograph", "reference", "same", "distance", "threshold", "answer", "probability", "radius")
"""Of `rows`; distances and thresholds are cosine."""


def rows(dataset: FaceDataset, certified: Certified) -> Iterator[tuple[Any, ...]]:
    """One line a pair; the answer is same, different, abstains, or failed where a photograph could not be cropped."""
    names = {True: "same", False: "different", None: "abstains"}
    pairs = certified.pairs
    for row, one in enumerate(certified.certificates):
        yield (
            dataset.keys[pairs.first[row]],
            dataset.keys[pairs.second[row]],
            int(pairs.same[row]),
            f"{certified.distances[row]:.6f}",
            f"{certified.limits[row]:.6f}",
            names[one.answer] if certified.usable[row] else "failed",
            f"{one.probability:.6f}",
            f"{one.radius:.6f}",
        )


def in_levels(reach: float, values: int) -> Metrics:
    """An L2 radius as the root mean square change of a value, in grey levels."""
    return {"rms255": float(255 * reach / math.sqrt(values))}


def curve(certified: Certified, wanted: bool, radii: np.ndarray) -> np.ndarray:
    """(R,) certified accuracy of genuine or impostor pairs at each radius; NaN where there are none."""
    chosen = certified.usable & (certified.pairs.same == wanted)
    if not chosen.any():
        return np.full(len(radii), np.nan)
    reach = np.where(certified.correct, certified.radii, -1.0)[chosen]
    return (reach[None] >= radii[:, None]).mean(axis=1)


def _rates(right: np.ndarray, usable: np.ndarray, same: np.ndarray) -> Metrics:
    """Shares of the usable pairs that are right: genuine, impostor, and their mean."""
    found: Metrics = {}
    known: list[Estimate] = []
    for kind, wanted in _KINDS.items():
        chosen = usable & (same == wanted)
        if chosen.any():
            known.append(wilson(int(right[chosen].sum()), int(chosen.sum())))
            found[kind] = {"count": int(chosen.sum()), "value": known[-1].value, "ci95": known[-1].ci95}
        else:
            found[kind] = None
    both = mean_of(known) if known else None
    return {**found, "accuracy": {"value": both.value, "ci95": both.ci95} if both else None}


def _median(radii: np.ndarray) -> float | None:
    return float(np.median(radii)) if len(radii) else None
