"""python benchmarks/adversarial_training.py [--steps 3] [--batch 128] [--rounds 7] [--bfloat16]

Adversarial training steps (PGD-AT and TRADES) of the student against its plain distillation step, by
turns in one process on the same batch. The last line is one JSON object: for each method the ratio
of the median times, to be at most k + 1.2 for k attack steps.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tfface.utils import tensorflow_logs

tensorflow_logs.install()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, nargs="+", default=[3], help="gradients of an attack; several to compare")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--bfloat16", action="store_true")
    options = parser.parse_args()
    from tfface.training.distiller import bfloat16_convolutions

    with bfloat16_convolutions(on=options.bfloat16):
        steps = {"plain": step("", 0, options.batch)}
        steps |= {
            f"{method}-{count}": step(method, count, options.batch)
            for method in ("pgd-at", "trades")
            for count in options.steps
        }
        for run in steps.values():
            run()
        seconds: dict[str, list[float]] = {name: [] for name in steps}
        for _ in range(options.rounds):
            for name, run in steps.items():
                start = time.perf_counter()
                run()
                seconds[name].append(time.perf_counter() - start)
    median = {name: statistics.median(found) for name, found in seconds.items()}
    for name, value in median.items():
        print(
            f"{name}: {1000 * value:.0f} ms a step of {options.batch} views, {value / median['plain']:.2f} plain ones"
        )
    ratios = {name: round(value / median["plain"], 3) for name, value in median.items() if name != "plain"}
    print(json.dumps({"batch": options.batch, "plain_ms": round(1000 * median["plain"], 1), "ratios": ratios}))


def step(method: str, count: int, batch: int) -> Callable[[], object]:
    """One training step on a batch that stays the same."""
    import tensorflow as tf

    from tfface.models.student import inception_resnet_simple
    from tfface.training.config import Hardening, Settings
    from tfface.training.fitting import compiled

    hardening = Hardening(method=method, attack_steps=count) if method else None
    distiller = compiled(inception_resnet_simple(), Settings(hardening=hardening), steps_per_epoch=74)
    random = np.random.default_rng(0)
    answers = random.standard_normal((batch, 128))
    answers /= np.linalg.norm(answers, axis=1, keepdims=True)
    views = tf.constant(random.integers(0, 256, (batch, 160, 160, 3), np.uint8))
    data = (views, tf.constant(answers, tf.float32))
    train = tf.function(distiller.train_step)
    return lambda: float(train(data)["loss"])


if __name__ == "__main__":
    main()
