"""Requests that TensorFlow Serving sends to itself before it takes calls, so that the first caller does not wait."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

if TYPE_CHECKING:
    from tfface.models._embedder import Preset


def write_requests(folder: Path, preset: "Preset", photographs: list[bytes]) -> None:
    """Writes `assets.extra/tf_serving_warmup_requests`: one request for each signature.

    Args:
        folder: the SavedModel.
        preset: whose input size.
        photographs: JPEG or PNG files.
    """
    image = np.full((1, preset.input_size, preset.input_size, 3), 0.5, np.float32)
    files = np.array(photographs, object)
    boxes = np.tile(np.array([0.25, 0.25, 0.75, 0.75], np.float32), (len(photographs), 1))
    requests = {
        "serving_default": {"image": image},
        "embed_jpeg": {"file": files},
        "embed_jpeg_boxes": {"file": files, "box": boxes},
        "verify": {"first": image, "second": image},
    }
    path = folder / "assets.extra" / "tf_serving_warmup_requests"
    path.parent.mkdir()
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature, inputs in requests.items():
            writer.write(_log(signature, inputs).SerializeToString(deterministic=True))


def _log(signature: str, inputs: dict[str, np.ndarray]) -> prediction_log_pb2.PredictionLog:
    request = predict_pb2.PredictRequest()
    request.model_spec.signature_name = signature
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
