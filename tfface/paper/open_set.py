"""Open-set check: verification of strangers, people whom a head was not trained on.

The head's last layer but one (or, of a linear head, its logits) serves as an embedding and is judged beside the base's
own, on pairs in which none of the head's people appears.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tfface.errors import UserError
from tfface.evaluation.embeddings import Embeddings, embed_dataset
from tfface.evaluation.inputs import FaceDataset, Pairs, Recipe
from tfface.metrics.distances import unit
from tfface.robustness.pairs import MOST_MEASURED
from tfface.training.comparison import heldout_metrics
from tfface.training.head import Head
from tfface.training.split import Split, split_people

if TYPE_CHECKING:
    from tfface.evaluation.inputs import Embedder, Preset

Metrics = dict[str, Any]
CLAIM = "what the new head learned helps with people it has not seen"


@dataclass(frozen=True, eq=False)
class Strangers:
    """Photographs or pairs of people whom a head was not trained on.

    Attributes:
        rule: the pairs that are judged, or the reason why there are none.
        split: its held-out part is judged; None where there are no pairs.
        left_out: published pairs that show one of the head's people.
    """

    rule: str
    split: Split | None = None
    left_out: int = 0


def strangers(dataset: FaceDataset, known: tuple[str, ...]) -> Strangers:
    """Choose LFW's pairs of folds 9 and 10 without the known people; of other data sets all photographs of others.

    Args:
        dataset: the photographs.
        known: people to leave out.
    """
    others = ~np.isin(np.array(dataset.identities), known)
    if dataset.name.split("/")[0] == "lfw":
        try:
            return _of_folds(split_people(dataset), others)
        except UserError as error:
            return Strangers(f"View 2's pairs cannot be had: {error}")
    people, counts = np.unique(np.array(dataset.identities)[others], return_counts=True)
    if len(people) < 2 or counts.max() < 2:
        return Strangers(f"nobody is left: {dataset.name} has no two other people, one of them with two photographs")
    if len(dataset) > MOST_MEASURED:
        return Strangers(
            f"{dataset.name} has more than {MOST_MEASURED:,} photographs: too many to embed for this alone"
        )
    none, rule = np.zeros(0, np.int64), f"all pairs of the {len(people)} other people of {dataset.name}"
    return Strangers(rule, Split(none, none, np.flatnonzero(others), rule, ""))


def _of_folds(split: Split, others: np.ndarray) -> Strangers:
    pairs = split.heldout_pairs
    assert pairs is not None, "LFW has them"
    left = others[pairs.first] & others[pairs.second]
    free = Pairs(
        f"{pairs.name}-without-the-head's-people",
        *(getattr(pairs, name)[left] for name in ("first", "second", "same", "fold")),
    )
    rule = "the pairs of LFW View 2's folds 9 and 10 that show nobody of the head"
    return Strangers(rule, dataclasses.replace(split, heldout_pairs=free), int((~left).sum()))


def as_embedding(head: Head, vectors: np.ndarray) -> np.ndarray:
    """Return the hidden layer's values, or the logits of a linear head, as an embedding.

    Args:
        head: head on embeddings of length D.
        vectors: (N, D) embeddings of the base.

    Returns:
        (N, H) unit vectors.
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
    unseen: Strangers,
    *,
    seed: int = 0,
) -> Metrics:
    """Judge the base and heads on people whom the heads were not trained on.

    Args:
        dataset: the photographs.
        embedder: the base.
        recipe: crop recipe.
        heads: name to head.
        unseen: the pairs.
        seed: random seed of the split of the people into halves, where there are no folds.
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
    """Return a row beside the paper's claims: does the new head tell strangers apart better than the base?"""
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
