"""`--cluster`: what is no address, where nobody answers, and nodes that are not fit for work."""

import builtins
import functools
import importlib.util
import socket
import sys

import pytest

from tfface.distributed import cluster
from tfface.distributed.cluster import executor_at, local_workers
from tfface.distributed.executor import LOCAL
from tfface.errors import UserError

ray_is_here = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")


def test_none_is_this_process():
    with executor_at(None) as executor:
        assert executor is LOCAL


def test_addresses():
    assert [local_workers(f"local:{count}") for count in (1, 3, 64)] == [1, 3, 64]
    assert [local_workers(each) for each in ("auto", "ray://head.example:10001", "10.0.0.1:6379")] == [0, 0, 0]


@pytest.mark.parametrize("text", ["local:0", "local:65", "local:x", "local", "", "ray://", "host", "http://a:1", "a:b"])
def test_what_is_no_address(text):
    with pytest.raises(UserError, match=r"^`cluster` .*: give auto, ray://HOST:PORT, HOST:PORT, or local:N"):
        local_workers(text)


def test_without_ray_one_line_says_what_to_install(monkeypatch, refused, tiny_faces):
    real = builtins.__import__

    def absent(name, *args, **named):
        if name.split(".")[0] == "ray":
            raise ImportError(name)
        return real(name, *args, **named)

    monkeypatch.setattr(builtins, "__import__", absent)
    for name in [name for name in sys.modules if name.split(".")[0] == "ray"]:
        monkeypatch.delitem(sys.modules, name)
    for command in ("evaluate", "mine", "attack"):
        line = refused(command, "--model", "student", "--dataset", tiny_faces, "--cluster", "local:2")
        assert line == "error: --cluster needs Ray: pip install 'tfface[cluster]'"
    line = refused("embed", tiny_faces, "--model", "student", "--out", tiny_faces / "x.npz", "--cluster", "auto")
    assert line == "error: --cluster needs Ray: pip install 'tfface[cluster]'"


@ray_is_here
@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_nobody_answers(refused, tiny_faces, scheme):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = f"{scheme}127.0.0.1:{free.getsockname()[1]}"
        line = refused("evaluate", "--model", "student", "--dataset", tiny_faces, "--cluster", place)
    assert line.startswith(f"error: --cluster {place}: nobody answers there (")


@ray_is_here
def test_no_ray_on_this_machine(refused, tiny_faces, tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    # Another's may run here while this is tested.
    monkeypatch.setattr("ray._private.services.find_gcs_addresses", functools.cache(set))
    line = refused("evaluate", "--model", "student", "--dataset", tiny_faces, "--cluster", "auto")
    assert line == "error: --cluster auto: no Ray runs on this machine: start it (ray start), or give its address"


def test_another_version_of_ray_or_python():
    said = RuntimeError("Version mismatch: The cluster was started with:\n    Ray: 2.9.0\n    Python: 3.10.1\nThis ...")
    assert cluster._reason(said).startswith("install the same Ray and Python on all nodes and here: Version mismatch")


@ray_is_here
class TestChecks:
    def test_a_node_that_sees_another_cache(self, tmp_path):
        with pytest.raises(UserError, match=r"^node 10.0.0.3 does not see .*: set TFFACE_CACHE to a folder that all"):
            cluster._compare("10.0.0.3", cluster.look(str(tmp_path / "elsewhere"), "n"), tmp_path / "n")

    def test_a_node_that_cannot_write(self, tmp_path):
        (tmp_path / "driver").touch()
        (tmp_path / "n").mkdir()  # no file can be written there, not even by root
        with pytest.raises(UserError, match=r"^node 10.0.0.3 cannot write \(Is a directory\) .*: set TFFACE_CACHE"):
            cluster._compare("10.0.0.3", cluster.look(str(tmp_path), "n"), tmp_path / "n")

    def test_what_a_node_writes_must_be_seen_here(self, tmp_path):
        (tmp_path / "driver").touch()
        found = cluster.look(str(tmp_path), "n")
        cluster._compare("10.0.0.3", found, tmp_path / "n")
        with pytest.raises(UserError, match=r"^what node 10.0.0.3 writes into .* is not seen here"):
            cluster._compare("10.0.0.3", found, tmp_path / "another")

    def test_a_node_with_other_versions(self, tmp_path):
        (tmp_path / "n").touch()
        other = {**cluster.versions(), "tensorflow": "2.20.0"}
        with pytest.raises(UserError, match=r"^node 10.0.0.3 runs tensorflow 2\.20\.0, this machine 2\.\d+.*: install"):
            cluster._compare("10.0.0.3", other, tmp_path / "n")
