"""python benchmarks/own_model.py [--model student/lfw-distilled] [--batch 32] [--rounds 9]

A preset against its own copy given back by path: the network saved as `.keras`, embedding and PGD of 20 steps, by turns
in one process on the same random crops. The last line is one JSON object: the ratios of the median seconds (copy to
preset), and the largest difference of embeddings and of attacked images.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tfface import attacks, criteria, load_embedder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="student/lfw-distilled")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    preset = load_embedder(options.model, offline=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "copy.keras")
        preset.model.save(path)
        copy = load_embedder(path, scale="0..1")
        size = preset.preset.input_size
        images = np.random.default_rng(0).uniform(0, 1, (options.batch, size, size, 3)).astype(np.float32)
        goal = criteria.Dodging(preset.embed(images), threshold=0.9)
        attack = attacks.PGD(steps=20)
        found = [attack(one, images, goal, epsilon=0.02).images for one in (preset, copy)]
        result = {
            "embedding_difference": float(np.abs(preset.embed(images) - copy.embed(images)).max()),
            "attack_difference": float(np.abs(found[0] - found[1]).max()),
            "copy_to_preset_embed": ratio([lambda: preset.embed(images), lambda: copy.embed(images)], options.rounds),
            "copy_to_preset_pgd": ratio(
                [lambda one=one: attack(one, images, goal, epsilon=0.02) for one in (preset, copy)], options.rounds
            ),
        }
    print(json.dumps(result))


def ratio(calls: list[Callable[[], object]], rounds: int) -> float:
    """Return the median seconds of the second call over those of the first."""
    seconds: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for call, taken in zip(calls, seconds, strict=True):
            start = time.perf_counter()
            call()
            taken.append(time.perf_counter() - start)
    first, second = map(statistics.median, seconds)
    return round(second / first, 3)


if __name__ == "__main__":
    main()
