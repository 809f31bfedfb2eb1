"""Probes networks whose right feed is known, told nothing of it.

    PYTHONPATH=. python benchmarks/probe.py [--model NAME ...] [--recipe NAME ...] [--photographs N]
    TFFACE_LFW=DIR PYTHONPATH=. python benchmarks/probe.py --dataset lfw --protocol view1 [--model NAME ...]

Each network is written to a file without its input layers: FaceNet (MS-Celeb-1M), which takes each image standardised;
dlib's, which takes bytes; MobileFaceNet as its package carries it, a TFLite file for (x - 127.5) / 128 on 0..255. All
take red first. The last line is one JSON object: for each network the verdict on its right feed, under the recipe where
it does best, and on the best feed with blue first.
"""

import argparse
import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import keras

import tfface
from tfface.cli._command import log_to_stderr, show
from tfface.evaluation.probe import FeedResult, Probe
from tfface.models._embedder import load_embedder, locate
from tfface.models.dlib import MEAN

TRUTH = {"mobilefacenet": "127.5/128", "dlib": "0..255", "facenet/msceleb": "per-image"}
"""Scale that each network takes, red first."""


def bare(name: str, folder: Path) -> Path:
    """Write a network without its input layers to a file."""
    if name == "mobilefacenet":
        return Path(shutil.copy(locate(name)[1].path, folder / "mobilefacenet.tflite"))
    # What takes the place of the input layer: nothing, or for dlib the part that is inside of its own network.
    first = {"factor": 1 / 256, "offset": [-value / 256 for value in MEAN]} if name == "dlib" else {"factor": 1.0}
    model = load_embedder(name).model

    def copied(layer: keras.Layer) -> keras.Layer:
        if layer.name == "standardization":
            return keras.layers.Rescaling(first["factor"], first.get("offset", 0.0), name="inside")
        return layer.__class__.from_config(layer.get_config())

    copy = keras.models.clone_model(model, clone_function=copied)
    copy.set_weights(model.get_weights())
    path = folder / f"{name.replace('/', '-')}.keras"
    copy.save(path)
    return path


def judged(found: Probe, scale: str) -> dict[str, Any]:
    """The verdicts that matter, JSON-able."""

    def entry(result: FeedResult) -> dict[str, Any]:
        return {key: round(value, 5) if isinstance(value, float) else value for key, value in result.to_dict().items()}

    right = next(result for result in found.feeds if result.feed[1:] == ("rgb", scale))
    blue_first = next(result for result in found.feeds if result.feed.colour == "bgr")
    return {
        "photographs": found.facts["photographs"],
        "people": found.facts["people"],
        "best": entry(found.best),
        "ties": len(found.ties),
        "right": entry(right),
        "blue_first": entry(blue_first),
        "chosen": found.chosen and found.chosen._asdict(),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", action="append", choices=sorted(TRUTH))
    parser.add_argument("--dataset", default="five_faces")
    parser.add_argument("--protocol", default="all-pairs")
    parser.add_argument("--recipe", action="append")
    parser.add_argument("--scale", action="append")
    parser.add_argument("--photographs", type=int, default=300)
    options = parser.parse_args()
    log_to_stderr()
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in options.model or TRUTH:
            path, begin, before = bare(name, Path(folder)), time.perf_counter(), time.process_time()
            found = tfface.probe(
                str(path),
                options.dataset,
                protocol=options.protocol,
                recipes=options.recipe,
                scales=options.scale,
                photographs=options.photographs,
            )
            show(found.tables())
            times = {"seconds": time.perf_counter() - begin, "core_seconds": time.process_time() - before}
            results[name] = judged(found, TRUTH[name]) | {key: round(value, 1) for key, value in times.items()}
    print(json.dumps(results))


if __name__ == "__main__":
    main()
