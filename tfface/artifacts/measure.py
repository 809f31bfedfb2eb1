"""Time and memory of artifacts.

`python -m tfface.artifacts.measure ARTIFACT` embeds one image and prints the most megabytes that it held.
"""

import functools
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tfface.artifacts.artifact import open_artifact, to_bytes
from tfface.utils.public import UserError, median_milliseconds

if TYPE_CHECKING:
    from tfface.models._embedder import Embedder


def milliseconds(embedders: "Mapping[str, Embedder]", *, rounds: int = 30) -> dict[str, float]:
    """Return the median time of one image, of each embedder by turns, so that other load falls on all alike.

    One that takes bytes is given them, so that rounding is no part of its time.

    Args:
        embedders: by name.
        rounds: timed calls of each.
    """

    def images(turn: int) -> dict[str, np.ndarray]:
        return {name: _image(embedder, turn) for name, embedder in embedders.items()}

    def embed(name: str, given: Mapping[str, np.ndarray]) -> np.ndarray:
        return embedders[name].embed(given[name])

    functions = [functools.partial(embed, name) for name in embedders]
    return dict(zip(embedders, median_milliseconds(functions, images, rounds=rounds), strict=True))


def _image(embedder: "Embedder", turn: int) -> np.ndarray:
    size = embedder.preset.input_size
    image = np.random.default_rng(turn).random((1, size, size, 3), np.float32)
    return to_bytes(image) if getattr(embedder, "takes_bytes", False) else image


def peak_megabytes(path: Path) -> float:
    """Return the most resident memory of a fresh process that opens an artifact and embeds one image.

    Raises:
        UserError: it cannot be run.
    """
    root = Path(__file__).parents[2]  # `-m` finds this package there, whatever the current folder
    command = [sys.executable, "-m", "tfface.artifacts.measure", str(path.resolve())]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["it says nothing"]
        raise UserError(f"{path} cannot be run in a process of its own: {last[0]}")
    return float(done.stdout.split()[-1])


def _after_one_image(path: str) -> float:
    """Embed one image and return the most megabytes that this process held."""
    artifact = open_artifact(Path(path))
    size = artifact.preset.input_size
    artifact.embedder(as_bytes=True).embed(np.zeros((1, size, size, 3), np.float32))
    return _most_kilobytes() / 1024


def _most_kilobytes() -> float:
    status = Path("/proc/self/status")
    if not status.exists():  # not Linux
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # On Linux a process inherits `ru_maxrss` from the one that started it.
    return float(next(line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM")))


if __name__ == "__main__":
    print(_after_one_image(sys.argv[1]))
