"""From `--cluster ADDRESS` to workers that are fit for work, and back to nothing when it is done."""

import contextlib
import logging
import os
import re
import secrets
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tfface.distributed.executor import LOCAL, Executor
from tfface.distributed.ray_local import nodes_here
from tfface.errors import UserError
from tfface.utils.files import cache_dir
from tfface.utils.tensorflow_logs import held_stderr

MOST_LOCAL = 64
_SECONDS_TO_ANSWER = 10
_ROOT = Path(__file__).parents[2]


@contextlib.contextmanager
def executor_at(address: str | None) -> Iterator[Executor]:
    """The workers of a cluster; this process where none is named.

    Args:
        address: `auto`, `ray://HOST:PORT`, `HOST:PORT`, or `local:N` for N nodes on this machine.

    Raises:
        UserError: Ray is not installed, nobody answers there, or a node is not fit for work.
    """
    if address is None:
        yield LOCAL
        return
    local = local_nodes(address)
    settle_ray()
    with nodes_here(local) if local else contextlib.nullcontext(address) as place, _connected(str(place)) as nodes:
        from tfface.distributed.ray_checks import check_nodes
        from tfface.distributed.ray_pool import Pool

        fit = check_nodes(nodes)
        if not fit:
            raise UserError(f"--cluster {address}: no node of it answers")
        yield Pool(fit, _environment())


def local_nodes(address: str) -> int:
    """How many nodes on this machine an address asks for; 0 where it is one of a cluster.

    Raises:
        UserError: it is no address.
    """
    found = re.fullmatch(r"local:(\d{1,3})", address)
    if found and 1 <= int(found[1]) <= MOST_LOCAL:
        return int(found[1])
    if address != "auto" and (found or not re.fullmatch(r"(ray://)?[^:/\s]+:\d{1,5}", address)):
        raise UserError(
            f"--cluster {address}: give auto, ray://HOST:PORT, HOST:PORT, or local:N with N from 1 to {MOST_LOCAL}"
        )
    return 0


def settle_ray() -> None:
    """Imports Ray so that it reports to nobody, and speaks only of errors."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    try:
        import ray
    except ImportError as error:
        raise UserError("--cluster needs Ray: pip install -r requirements-cluster.txt") from error
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    from ray._private import worker

    # What nodes and retries have to say would go to stdout, and no setting of Ray's keeps it from there.
    worker.print_to_stdstream = lambda *_, **__: None
    if ray.is_initialized():
        raise UserError("--cluster: this process is on a Ray cluster already")


@contextlib.contextmanager
def _connected(address: str) -> Iterator[list[dict[str, Any]]]:
    """The nodes of the cluster at an address that can be worked on, as long as this process is on it."""
    import ray

    _knock(address)
    ended = signal.getsignal(signal.SIGTERM)
    try:
        with held_stderr():
            ray.init(
                address=address,
                namespace=f"tfface-{secrets.token_hex(4)}",
                runtime_env={"env_vars": _environment()},
                log_to_driver=False,
                logging_level=logging.CRITICAL,
            )
    except (ConnectionError, TimeoutError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise UserError(f"--cluster {address}: {_reason(error)}") from error
    # Ray's own handler would print the stack of who is asked to end.
    signal.signal(signal.SIGTERM, ended or signal.SIG_DFL)
    try:
        nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]
        if not nodes:
            raise UserError(f"--cluster {address}: no node of it has a core to give (ray start --num-cpus)")
        yield nodes
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Finds out at once that nobody listens, for which Ray takes minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host:
        return
    try:
        socket.create_connection((host, int(port)), timeout=_SECONDS_TO_ANSWER).close()
    except (OSError, OverflowError) as error:
        raise UserError(
            f"--cluster {address}: nobody answers there ({error}): start Ray on it, or give another address"
        ) from error


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    if "ersion mismatch" in text or "versions differ" in text:
        return f"install the same Ray and Python on all nodes and here: {text[:300]}"
    if "Could not find any running Ray instance" in text:
        return "no Ray runs on this machine: start it (ray start --head), or give its address"
    return text[:300]


def _environment() -> dict[str, str]:
    """What workers must have in common with this process: the cache, and the code."""
    own = {name: value for name, value in os.environ.items() if name.startswith("TFFACE_") and value}
    path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH", "")]))
    return {
        **own,
        "TFFACE_CACHE": str(cache_dir().absolute()),
        "PYTHONPATH": path,
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
    }
