import pytest

from tfface.errors import UserError
from tfface.utils import registry


@pytest.fixture
def plugins(tmp_path, monkeypatch):
    """A package folder with two models, and files that are none."""
    for name in ("zebra", "ant", "__init__", "_layers"):
        path = tmp_path / "models" / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text("raise RuntimeError('imported')")
    (tmp_path / "models" / "notes.txt").write_text("")
    monkeypatch.setattr(registry, "_PACKAGE", tmp_path)


def test_files_are_the_names_and_are_not_imported_for_it(plugins):
    assert registry.names("models") == ["ant", "zebra"]


def test_a_name_loads_its_module():
    module = registry.load("cli", "verify")
    assert module.__name__ == "tfface.cli.verify"
    assert registry.load("cli", "verify") is module


@pytest.mark.parametrize("name", ["zebr", "_layers", "__init__", "", "../cli", "ant.py", "nothing"])
def test_any_other_name_lists_the_valid_ones(plugins, name):
    with pytest.raises(UserError, match=r"^unknown model .*; valid: ant, zebra$"):
        registry.load("models", name)


def test_a_near_name_is_proposed(plugins):
    with pytest.raises(UserError, match=r"^unknown model 'zebr' \(did you mean zebra\?\); valid: ant, zebra$"):
        registry.load("models", "zebr")


def test_no_plugins_at_all(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "_PACKAGE", tmp_path)
    assert registry.names("attacks") == []
