"""The lists of packages agree: requirements*.txt are a lock of pyproject.toml's ranges."""

import ast
import importlib.metadata
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
# Packages of the user's own list, which nothing of the library itself imports.
FIXED = {"pytest"}


def locked(name: str) -> dict[str, Requirement]:
    lines = [line.split("#")[0].strip() for line in (ROOT / name).read_text().splitlines()]
    found = [Requirement(line) for line in lines if line and not line.startswith("-r")]
    return {canonicalize_name(one.name): one for one in found}


def ranges(*groups: list[str]) -> dict[str, Requirement]:
    found = [Requirement(text) for group in groups for text in group]
    return {canonicalize_name(one.name): one for one in found if canonicalize_name(one.name) != "tfface"}


@pytest.mark.parametrize(
    ("file", "groups"),
    [
        ("requirements.txt", [PROJECT["dependencies"], EXTRAS["serving"], EXTRAS["peers"]]),
        ("requirements-cluster.txt", [EXTRAS["cluster"]]),
        ("requirements-dev.txt", [EXTRAS["dev"], EXTRAS["onnx"]]),
    ],
)
def test_a_lock_holds_what_the_ranges_name(file, groups):
    lock, wanted = locked(file), ranges(*groups)
    assert set(lock) - FIXED == set(wanted) - FIXED
    for name, requirement in lock.items():
        (pin,) = requirement.specifier
        assert pin.operator == "==", f"{file} pins {name}"
        if name in wanted:
            assert wanted[name].specifier.contains(pin.version), f"{file}: {requirement} is outside {wanted[name]}"


def test_the_tests_run_with_what_is_locked():
    pins = locked("requirements.txt")
    for name in ("tensorflow", "keras", "numpy", "scipy"):
        assert importlib.metadata.version(name) in pins[name].specifier, name


IMPORTED_AS = {
    "opencv-contrib-python-headless": "cv2",
    "pillow": "PIL",
    "ai-edge-litert": "ai_edge_litert",
    "tensorflow-datasets": "tensorflow_datasets",
    "tensorflow-serving-api": "tensorflow_serving",
    "grpcio": "grpc",
    "keras-facenet": "keras_facenet",
}
# Packages that come with others: the message formats of TensorFlow, and Jinja's own escaping.
WITH_OTHERS = {"google", "markupsafe"}


def imported() -> set[str]:
    found = set()
    for path in [*(ROOT / "tfface").rglob("*.py"), *(ROOT / "datasets").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.split(".")[0])
    return found - set(sys.stdlib_module_names) - {"tfface"}


def test_every_direct_dependency_is_imported_and_every_import_is_one():
    groups = [PROJECT["dependencies"], EXTRAS["serving"], EXTRAS["cluster"], EXTRAS["peers"], EXTRAS["onnx"]]
    wanted = {IMPORTED_AS.get(name, name.replace("-", "_")) for name in ranges(*groups)}
    # keras-facenet is a peer of the tests, and onnxruntime is what deepface's models run on.
    assert wanted - imported() <= {"keras_facenet", "onnxruntime"}
    assert imported() - wanted <= WITH_OTHERS


def test_the_version_is_in_one_place():
    import tfface

    assert PROJECT["dynamic"] == ["version"]
    assert tfface.__version__.count(".") == 2
