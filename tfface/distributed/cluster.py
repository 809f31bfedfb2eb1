"""Workers at the address of a Ray cluster, checked before any work: the same versions, one cache folder for all."""

import contextlib
import importlib.metadata
import logging
import os
import re
import secrets
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tfface import __version__
from tfface.distributed.executor import LOCAL, Executor
from tfface.errors import UserError
from tfface.utils.files import cache_dir
from tfface.utils.tensorflow_logs import held_stderr

MOST_LOCAL = 64
_SECONDS_TO_ANSWER = 10
_SECONDS_TO_CHECK = 120
_ROOT = Path(__file__).parents[2]
_PACKAGES = ("tensorflow", "keras", "numpy", "opencv-contrib-python-headless", "pyarrow")
_OBJECTS = 2**27
"""Bytes of memory that processes share here: jobs are sent through it, and nothing large."""
_LOOPBACK = "127.0.0.1"
"""The one address at which Ray's servers listen to this machine alone."""
_SECRET = secrets.token_hex(32)
"""Keeps other users of this machine off the nodes that this process starts."""


@contextlib.contextmanager
def executor_at(address: str | None) -> Iterator[Executor]:
    """Yield the workers of a cluster, or this process where none is named.

    Args:
        address: `auto`, `ray://HOST:PORT`, `HOST:PORT`, or `local:N` for N workers on this machine.

    Raises:
        UserError: Ray is not installed, nobody answers there, or a node is not fit for work.

    Example:
        >>> with executor_at(None) as executor:
        ...     executor.together is None
        True
    """
    if address is None:
        yield LOCAL
        return
    local = local_workers(address)
    settle_ray()
    with _on_this_machine(local) if local else _connected(address) as nodes:
        from tfface.distributed.pool import Pool

        fit = check_nodes(nodes)
        if not fit:
            raise _failed(address, "no node of it answers")
        yield Pool(_shares(fit[0], local) if local else fit, _environment())


def local_workers(address: str) -> int:
    """Return how many workers on this machine an address asks for; 0 where it is one of a cluster.

    Raises:
        UserError: it is no address.

    >>> local_workers("local:2"), local_workers("10.0.0.1:6379")
    (2, 0)
    """
    found = re.fullmatch(r"local:(\d{1,3})", address)
    if found and 1 <= int(found[1]) <= MOST_LOCAL:
        return int(found[1])
    if address != "auto" and (found or not re.fullmatch(r"(ray://)?[^:/\s]+:\d{1,5}", address)):
        raise _failed(address, f"give auto, ray://HOST:PORT, HOST:PORT, or local:N with N from 1 to {MOST_LOCAL}")
    return 0


def settle_ray() -> None:
    """Import Ray so that it reports to nobody, and speaks only of errors."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    try:
        import ray
    except ImportError as error:
        needed = "`cluster` needs Ray: pip install 'tfface[cluster]'"
        raise UserError(needed, parameter="cluster") from error
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    from ray._private import worker

    # What nodes and retries have to say would go to stdout, and no setting of Ray's keeps it from there.
    worker.print_to_stdstream = lambda *_, **__: None
    if ray.is_initialized():
        raise UserError("`cluster`: this process is on a Ray cluster already", parameter="cluster")


@contextlib.contextmanager
def _on_this_machine(workers: int) -> Iterator[list[dict[str, Any]]]:
    """Start a node here that nobody else reaches, and yield it; it ends with this process, even if that is killed."""
    # Ray takes the secret from here, and writes none into the home folder.
    secret = {"RAY_AUTH_TOKEN": os.environ.get("RAY_AUTH_TOKEN", _SECRET)}
    with private_ray() as folder, _variables(secret):
        options: dict[str, Any] = {
            "address": "local",
            "num_cpus": workers,
            "include_dashboard": False,
            "object_store_memory": _OBJECTS,
            "_node_ip_address": _LOOPBACK,
            "_temp_dir": folder,
        }
        with _joined(f"local:{workers}", **options) as nodes:
            yield nodes


@contextlib.contextmanager
def private_ray() -> Iterator[str]:
    """Let Ray's servers, started meanwhile, listen to this machine alone, and leave nothing behind.

    Yields:
        A folder for their sockets and logs.
    """
    from ray._private import ray_constants

    # Or Ray takes 127.0.0.1 for a name of the machine's outward address.
    flag = ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR
    before, ray_constants.ENABLE_RAY_CLUSTER = ray_constants.ENABLE_RAY_CLUSTER, False
    try:
        with _folder() as folder, _variables({flag: "0", "RAY_TMPDIR": folder}):
            yield folder
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


def _shares(node: dict[str, Any], workers: int) -> list[dict[str, Any]]:
    """Return a node once for each worker, with its share of the machine's cores and cards."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        cores = os.cpu_count() or 1
    cards = node["Resources"].get("GPU", 0) / workers
    resources = {**node["Resources"], "CPU": max(1, cores // workers), "GPU": int(cards * 10_000) / 10_000}
    return [{**node, "Resources": resources}] * workers


@contextlib.contextmanager
def _connected(address: str) -> Iterator[list[dict[str, Any]]]:
    """Yield the nodes of the cluster at an address that can be worked on."""
    _knock(address)
    with _joined(address, address=address) as nodes:
        yield nodes


@contextlib.contextmanager
def _joined(name: str, **options: Any) -> Iterator[list[dict[str, Any]]]:
    """Yield the nodes that have cores, as long as this process is on their cluster.

    Args:
        name: the address as it was given.
        options: of `ray.init`.
    """
    import ray

    ended = signal.getsignal(signal.SIGTERM)
    try:
        with held_stderr():
            ray.init(
                namespace=f"tfface-{secrets.token_hex(4)}",
                runtime_env={"env_vars": _environment()},
                log_to_driver=False,
                logging_level=logging.CRITICAL,
                **options,
            )
    except (ConnectionError, TimeoutError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise _failed(name, _reason(error)) from error
    # Ray's own handler would print the stack of who is asked to end.
    signal.signal(signal.SIGTERM, ended or signal.SIG_DFL)
    try:
        nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]
        if not nodes:
            raise _failed(name, "no node of it has a core to give: start Ray with some (num-cpus)")
        yield nodes
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Fail at once where nobody listens, for which Ray takes minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host:
        return
    try:
        socket.create_connection((host, int(port)), timeout=_SECONDS_TO_ANSWER).close()
    except (OSError, OverflowError) as error:
        reason = f"nobody answers there ({error}): start Ray on it, or give another address"
        raise _failed(address, reason) from error


def _failed(address: str, reason: str) -> UserError:
    return UserError(f"`cluster` {address}: {reason}", parameter="cluster")


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    if "ersion mismatch" in text or "versions differ" in text:
        return f"install the same Ray and Python on all nodes and here: {text[:300]}"
    if "Could not find any running Ray instance" in text:
        return "no Ray runs on this machine: start it (ray start), or give its address"
    return text[:300]


def _environment() -> dict[str, str]:
    """Return what workers must have in common with this process: the cache, and the code."""
    own = {name: value for name, value in os.environ.items() if name.startswith("TFFACE_") and value}
    path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH", "")]))
    return {
        **own,
        "TFFACE_CACHE": str(cache_dir().absolute()),
        "PYTHONPATH": path,
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
    }


def check_nodes(nodes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Have every node write into the cache folder and say which versions it runs.

    Args:
        nodes: as `ray.nodes()` has them.

    Returns:
        Those that are fit; one that died before it was noticed is left out.

    Raises:
        UserError: one does not see this machine's cache, cannot write it, or runs other versions; says which.
    """
    import ray
    from ray.exceptions import RayError, RayTaskError, TaskUnschedulableError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

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
                found = ray.get(asked[node["NodeID"]], timeout=_SECONDS_TO_CHECK)
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
    """Return what a node says of itself; runs there.

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
    """Return the versions that results depend on."""
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


@contextlib.contextmanager
def _folder() -> Iterator[str]:
    """Yield a folder that goes with the nodes; in Ray's own, those of every run would stay."""
    for left in Path("/tmp").glob("tfr-*-*"):
        if Path("/proc").is_dir() and not Path("/proc", left.name.split("-")[1]).exists():
            shutil.rmtree(left, ignore_errors=True)  # its process was killed
    # Short, since the path of a socket may have but 107 characters.
    folder = tempfile.mkdtemp(prefix=f"tfr-{os.getpid()}-", dir="/tmp")
    # Where Ray notes the address of the nodes for others on this machine.
    Path(folder, "ray").mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _variables(values: dict[str, str]) -> Iterator[None]:
    """Set environment variables for a while."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
