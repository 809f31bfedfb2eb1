"""JPEG compression: what a lossy file leaves of an image."""

from typing import Any, ClassVar

from tfface.augmentation import pixels
from tfface.augmentation.changes import Level
from tfface.defenses import _dct
from tfface.defenses._defense import Defense, register


@register
class Jpeg(Defense):
    """Encodes and decodes each image with 4:2:0 colour; the gradient is that of JPEG's mathematics.

    With `real=1` a file's own coder does it (libjpeg's accurate integer transform: exact, TensorFlow only); with
    `real=0` the same steps in float arithmetic, which differ by a level in the mean, run on every Keras backend and
    convert to TFLite. In both the gradient is that of the float steps, rounded smoothly (see `tfface.defenses._dct`).

    Papers: Das et al. 2017, https://arxiv.org/abs/1705.02900; Guo et al. 2018, https://arxiv.org/abs/1711.00117,
    whose quality is 75.
    """

    title = "JPEG compression"
    paper = "Das et al. 2017, https://arxiv.org/abs/1705.02900; Guo et al. 2018, https://arxiv.org/abs/1711.00117"
    options: ClassVar[dict[str, Level]] = {
        "quality": Level("of the encoder", 1, 100, default=75, whole=True),
        "real": Level("(1: a file's coder, 0: float arithmetic)", 0, 1, default=1, whole=True),
    }

    quality: int
    real: int

    def portable(self) -> "Jpeg":
        return Jpeg(quality=self.quality, real=0)

    def call(self, images: Any, draws: Any = None) -> Any:
        return _coded(images, self.quality) if self.real else _dct.compressed(images, self.quality)


def _coded(images: Any, quality: int) -> Any:
    import tensorflow as tf

    @tf.custom_gradient
    def coded(values: tf.Tensor) -> Any:
        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            with tf.GradientTape() as tape:
                tape.watch(values)
                modelled = _dct.compressed(values, quality)
            return tape.gradient(modelled, values, output_gradients=upstream)

        return tf.map_fn(lambda image: pixels.jpeg(image, quality), values), gradient

    return coded(tf.convert_to_tensor(images))


DEFENSE = Jpeg
