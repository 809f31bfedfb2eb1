"""`augment`: the files it writes, going on after an interruption, what it refuses."""

import shutil

import cv2
import numpy as np
import pytest

from tfface import data
from tfface.data import manifest
from tfface.preprocessing.decoding import decode
from tfface.utils import files


@pytest.fixture
def augment(run_cli, tiny_faces, tmp_path):
    """Runs `augment` on the tiny faces; returns its result and the folder."""

    def run(*options: object, out: str = "made"):
        folder = tmp_path / out
        result = run_cli(
            "augment", "--dataset", tiny_faces, "--recipe", "whole", "--size", 32, *options, "--out", folder
        )
        return result, folder

    return run


def tree(folder) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_writes_a_data_set_that_is_read_back(augment):
    result, folder = augment("--copies", 2)
    assert result.code == 0, result.err
    assert "20 images of 4 people, 2 of each of 10 photographs by flip, rotation:20, zoom:0.2" in result.out
    assert "0 photographs failed" in result.out
    dataset = data.load_dataset(str(folder))
    assert dataset.keys[:3] == [f"Ann Ames/Ann Ames {name}.png" for name in ("0-aug1", "0-aug2", "1-aug1")]
    assert sorted(set(dataset.identities)) == ["Ann Ames", "Bob_Burn", "Zoë Žák", "cid"]
    assert dataset.own_recipe == "whole"
    images = [decode(dataset.read(key)) for key in dataset.keys]
    assert {image.shape for image in images} == {(32, 32, 3)}
    assert len({image.tobytes() for image in images}) == 20
    record = manifest.read(folder).records[1]
    assert {**record, "sha256": ""} == {
        "file": "Ann Ames/Ann Ames 0-aug2.png",
        "person": "Ann Ames",
        "source": "Ann Ames/Ann Ames 0.jpg",
        "copy": 1,
        "sha256": "",
    }
    header = manifest.read(folder).header
    assert (header["command"], header["recipe"], header["size"], header["seed"]) == ("augment", "whole", 32, 0)


def test_the_contact_sheet_has_a_row_a_person(augment):
    _, folder = augment("--copies", 2)
    sheet = cv2.imread(str(folder / "contact_sheet.png"))
    # 3 columns of 128 and 4 rows of 128 with a line of 20 above each, gaps of 6, a line of headings.
    assert sheet.shape == (4 * 154 + 26, 3 * 134 + 6, 3)


def test_a_run_that_was_stopped_goes_on_to_the_same_bytes(augment, tiny_faces, monkeypatch):
    (tiny_faces / "Ann Ames" / "Ann Ames 1.jpg").write_bytes(b"broken")
    whole, reference = augment("--copies", 3, out="reference")
    assert whole.code == 0
    real, written = files.atomic_write, []

    def stopping(path):
        written.append(path)
        if len(written) == 8:
            raise KeyboardInterrupt
        return real(path)

    with monkeypatch.context() as patch:
        patch.setattr(files, "atomic_write", stopping)
        stopped, folder = augment("--copies", 3)
    assert stopped.code == 130
    assert 0 < len(list(folder.rglob("*.png"))) < 27
    resumed, _ = augment("--copies", 3)
    assert resumed.code == 0, resumed.err
    assert tree(folder) == tree(reference)
    # Once more: there is nothing left to do.
    monkeypatch.setattr(files, "atomic_write", None)
    again, _ = augment("--copies", 3)
    assert again.code == 0, again.err
    assert "complete already" in again.out
    assert "1 photographs failed" in again.out


def test_a_copy_is_of_its_photograph_alone(augment):
    _, everyone = augment("--copies", 2)
    _, one = augment("--copies", 1, "--person", "Bob_Burn", out="one")
    found = tree(one)
    assert sorted(name for name in found if name.startswith("B")) == [
        f"Bob_Burn/Bob_Burn {number}-aug1.png" for number in range(3)
    ]
    assert all(found[name] == tree(everyone)[name] for name in found if name.startswith("B"))
    _, other = augment("--person", "Bob_Burn", "--seed", 1, out="other")
    assert tree(other)["Bob_Burn/Bob_Burn 0-aug1.png"] != found["Bob_Burn/Bob_Burn 0-aug1.png"]


def test_people_and_images_are_drawn(augment):
    _, folder = augment("--people", 2, "--images-per-person", 1)
    assert len(data.load_dataset(str(folder))) == 2


def test_photographs_of_one_name_keep_apart(augment, tiny_faces):
    person = tiny_faces / "cid"
    for other in ("CID 0.png", "deep/cid 0.jpg"):
        (person / other).parent.mkdir(exist_ok=True)
        shutil.copy(tiny_faces / "Bob_Burn" / "Bob_Burn 0.jpg", person / other)
    shutil.copy(person / "cid 0.jpg", person / ("long" * 60 + ".jpg"))
    result, folder = augment("--person", "cid")
    assert result.code == 0, result.err
    names = [path.name for path in (folder / "cid").iterdir()]
    assert len({name.casefold() for name in names}) == 4
    assert "deep_cid 0-aug1.png" in names


def test_a_broken_photograph_is_counted_and_the_rest_go_on(augment, tiny_faces):
    (tiny_faces / "cid" / "broken.jpg").write_bytes(b"no image")
    result, folder = augment()
    assert result.code == 0
    assert "cid/broken.jpg is no image that can be read" in result.err
    assert "10 photographs by" in result.out
    assert "1 photographs failed" in result.out
    assert len(data.load_dataset(str(folder))) == 10


def test_strict_stops_at_a_broken_photograph(augment, tiny_faces):
    (tiny_faces / "cid" / "broken.jpg").write_bytes(b"no image")
    result, _ = augment("--strict")
    assert result.code == 2
    assert "--strict is set" in result.err


def test_an_augmented_data_set_is_augmented_again_as_it_is(run_cli, augment, tmp_path):
    _, folder = augment("--kinds", "flip")
    again = run_cli(
        "augment", "--dataset", folder, "--kinds", "brightness:0", "--size", 32, "--out", tmp_path / "again"
    )
    assert again.code == 0, again.err
    key = "cid/cid 0-aug1.png"
    before, after = (
        decode((folder / key).read_bytes()),
        decode((tmp_path / "again/cid/cid 0-aug1-aug1.png").read_bytes()),
    )
    assert np.array_equal(before, after)


def test_another_runs_folder_is_left_alone(augment):
    _, folder = augment()
    before = tree(folder)
    result, _ = augment("--copies", 2)
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "holds another run, of augment with copies 1 and not 2: choose another folder" in result.err
    assert tree(folder) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--kinds", "spin"], "unknown augmentation 'spin'"),
        (["--kinds", "rotation:400"], "rotation takes a number"),
        (["--kinds", ","], "no kind of augmentation is named"),
        (["--person", "nobody"], "has no person 'nobody'"),
        (["--recipe", "round"], "unknown recipe 'round'"),
        (["--copies", "0"], "--copies"),
    ],
)
def test_refuses_before_it_writes(refused, tiny_faces, tmp_path, options, message):
    assert message in refused("augment", "--dataset", tiny_faces, *options, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_in_use_is_refused(refused, tiny_faces):
    assert "is not empty" in refused("augment", "--dataset", tiny_faces, "--recipe", "whole", "--out", tiny_faces)
