"""Embedders of the `deepface` package, evaluated through the same protocols as ours.

`deepface:Facenet` feeds crops as the package's `represent` does by default: BGR, [0, 1], no further normalisation.
`deepface:Facenet:Facenet2018` names another of its normalisations. Cropping stays with our recipe.
"""

import importlib.metadata
import logging
import os
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from tfface.errors import Unavailable, UserError
from tfface.hub.weights import ANSWER_SECONDS
from tfface.metrics.distances import unit
from tfface.models._embedder import Embedder, Preset
from tfface.utils import registry
from tfface.utils.files import sha256_of

logger = logging.getLogger(__name__)

# The package logs to stdout, which is for results, what our one error line says; it reads this when first imported.
os.environ.setdefault("DEEPFACE_LOG_LEVEL", str(logging.CRITICAL))

NORMALIZATIONS = ("base", "raw", "Facenet", "Facenet2018", "VGGFace", "VGGFace2", "ArcFace")


@dataclass(frozen=True)
class PackageEmbedder(Embedder):
    """A client of the `deepface` package in the shape of our embedders; it has no Keras model of ours.

    Attributes:
        client: the package's model object.
        normalization: one of the package's.
    """

    client: Any = None
    normalization: str = "base"

    def open(self) -> None:
        """Do nothing: the package's client came with its network."""

    def embed(self, images: np.ndarray) -> np.ndarray:
        from deepface.modules import preprocessing

        prepared = [
            preprocessing.normalize_input(
                preprocessing.resize_image(image[:, :, ::-1].copy(), self.client.input_shape), self.normalization
            )
            for image in np.asarray(images)
        ]
        vectors = np.asarray(self.client.forward(np.concatenate(prepared)), np.float32).reshape(len(prepared), -1)
        return unit(vectors)


def names() -> list[str]:
    """Return the names of the package's face recognition models."""
    from deepface.modules.modeling import AVAILABLE_MODELS

    return sorted(AVAILABLE_MODELS["facial_recognition"])


def load(name: str, *, offline: bool = False) -> PackageEmbedder:
    """Build a model of the package, whose own code fetches its weights.

    Args:
        name: as the package spells it, and after a colon one of its normalisations.
        offline: never touch a network.

    Raises:
        UserError: the package is not installed, or has no such model or normalisation.
        Unavailable: its weights cannot be had, or the model refuses this environment.
    """
    name, _, normalization = name.partition(":")
    normalization = normalization or "base"
    try:
        from deepface.commons import folder_utils, weight_utils
        from deepface.config.threshold import thresholds
        from deepface.modules import modeling
    except ImportError as error:
        needed = f"deepface:{name} needs the deepface package: pip install 'tfface[peers]'"
        raise UserError(needed, parameter="embedder") from error
    if name not in names():
        raise registry.unknown("deepface model", name, names())
    if normalization not in NORMALIZATIONS:
        raise registry.unknown("deepface normalization", normalization, list(NORMALIZATIONS))
    files: list[str] = []
    with (
        mock.patch.object(weight_utils, "ensure_source_is_reachable", _refuse if offline else _probe),
        mock.patch.object(
            weight_utils, "download_weights_if_necessary", _remember(weight_utils.download_weights_if_necessary, files)
        ),
    ):
        try:
            folder_utils.initialize_folder()
            # Not by its `build_model`: that keeps clients, and would not tell the weights file a second time.
            client = modeling.get_model_class("facial_recognition", name)()
        except Exception as error:  # the package raises what it pleases; the reason is in the words
            reason = error.__cause__ if isinstance(error.__cause__, Unavailable) else error
            raise Unavailable(f"deepface:{name} cannot be built by the deepface package: {reason}") from error
    sha256 = sha256_of(files[0]) if files and Path(files[0]).is_file() else "unknown"
    preset = _preset(name, normalization, client, thresholds.get(name, {}).get("cosine", 0.4), sha256)
    return PackageEmbedder(preset, sha256, _no_keras_model, client, normalization)


def _preset(name: str, normalization: str, client: Any, threshold: float, sha256: str) -> Preset:
    suffix = "" if normalization == "base" else f":{normalization}"
    version = importlib.metadata.version("deepface")
    return Preset(
        name=f"deepface:{name}{suffix}",
        sources=(),
        file_name="",
        sha256=sha256,
        input_size=max(client.input_shape),
        embedding_size=int(client.output_shape),
        recipe=registry.load("models", "facenet").PRESETS[0].recipe,
        metric="cosine",
        threshold=float(threshold),
        threshold_source=f"the deepface package {version}",
        training_data="see the deepface package",
        licence="see the deepface package",
    )


def _no_keras_model() -> Any:
    raise UserError("a model of the deepface package can be evaluated, but it has no Keras model of ours to use here")


def _refuse(url: str) -> None:
    from deepface.commons.folder_utils import get_deepface_home

    folder = Path(get_deepface_home(), ".deepface", "weights")
    raise Unavailable(f"{url.rsplit('/', 1)[-1]} is not in {folder} and `offline` forbids fetching it from {url}")


def _probe(url: str) -> None:
    with urllib.request.urlopen(url, timeout=ANSWER_SECONDS):
        logger.warning(f"the deepface package fetches {url}")


def _remember(fetch: Callable[..., str], files: list[str]) -> Callable[..., str]:
    def wrapped(*args: Any, **options: Any) -> str:
        path = fetch(*args, **options)
        files.append(path)
        return path

    return wrapped
