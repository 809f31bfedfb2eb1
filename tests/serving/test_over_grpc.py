import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tfface.serving.connection import ServerError
from tfface.serving.over_grpc import tensor_pb2, to_array, to_tensor

ROOT = Path(__file__).parents[2]


def test_files_and_boxes_as_tensorflow_reads_them():
    assert tf.make_ndarray(to_tensor([b"one", b"\xff\x00"])).tolist() == [b"one", b"\xff\x00"]
    assert tf.make_ndarray(to_tensor([])).shape == (0,)
    boxes = np.random.default_rng(0).random((3, 4)).astype(np.float32)
    assert np.array_equal(tf.make_ndarray(to_tensor(boxes)), boxes)


@pytest.mark.parametrize("values", [np.arange(6.0).reshape(2, 3), np.array([3, 1]), np.ones((2, 2)), np.zeros((0, 4))])
@pytest.mark.parametrize("kind", [np.float32, np.int32, np.int64])
def test_numbers_as_tensorflow_writes_them(values, kind):
    values = values.astype(kind)
    tensor = tf.make_tensor_proto(values)
    assert np.array_equal(to_array(tensor), values) and to_array(tensor).dtype == kind
    by_field = tensor_pb2.TensorProto(dtype=tensor.dtype, tensor_shape=tensor.tensor_shape)
    field = {np.float32: by_field.float_val, np.int32: by_field.int_val, np.int64: by_field.int64_val}[kind]
    field.extend(values.ravel().tolist())
    assert np.array_equal(to_array(by_field), values)


def test_what_is_no_answer():
    with pytest.raises(ServerError, match="of the type DT_STRING"):
        to_array(to_tensor([b"text"]))
    short = tf.make_tensor_proto(np.arange(6.0, dtype=np.float32))
    short.tensor_shape.dim[0].size = 7
    with pytest.raises(ServerError, match=r"6 values for the shape \(7,\)"):
        to_array(short)


def test_without_tensorflow_and_tensorflow_after_all():
    code = """
import sys
from tfface.serving import over_grpc, over_rest
assert not {"tensorflow", "keras"} & set(sys.modules), "imported"
import tensorflow as tf
from tfface.serving.over_grpc import to_array, to_tensor
assert to_array(tf.make_tensor_proto([1.0, 2.0])).tolist() == [1, 2]
assert tf.make_ndarray(to_tensor([b"x"])).tolist() == [b"x"]
assert float(tf.reduce_sum(tf.constant([1.0, 2.0]))) == 3
from tensorflow_serving.apis import predict_pb2
from tfface.serving.over_grpc import predict_pb2 as own
assert predict_pb2 is own
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)
