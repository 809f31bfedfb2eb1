"""Without the packages of an extra the rest works, and what needs them says in one line how to install them."""

import importlib.metadata
import sys

import pytest

from tfface.models import _inventory


@pytest.fixture
def without(monkeypatch):
    def hide(*modules: str) -> None:
        for name in modules:
            monkeypatch.setitem(sys.modules, name, None)

    return hide


def test_a_saved_model_has_no_warm_up_requests(without, tmp_path, capsys):
    from tfface.artifacts.saved_model import write_requests
    from tfface.cli import _command
    from tfface.models import facenet

    without("tensorflow_serving", "tensorflow_serving.apis")
    _command.log_to_stderr()
    write_requests(tmp_path, facenet.PRESETS[0], [b"photograph"])
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().err == (
        "tfface: no warm-up requests are written: they need pip install 'tfface[serving]'\n"
    )


def test_a_client_by_grpc(without, refused, tiny_faces, monkeypatch):
    without("grpc")
    monkeypatch.delitem(sys.modules, "tfface.serving.over_grpc", raising=False)
    photograph = next(tiny_faces.rglob("*.jpg"))
    line = refused("client", "embed", photograph, "--model", "x")
    assert line == "error: --protocol grpc needs pip install 'tfface[serving]'; rest needs no more packages"


def test_models_of_the_deepface_package(without, refused, tiny_faces):
    without("deepface", "deepface.commons")
    line = refused("evaluate", "--model", "deepface:Facenet", "--dataset", tiny_faces)
    assert line == "error: deepface:Facenet needs the deepface package: pip install 'tfface[peers]'"


def test_doctor_tells_the_extra(run_cli, monkeypatch):
    def absent(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(_inventory.importlib.metadata, "version", absent)
    printed = run_cli("doctor", "--offline").out
    for package, extra in (("ray", "cluster"), ("deepface", "peers"), ("tensorflow-serving-api", "serving")):
        (line,) = (line for line in printed.splitlines() if f" {package} " in line and "pip install" in line)
        assert f"absent: pip install 'tfface[{extra}]'" in line
