"""The basic iterative method: FGSM in small steps."""

from dataclasses import dataclass

from tfface.attacks._attack import IterativeAttack


@dataclass(frozen=True, kw_only=True)
class BIM(IterativeAttack):
    """Small steps from the clean image, each projected onto the ball.

    Paper: https://arxiv.org/abs/1607.02533, which steps by one grey level (1/255) for every epsilon and so cannot
    reach a large one; hence the default step of 2.5 epsilon / steps.

    Attributes:
        steps: number of steps.
        alpha: length of a step, in the unit of epsilon. None: 2.5 epsilon / steps.
    """

    title = "BIM"
    paper = "Kurakin et al. 2017, https://arxiv.org/abs/1607.02533"


ATTACK = BIM
