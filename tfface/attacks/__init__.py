"""Attacks on face embedders: `attacks.PGD(steps=20)(embedder, images, criterion, epsilon=4 / 255)`."""

from tfface.utils import registry

_NAMES = {
    "APGD": "tfface.attacks.apgd",
    "Attack": "tfface.attacks._attack",
    "BIM": "tfface.attacks.bim",
    "CarliniWagner": "tfface.attacks.cw",
    "DIM": "tfface.attacks.dim",
    "FGSM": "tfface.attacks.fgsm",
    "FMN": "tfface.attacks.fmn",
    "MIM": "tfface.attacks.mim",
    "Minimal": "tfface.attacks._minimal",
    "Outcome": "tfface.attacks._attack",
    "PGD": "tfface.attacks.pgd",
    "SINI": "tfface.attacks.si_ni",
    "Square": "tfface.attacks.square",
    "TIM": "tfface.attacks.tim",
    "Transfer": "tfface.attacks._transfer",
    "VMI": "tfface.attacks.vmi",
    "Victim": "tfface.attacks._victim",
    "check_gradients": "tfface.attacks._checks",
    "minimal_epsilon": "tfface.attacks._minimal",
}

__all__ = sorted(_NAMES)
__getattr__ = registry.attach(__name__, _NAMES)


def __dir__() -> list[str]:
    return list(__all__)
