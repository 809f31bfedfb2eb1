"""Checks that tell a strong model from one that only hides its gradient.

The signs of a masked gradient are those of Athalye et al. 2018 (https://arxiv.org/abs/1802.00420) and
Carlini et al. 2019 (https://arxiv.org/abs/1902.06705): a larger budget helps no more, an unlimited
one does not always win, or an attack that sees no gradient does better than one that does.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from tfface.attacks._attack import Attack, run_batch
from tfface.attacks._victim import Batch, Victim
from tfface.attacks.fgsm import FGSM
from tfface.attacks.pgd import PGD
from tfface.attacks.square import Square
from tfface.errors import UserError
from tfface.metrics.intervals import wilson
from tfface.utils.progress import progress

EPSILONS = (1 / 255, 2 / 255, 4 / 255, 8 / 255)


class Row(NamedTuple):
    """One check: its name, whether it was passed (None: only reported) and what was measured."""

    check: str
    passed: bool | None
    measured: str


@dataclass(frozen=True)
class CheckReport:
    """Results of gradient checks.

    Attributes:
        rows: one a check.
        attacked: images that the checks were made on.
    """

    rows: tuple[Row, ...]
    attacked: int

    @property
    def masked(self) -> bool:
        """Tell if the model seems to mask its gradients: then its robustness against gradient attacks says nothing."""
        return any(row.passed is False for row in self.rows)

    def record(self) -> dict[str, Any]:
        """Return it, JSON-able."""
        return {
            "masks_gradients": self.masked,
            "attacked": self.attacked,
            "rows": [row._asdict() for row in self.rows],
        }


def check_gradients(
    victim: Victim,
    images: np.ndarray,
    targets: np.ndarray,
    *,
    norm: str = "linf",
    epsilons: Sequence[float] = EPSILONS,
    steps: int = 100,
    restarts: int = 2,
    queries: int | None = None,
    transfer: Attack | None = None,
    seed: int = 0,
    keys: np.ndarray | None = None,
    batch_size: int = 32,
) -> CheckReport:
    """Check a model with PGD, on those images that do not reach the goal unchanged.

    - The success rate grows with epsilon: none lies below the 95% interval (Wilson) of a rate at a smaller one.
    - At epsilon 1, where every image is in reach, PGD succeeds on all.
    - At each epsilon no more images fall to Square, nor to the transferred attack, than to PGD.
    - FGSM's rates are reported; it is not monotone, so they judge nothing.

    Args:
        victim: the model and the criterion.
        images: clean, (N, H, W, 3) float32 in [0, 1].
        targets: the criterion's, from `victim.targets`.
        norm: of the change.
        epsilons: budgets to compare at; 1 is tried besides.
        steps: of PGD.
        restarts: of PGD.
        queries: of Square; absent, as many as PGD may take steps.
        transfer: an attack from a surrogate of the same norm (`tfface.attacks._transfer`).
        seed: random seed.
        keys: (N,) integers that name the images; their places if absent.
        batch_size: images at a time.

    Raises:
        UserError: as `run`, or every image reaches the goal unchanged.
    """
    batches = _batches(victim, Batch.checked(victim, images, targets, 1.0, keys=keys, seed=seed), batch_size)
    attacked = sum(map(len, batches))
    budgets = [*sorted(set(epsilons) - {1.0}), 1.0]
    pgd = PGD(norm=norm, steps=steps, restarts=restarts)
    others = [FGSM(norm=norm), Square(norm=norm, queries=queries or steps * restarts)]
    others += [transfer] if transfer else []
    trials = [(pgd, budget) for budget in budgets] + [(other, budget) for other in others for budget in budgets[:-1]]
    rate = _counter(victim, batches)
    counts: dict[Attack, list[int]] = {attack: [] for attack in (pgd, *others)}
    for attack, budget in progress(trials, total=len(trials), label="checking gradients", unit="attacks"):
        counts[attack].append(rate(attack, budget))
    fell = counts[pgd]
    rows = [_growth(budgets, fell, attacked), _unlimited(fell[-1], attacked)]
    rows += [_no_weaker(other.title, budgets, fell, counts[other], attacked) for other in others[1:]]
    rows.append(Row("FGSM (reported, not judged)", None, _rates(budgets, counts[others[0]], attacked)))
    return CheckReport(tuple(rows), attacked)


def _batches(victim: Victim, whole: Batch, size: int) -> list[Batch]:
    """Return those that do not reach the goal unchanged, a few at a time."""
    parts = (whole.of(slice(start, start + size)) for start in range(0, len(whole), size))
    won = [victim.assess(part.images, part.targets)[0] for part in parts]
    rows = np.flatnonzero(~np.concatenate([*won, np.zeros(0, bool)]))
    if not len(rows):
        raise UserError(f"all of the {len(whole)} images reach the goal {victim.goal.name} unchanged: give others")
    return [whole.of(rows[start : start + size]) for start in range(0, len(rows), size)]


def _counter(victim: Victim, batches: Sequence[Batch]) -> Callable[[Attack, float], int]:
    """Return a function that counts the images which fall to an attack at an epsilon."""

    def count(attack: Attack, epsilon: float) -> int:
        outcomes = (run_batch(attack, victim, batch.at(epsilon)) for batch in batches)
        return sum(int(outcome.success.sum()) for outcome in outcomes)

    return count


def _growth(budgets: Sequence[float], fell: Sequence[int], attacked: int) -> Row:
    bounds = np.maximum.accumulate([wilson(count, attacked).low for count in fell])
    grows = all(count / attacked >= bound for count, bound in zip(fell, bounds, strict=True))
    return Row("PGD's success grows with epsilon", grows, _rates(budgets, fell, attacked))


def _unlimited(fell: int, attacked: int) -> Row:
    return Row("PGD always succeeds at epsilon 1", fell == attacked, f"{fell} of {attacked}")


def _no_weaker(title: str, budgets: Sequence[float], fell: Sequence[int], other: Sequence[int], attacked: int) -> Row:
    passed = all(theirs <= ours for theirs, ours in zip(other, fell, strict=False))
    measured = f"PGD {_rates(budgets, fell[:-1], attacked)}; {title} {_rates(budgets, other, attacked)}"
    return Row(f"PGD is no weaker than {title}", passed, measured)


def _rates(budgets: Sequence[float], counts: Sequence[int], attacked: int) -> str:
    return ", ".join(f"{count / attacked:.0%} at {budget:.4g}" for budget, count in zip(budgets, counts, strict=False))
