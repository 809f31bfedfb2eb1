"""Attacks on face embedders: `attacks.PGD(steps=20)(embedder, images, criterion, epsilon=4 / 255)`."""

from tfface.utils import lazy

_NAMES = {
    "Attack": "tfface.attacks._attack",
    "BIM": "tfface.attacks.bim",
    "CarliniWagner": "tfface.attacks.cw",
    "FGSM": "tfface.attacks.fgsm",
    "MIM": "tfface.attacks.mim",
    "Minimal": "tfface.attacks._minimal",
    "Outcome": "tfface.attacks._attack",
    "PGD": "tfface.attacks.pgd",
    "Square": "tfface.attacks.square",
    "Transfer": "tfface.attacks._transfer",
    "Victim": "tfface.attacks._victim",
    "check_gradients": "tfface.attacks._checks",
    "minimal_epsilon": "tfface.attacks._minimal",
}

__all__ = sorted(_NAMES)
__getattr__ = lazy.attach(__name__, _NAMES)


def __dir__() -> list[str]:
    return list(__all__)
