"""What holds for the tree as a whole: who may import whom, and what must appear nowhere."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HOUSE = ROOT / "tfface"

# A room (a module of tfface, or a package with all its modules) imports only from itself and from rooms before it
# in this list. A new room belongs in it.
ROOMS = (
    "errors",
    "utils",
    "hub",
    "distributed",
    "augmentation",
    "metrics",
    "data",
    "models",
    "preprocessing",
    "attacks",
    "evaluation",
    "defenses",
    "training",
    "robustness",
    "paper",
    "artifacts",
    "serving",
    "report",
    "cli",
)

SOURCES = sorted([*HOUSE.rglob("*.py"), *ROOT.glob("datasets/*/*.py"), *ROOT.glob("benchmarks/*.py"), ROOT / "cli.py"])


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def room_of(path: Path) -> str:
    return path.relative_to(HOUSE).parts[0].removesuffix(".py")


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, room) of every import of tfface that happens when the program runs."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            yield from (found for statement in node.orelse for found in imports(statement))
        elif isinstance(node, ast.ImportFrom):
            bare = node.module == "tfface"
            names = [f"tfface.{alias.name}" for alias in node.names] if bare else [node.module]
            yield from ((node.lineno, part) for part in rooms(names, node.level))
        elif isinstance(node, ast.Import):
            yield from ((node.lineno, part) for part in rooms([alias.name for alias in node.names], 0))
        else:
            yield from imports(node)


def rooms(names: list[str | None], level: int) -> Iterator[str]:
    if level:
        yield "a relative import"
    for name in names:
        parts = (name or "").split(".")
        if parts[0] == "tfface" and len(parts) > 1 and parts[1] != "__version__":
            yield parts[1]


def offences(path: Path, source: str) -> list[str]:
    own = room_of(path)
    found = []
    for line, other in imports(ast.parse(source)):
        if other not in ROOMS or ROOMS.index(other) > ROOMS.index(own):
            found.append(f"{relative(path)}:{line} {own} imports {other}")
    return found


def test_every_module_is_in_a_known_room():
    unknown = {room_of(path) for path in HOUSE.rglob("*.py")} - {*ROOMS, "__init__"}
    assert not unknown, f"put {unknown} into ROOMS, above all that it does not import"


def test_rooms_import_only_from_rooms_above():
    assert [
        line for path in HOUSE.rglob("*.py") if room_of(path) in ROOMS for line in offences(path, path.read_text())
    ] == []


@pytest.mark.parametrize(
    ("source", "caught"),
    [
        ("from tfface.models import base", True),
        ("from tfface import models", True),
        ("import tfface.models._embedder", True),
        ("def f():\n    from tfface.models._embedder import load", True),
        ("from . import models", True),
        ("from tfface import nowhere", True),
        ("if TYPE_CHECKING:\n    from tfface.models._embedder import load", False),
        ("from tfface import images, __version__\nfrom tfface.errors import UserError\nimport numpy", False),
    ],
)
def test_the_import_rule_sees(source, caught):
    assert bool(offences(HOUSE / "embeddings.py", source)) is caught


def test_files_stay_short():
    long = {relative(path): lines for path in SOURCES if (lines := len(path.read_text().splitlines())) > 400}
    assert not long, "split by what changes together"


def identifiers(tree: ast.AST) -> Iterator[str]:
    """Names, attributes, what is imported, and keyword arguments as `name=value`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.alias):
            yield from node.name.split(".")
        elif isinstance(node, ast.ImportFrom):
            yield from (node.module or "").split(".")
        elif isinstance(node, ast.keyword):
            yield f"{node.arg}={ast.unparse(node.value)}"


FORBIDDEN = {
    "Lambda": "a model with a Lambda layer cannot be loaded safely",
    **dict.fromkeys(
        ["pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"], "nothing is unpickled"
    ),
    "allow_pickle=True": "nothing is unpickled",
    "safe_mode=False": "models are loaded safely",
    "enable_unsafe_deserialization": "models are loaded safely",
    "extractall": "no archive member leaves its folder: see tfface.hub.packages",
    "shell=True": "no shell",
}


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_nothing_forbidden_is_used(path):
    used = set(identifiers(ast.parse(path.read_text())))
    assert {name: why for name, why in FORBIDDEN.items() if name in used} == {}


def test_no_package_registry_is_named():
    # Which registry a machine uses is its package client's business.
    hosts = ["pypi" + ".org", "python" + "hosted.org", "pypi" + ".python.org", "anaconda" + ".org"]
    texts = [
        path
        for folder in ("tfface", "datasets", "tests", "benchmarks", ".ci", "saved_models")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".md", ".tsv", ".bib", ".json", "")
    ]
    texts += [path for kind in ("*.py", "*.md", "*.txt", "*.toml", "Makefile") for path in ROOT.glob(kind)]
    named = [
        f"{relative(path)}: {host}"
        for path in texts
        if path.is_file()
        for host in hosts
        if host in path.read_text(errors="replace")
    ]
    assert len(texts) > 40
    assert named == []


def test_help_imports_nothing_heavy():
    # What is imported, not how long it takes: time depends on the machine. Below 0.5 s follows from it.
    code = """
import sys
from tfface import cli
from tfface import registry
for name in ["", *registry.names("cli")]:
    sys.argv = ["cli.py", *([name.replace("_", "-")] if name else []), "--help"]
    assert cli.main() == 0
heavy = {"tensorflow", "keras", "tf_keras", "tensorflow_datasets", "deepface", "mtcnn", "cv2", "sklearn", "matplotlib",
         "pyarrow", "h5py", "numpy", "ray"}
print("HEAVY", sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "verify" in done.stdout
    assert done.stdout.splitlines()[-1] == "HEAVY []"
    assert done.stderr == ""
