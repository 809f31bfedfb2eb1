"""What a student is hardened against while it is trained, and how: a record, without any network."""

from dataclasses import dataclass
from typing import Any

from tfface.errors import UserError

METHODS = {
    "pgd-at": "PGD adversarial training (Madry et al. 2018, https://arxiv.org/abs/1706.06083)",
    "trades": "TRADES (Zhang et al. 2019, https://arxiv.org/abs/1901.08573)",
    "noise": "Gaussian noise (Cohen et al. 2019, https://arxiv.org/abs/1902.02918)",
}
"""Ways to harden, with their papers: adversarial training on attacked views alone, and on clean and attacked
ones; random noise on every view."""


@dataclass(frozen=True, kw_only=True)
class Hardening:
    """How a student is hardened; all of it decides the result.

    Attributes:
        method: of `METHODS`.
        epsilon: largest change of a value, on the scale of [0, 1], that views are attacked with.
        attack_steps: gradients of each attack.
        step_size: of the attack; 0 for Madry's 2.5 epsilon / steps.
        weight: of TRADES' second term, the distance between a view's embedding and its attacked one's.
        climb: epochs in which epsilon climbs from 0.
        sigma: standard deviation of the noise, on the scale of [0, 1].

    Raises:
        UserError: an unknown method, or a value out of its range.
    """

    method: str
    epsilon: float = 8 / 255
    attack_steps: int = 3
    step_size: float = 0.0
    weight: float = 6.0
    climb: int = 5
    sigma: float = 0.0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UserError(f"unknown way to harden {self.method!r}; valid: {', '.join(METHODS)}")
        if self.adversarial and not 0 < self.epsilon <= 1:
            raise UserError(f"--epsilon {self.epsilon:g}: adversarial training needs a budget above 0, up to 1")
        if not self.adversarial and not self.sigma > 0:
            raise UserError(f"--noise {self.sigma:g}: give a standard deviation above 0")

    @property
    def adversarial(self) -> bool:
        """Whether views are attacked, rather than made noisy."""
        return self.method != "noise"

    @property
    def alpha(self) -> float:
        """How far a step of the attack goes."""
        return self.step_size or 2.5 * self.epsilon / self.attack_steps

    def record(self) -> dict[str, Any]:
        """JSON-able, for fingerprints and results; what the method does not use is left out."""
        if not self.adversarial:
            return {"method": self.method, "sigma": self.sigma}
        found = {
            "method": self.method,
            "epsilon": self.epsilon,
            "attack_steps": self.attack_steps,
            "step_size": self.alpha,
            "climb": self.climb,
        }
        return {**found, "weight": self.weight} if self.method == "trades" else found


_OF_ATTACKS = {
    "epsilon": "--epsilon",
    "attack_steps": "--attack-steps",
    "step_size": "--step-size",
    "weight": "--trades-weight",
    "climb": "--climb",
}


def hardening_of(options: dict[str, Any]) -> Hardening | None:
    """What a student is hardened against by the options of `distill`, if anything.

    Raises:
        UserError: options that do not go together.
    """
    method, sigma = options["adversarial"], options["noise"]
    given = {field: options[field] for field in _OF_ATTACKS if options[field] is not None}
    if method is None:
        if given:
            raise UserError(f"{_OF_ATTACKS[next(iter(given))]} is of adversarial training: give --adversarial too")
        return None if sigma is None else Hardening(method="noise", sigma=sigma)
    if method != "trades" and "weight" in given:
        raise UserError("--trades-weight is of --adversarial trades: leave it out")
    if sigma is not None:
        raise UserError("--adversarial and --noise each harden the student: give one of them")
    if options["hint_weight"]:
        raise UserError("--adversarial learns from embeddings alone: leave out --hint-weight")
    if options["small_epochs"]:
        raise UserError("--adversarial attacks views at the student's own size: leave out --small-epochs")
    return Hardening(method=method, **given)
