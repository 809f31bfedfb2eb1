def test_a_page_of_what_other_commands_wrote(run_cli, tiny_model, tiny_faces, tmp_path):
    """`evaluate` and `mine` as they write today, read back without a change."""
    runs = tmp_path / "runs"
    for command in ("evaluate", "mine"):
        options = ["--threshold", "0.3"] if command == "mine" else []
        assert run_cli(command, "--dataset", tiny_faces, "--out", runs / command, *options).code == 0
    result = run_cli("report", runs, "--out", tmp_path / "page.html")
    assert result.code == 0, result.err
    assert "page.html: 2 runs" in result.out
    text = (tmp_path / "page.html").read_text()
    # ROC and distances, and two galleries.
    assert text.count("<img ") == 4
    assert "tiny/<wbr>random" in text


def test_a_folder_without_results_is_one_line(refused, tmp_path):
    assert "holds no metrics.json" in refused("report", tmp_path)
    assert "nowhere" in refused("report", tmp_path / "nowhere")
    assert "DIR" in refused("report")
