"""python benchmarks/distill_input.py [--student student] [--images 2048] [--runs 5]

Training a student from the view bank on disk against the same steps on tensors that are ready in
memory, by turns in one process. The last line is one JSON object.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tfface.utils import tensorflow_logs

tensorflow_logs.install()


def random_bank(images: int) -> Any:
    """A bank of noise, as large a picture and answer as FaceNet's."""
    from tfface.training.view_bank import ViewBank

    bank = ViewBank({"what": "noise for a benchmark"}, images, 160, 128)

    def make(number: int, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        random = np.random.default_rng([number, start])
        answers = random.standard_normal((stop - start, 128))
        views = random.integers(0, 256, (stop - start, 160, 160, 3), np.uint8)
        return views, answers / np.linalg.norm(answers, axis=1, keepdims=True)

    bank.fill(0, make)
    return bank


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--student", default="student", help="an architecture")
    parser.add_argument("--images", type=int, default=2048)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--bfloat16", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TFFACE_CACHE"] = folder
        measure(options)


def measure(options: argparse.Namespace) -> None:
    import tensorflow as tf

    from tfface.models import facenet
    from tfface.training.config import Settings
    from tfface.training.distiller import bfloat16_convolutions
    from tfface.training.fitting import compiled
    from tfface.training.students import student_of
    from tfface.training.view_bank import EpochViews

    teacher = next(preset for preset in facenet.PRESETS if preset.embedding_size == 128)
    student = student_of(options.student, teacher, name="benchmark", recipe="whole")
    batches = EpochViews(random_bank(options.images), views=1, batch_size=128, seed=0)
    distiller = compiled(student.network(0), Settings(epochs=1000), steps_per_epoch=len(batches))
    # Its tensors are made once; the same graph of steps then runs on them.
    ready = tf.data.Dataset.from_tensors(tuple(map(tf.constant, batches[0]))).repeat(len(batches))

    def seconds(data: Any) -> float:
        start = time.perf_counter()
        distiller.fit(data, epochs=1, verbose=0)
        return time.perf_counter() - start

    with bfloat16_convolutions(on=options.bfloat16):
        seconds(batches), seconds(ready)
        turns = [(seconds(batches), seconds(ready)) for _ in range(options.runs)]
    images = len(batches) * batches.batch_size
    bank, bare = (images / statistics.median(column) for column in zip(*turns, strict=True))
    print(f"{options.student}: {bank:.0f} images/s from the bank, {bare:.0f} on ready tensors")
    print(
        json.dumps(
            {
                "ratio": round(bank / bare, 3),
                "bank_images_per_second": round(bank, 1),
                "ready_images_per_second": round(bare, 1),
                "student": options.student,
            }
        )
    )


if __name__ == "__main__":
    main()
