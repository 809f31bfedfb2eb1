"""The cost of LocallyConnected2D against one einsum over patches that are already extracted.

    python benchmarks/locally_connected.py

Both run compiled, in turns, on the shapes of DeepFace's L4 and L5 with a batch of 32; the median
counts. The last line is one JSON object; `ratio` is layer over einsum.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

sys.path.insert(0, str(Path(__file__).parents[1]))
from tfface.models._layers import LocallyConnected2D

BATCH = 32
ROUNDS = 15
# name: (side of the input, kernel size, stride); 16 channels in and out.
SHAPES = {"L4": (63, 9, 1), "L5": (55, 7, 2)}


def main() -> None:
    """Measures every shape, prints a line for each and the JSON object."""
    results = {}
    for name, shape in SHAPES.items():
        results[name] = measure(*shape)
        print(f"{name}: layer {results[name]['layer_ms']} ms, einsum alone {results[name]['einsum_ms']} ms")
    print(json.dumps({"benchmark": "locally_connected", "batch": BATCH, **results}))


def measure(side: int, size: int, stride: int) -> dict[str, float]:
    """Times one shape, after checking that both give the same numbers."""
    images = tf.constant(np.random.default_rng(0).normal(size=(BATCH, side, side, 16)), tf.float32)
    layer = LocallyConnected2D(16, size, strides=stride)
    layer.build(images.shape)
    patches = tf.image.extract_patches(images, [1, size, size, 1], [1, stride, stride, 1], [1, 1, 1, 1], "VALID")
    patches = tf.reshape(patches, (BATCH, -1, patches.shape[-1]))
    kernel = tf.convert_to_tensor(layer.kernel)

    ours = tf.function(layer)
    einsum = tf.function(lambda patches, kernel: tf.einsum("npk,pkf->npf", patches, kernel))
    expected = einsum(patches, kernel)
    np.testing.assert_allclose(tf.reshape(ours(images), expected.shape), expected, atol=1e-4)
    times = in_turns({"layer": lambda: ours(images), "einsum": lambda: einsum(patches, kernel)})
    return {
        "layer_ms": round(times["layer"] * 1e3, 1),
        "einsum_ms": round(times["einsum"] * 1e3, 1),
        "ratio": round(times["layer"] / times["einsum"], 2),
    }


def in_turns(contestants: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """The median seconds of each; turns share whatever else the machine is doing."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(ROUNDS):
        for name, run in contestants.items():
            start = time.perf_counter()
            run().numpy()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


if __name__ == "__main__":
    main()
