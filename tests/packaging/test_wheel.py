"""The package as a stranger installs it: outside of the checkout, from a wheel, never written to."""

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import cv2
import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


def build(source: Path, target: Path, kind: str) -> Path:
    """Builds without an environment of its own, so that no registry is asked."""
    command = [sys.executable, "-m", "build", "--no-isolation", f"--{kind}", "--outdir", str(target), str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (found,) = target.iterdir()
    return found


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    return build(ROOT, tmp_path_factory.mktemp("wheel"), "wheel")


@pytest.fixture(scope="module")
def site(wheel, tmp_path_factory) -> Path:
    """A folder of installed packages that holds tfface alone; the others are those of the tests."""
    folder = tmp_path_factory.mktemp("site")
    options = ["--quiet", "--disable-pip-version-check", "--no-index", "--no-deps", "--target", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(wheel)], check=True)
    return folder


@pytest.fixture
def elsewhere(tmp_path, make_photo) -> Path:
    """A folder of two photographs, with folders named as ours are."""
    folder = tmp_path / "elsewhere"
    for name in ("datasets", "saved_models", "tfface data"):
        (folder / name).mkdir(parents=True)
    (folder / "datasets" / "__init__.py").write_text("raise RuntimeError('another project')")
    for number in range(2):
        path = folder / f"{number}.png"
        path.write_bytes(cv2.imencode(".png", make_photo(number, 0, 160, 160))[1].tobytes())
    return folder


@pytest.fixture
def installed(site, elsewhere, cache):
    """Runs Python, or the installed command, in another folder; returns the finished process."""

    def run(*arguments: str, folder: Path = site) -> subprocess.CompletedProcess:
        environment = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(cache),
            "TFFACE_CACHE": str(cache),
            "PYTHONPATH": str(folder),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        return subprocess.run(
            [sys.executable, *arguments], cwd=elsewhere, env=environment, capture_output=True, text=True
        )

    return run


def contents(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_it_installs_one_name_and_holds_its_data(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"tfface"}
    assert not [name for name in names if name.endswith(".pyc") or "/tests/" in name]
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    ours = {name for name in tracked if name.startswith("tfface/")}
    ours |= {f"tfface/{name}" for name in tracked if name.startswith(("datasets/", "saved_models/"))}
    assert ours <= set(names)
    assert "tfface/py.typed" in names


def test_a_wheel_of_the_source_archive_is_the_same(wheel, tmp_path):
    archive = build(ROOT, tmp_path / "archive", "sdist")
    with tarfile.open(archive) as bundle:
        bundle.extractall(tmp_path, filter="data")
    (source,) = tmp_path.glob("tfface-*")
    again = build(source, tmp_path / "again", "wheel")
    assert zipfile.ZipFile(again).namelist() == zipfile.ZipFile(wheel).namelist()


def test_the_command_works_elsewhere_and_writes_nothing_into_the_package(installed, site, elsewhere):
    for path in (site, *site.rglob("*")):
        path.chmod(path.stat().st_mode & ~0o222)
    before = contents(site)
    try:
        done = installed(str(site / "bin" / "tfface"), "datasets", "list")
        assert (done.returncode, done.stderr) == (0, "")
        assert "five_faces" in done.stdout
        options = ["--model", "student/lfw-distilled", "--recipe", "whole", "--offline", "--out", "out"]
        done = installed(str(site / "bin" / "tfface"), "verify", "0.png", "1.png", *options)
        assert done.returncode == 0, done.stderr
        assert "distance" in done.stdout
        assert (elsewhere / "out" / "metrics.json").is_file()
        assert contents(site) == before
    finally:
        for path in (site, *site.rglob("*")):
            path.chmod(path.stat().st_mode | 0o200)


def test_importing_it_is_light_and_from_the_wheel(installed, site):
    code = (
        "import sys, tfface; print(tfface.__file__, tfface.__version__, *sorted({'keras', 'numpy'} & set(sys.modules)))"
    )
    done = installed("-c", code)
    path, version = done.stdout.split()
    assert (Path(path).parents[1], version) == (
        site,
        next(site.glob("tfface-*")).name.split("-")[1].removesuffix(".dist"),
    )


@pytest.mark.parametrize("command", [["evaluate"], ["datasets", "list"], ["weights", "list"]])
def test_a_wheel_without_its_data_says_so_in_one_line(installed, site, tmp_path, command):
    bare = tmp_path / "bare"
    shutil.copytree(site, bare, ignore=shutil.ignore_patterns("datasets", "saved_models"))
    done = installed(str(bare / "bin" / "tfface"), *command, folder=bare)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("error: this installation of tfface lacks its data: ")
