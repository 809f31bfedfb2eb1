"""A run on workers of this machine whose driver is killed and started again: it ends as an undisturbed one does."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("ray", reason="Ray is not installed (requirements-cluster.txt)")
pytestmark = [pytest.mark.cluster, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
CHANGES = ("started", "seconds")


@pytest.fixture
def people(tmp_path) -> Path:
    """1,100 small photographs, of which the shards are of 512, of 11 people."""
    generator = np.random.default_rng(0)
    for person in range(11):
        folder = tmp_path / "people" / f"p{person}"
        folder.mkdir(parents=True)
        pattern = cv2.resize(generator.integers(0, 256, (4, 4, 3)).astype(np.uint8), (40, 40), interpolation=0)
        for number in range(100):
            pixels = np.clip(pattern + generator.normal(0, 40, pattern.shape), 0, 255).astype(np.uint8)
            (folder / f"{number}.jpg").write_bytes(cv2.imencode(".jpg", pixels)[1].tobytes())
    return tmp_path / "people"


def command(people: Path, out: Path, *more: str) -> list[str]:
    given = ["--model", "student", "--recipe", "whole", "--dataset", str(people), "--offline", "--out", str(out)]
    return [sys.executable, str(ROOT / "cli.py"), "evaluate", *given, *more]


def result(out: Path) -> dict:
    return {key: value for key, value in json.loads((out / "metrics.json").read_text()).items() if key not in CHANGES}


def test_a_killed_driver_goes_on_where_it_was(people, tmp_path, cache):
    alone, killed = tmp_path / "alone", tmp_path / "killed"
    stamps = {}
    for kind in ("embeddings", "pair-scores"):
        begun = subprocess.Popen(command(people, killed, "--cluster", "local:2"), stderr=subprocess.PIPE)
        deadline = time.monotonic() + 120
        while not (shards := list(cache.glob(f"{kind}/*/rows-*.parquet"))) and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(begun.pid, signal.SIGKILL)
        begun.wait()
        assert shards, begun.stderr.read()
        stamps |= {path: path.stat().st_mtime_ns for path in shards}
    done = subprocess.run(
        command(people, killed, "--cluster", "local:2"), capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps, "what was done is not done again"
    assert "raylet" not in done.stdout + done.stderr
    environment = {**os.environ, "TFFACE_CACHE": str(tmp_path / "another")}
    subprocess.run(command(people, alone), env=environment, capture_output=True, check=True)
    ours, theirs = result(killed), result(alone)
    assert ours.keys() == theirs.keys()
    assert ours["genuine"]["count"] == 11 * 100 * 99 // 2
    assert rounded(ours) == rounded(theirs)


def rounded(value):
    """A result with its floats at six digits."""
    if isinstance(value, dict):
        return {key: rounded(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [rounded(entry) for entry in value]
    return round(value, 6) if isinstance(value, float) else value
