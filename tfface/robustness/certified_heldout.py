"""Certificates of a student trained with noise, on people held out from its training."""

from typing import TYPE_CHECKING, Any

from tfface.data.dataset import FaceDataset
from tfface.preprocessing.images import Recipe
from tfface.robustness.certified_pairs import Smoothed, certify_pairs, half_genuine
from tfface.robustness.certified_results import certificates_entry, default_radii
from tfface.robustness.certified_thresholds import by_fold
from tfface.robustness.smoothing import Smoothing
from tfface.robustness.thresholds import Threshold
from tfface.training.split import Split

if TYPE_CHECKING:
    from tfface.models._embedder import Embedder

COUNT = 200


def certified_heldout(
    dataset: FaceDataset,
    embedder: "Embedder",
    recipe: Recipe,
    split: Split,
    *,
    sigma: float,
    count: int | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Certifies pairs of the held-out people, as `certify` does.

    Args:
        dataset: whose photographs.
        embedder: trained with that noise.
        recipe: how photographs are cropped.
        split: who is held out.
        sigma: standard deviation of the noise.
        count: pairs, half of them genuine; `COUNT` if None.
        seed: of everything drawn at random.

    Returns:
        JSON-able: as `certify` writes it, with the threshold.
    """
    pairs = split.heldout_pairs
    dataset = dataset if pairs is not None else dataset.take(split.heldout, "heldout")
    smoothed = Smoothed(dataset, embedder, recipe, Smoothing(sigma=sigma, seed=seed))
    preset = embedder.preset
    own = Threshold(preset.threshold, preset.metric, f"preset: {preset.threshold_source}")
    threshold = own if pairs is None else by_fold(smoothed, pairs)
    chosen = half_genuine(dataset, count or COUNT, listed=pairs, seed=seed)
    certified = certify_pairs(smoothed, chosen, threshold.cosine(chosen.fold))
    radii = default_radii(smoothed.smoothing)
    return {
        "subjects": chosen.name,
        **threshold.record(),
        **certificates_entry(certified, smoothed.smoothing, radii, 3 * preset.input_size**2),
    }
