"""python benchmarks/scale.py [--part embedding --part pairs --part large --part sampled]

What a cluster adds and what it costs, on nodes of Ray on this machine; ratios are of one run. Parts:

- embedding: a data set (LFW where it is prepared, else orl_faces; --images takes the first) embedded by the plain
  single process, by one one-core node, and by two, each into an empty cache, after the workers have started;
- pairs: every pair of as many embeddings as LFW has (--count), likewise;
  both beside what the cores themselves allow: two processes with nothing between them, each on a core of its own,
  against one (two threads of one physical core are far from twice one);
- large: 330,000 made-up embeddings (--large), every pair on two one-core nodes, against the bare float32 product;
- sampled: 3.31 million (--sampled), a random share of the groups of tiles (--share), the total extrapolated.

The whole takes hours: each part is a run of its own. Commands for two quiet cores:

    python benchmarks/scale.py --part embedding --rounds 1
    python benchmarks/scale.py --part pairs
    python benchmarks/scale.py --part pairs --count 105864
    python benchmarks/scale.py --part large
    python benchmarks/scale.py --part sampled --share 0.01

The last line is one JSON object. Memory is the largest resident set that any worker had.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tfface.data.catalogue import load_dataset
from tfface.data.dataset import FaceDataset
from tfface.distributed.cluster import executor_at
from tfface.distributed.executor import Executor
from tfface.distributed.rows import Piece
from tfface.errors import UserError
from tfface.evaluation.embeddings import embed_dataset
from tfface.metrics.all_pairs import TileGroups, all_pairs, arrange, scoring_job
from tfface.metrics.pair_tiles import TILE, WORST, tile_plan
from tfface.models._embedder import load_embedder
from tfface.preprocessing.images import recipe
from tfface.utils import tensorflow_logs
from tfface.utils.cache import CHUNK, write_rows
from tfface.utils.files import cache_dir

SIZE = 128
IMAGES_A_PERSON = 36
PARTS = ("embedding", "pairs", "large", "sampled")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", action="append", choices=PARTS, help="repeats; all if absent")
    parser.add_argument("--model", default="facenet/msceleb")
    parser.add_argument("--recipe", default="center-140")
    parser.add_argument("--images", type=int, help="of the data set; all if absent")
    parser.add_argument("--count", type=int, default=13_233)
    parser.add_argument("--large", type=int, default=330_000)
    parser.add_argument("--sampled", type=int, default=3_310_000)
    parser.add_argument("--share", type=float, default=0.01)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    tensorflow_logs.install()
    parts = {"embedding": embedding, "pairs": pairs, "large": large, "sampled": sampled}
    found: dict[str, Any] = {}
    for name in options.part or PARTS:
        found |= parts[name](options)
    print(json.dumps(found))


def embedding(options: argparse.Namespace) -> dict[str, Any]:
    dataset = photographs(options.images)
    embedder, cut = load_embedder(options.model), recipe(options.recipe)

    def embed(executor: Executor) -> None:
        with empty_cache():
            embed_dataset(dataset, embedder, cut, executor=executor)

    seconds = by_turns(embed, dataset.take(np.arange(64), "warm-up"), embedder, cut, options.rounds)
    print(f"embedding {len(dataset)} images: {shown(seconds)}")
    alone = side_by_side(bare_network, options.model, options.rounds)
    return {"embedding_images": len(dataset), **ratios("embedding", seconds), "embedding_two_cores_alone": alone}


def pairs(options: argparse.Namespace) -> dict[str, Any]:
    vectors, people = made_up(options.count)

    def score(executor: Executor) -> None:
        with empty_cache():
            all_pairs(vectors, people, seed=0, executor=executor)

    seconds = by_turns(score, None, None, None, options.rounds)
    print(f"every pair of {options.count}: {shown(seconds)}")
    alone = side_by_side(bare_tiles, options.count, options.rounds)
    return {"pairs_count": options.count, **ratios("pairs", seconds), "pairs_two_cores_alone": alone}


def by_turns(
    work: Callable[[Executor], None], dataset: FaceDataset | None, embedder: Any, cut: Any, rounds: int
) -> dict[str, float]:
    """Median seconds of the plain process, of one one-core node, and of two; workers have begun before."""
    seconds: dict[str, list[float]] = {"plain": [], "one": [], "two": []}
    cores = sorted(os.sched_getaffinity(0))
    for _ in range(rounds):
        for name, count in (("plain", 0), ("one", 1), ("two", 2)):
            # Local nodes share the cores that they are started with.
            os.sched_setaffinity(0, cores[: count or len(cores)])
            with executor_at(f"local:{count}" if count else None) as executor:
                os.sched_setaffinity(0, cores)
                with empty_cache():
                    warm_up(executor, dataset, embedder, cut)
                begin = time.perf_counter()
                work(executor)
                seconds[name].append(time.perf_counter() - begin)
    return {name: statistics.median(values) for name, values in seconds.items()}


def warm_up(executor: Executor, dataset: FaceDataset | None, embedder: Any, cut: Any) -> None:
    if dataset is not None:
        embed_dataset(dataset, embedder, cut, executor=executor)
    else:
        vectors, people = made_up(6000)
        all_pairs(vectors, people, seed=0, executor=executor)


def side_by_side(work: Callable[[Any, Any, Any], None], what: Any, rounds: int) -> float:
    """The rate of two processes, each with a core of its own and nothing between them, in twice that of one."""
    seconds: dict[int, list[float]] = {1: [], 2: []}
    start = multiprocessing.get_context("spawn")
    cores = sorted(os.sched_getaffinity(0))
    for _ in range(rounds):
        for count, found in seconds.items():
            begin, answers = start.Barrier(count), start.Queue()
            processes = [start.Process(target=work, args=(what, begin, answers)) for _ in range(count)]
            for core, process in zip(cores, processes, strict=False):
                os.sched_setaffinity(0, {core})
                process.start()
            os.sched_setaffinity(0, cores)
            found.append(max(answers.get() for _ in processes))
            for process in processes:
                process.join()
    return round(statistics.median(seconds[1]) / statistics.median(seconds[2]), 3)


def bare_network(model: str, begin: Any, answers: Any) -> None:
    """Twenty batches of 32 ready images through a network; answers the seconds."""
    embedder = load_embedder(model)
    images = np.random.default_rng(0).random((32, *embedder.model.input_shape[1:]), np.float32)
    embedder.model.predict_on_batch(images)
    begin.wait()
    started = time.perf_counter()
    for _ in range(20):
        embedder.model.predict_on_batch(images)
    answers.put(time.perf_counter() - started)


def bare_tiles(count: int, begin: Any, answers: Any) -> None:
    """The float32 products of the tiles of so many embeddings, five times; answers the seconds."""
    vectors, _ = made_up(count)
    begin.wait()
    answers.put(sum(bare_product(vectors) for _ in range(5)))


def ratios(name: str, seconds: dict[str, float]) -> dict[str, float]:
    return {
        f"{name}_two_to_twice_one": round(seconds["one"] / seconds["two"] / 2, 3),
        f"{name}_overhead_to_plain": round(seconds["two"] / seconds["plain"] - 1, 3),
    }


def shown(seconds: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.2f} s" for name, value in seconds.items())


def large(options: argparse.Namespace) -> dict[str, Any]:
    vectors, people = made_up(options.large)
    # Before and after, so that what else the machine does falls on both.
    bare = bare_product(vectors) / 2
    with executor_at("local:2") as executor, empty_cache(), memory() as most:
        warm_up(executor, None, None, None)
        begin = time.perf_counter()
        summary = all_pairs(vectors, people, seed=0, executor=executor)
        seconds = time.perf_counter() - begin
    count = summary.total.genuine.count + summary.total.impostor.count
    assert count == options.large * (options.large - 1) // 2, count
    bare += bare_product(vectors) / 2
    print(f"every pair of {options.large}: {seconds:.1f} s, bare product {bare:.1f} s, worker {most['mb']:.0f} MB")
    return {
        "large_count": options.large,
        "large_pairs": count,
        "large_seconds": round(seconds, 1),
        "large_to_bare_product": round(seconds / bare, 3),
        "large_worker_mb": round(most["mb"]),
    }


def sampled(options: argparse.Namespace) -> dict[str, Any]:
    random = np.random.default_rng(0)
    people = np.repeat(np.arange(-(-options.sampled // IMAGES_A_PERSON * 10)), IMAGES_A_PERSON * 10)[: options.sampled]
    arrangement = arrange(people, seed=0)
    with executor_at("local:2") as executor, empty_cache(), memory() as most:
        warm_up(executor, None, None, None)
        rows = write_rows(cache_dir("pair-rows") / "rows-made-up.f32", noise(options.sampled), (options.sampled, SIZE))
        plan = tile_plan(options.sampled, TILE, boundary=arrangement.boundary)
        job = scoring_job(rows, arrangement.codes, plan, WORST, False, 1)
        parts = job.store.ranges()
        chosen = random.choice(len(parts), max(1, round(options.share * len(parts))), replace=False)
        groups = TileGroups(plan)
        tiles = [sum(1 for _ in groups.tiles(group)) for group in groups.all()]
        begin, early = time.perf_counter(), 0.0
        for done, _ in enumerate(executor.run(job, [Piece((parts[place],)) for place in chosen])):
            early = most["mb"] if done == len(chosen) // 2 else early
        seconds = time.perf_counter() - begin
    total = seconds * sum(tiles) / sum(tiles[place] for place in chosen)
    print(f"{len(chosen)} of {len(parts)} groups in {seconds:.1f} s: all in {total / 3600:.1f} h on two cores")
    return {
        "sampled_count": options.sampled,
        "sampled_groups": len(chosen),
        "sampled_seconds": round(seconds, 1),
        "sampled_total_hours": round(total / 3600, 2),
        "sampled_worker_mb": round(most["mb"]),
        "sampled_worker_mb_at_half": round(early),
    }


def photographs(count: int | None) -> FaceDataset:
    try:
        dataset = load_dataset("lfw")
    except UserError:
        dataset = load_dataset("orl_faces")
    return dataset if count is None else dataset.take(np.arange(min(count, len(dataset))), "benchmark")


def noise(count: int) -> Iterator[np.ndarray]:
    """Seeded random unit vectors, some at a time."""
    random = np.random.default_rng(0)
    for start in range(0, count, CHUNK):
        vectors = random.standard_normal((min(CHUNK, count - start), SIZE), np.float32)
        yield vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def made_up(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Seeded embeddings that cluster by person."""
    people = np.arange(count) // IMAGES_A_PERSON
    centres = np.random.default_rng(1).standard_normal((people[-1] + 1, SIZE), np.float32) / SIZE**0.5
    vectors = np.concatenate(list(noise(count)))
    vectors += centres[people]
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), people


def bare_product(vectors: np.ndarray) -> float:
    """Seconds of the float32 products of all tiles, on all cores; of many from every tenth."""
    starts = [(row, column) for row in range(0, len(vectors), TILE) for column in range(row, len(vectors), TILE)]
    chosen = starts if len(starts) < 1000 else starts[:: len(starts) // 1000]
    begin = time.perf_counter()
    for row, column in chosen:
        vectors[row : row + TILE] @ vectors[column : column + TILE].T
    return (time.perf_counter() - begin) * len(starts) / len(chosen)


@contextmanager
def empty_cache() -> Iterator[None]:
    """An empty cache folder, with the weights and the prepared data of the user's."""
    before, own = os.environ.get("TFFACE_CACHE"), cache_dir()
    with tempfile.TemporaryDirectory() as folder:
        for part in ("packages", "weights", "datasets"):
            Path(folder, part).symlink_to(cache_dir(part))
        os.environ["TFFACE_CACHE"] = folder
        try:
            yield
        finally:
            os.environ["TFFACE_CACHE"] = before or str(own)


@contextmanager
def memory() -> Iterator[dict[str, float]]:
    """The largest resident set, in MB, of any worker process below this one; looked at twice a second."""
    import psutil

    most, stop = {"mb": 0.0}, threading.Event()

    def look() -> None:
        me = psutil.Process()
        while not stop.wait(0.5):
            for process in me.children(recursive=True):
                try:
                    if process.name().startswith("ray::") or "default_worker" in " ".join(process.cmdline()):
                        most["mb"] = max(most["mb"], process.memory_info().rss / 1e6)
                except psutil.Error:
                    continue

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield most
    finally:
        stop.set()
        thread.join()


if __name__ == "__main__":
    main()
