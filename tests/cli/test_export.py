import json

import pytest

from tfface.artifacts import making


@pytest.fixture
def export(run_cli, tiny_model, tiny_faces, tmp_path):
    """Runs `export` of TFLite; returns its result and the metrics it wrote, if any."""
    out = tmp_path / "out"

    def run(*options: str):
        result = run_cli("export", "--format", "tflite", "--out", out, *options)
        path = out / "metrics.json"
        return result, json.loads(path.read_text()) if path.exists() else None

    return run


def without_time(metrics: dict) -> dict:
    kept = {key: value for key, value in metrics.items() if key not in ("started", "seconds")}
    kept["keras"] = {key: value for key, value in metrics["keras"].items() if key != "ms"}
    drop = ("ms", "peak_megabytes")
    kept["artifacts"] = [
        {key: value for key, value in entry.items() if key not in drop} for entry in metrics["artifacts"]
    ]
    return kept


def test_evaluated_through_the_artifact_and_gone_on_with(export, tiny_faces, tmp_path, run_cli, monkeypatch):
    options = ["--quantize", "none", "--quantize", "int8", "--calibration", str(tiny_faces)]
    options += ["--evaluate", "--dataset", str(tiny_faces)]
    result, metrics = export(*options)
    assert result.code == 0, result.err
    assert (metrics["command"], metrics["preset"], metrics["dataset"]) == ("export", "tiny/random", "folder:tiny faces")
    assert [entry["quantization"] for entry in metrics["artifacts"]] == ["none", "int8"]
    exact, small = metrics["artifacts"]
    assert exact["evaluate"]["images"] == 10
    assert exact["evaluate"]["protocol"] == "all-pairs"
    assert exact["embedding_cosine_min"] > 0.9999 > small["embedding_cosine_min"] > 0.9
    assert abs(exact["threshold_shift"]) < 0.01
    for entry in metrics["artifacts"]:
        path = tmp_path / "out" / entry["path"]
        assert path.stat().st_size == entry["bytes"]
        assert "Through this artifact, folder:tiny faces" in (path.parent / "README.md").read_text()
        assert run_cli("golden", path).code == 0
    assert "INFO" not in result.err, "the runtime spoke on its own"
    monkeypatch.setattr(making, "_write_tflite", lambda *_: pytest.fail("made again"))
    again, second = export(*options)
    assert "is there already" in again.err
    assert without_time(second) == without_time(metrics)


def test_attacked_too(export, tiny_faces):
    options = ["--evaluate", "--dataset", str(tiny_faces), "--attack", "fgsm", "--attack", "square"]
    options += ["--attack-pairs", "4", "--epsilon", "0.03", "--square-queries", "5"]
    result, metrics = export(*options)
    assert result.code == 0, result.err
    (exact,) = metrics["artifacts"]
    names = [(entry["attack"], entry["goal"], entry["made_on"]) for entry in exact["attacks"]]
    assert names == [
        ("fgsm", "dodging", "keras"),
        ("fgsm", "impersonation", "keras"),
        ("square", "dodging", "artifact"),
        ("square", "impersonation", "artifact"),
    ]
    for entry, judged in [(metrics["keras"]["attacks"][0], metrics["keras"]), (exact["attacks"][0], exact)]:
        assert (entry["judged"], entry["results"][0]["epsilon"]) == ("8-bit", 0.03)
        assert entry["threshold"] == judged["evaluate"]["calibrated"]["threshold"]
    assert exact["attacks"][2]["attack_settings"]["queries"] == 5
    (found,) = exact["attacks"][0]["results"]
    assert f"{100 * found['error_rate']:.1f}% of {found['attacked']}" in result.out
    assert "Errors under attack: linf epsilon 0.03, 8-bit images, all-pairs pairs" in result.out


def test_a_saved_model_for_a_server(run_cli, tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr("tfface.artifacts.export.peak_megabytes", lambda path: 1.0)
    result = run_cli("export", "--format", "savedmodel", "--recipe", "center-200", "--out", tmp_path / "out")
    assert result.code == 0, result.err
    assert (tmp_path / "out" / "tiny-random" / "1" / "saved_model.pb").is_file()
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["recipe"] == "center-200"
    assert metrics["artifacts"][0]["evaluate"] is None
    result = run_cli("golden", tmp_path / "out" / "tiny-random")
    assert result.code == 0, result.err
    assert "all 8 inputs are answered" in result.out


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--recipe", "mtcnn-v1-margin0.20"], "face boxes of your own detector to the signature embed_jpeg_boxes"),
        (["--recipe", "nonsense"], "unknown recipe 'nonsense'"),
        (["--format", "savedmodel", "--quantize", "int8"], "--quantize int8 needs --format tflite"),
        (["--format", "onnx"], "Invalid value for '--format'"),
        (["--attack", "fgsm"], "--attack goes with --evaluate"),
        (["--evaluate", "--attack", "cw"], "Invalid value for '--attack'"),
        (["--evaluate", "--attack", "fgsm", "--epsilon", "nan"], "give a number from 0 to 1"),
        (["--evaluate", "--dataset", "nowhere"], "unknown data set 'nowhere'"),
        (["--evaluate", "--dataset", "FACES", "--protocol", "view2"], "has no pair list 'view2'"),
    ],
)
def test_bad_options(refused, tiny_model, tiny_faces, tmp_path, options, reason):
    options = [str(tiny_faces) if option == "FACES" else option for option in options]
    extra = [] if "--quantize" not in options else ["--calibration", tiny_faces]
    assert reason in refused("export", "--out", tmp_path / "out", *options, *extra)
    assert not (tmp_path / "out").exists()


def test_an_unknown_preset(refused, tmp_path):
    message = refused("export", "--model", "facenett", "--out", tmp_path / "out")
    assert "unknown model 'facenett' (did you mean facenet?)" in message


def test_golden_of_what_is_none(refused, tmp_path):
    assert "is no artifact" in refused("golden", tmp_path)
