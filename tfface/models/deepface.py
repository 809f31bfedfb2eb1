"""Facebook's DeepFace as swghosh/DeepFace trained it on VGGFace2.

The paper: https://openaccess.thecvf.com/content_cvpr_2014/papers/Taigman_DeepFace_Closing_the_2014_CVPR_paper.pdf

Colours: the network was trained on RGB (`tf.image.decode_jpeg`, divided by 255), so RGB is what
this one takes. The `deepface` package feeds it BGR; a threshold measured there is one for BGR.
"""

from pathlib import Path

import keras
from keras import layers

from tfface.hub.weights import UrlSource
from tfface.models import _h5, _low_rank
from tfface.models._embedder import Preset
from tfface.models._layers import LocallyConnected2D, UnitNorm

_FILE = "VGGFace2_DeepFace_weights_val-0.9034.h5"
_RELEASE = "https://github.com/swghosh/DeepFace/releases/download/weights-vggface2-2d-aligned/"

PRESETS: tuple[Preset, ...] = (
    Preset(
        name="deepface/vggface2",
        # The MD5 is named by swghosh/DeepFace beside the address.
        sources=(UrlSource(f"{_RELEASE}{_FILE}.zip", member=_FILE, md5="0b21fb70cd6901c96c19ac14c9ea8b89"),),
        file_name=_FILE,
        sha256=None,
        input_size=152,
        embedding_size=4096,
        recipe="mtcnn-v1-margin0.20",
        metric="cosine",
        threshold=0.23,
        threshold_source="the paper's text; deepface's value for DeepFace (BGR input); not measured with these weights",
        training_data="VGGFace2 (8,631 people of its training half); people who are also in LFW were not removed",
        licence="MIT, as swghosh/DeepFace publishes them",
    ),
)


DISTILLED = {"input_size": 152, "projects": True}
"""Students of this architecture: input size, and that the embedding is a projection."""

trained = _low_rank.trained
"""The network that such a student is trained as: far fewer weights, which `load_weights` expands."""


def build(preset: Preset) -> keras.Model:
    """Build the network of a preset, with fresh weights."""
    return deepface(input_size=preset.input_size, **preset.config)


def load_weights(model: keras.Model, path: str | Path) -> None:
    """Fill the network from swghosh's file, or one that this project trained.

    F8, which tells the 8,631 people of the training set apart, is left unused.
    """
    few = _low_rank.settings(path)
    if few is not None:
        _low_rank.load(model, path, few)
        return
    _h5.fill(model, path, unused=("F8",))


def deepface(*, input_size: int = 152, projection: int | None = None) -> keras.Model:
    """DeepFace up to its 4096 features (F7).

    Its dropout after F7 is left out: it does nothing at inference.

    Args:
        input_size: side of the square input, in pixels; at least 71.
        projection: length of an embedding learned on top of F7; None gives F7.

    Returns:
        A model from (N, S, S, 3) RGB in [0, 1] to (N, projection or 4096) unit vectors.
    """
    inputs = keras.Input((input_size, input_size, 3), name="image")
    he = "he_normal"
    x = layers.Conv2D(32, 11, activation="relu", kernel_initializer=he, name="C1")(inputs)
    x = layers.MaxPooling2D(3, strides=2, padding="same", name="M2")(x)
    x = layers.Conv2D(16, 9, activation="relu", kernel_initializer=he, name="C3")(x)
    x = LocallyConnected2D(16, 9, activation="relu", name="L4")(x)
    x = LocallyConnected2D(16, 7, strides=2, activation="relu", name="L5")(x)
    x = LocallyConnected2D(16, 5, activation="relu", name="L6")(x)
    x = layers.Flatten(name="F0")(x)
    x = layers.Dense(4096, activation="relu", kernel_initializer=he, name="F7")(x)
    if projection is not None:
        x = layers.Dense(projection, name="projection")(x)
    return keras.Model(inputs, UnitNorm(dtype="float32", name="embedding")(x), name="deepface")
