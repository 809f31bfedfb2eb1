"""The examples of docstrings run as they stand; those that need weights say `# doctest: +SKIP`."""

import doctest
import importlib
from pathlib import Path

import pytest

HOUSE = Path(__file__).parents[1] / "tfface"


def module_of(path: Path) -> str:
    parts = path.relative_to(HOUSE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = sorted(module_of(path) for path in HOUSE.rglob("*.py") if ">>> " in path.read_text())


@pytest.mark.parametrize("module", MODULES)
def test_examples_run(module, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    result = doctest.testmod(
        importlib.import_module(module), optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    )
    assert result.failed == 0, capsys.readouterr().out
