"""Embedders of the `deepface` package, evaluated through the same protocols as ours.

`deepface:Facenet` feeds crops as the package's `represent` does by default: BGR, [0, 1], no further normalisation.
`deepface:Facenet:Facenet2018` names another of its normalisations. Cropping stays with our recipe. Those that are Keras
models give gradients: the same input format and padding in front of the same network.
"""

import functools
import importlib.metadata
import logging
import os
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np

from tfface.errors import Unavailable, UserError
from tfface.hub.weights import ANSWER_SECONDS
from tfface.metrics.distances import unit
from tfface.models._embedder import Embedder, Preset
from tfface.models._input_format import InputFormat
from tfface.utils import registry
from tfface.utils.files import sha256_of
from tfface.utils.tensorflow_logs import as_usual

if TYPE_CHECKING:
    import keras

logger = logging.getLogger(__name__)

# The package logs to stdout, which is for results, what our one error line says; it reads this when first imported.
os.environ.setdefault("DEEPFACE_LOG_LEVEL", str(logging.CRITICAL))

NORMALIZATIONS = {
    "base": "0..1",
    "raw": "0..255",
    "Facenet": "per-image",
    "Facenet2018": "-1..1",
    "VGGFace": "vggface-means",
    "VGGFace2": "vggface2-means",
    "ArcFace": "127.5/128",
}
"""The package's normalisations, each with the scale of `InputFormat` that is the same."""
_CLOSE = 1e-2
"""Largest difference of unit vectors between the package's answer and the network's, after two resizes."""


@dataclass(frozen=True)
class PackageEmbedder(Embedder):
    """A client of the `deepface` package in the shape of our embedders.

    Attributes:
        client: the package's model object.
        normalization: one of the package's.
    """

    client: Any = None
    normalization: str = "base"

    def open(self) -> None:
        """Do nothing: the package's client came with its network."""

    @property
    def differentiable(self) -> bool:
        import keras

        return isinstance(getattr(self.client, "model", None), keras.Model)

    @functools.cached_property
    @as_usual()
    def model(self) -> "keras.Model":
        """The network behind the package's normalisation; of others than Keras models, their answers as a layer."""
        from tfface.models._layers import function_layer

        size = self.preset.input_size
        if not self.differentiable:
            return InputFormat().network(size, function_layer(self.embed, self.preset.embedding_size, follows=False))
        scale = NORMALIZATIONS[self.normalization]
        fit = functools.partial(_fitted, shape=self.client.input_shape)
        built = InputFormat(colour="bgr", scale=scale).network(size, self.client.model, fit)
        tried = np.random.default_rng(0).uniform(0, 1, (1, size, size, 3)).astype(np.float32)
        apart = float(np.abs(np.asarray(built(tried)) - self.embed(tried)).max())
        if apart > _CLOSE:
            reason = f"{self.preset.name} answers otherwise through the package than its network does ({apart:.2g})"
            raise UserError(reason)
        return built

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
    return PackageEmbedder(preset, sha256, _from_client, client, normalization)


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


def _fitted(images: Any, shape: tuple[int, int]) -> Any:
    """Shrink square images, a Keras tensor, into a shape and pad them with black, as the package does."""
    import keras

    height, width = shape
    if images.shape[1:3] == (height, width):
        return images
    side = min(height, width)
    resized = keras.layers.Resizing(side, side)(images)
    rows, columns = height - side, width - side
    padding = ((rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2))
    return keras.layers.ZeroPadding2D(padding)(resized)


def _from_client() -> Any:
    raise AssertionError("`model` is made of the client")


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
