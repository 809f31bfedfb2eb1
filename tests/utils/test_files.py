"""Files that are whole or absent, and the ways a disk says no."""

import errno
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import filelock
import pytest

from tfface.errors import UserError
from tfface.utils import files

ROOT = Path(__file__).parents[2]


def disk_says(number: int):
    def fail(*arguments, **options):
        raise OSError(number, os.strerror(number))

    return fail


def write(path: Path, text: str) -> None:
    with files.atomic_write(path) as temporary:
        temporary.write_text(text)


class TestAtomicWrite:
    def test_makes_folders_and_leaves_nothing_else(self, tmp_path):
        write(tmp_path / "a" / "b.txt", "new")
        assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.txt"]
        assert (tmp_path / "a" / "b.txt").read_text() == "new"

    def test_the_temporary_file_keeps_the_suffix(self, tmp_path):
        with files.atomic_write(tmp_path / "x.npz") as temporary:
            assert temporary.suffix == ".npz"
            assert temporary.parent == tmp_path

    def test_a_failing_writer_leaves_the_old_file(self, tmp_path):
        write(tmp_path / "a", "old")
        with pytest.raises(RuntimeError), files.atomic_write(tmp_path / "a") as temporary:
            temporary.write_text("half")
            raise RuntimeError
        assert (tmp_path / "a").read_text() == "old"
        assert len(list(tmp_path.iterdir())) == 1

    def test_the_old_file_stands_until_the_new_one_is_whole(self, tmp_path):
        write(tmp_path / "a", "old")
        with files.atomic_write(tmp_path / "a") as temporary:
            temporary.write_text("new")
            assert (tmp_path / "a").read_text() == "old"
        assert (tmp_path / "a").read_text() == "new"

    @pytest.mark.parametrize("where", ["os.fsync", "os.open", "pathlib.Path.replace"])
    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
    def test_a_full_disk_is_one_line_and_loses_nothing(self, tmp_path, monkeypatch, where, number):
        write(tmp_path / "a", "old")
        monkeypatch.setattr(where, disk_says(number))
        with pytest.raises(UserError, match=r"^no space left to write .*/a: free some, or set TFFACE_CACHE"):
            write(tmp_path / "a", "new")
        assert (tmp_path / "a").read_text() == "old"
        assert len(list(tmp_path.iterdir())) == 1

    def test_a_disk_that_may_only_be_read(self, tmp_path, monkeypatch):
        monkeypatch.setattr("os.open", disk_says(errno.EROFS))
        with pytest.raises(UserError, match=r"^cannot write .*/a: set TFFACE_CACHE or the output folder"):
            write(tmp_path / "a", "new")

    def test_a_file_where_a_folder_is_needed(self, tmp_path):
        (tmp_path / "a").write_text("a file")
        with pytest.raises(UserError, match=r"a file stands where a folder is needed"):
            write(tmp_path / "a" / "b", "new")

    def test_a_folder_where_a_file_is_needed(self, tmp_path):
        (tmp_path / "a").mkdir()
        with pytest.raises(UserError, match=r"a folder stands where a file is needed"):
            write(tmp_path / "a", "new")
        assert [path.name for path in tmp_path.iterdir()] == ["a"]

    def test_other_failures_of_the_system_stay_what_they_are(self, tmp_path):
        with pytest.raises(OSError, match=r"Input/output error"), files.atomic_write(tmp_path / "a"):
            disk_says(errno.EIO)()

    def test_a_real_limit_of_the_system(self, tmp_path):
        # A file size limit stops the write inside the kernel, as a full disk does.
        code = """
            import resource, signal, sys
            from tfface.errors import UserError
            from tfface.utils.files import atomic_write
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
            try:
                with atomic_write(sys.argv[1]) as temporary:
                    temporary.write_bytes(bytes(100_000))
            except UserError as error:
                print(error)
        """
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "big")],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.startswith(f"no space left to write {tmp_path / 'big'}: ")
        assert list(tmp_path.iterdir()) == []


class TestCacheDir:
    def test_tfface_cache_comes_first(self, cache):
        assert files.cache_dir() == cache
        assert files.cache_dir("a", "b") == cache / "a" / "b"
        assert (cache / "a" / "b").is_dir()

    def test_else_the_system_s(self, tmp_path, monkeypatch):
        monkeypatch.delenv("TFFACE_CACHE")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert files.cache_dir() == tmp_path / "tfface"

    def test_else_the_home_folder_s(self, tmp_path, monkeypatch):
        monkeypatch.delenv("TFFACE_CACHE")
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        monkeypatch.setenv("HOME", str(tmp_path))
        assert files.cache_dir() == tmp_path / ".cache" / "tfface"

    def test_a_file_in_its_place(self, tmp_path, monkeypatch):
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("TFFACE_CACHE", str(tmp_path / "file"))
        for parts in ([], ["weights"]):
            with pytest.raises(UserError, match=r"a file stands where a folder is needed"):
                files.cache_dir(*parts)


class TestJson:
    def test_goes_round(self, tmp_path):
        files.write_json(tmp_path / "x.json", {"a": [1, 2.5, None]})
        assert files.read_json(tmp_path / "x.json") == {"a": [1, 2.5, None]}
        assert (tmp_path / "x.json").read_bytes().endswith(b"}\n")

    def test_nan_is_no_json(self, tmp_path):
        files.write_json(tmp_path / "x.json", 1)
        with pytest.raises(ValueError, match=r"JSON"):
            files.write_json(tmp_path / "x.json", float("nan"))
        assert files.read_json(tmp_path / "x.json") == 1

    @pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"<html>"])
    def test_what_is_no_json_is_named(self, tmp_path, content):
        (tmp_path / "x.json").write_bytes(content)
        with pytest.raises(UserError, match=r"^cannot read .*x\.json as JSON"):
            files.read_json(tmp_path / "x.json")

    def test_what_is_absent_is_named(self, tmp_path):
        with pytest.raises(UserError, match=r"^cannot read .*x\.json as JSON"):
            files.read_json(tmp_path / "x.json")


def test_sha256_of(tmp_path):
    # FIPS 180-2, appendix B.1.
    (tmp_path / "abc").write_bytes(b"abc")
    assert files.sha256_of(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_digest_of_knows_no_order_of_keys_but_every_value():
    assert files.digest_of({"a": 1, "b": [2]}) == files.digest_of({"b": [2], "a": 1})
    assert len({files.digest_of(value) for value in ({"a": 1}, {"a": "1"}, {"a": None}, {}, [])}) == 5


class TestLock:
    def test_has_one_holder(self, tmp_path):
        with files.lock(tmp_path / "x"), pytest.raises(filelock.Timeout):
            files.lock(tmp_path / "x").acquire(timeout=0)
        files.lock(tmp_path / "x").acquire(timeout=0)

    def test_is_freed_when_its_holder_is_killed(self, tmp_path):
        code = f"import time\nfrom tfface.utils.files import lock\nwith lock({str(tmp_path / 'x')!r}): time.sleep(60)"
        holder = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
        guard = files.lock(tmp_path / "x")
        try:
            wait_until(lambda: is_held(guard))
        finally:
            holder.kill()
            holder.wait()
        guard.acquire(timeout=0)

    @pytest.mark.skipif(os.geteuid() != 0, reason="needs to take another user's place")
    def test_in_a_folder_of_somebody_else(self, tmp_path_factory):
        folder = tmp_path_factory.getbasetemp() / "of-root"
        folder.mkdir(mode=0o755)
        for parent in (folder, *folder.parents[:2]):
            parent.chmod(0o755)
        os.seteuid(65534)
        try:
            for action in (lambda: files.lock(folder / "x").acquire(timeout=0), lambda: write(folder / "y", "")):
                with pytest.raises(UserError, match=r"^cannot write .*: set TFFACE_CACHE or the output folder"):
                    action()
        finally:
            os.seteuid(0)


def is_held(guard: filelock.FileLock) -> bool:
    try:
        guard.acquire(timeout=0)
    except filelock.Timeout:
        return True
    guard.release()
    return False


def wait_until(condition, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
