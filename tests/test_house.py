"""The tree as a whole: rooms and their imports, sizes, words, and names that must appear nowhere."""

import ast
import functools
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HOUSE = ROOT / "tfface"

# A room (a module of tfface, or a package with all its modules) imports only from itself and from rooms before it
# in this list, under TYPE_CHECKING too. A new room belongs in it.
ROOMS = (
    "errors",
    "utils",
    "preprocessing",
    "distributed",
    "hub",
    "augmentation",
    "metrics",
    "data",
    "report",
    "models",
    "attacks",
    "defenses",
    "evaluation",
    "training",
    "robustness",
    "paper",
    "artifacts",
    "serving",
    "cli",
)
# Every file of theirs is a plug-in by its name, unless it begins with `_`.
PLUGIN_ROOMS = {"models", "attacks", "defenses", "cli"}

MOST_ROOMS, MOST_FLOORS, LONGEST_CHAIN = 24, 12, 12
MOST_FILES, MOST_IMPORTS = 160, 4.0
LONGEST_FILE, LONGEST_FUNCTION = 400, 60

OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
OPENING = re.compile(r"(What|Who|Whether|Which|How|Where)\b")

SOURCES = sorted([*HOUSE.rglob("*.py"), *ROOT.glob("datasets/*/*.py"), *ROOT.glob("benchmarks/*.py"), ROOT / "cli.py"])
HOUSE_FILES = sorted(HOUSE.rglob("*.py"))


def none(found: list[str]) -> None:
    """Fail with every place on a line of its own."""
    __tracebackhide__ = True
    assert not found, "\n".join(["", *found])


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


@functools.cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in HOUSE_FILES}


def room_of(module: str) -> str:
    """The room of a module; `tfface` itself is none."""
    return module.split(".")[1] if "." in module else ""


def imports(tree: ast.AST, own: str) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of what is imported of the project, wherever in a file, by a literal name too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = own.split(".")[: -node.level or None]
                base = ".".join([*package, base] if base else package)
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            yield from ((node.lineno, entry.value) for entry in node.args if isinstance(entry, ast.Constant))


def resolve(name: str) -> str:
    """The longest part of a dotted name that is a module of the project; empty if none is."""
    while name and name not in MODULES:
        name = name.rpartition(".")[0]
    return name


@functools.cache
def arrows() -> dict[str, dict[str, int]]:
    """Module to the modules that it imports, each with the first line that does."""
    found: dict[str, dict[str, int]] = {}
    for name, path in MODULES.items():
        own = f"{name}.__init__" if path.name == "__init__.py" else name
        found[name] = {}
        for line, full in sorted(imports(tree_of(path), own)):
            other = resolve(full)
            if other not in ("", name, "tfface"):
                found[name].setdefault(other, line)
    return found


def place(module: str, other: str) -> str:
    return f"{relative(MODULES[module])}:{arrows()[module][other]} {module} imports {other}"


def circle(graph: dict[str, set[str]]) -> list[str]:
    """A way through a graph that comes back to its start; empty if there is none."""
    done: set[str] = set()

    def walk(node: str, way: list[str]) -> list[str]:
        if node in way:
            return [*way[way.index(node) :], node]
        if node not in done:
            for other in sorted(graph.get(node, ())):
                if found := walk(other, [*way, node]):
                    return found
            done.add(node)
        return []

    return next((found for node in sorted(graph) if (found := walk(node, []))), [])


def longest_chain(graph: dict[str, set[str]]) -> list[str]:
    """The longest way down a graph without circles."""

    @functools.cache
    def down(node: str) -> tuple[str, ...]:
        return (node, *max((down(other) for other in sorted(graph.get(node, ()))), key=len, default=()))

    return list(max(map(down, sorted(graph)), key=len))


def module_graph() -> dict[str, set[str]]:
    return {name: set(others) for name, others in arrows().items()}


def room_graph() -> dict[str, set[str]]:
    graph: dict[str, set[str]] = {}
    for name, others in arrows().items():
        graph.setdefault(room_of(name), set()).update(room_of(other) for other in others)
    return {room: others - {room} for room, others in graph.items() if room}


def test_every_module_is_in_a_known_room():
    unknown = {room_of(name) for name in MODULES} - {*ROOMS, ""}
    assert not unknown, f"put {unknown} into ROOMS, below all that it does not import"
    assert len(ROOMS) <= MOST_ROOMS


def upward(own: str, source: dict[str, int]) -> list[str]:
    place_of = {room: number for number, room in enumerate(ROOMS)}
    return [other for other in source if place_of.get(room_of(other), len(ROOMS)) > place_of[room_of(own)]]


def test_imports_go_down():
    rooms = {name: others for name, others in arrows().items() if room_of(name)}
    none([place(name, other) for name, others in rooms.items() for other in upward(name, others)])


@pytest.mark.parametrize(
    ("source", "caught"),
    [
        ("from tfface.models import _embedder", True),
        ("from tfface import models", True),
        ("import tfface.models._embedder", True),
        ("def f():\n    from tfface.models._embedder import load", True),
        ("from ..models import _embedder", True),
        ("if TYPE_CHECKING:\n    from tfface.models._embedder import load", True),
        ("importlib.import_module('tfface.models._embedder')", True),
        ("from tfface import metrics, __version__\nfrom tfface.errors import UserError\nimport numpy", False),
        ("from . import dataset", False),
    ],
)
def test_the_import_rule_sees(source, caught):
    own = "tfface.data.pairs"
    found = {resolve(name): line for line, name in imports(ast.parse(source), own)}
    assert bool(upward(own, {name: line for name, line in found.items() if room_of(name)})) is caught


def test_no_circle_of_imports():
    none(circle(module_graph()))
    none(circle(room_graph()))


def test_few_floors_and_short_chains():
    if circle(module_graph()) or circle(room_graph()):
        pytest.fail("there is no longest chain while imports go in a circle")
    floors, chain = longest_chain(room_graph()), longest_chain(module_graph())
    assert len(floors) <= MOST_FLOORS, " > ".join(floors)
    assert len(chain) <= LONGEST_CHAIN, " > ".join(chain)


def test_few_imports_a_file():
    counts = sorted(((len(others), relative(MODULES[name])) for name, others in arrows().items()), reverse=True)
    mean = sum(count for count, _ in counts) / len(counts)
    assert round(mean, 2) <= MOST_IMPORTS, f"{mean:.2f} imports a file; most in {counts[:15]}"


def test_few_files():
    others = [path for path in HOUSE_FILES if path.parent.name not in PLUGIN_ROOMS or path.name.startswith("_")]
    assert len(others) <= MOST_FILES, f"{len(others)} files that are no plug-ins: merge what changes together"


def test_files_stay_short():
    lengths = {path: len(path.read_text().splitlines()) for path in SOURCES}
    none([f"{relative(path)}: {n} lines" for path, n in lengths.items() if n > LONGEST_FILE])


def test_functions_stay_short():
    long = [
        f"{relative(path)}:{node.lineno} {node.name}: {length} lines"
        for path in HOUSE_FILES
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := (node.end_lineno or 0) - node.lineno + 1) > LONGEST_FUNCTION
    ]
    none(long)


def test_a_class_name_means_one_thing():
    found: dict[str, list[str]] = {}
    for path in HOUSE_FILES:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found.setdefault(node.name, []).append(f"{relative(path)}:{node.lineno}")
    assert {name: places for name, places in found.items() if len(places) > 1} == {}


def below_the_command_line() -> list[Path]:
    return [path for path in HOUSE_FILES if room_of(module_name(path)) != "cli"]


def test_no_option_is_spelled_below_the_command_line():
    # In strings, docstrings and comments: an error names a parameter, and `cli` says which option it is.
    found = [
        f"{relative(path)}:{number} {match[0]}"
        for path in below_the_command_line()
        for number, line in enumerate(path.read_text().splitlines(), 1)
        for match in OPTION.finditer(line)
    ]
    none(found)


def without_programs(tree: ast.Module) -> ast.Module:
    """A module without what it does when it is a program of its own."""
    kept = [node for node in tree.body if not (isinstance(node, ast.If) and "__main__" in ast.unparse(node.test))]
    return ast.Module(kept, [])


def test_the_library_logs_and_never_prints():
    found = [
        f"{relative(path)}:{node.lineno} {ast.unparse(node.func)}"
        for path in below_the_command_line()
        for node in ast.walk(without_programs(tree_of(path)))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("print", "sys.stdout.write", "sys.stderr.write")
    ]
    none(found)


def test_docstrings_do_not_open_with_a_question_word():
    found = []
    for path in HOUSE_FILES:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module):
                text = ast.get_docstring(node) or ""
                if OPENING.match(text):
                    found.append(f"{relative(path)}:{getattr(node, 'lineno', 1)} {text.splitlines()[0]}")
    none(found)


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
    used = set(identifiers(tree_of(path)))
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
    none(named)


def test_help_imports_nothing_heavy():
    # What is imported, not how long it takes: time depends on the machine. Below 0.3 s follows from it.
    code = """
import sys
from tfface import cli
from tfface.utils import registry
for name in ["", *registry.names("cli")]:
    sys.argv = ["tfface", *([name.replace("_", "-")] if name else []), "--help"]
    assert cli.main() == 0
heavy = {"tensorflow", "keras", "tf_keras", "tensorflow_datasets", "deepface", "mtcnn", "cv2", "sklearn", "matplotlib",
         "pyarrow", "h5py", "numpy", "scipy", "ray", "pooch", "requests"}
print("HEAVY", sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "verify" in done.stdout
    assert done.stdout.splitlines()[-1] == "HEAVY []"
    assert done.stderr == ""
