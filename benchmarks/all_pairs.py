"""python benchmarks/all_pairs.py [--npz FILE] [--size 128] [--runs 7]

Scoring all pairs against the bare float32 matrix product of the same shapes (blocks of 2,048 of the
upper triangle, all cores), by turns in one process. The last line is one JSON object. Resident
memory is that of a fresh process that scores once.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tfface.metrics.all_pairs import all_pairs
from tfface.metrics.pair_merging import PairSummary
from tfface.metrics.roc import ErrorCurve, calibrate_halves

IMAGES = 13_233
BLOCK = 2048


def made_up(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Clustered random embeddings of as many images as LFW has, their numbers by person as uneven."""
    several = np.maximum(2, (530 * np.arange(1, 1681) ** -0.8).astype(int))
    counts = np.concatenate([several, np.ones(IMAGES - several.sum(), int)])
    identities = np.repeat(np.arange(len(counts)), counts)
    random = np.random.default_rng(0)
    centres = random.standard_normal((len(counts), size), np.float32)
    spread = random.uniform(0.3, 1.7, (IMAGES, 1)).astype(np.float32)
    vectors = centres[identities] + spread * random.standard_normal((IMAGES, size), np.float32)
    order = random.permutation(IMAGES)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True))[order], identities[order]


def from_file(path: str) -> tuple[np.ndarray, np.ndarray]:
    with np.load(path, allow_pickle=False) as arrays:
        return arrays["embeddings"], arrays["identities"]


def bare_product(embeddings: np.ndarray) -> None:
    for row in range(0, len(embeddings), BLOCK):
        for column in range(row, len(embeddings), BLOCK):
            embeddings[row : row + BLOCK] @ embeddings[column : column + BLOCK].T


def seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def fresh_megabytes() -> float:
    """The most memory that this script with `--once` ever held."""
    answer = subprocess.run([sys.executable, __file__, *sys.argv[1:], "--once"], check=True, capture_output=True)
    return float(answer.stdout.split()[-1])


def describe(summary: PairSummary) -> None:
    for kind in ("genuine", "impostor"):
        part = getattr(summary.total, kind)
        if part.count:
            moments = ", ".join(
                f"{metric} {part.mean(metric):.6f} variance {part.variance(metric):.6f}"
                for metric in ("cosine", "euclidean")
            )
            print(f"{kind}: {part.count:,} pairs; {moments}")
    if summary.total.genuine.count and summary.total.impostor.count:
        curve = ErrorCurve.from_region(summary.total)
        print(f"AUC {curve.auc():.6f}, EER {curve.eer()[0]:.4%}")
    if halves := calibrate_halves(summary):
        print(f"calibrated on the other half: accuracy {halves.mean:.4%} at threshold {halves.threshold:.4f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--npz", help="a file with the arrays embeddings (N, D) and identities (N,)")
    parser.add_argument("--size", type=int, default=128, help="length of the made-up embeddings")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--once", action="store_true", help="score once and print the resident megabytes")
    options = parser.parse_args()
    embeddings, identities = from_file(options.npz) if options.npz else made_up(options.size)
    embeddings = np.ascontiguousarray(embeddings, np.float32)
    if options.once:
        all_pairs(embeddings, identities, seed=0)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return
    describe(all_pairs(embeddings, identities, seed=0))
    bare_product(embeddings)
    # By turns, so that what else the machine does falls on both alike.
    turns = [
        (seconds(lambda: bare_product(embeddings)), seconds(lambda: all_pairs(embeddings, identities, seed=0)))
        for _ in range(options.runs)
    ]
    product, scoring = (statistics.median(column) for column in zip(*turns, strict=True))
    megabytes = fresh_megabytes()
    print(f"bare product {product:.3f} s, scoring {scoring:.3f} s (medians of {options.runs}), {megabytes:.0f} MB")
    result = {
        "pairs": len(embeddings) * (len(embeddings) - 1) // 2,
        "ratio_to_matmul": round(scoring / product, 3),
        "seconds": round(scoring, 4),
        "matmul_seconds": round(product, 4),
        "max_rss_mb": round(megabytes, 1),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
