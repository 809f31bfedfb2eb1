"""The fast gradient sign method: one step as long as the budget."""

import dataclasses
from dataclasses import dataclass

from tfface.attacks._attack import GradientAttack


@dataclass(frozen=True, kw_only=True)
class FGSM(GradientAttack):
    """One step along the sign of the gradient; along the normalised gradient in L2.

    Paper: https://arxiv.org/abs/1412.6572. It is not monotone: a larger epsilon may fail where a smaller one succeeds.
    """

    title = "FGSM"
    paper = "Goodfellow et al. 2015, https://arxiv.org/abs/1412.6572"

    steps: int = dataclasses.field(default=1, init=False)


ATTACK = FGSM
