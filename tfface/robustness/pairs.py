"""Which pairs are attacked: drawn from a published list, a list of one's own, or all pairs of a data set."""

from tfface.data.dataset import FaceDataset
from tfface.data.pairs import ALL_PAIRS, Pairs, sample_all_pairs
from tfface.errors import UserError

GENUINE_GOAL = {"dodging": True, "impersonation": False}
"""Which pairs a goal attacks: those of one person, or those of two."""
_KIND = {True: "genuine", False: "impostor"}
_AIM = {True: "take apart", False: "match"}


def choose_pairs(
    dataset: FaceDataset,
    goal: str,
    *,
    protocol: str = ALL_PAIRS,
    listed: Pairs | None = None,
    count: int = 100,
    seed: int = 0,
) -> Pairs:
    """A seeded draw of the pairs that a goal attacks; the first photograph of each is the one changed.

    Args:
        dataset: whose photographs.
        goal: `dodging` takes genuine pairs, `impersonation` impostor pairs.
        protocol: `all-pairs`, or a pair list that the data set publishes.
        listed: a list of one's own instead.
        count: so many; all of them if there are fewer.
        seed: of the draw.

    Raises:
        UserError: there is no such list, or it has no pair of the kind.
    """
    same = GENUINE_GOAL[goal]
    if listed is None and protocol == ALL_PAIRS:
        found = sample_all_pairs(dataset, count, genuine=same, seed=seed)
    else:
        try:
            found = (listed or dataset.pairs(protocol)).sample(count, genuine=same, seed=seed)
        except UserError as error:
            raise UserError(f"{error}; or --protocol {ALL_PAIRS}") from error
    if not len(found):
        raise UserError(
            f"{found.name} of {dataset.name} has no {_KIND[same]} pair to {_AIM[same]}: --goal {goal} needs one"
        )
    return found
