"""Which pairs are attacked: drawn from a published list, a list of one's own, or all pairs of a data set."""

import numpy as np

from tfface.data.dataset import FaceDataset
from tfface.data.pairs import Pairs
from tfface.errors import UserError

ALL_PAIRS = "all-pairs"
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
        found = _drawn(dataset, same, count, seed)
    else:
        try:
            found = _from_list(listed or dataset.pairs(protocol), same, count, seed)
        except UserError as error:
            raise UserError(f"{error}; or --protocol {ALL_PAIRS}") from error
    if not len(found):
        raise UserError(
            f"{found.name} of {dataset.name} has no {_KIND[same]} pair to {_AIM[same]}: --goal {goal} needs one"
        )
    return found


def _from_list(pairs: Pairs, same: bool, count: int, seed: int) -> Pairs:
    places = np.flatnonzero(pairs.same == same)
    if count < len(places):
        places = np.sort(np.random.default_rng(seed).choice(places, count, replace=False))
    return Pairs(pairs.name, pairs.first[places], pairs.second[places], pairs.same[places], pairs.fold[places])


def _drawn(dataset: FaceDataset, same: bool, count: int, seed: int) -> Pairs:
    """Pairs drawn alike from all of a kind, without listing them: each has a rank, and ranks are drawn."""
    people = np.unique(np.array(dataset.identities), return_inverse=True)[1]
    order = np.argsort(people, kind="stable")
    # In this order, a photograph's genuine partners follow it up to its person's end; from there on all are impostors.
    ends = np.searchsorted(people[order], people[order], side="right")
    places = np.arange(len(order))
    starts = places + 1 if same else ends
    until = np.cumsum((ends if same else len(order)) - starts)
    total = int(until[-1]) if len(until) else 0
    random = np.random.default_rng(seed)
    ranks = random.choice(total, min(count, total), replace=False) if total else np.zeros(0, np.int64)
    first = np.searchsorted(until, ranks, side="right")
    before = np.concatenate([[0], until])[first]
    both = order[np.stack([first, starts[first] + ranks - before], axis=1)].reshape(-1, 2)
    # Otherwise the attacked one would always be the earlier in the order of names.
    both = np.where(random.random((len(both), 1)) < 0.5, both, both[:, ::-1])
    zeros = np.zeros(len(both), np.int64)
    return Pairs(ALL_PAIRS, both[:, 0], both[:, 1], np.full(len(both), same), zeros)
