import json

import pytest

from tfface.errors import UserError
from tfface.paper import stages as tested

INPUTS = {"command": "mine", "arguments": ["--seed", "0"]}
ABOUT = {"stage": "mine"}


@pytest.fixture
def stage(tmp_path):
    """A finished stage with two files."""
    folder = tmp_path / "1-mine"
    tested.begin(folder, INPUTS, ABOUT)
    (folder / "set").mkdir()
    (folder / "set" / "a.png").write_bytes(b"123")
    (tmp_path / "page.html").write_bytes(b"12345")
    tested.finish(tmp_path, folder, INPUTS, ABOUT, seconds=1.5, also=[tmp_path / "page.html"])
    return folder


def test_a_finished_stage(stage, tmp_path):
    record = tested.finished(tmp_path, stage, INPUTS)
    assert record is not None
    assert (record["stage"], record["seconds"], record["inputs"]) == ("mine", 1.5, INPUTS)
    assert record["files"] == {"1-mine/set/a.png": 3, "page.html": 5}
    assert tested.finished(tmp_path, stage, {**INPUTS, "command": "attack"}) is None
    assert tested.finished(tmp_path, tmp_path / "2-attack", INPUTS) is None


@pytest.mark.parametrize("name", ["1-mine/set/a.png", "page.html"])
def test_a_file_that_is_gone_or_cut(stage, tmp_path, name):
    (tmp_path / name).write_bytes(b"1")
    assert tested.finished(tmp_path, stage, INPUTS) is None
    (tmp_path / name).unlink()
    assert tested.finished(tmp_path, stage, INPUTS) is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 1}', '{"format": 99}'])
def test_a_damaged_record_begins_anew(stage, tmp_path, content):
    (stage / tested.FILE).write_text(content)
    assert tested.finished(tmp_path, stage, INPUTS) is None
    tested.begin(stage, INPUTS, ABOUT)
    assert [path.name for path in stage.iterdir()] == [tested.FILE]


@pytest.mark.parametrize("key", ["files", "seconds"])
def test_a_record_without_what_it_must_hold(stage, tmp_path, key):
    record = json.loads((stage / tested.FILE).read_text())
    del record[key]
    (stage / tested.FILE).write_text(json.dumps(record))
    assert tested.finished(tmp_path, stage, INPUTS) is None


def test_a_killed_stage_keeps_what_it_made_unless_something_changed(tmp_path):
    folder = tmp_path / "1-mine"
    tested.begin(folder, INPUTS, ABOUT)
    (folder / "half.png").write_bytes(b"1")
    assert tested.finished(tmp_path, folder, INPUTS) is None
    tested.begin(folder, INPUTS, ABOUT)
    assert (folder / "half.png").exists()
    tested.begin(folder, {**INPUTS, "arguments": []}, ABOUT)
    assert not (folder / "half.png").exists()


def test_a_folder_is_of_one_data_set(tmp_path):
    out = tmp_path / "out"
    with tested.claim(out, "lfw") as top:
        tested.save(out, {**top, "more": 1})
        with pytest.raises(UserError, match="another process writes"), tested.claim(out, "lfw"):
            pass
    with tested.claim(out, "lfw") as top:
        assert top == {"format": 1, "dataset": "lfw", "more": 1}
    with (
        pytest.raises(UserError, match="on lfw, not on five_faces: choose another `out`"),
        tested.claim(out, "five_faces"),
    ):
        pass
    (out / tested.TOP).write_text('{"format": 2}')
    with pytest.raises(UserError, match="no record that this version reads"), tested.claim(out, "lfw"):
        pass


def test_folders_of_one_name_are_two_data_sets(tmp_path):
    out = tmp_path / "own"
    with tested.claim(out, "folder:faces (/a/faces)"):
        pass
    with tested.claim(out, "folder:faces (/a/faces)"):
        pass
    with (
        pytest.raises(UserError, match=r"on folder:faces \(/a/faces\), not on folder:faces \(/b/faces\): choose"),
        tested.claim(out, "folder:faces (/b/faces)"),
    ):
        pass


def test_a_folder_of_other_things_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(UserError, match="is not empty and holds no reproduction"), tested.claim(tmp_path, "lfw"):
        pass
