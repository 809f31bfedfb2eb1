"""Many clients of one server at once: no wrong answer, no lost answer, and memory that stays flat.

    PYTHONPATH=. python benchmarks/serving.py [--model facenet/msceleb] [--clients 32] [--seconds 60]

The clients, three in four over gRPC and the others over REST, ask for one to four photographs a call,
broken ones among them, and compare every answer with that of the SavedModel called alone. Without
--server the stand-in of the tests is started, in a process of its own, which merges requests as
TensorFlow Serving does; its memory is read, and so is that of the clients. With --server (its REST
port being one higher) a real one is asked, which serves the artifact in --out. The last line is one
JSON object.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfface.artifacts.artifact import Artifact, SavedModelEmbedder
from tfface.errors import UserError
from tfface.serving.client import Client, Photograph

ROOT = Path(__file__).resolve().parents[1]
TOLERANCE = 1e-4
"""Of any value: batches of another size round otherwise."""
MOST = 4
"""Photographs in a call."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="facenet/msceleb")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--server", help="HOST:PORT of its gRPC; its REST port is one higher")
    parser.add_argument("--out", type=Path, help="keeps the artifact, and takes the one that is there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        artifact = _artifact(options.model, options.out or Path(folder))
        files, expected = _questions(artifact)
        if options.server:
            host, _, port = options.server.rpartition(":")
            servers = {"grpc": options.server, "rest": f"{host}:{int(port) + 1}"}
            found = stress(servers, artifact.name, files, expected, clients=options.clients, seconds=options.seconds)
        else:
            found = _with_stand_in(artifact, files, expected, options)
    print(json.dumps({"clients": options.clients, **found}))


def stress(
    servers: dict[str, str],
    name: str,
    files: Sequence[bytes],
    expected: Sequence[np.ndarray | None],
    *,
    clients: int,
    seconds: float,
) -> dict[str, Any]:
    """Asks from many threads at once.

    Args:
        servers: address by protocol.
        name: of the served model.
        files: photographs, broken ones among them.
        expected: the embedding of each; None of a broken one.
        clients: threads, each with a connection of its own.
        seconds: how long.
    """
    counts: Counter[str] = Counter()
    errors: list[str] = []
    guard = threading.Lock()
    end = time.monotonic() + seconds

    def ask(number: int) -> None:
        own: Counter[str] = Counter()
        draw = random.Random(number)
        protocol = "rest" if number % 4 == 3 else "grpc"
        try:
            with Client(servers[protocol], protocol=protocol, model=name, deadline=120) as client:
                while time.monotonic() < end:
                    chosen = draw.choices(range(len(files)), k=draw.randint(1, MOST))
                    own["asked"] += len(chosen)
                    vectors, valid = client.ask([Photograph(files[place]) for place in chosen])
                    own["answered"] += len(valid)
                    own["wrong"] += sum(
                        not _right(vector, bool(good), expected[place])
                        for place, vector, good in zip(chosen, vectors, valid, strict=True)
                    )
        except UserError as error:
            errors.append(str(error))
        with guard:
            counts.update(own)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for error in errors[:3]:
        print(error, file=sys.stderr)
    return {
        "seconds": seconds,
        "answered": counts["answered"],
        "wrong": counts["wrong"],
        "lost": counts["asked"] - counts["answered"],
        "clients_that_failed": len(errors),
    }


def _right(vector: np.ndarray, valid: bool, expected: np.ndarray | None) -> bool:
    if expected is None or not valid:
        return expected is None and not valid
    return bool(np.abs(vector - expected).max() <= TOLERANCE)


def _artifact(model: str, out: Path) -> Artifact:
    from tfface.artifacts.artifact import fixed_recipe
    from tfface.artifacts.making import Order, make
    from tfface.models._embedder import load_embedder

    embedder = load_embedder(model, offline=True)
    return make(Order(embedder, fixed_recipe(None, embedder.preset), "savedmodel", "none"), out)


def _questions(artifact: Artifact) -> tuple[list[bytes], list[np.ndarray | None]]:
    """Photographs, one in eight broken, and what the SavedModel answers to each alone."""
    from tfface.artifacts.golden import drawn_photograph, jpeg_of

    files = [jpeg_of(drawn_photograph(seed)) for seed in range(32)]
    files = [data[:-3000] if place % 8 == 7 else data for place, data in enumerate(files)]
    reader = artifact.embedder()
    assert isinstance(reader, SavedModelEmbedder)
    answers = [reader.call("embed_jpeg", file=[data]) for data in files]
    return files, [answer["embedding"][0] if answer["valid"][0] else None for answer in answers]


def _with_stand_in(
    artifact: Artifact, files: Sequence[bytes], expected: Sequence[np.ndarray | None], options: argparse.Namespace
) -> dict[str, Any]:
    command = [sys.executable, str(ROOT / "tests/serving/stand_in.py"), str(artifact.path.parent)]
    quiet = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}  # the decoder has a line for every broken photograph
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=quiet)
    assert process.stdin and process.stdout
    try:
        servers = json.loads(process.stdout.readline())
        # At first memory grows with the first batch of every size.
        stress(servers, artifact.name, files, expected, clients=options.clients, seconds=options.seconds / 4)
        memory = _Memory({"server": process.pid, "clients": None})
        found = stress(servers, artifact.name, files, expected, clients=options.clients, seconds=options.seconds)
        growth = memory.growth()
        process.stdin.close()
        merged = json.loads(process.stdout.readline())
    finally:
        process.terminate()
        process.wait()
    return {**found, "mean_batch": round(merged["photographs"] / merged["batches"], 2), **growth}


class _Memory:
    """Resident memory of processes, once a second: by what the last third's median exceeds the first's."""

    def __init__(self, pids: dict[str, int | None]) -> None:
        self._paths = {name: Path("/proc", str(pid or "self"), "status") for name, pid in pids.items()}
        self._samples: dict[str, list[float]] = {name: [] for name in pids}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def growth(self) -> dict[str, float]:
        self._ended.set()
        self._thread.join()
        found = {}
        for name, samples in self._samples.items():
            third = max(1, len(samples) // 3)
            first, last = float(np.median(samples[:third])), float(np.median(samples[-third:]))
            print(f"{name}: {first:.0f} MB, then {last:.0f} MB")
            found[f"{name}_memory_growth"] = round(last / first, 3)
        return found

    def _watch(self) -> None:
        while not self._ended.wait(1):
            for name, path in self._paths.items():
                lines = path.read_text().splitlines()
                self._samples[name].append(next(int(line.split()[1]) for line in lines if "VmRSS" in line) / 1024)


if __name__ == "__main__":
    main()
