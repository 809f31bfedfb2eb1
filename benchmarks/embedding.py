"""Embedding from JPEG files to vectors, against the bare network and against keras-facenet.

    PYTHONPATH=. python benchmarks/embedding.py [--images 1024]

Three ways over the same photographs (LFW where TFFACE_LFW or the cache has it, else orl_faces),
in alternating rounds of one process, with the same weights (facenet/msceleb):

- bare: the compiled network on crops that are ready in memory, batch 64;
- end to end: `embed_dataset` into an empty cache: read, decode, crop, embed, write;
- keras-facenet: `FaceNet().embeddings(images)` as that package's README calls it, on photographs
  read and cropped beforehand (its own resize and standardisation are in the call): all in one
  call, and a call for each photograph, as a program does that goes through files.

The last line is one JSON object with the ratios of the median rates.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable

import h5py
import keras
import numpy as np

from tfface.data.catalogue import load_dataset
from tfface.data.crops import crop_stream
from tfface.data.dataset import FaceDataset
from tfface.errors import UserError
from tfface.evaluation.embeddings import BATCH, embed_dataset
from tfface.models._embedder import Embedder, load_embedder
from tfface.preprocessing.decoding import decode
from tfface.preprocessing.images import recipe

RECIPE = recipe("center-140")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    keras.utils.disable_interactive_logging()
    embedder = load_embedder("facenet/msceleb")
    photographs = _photographs(options.images)
    ready = np.stack([image.numpy() for image, _ in crop_stream(photographs, RECIPE, 160)])
    plain = [decode(photographs.read(key))[55:195, 55:195] for key in photographs.keys]
    peer = _keras_facenet(embedder)
    ways: dict[str, Callable[[], object]] = {
        "bare": lambda: [embedder.embed(ready[start : start + BATCH]) for start in range(0, len(ready), BATCH)],
        "end_to_end": lambda: _into_empty_cache(photographs, embedder),
        "keras_facenet": lambda: peer.embeddings(plain),
        "keras_facenet_each": lambda: [peer.embeddings([image]) for image in plain],
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way()  # compiles
    for _ in range(options.rounds):
        for name, way in ways.items():
            begin = time.perf_counter()
            way()
            rates[name].append(len(ready) / (time.perf_counter() - begin))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    for name, rate in medians.items():
        print(f"{name:18s} {rate:6.1f} images/s   (rounds: {', '.join(f'{value:.1f}' for value in rates[name])})")
    print(
        json.dumps(
            {
                "images": len(ready),
                "end_to_end_to_bare": round(medians["end_to_end"] / medians["bare"], 3),
                "end_to_end_to_keras_facenet": round(medians["end_to_end"] / medians["keras_facenet"], 3),
                "end_to_end_to_keras_facenet_each": round(medians["end_to_end"] / medians["keras_facenet_each"], 3),
            }
        )
    )


def _photographs(count: int) -> FaceDataset:
    try:
        dataset = load_dataset("lfw")
    except UserError:
        dataset = load_dataset("orl_faces")
    return dataset.take(np.arange(min(count, len(dataset))), "benchmark")


def _into_empty_cache(photographs: FaceDataset, embedder: Embedder) -> None:
    before = os.environ.get("TFFACE_CACHE")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TFFACE_CACHE"] = folder
        try:
            embed_dataset(photographs, embedder, RECIPE)
        finally:
            if before is None:
                del os.environ["TFFACE_CACHE"]
            else:
                os.environ["TFFACE_CACHE"] = before


def _keras_facenet(embedder: Embedder):
    """The package's own wrapper and network, filled with our weights instead of a download."""
    from keras_facenet import FaceNet
    from keras_facenet.inception_resnet_v1 import InceptionResNetV1
    from keras_facenet.metadata import MODEL_METADATA

    from tfface.models._embedder import locate

    wrapper = FaceNet.__new__(FaceNet)
    wrapper.metadata = MODEL_METADATA["20170512-110547"]  # 128-d, per-image standardisation, as these weights
    wrapper.model = InceptionResNetV1(input_shape=(None, None, 3), classes=128)
    _, file = locate(embedder.preset.name, offline=True)
    with h5py.File(file.path) as saved:
        for layer in wrapper.model.layers:
            if layer.weights:
                group = saved["model_weights"][layer.name]
                layer.set_weights([group[name][()] for name in group.attrs["weight_names"]])
    return wrapper


if __name__ == "__main__":
    main()
