"""Client of a TensorFlow Serving server that holds an exported SavedModel, over gRPC or REST, without TensorFlow."""

from tfface.utils import registry

_NAMES = {
    "Client": "tfface.serving.client",
    "embed": "tfface.serving.calls",
    "verify": "tfface.serving.calls",
}
__all__ = list(_NAMES)
__getattr__ = registry.attach(__name__, _NAMES)


def __dir__() -> list[str]:
    return sorted(__all__)
