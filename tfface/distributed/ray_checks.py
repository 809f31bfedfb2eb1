"""Whether nodes are fit for work: the same versions, and one cache folder that all of them write."""

import contextlib
import importlib.metadata
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError, TaskUnschedulableError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tfface import __version__
from tfface.errors import UserError
from tfface.utils.files import cache_dir

_SECONDS = 120
_PACKAGES = ("tensorflow", "keras", "numpy", "opencv-contrib-python-headless", "pyarrow")


def check_nodes(nodes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Has every node write into the cache folder and say which versions it runs.

    Args:
        nodes: as `ray.nodes()` has them.

    Returns:
        Those that are fit; one that died before it was noticed is left out.

    Raises:
        UserError: one does not see this machine's cache, cannot write it, or runs other versions; says which.
    """
    fit = []
    with _probe() as folder:
        asked = {
            node["NodeID"]: ray.remote(look)
            .options(num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False))
            .remote(str(folder), node["NodeID"])
            for node in nodes
        }
        for node in nodes:
            name = node["NodeManagerAddress"]
            try:
                found = ray.get(asked[node["NodeID"]], timeout=_SECONDS)
            except TaskUnschedulableError:
                continue
            except RayTaskError as error:
                cause = error.cause if isinstance(error.cause, BaseException) else error
                raise UserError(f"node {name} cannot work: {type(cause).__name__}: {cause}"[:400]) from error
            except (RayError, TimeoutError) as error:
                raise UserError(f"node {name} does not answer: {type(error).__name__} {error}"[:400]) from error
            _compare(name, found, folder / node["NodeID"])
            fit.append(node)
    return fit


def look(folder: str, name: str) -> dict[str, str]:
    """What a node says of itself; runs there.

    Args:
        folder: of the probe.
        name: of the file to write there.
    """
    if not Path(folder, "driver").exists():
        return {"trouble": "does not see"}
    try:
        Path(folder, name).write_text(name)
    except OSError as error:
        return {"trouble": f"cannot write ({error.strerror})"}
    return versions()


def versions() -> dict[str, str]:
    """The versions that results depend on."""
    found = {"tfface": __version__}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "none"
    return found


def _compare(name: str, found: dict[str, str], written: Path) -> None:
    place = cache_dir().absolute()
    if trouble := found.get("trouble"):
        raise UserError(f"node {name} {trouble} {place}: set TFFACE_CACHE to a folder that all nodes share and write")
    if not written.exists():
        raise UserError(f"what node {name} writes into {place} is not seen here: set TFFACE_CACHE to a shared folder")
    for package, version in versions().items():
        if found[package] != version:
            raise UserError(f"node {name} runs {package} {found[package]}, this machine {version}: install the same")


@contextlib.contextmanager
def _probe() -> Iterator[Path]:
    folder = cache_dir().absolute() / f".probe-{secrets.token_hex(8)}"
    folder.mkdir()
    try:
        (folder / "driver").write_text(str(os.getpid()))
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
