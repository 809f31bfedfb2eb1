"""Input defenses in front of an embedder, one file each: `defenses.apply(embedder, "jpeg:quality=75")`."""

from tfface.utils import registry

_NAMES = {
    "DefendedEmbedder": "tfface.defenses._stack",
    "Defense": "tfface.defenses._defense",
    "Detector": "tfface.defenses._detection",
    "apply": "tfface.defenses._stack",
    "parse": "tfface.defenses._defense",
}

__all__ = sorted(_NAMES)
__getattr__ = registry.attach(__name__, _NAMES)


def __dir__() -> list[str]:
    return list(__all__)
