import json


def test_lists_what_there_is(run_cli):
    result = run_cli("defenses")
    assert result.code == 0
    for name in ("bit-depth", "jpeg", "median", "noise", "resize-pad"):
        assert name in result.out
    assert "1 to 8 bits a channel, else 5" in " ".join(result.out.split())


def test_evaluate_behind_a_stack(run_cli, tiny_model, tiny_faces, tmp_path):
    plain = run_cli("evaluate", "--dataset", tiny_faces, "--out", tmp_path / "plain")
    result = run_cli(
        *("evaluate", "--dataset", tiny_faces, "--defense", "median", "--defense", "bit-depth:bits=1"),
        *("--out", tmp_path / "out"),
    )
    assert result.code == plain.code == 0, result.err
    assert "behind median:window=2 and bit-depth:bits=1" in " ".join(result.out.split())
    found, before = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("out", "plain"))
    assert found["defense"] == ["median:window=2", "bit-depth:bits=1"]
    assert [fact["differentiable"] for fact in found["defense_facts"]] == [True, False]
    assert "defense" not in before and "defense_facts" not in before
    assert found["genuine"]["mean"] != before["genuine"]["mean"]
    assert found["calibrated"]["threshold"] != before["calibrated"]["threshold"]
    assert found["fixed"]["threshold"] == before["fixed"]["threshold"]
    page = tmp_path / "out" / "report.html"
    assert run_cli("report", tmp_path / "out", "--out", page).code == 0
    assert "bit-depth:bits=1 before it" in page.read_text().replace("<wbr>", "")


def test_refuses_an_unknown_defense_and_option(refused, tiny_model, tiny_faces):
    said = refused("evaluate", "--dataset", tiny_faces, "--defense", "blur")
    assert said == "error: unknown defense 'blur'; valid: bit-depth, jpeg, median, noise, resize-pad"
    assert "it has bits (1 to 8 bits a channel" in refused(
        "evaluate", "--dataset", tiny_faces, "--defense", "bit-depth:levels=4"
    )
