"""README, CONTRIBUTING, the guides, cards and benchmarks name what there is: files, commands, options, functions."""

import ast
import importlib
import re
import shlex
from pathlib import Path

import click
import pytest

from tfface import cli

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("deploy/*.md"), *ROOT.glob("saved_models/**/*.md")]
)
SCRIPTS = sorted([*ROOT.glob("benchmarks/*.py"), *ROOT.glob("examples/*.py"), ROOT / "cli.py"])
FOLDERS = "tfface|tests|benchmarks|docs|examples|deploy|datasets|saved_models"
PLACE = re.compile(rf"(?<![\w/.:-])((?:{FOLDERS})/[\w./-]+)")


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def command_lines(text: str) -> list[list[str]]:
    """The words of each command line of tfface in a document; lines that end in a backslash go on."""
    joined = re.sub(r"\\\n\s*", " ", text)
    lines = re.findall(r"(?:^ {4,}|^|`)(?:python cli\.py|tfface) ([a-z][^\n`]*)", joined, re.MULTILINE)
    found = []
    for line in lines:
        line = re.split(r" #| \|| && | \.\.\.|…", line.replace("DIR/...", "DIR"))[0]
        try:
            found.append(shlex.split(line))
        except ValueError:
            continue
    return [words for words in found if words]


def options_of(words: list[str]) -> tuple[str, set[str]]:
    """The command that a line names, and all its options."""
    group: click.Command = cli.cli
    name = []
    with click.Context(group) as context:
        while isinstance(group, click.Group) and words:
            group, word = group.get_command(context, words[0]), words[0]  # type: ignore[assignment]
            name.append(word)
            words = words[1:]
            assert group is not None, f"there is no command {' '.join(name)}"
    return " ".join(name), {option for parameter in group.params for option in parameter.opts}


@pytest.mark.parametrize("path", DOCUMENTS, ids=relative)
def test_commands_and_options_exist(path):
    for words in command_lines(path.read_text()):
        name, options = options_of(words)
        used = {word.split("=")[0] for word in words if word.startswith("--")}
        assert used <= options | {"--help"}, f"{relative(path)}: {name} has no {used - options}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=relative)
def test_files_exist(path):
    missing = []
    for name in PLACE.findall(path.read_text()):
        if not (ROOT / name.rstrip(".")).exists() and not (path.parent / name.rstrip(".")).exists():
            missing.append(name)
    assert missing == []


@pytest.mark.parametrize("path", SCRIPTS, ids=relative)
def test_what_scripts_import_is_there(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "tfface":
            module = importlib.import_module(node.module)
            for alias in node.names:
                assert hasattr(module, alias.name) or importlib.import_module(f"{node.module}.{alias.name}")


def test_the_commands_of_the_readme_are_found():
    lines = command_lines((ROOT / "README.md").read_text())
    assert len(lines) > 40
    assert ["evaluate", "--model", "facenet"] in lines
