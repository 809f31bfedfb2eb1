"""Whether what a head has learned helps to verify people whom it has not seen.

The head's last layer but one (or, of a linear head, its logits) is taken for an embedding and judged beside the
base's own, on pairs in which none of the head's people appears.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tfface.data.dataset import FaceDataset
from tfface.data.pairs import Pairs
from tfface.errors import UserError
from tfface.evaluation.embeddings import Embeddings, embed_dataset
from tfface.metrics.distances import unit
from tfface.preprocessing.images import Recipe
from tfface.robustness.thresholds import MOST_MEASURED
from tfface.training.comparison import heldout_metrics
from tfface.training.head import Head
from tfface.training.split import Split, split_people

if TYPE_CHECKING:
    from tfface.models._embedder import Embedder, Preset

Metrics = dict[str, Any]
CLAIM = "what the new head learned helps with people it has not seen"


@dataclass(frozen=True, eq=False)
class Unseen:
    """The photographs, or pairs, of people whom a head does not know.

    Attributes:
        rule: what is judged, or why nothing is.
        split: its held-out part is judged; None: nothing is.
        left_out: published pairs that show one of the head's people.
    """

    rule: str
    split: Split | None = None
    left_out: int = 0


def unseen_people(dataset: FaceDataset, known: tuple[str, ...]) -> Unseen:
    """LFW's pairs of folds 9 and 10 without the known people; of other data sets all photographs of others.

    Args:
        dataset: whose people.
        known: who is left out.
    """
    strangers = ~np.isin(np.array(dataset.identities), known)
    if dataset.name.split("/")[0] == "lfw":
        try:
            return _of_folds(split_people(dataset), strangers)
        except UserError as error:
            return Unseen(f"View 2's pairs cannot be had: {error}")
    people, counts = np.unique(np.array(dataset.identities)[strangers], return_counts=True)
    if len(people) < 2 or counts.max() < 2:
        return Unseen(f"nobody is left: {dataset.name} has no two other people, one of them with two photographs")
    if len(dataset) > MOST_MEASURED:
        return Unseen(f"{dataset.name} has more than {MOST_MEASURED:,} photographs: too many to embed for this alone")
    none, rule = np.zeros(0, np.int64), f"all pairs of the {len(people)} other people of {dataset.name}"
    return Unseen(rule, Split(none, none, np.flatnonzero(strangers), rule, ""))


def _of_folds(split: Split, strangers: np.ndarray) -> Unseen:
    pairs = split.heldout_pairs
    assert pairs is not None, "LFW has them"
    kept = strangers[pairs.first] & strangers[pairs.second]
    free = Pairs(
        f"{pairs.name}-without-the-head's-people",
        *(getattr(pairs, name)[kept] for name in ("first", "second", "same", "fold")),
    )
    rule = "the pairs of LFW View 2's folds 9 and 10 that show nobody of the head"
    return Unseen(rule, dataclasses.replace(split, heldout_pairs=free), int((~kept).sum()))


def as_embedding(head: Head, vectors: np.ndarray) -> np.ndarray:
    """(N, H) unit vectors: the hidden layer's values, or the logits of a linear head.

    Args:
        head: on embeddings of length D.
        vectors: (N, D) of the base.
    """
    if len(head.weights) > 1:
        head = dataclasses.replace(head, weights=head.weights[:-1])
        values = np.maximum(head.logits(vectors), 0)
    else:
        values = head.logits(vectors)
    return unit(values)


def verify(
    dataset: FaceDataset,
    embedder: "Embedder",
    recipe: Recipe,
    heads: Mapping[str, Head],
    unseen: Unseen,
    *,
    seed: int = 0,
) -> Metrics:
    """Judges the base and heads on people whom the heads do not know.

    Args:
        dataset: whose photographs.
        embedder: the base.
        recipe: how photographs are cropped.
        heads: by name.
        unseen: the pairs.
        seed: of the split of the people into halves, where there are no folds.
    """
    if unseen.split is None:
        return {"pairs": unseen.rule, "count": 0}
    base = embed_dataset(dataset, embedder, recipe)
    spaces = {"base": base.vectors, **{name: as_embedding(head, base.vectors) for name, head in heads.items()}}
    found = {
        name: _judged(dataset, dataclasses.replace(base, vectors=vectors), embedder.preset, unseen.split, seed)
        for name, vectors in spaces.items()
    }
    genuine, impostor = (found["base"][kind]["count"] for kind in ("genuine", "impostor"))
    return {
        "pairs": unseen.rule,
        "count": genuine + impostor,
        "genuine": genuine,
        "impostor": impostor,
        "left_out": unseen.left_out,
        **{
            name: {key: part[key] for key in part if key not in ("genuine", "impostor")} for name, part in found.items()
        },
    }


def _judged(dataset: FaceDataset, embeddings: Embeddings, preset: "Preset", split: Split, seed: int) -> Metrics:
    metrics = heldout_metrics(dataset, embeddings, preset, split, seed=seed)
    calibrated = metrics["calibrated"] or {}
    return {
        "dimensions": embeddings.vectors.shape[1],
        **{name: calibrated.get(name) for name in ("accuracy", "ci95", "threshold", "threshold_source")},
        **{name: metrics[name] for name in ("auc", "eer", "tar_at_far", "genuine", "impostor")},
    }


def transfer_claim(verification: Metrics) -> Metrics:
    """A row beside the paper's claims: whether the new head tells strangers apart better than the base."""
    row = {"claim": CLAIM, "paper": None}
    if not verification["count"]:
        return {**row, "ours": f"not measured: {verification['pairs']}", "holds": None}
    if verification["base"]["accuracy"] is None:
        few = f"{verification['pairs']} are too few to choose a threshold on some of them"
        return {**row, "ours": f"not measured: {few}", "holds": None}
    base, old, new = (verification[name] for name in ("base", "old_head", "new_head"))
    return {
        **row,
        "ours": (
            f"verification of strangers: the new head's space {new['accuracy']:.2%}, the old head's "
            f"{old['accuracy']:.2%}, the base's {base['accuracy']:.2%} ({verification['count']:,} pairs)"
        ),
        # Only a gain beyond what chance explains would be one.
        "holds": bool(new["ci95"][0] > base["ci95"][1]),
    }
