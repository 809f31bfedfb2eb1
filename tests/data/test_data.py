"""Folders of faces, samples, lists of pairs and groups, names. The TFDS builders: `tests/datasets`."""

import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfface import data
from tfface.errors import UserError
from tfface.utils.files import natural_key


@pytest.fixture
def people(tmp_path):
    """Two people of LFW's naming and one with a space and other letters than ASCII."""
    root = tmp_path / "my faces"
    for key in [
        "Ann_Ames/Ann_Ames_0001.jpg",
        "Ann_Ames/Ann_Ames_0002.JPEG",
        "Ann_Ames/Ann_Ames_0010.png",
        "Bob_Burn/Bob_Burn_0001.jpg",
        "Zoë Žák/beach 2.webp",
        "Zoë Žák/beach 10.webp",
        "Zoë Žák/old/1/me.bmp",
    ]:
        path = root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(key.encode())
    return root


KEYS = [
    "Ann_Ames/Ann_Ames_0001.jpg",
    "Ann_Ames/Ann_Ames_0002.JPEG",
    "Ann_Ames/Ann_Ames_0010.png",
    "Bob_Burn/Bob_Burn_0001.jpg",
    "Zoë Žák/beach 2.webp",
    "Zoë Žák/beach 10.webp",
    "Zoë Žák/old/1/me.bmp",
]


@pytest.fixture
def faces(people):
    return data.load_dataset(str(people))


class TestFolder:
    def test_a_person_is_the_first_folder_at_any_depth(self, faces):
        assert faces.name == "folder:my faces"
        assert faces.keys == KEYS
        assert faces.identities == ["Ann_Ames"] * 3 + ["Bob_Burn"] + ["Zoë Žák"] * 3
        assert faces.boxes is None

    def test_encoded_and_read_give_the_files(self, faces):
        found = [(row["key"].numpy().decode(), row["image"].numpy()) for row in faces.encoded()]
        assert found == [(key, key.encode()) for key in KEYS]
        assert [row["key"].numpy().decode() for row in faces.encoded(2, 5)] == KEYS[2:5]
        assert list(faces.encoded(3, 3)) == []
        assert faces.encoded(3, 3).element_spec == faces.encoded().element_spec
        assert faces.read(KEYS[4]) == KEYS[4].encode()

    def test_other_files_are_left_out(self, people, capsys):
        for name in [
            "Ann_Ames/notes.txt",
            "Ann_Ames/.DS_Store",
            "Ann_Ames/._Ann_Ames_0001.jpg",
            "Bob_Burn/.thumbnails/1.jpg",
            ".hidden/1.jpg",
        ]:
            (people / name).parent.mkdir(exist_ok=True)
            (people / name).write_bytes(b"x")
        assert data.load_dataset(str(people)).keys == KEYS
        assert capsys.readouterr().err == ""

    def test_images_of_nobody_are_counted(self, people, capsys):
        (people / "group.jpg").write_bytes(b"x")
        (people / "party.png").write_bytes(b"x")
        assert data.load_dataset(str(people)).keys == KEYS
        found = capsys.readouterr().err
        assert "2 images lie outside of any person's subfolder and are left out (group.jpg, party.png)" in found

    def test_a_file_that_went_away_is_an_error(self, faces, people):
        (people / KEYS[3]).unlink()
        with pytest.raises(UserError, match=r"cannot read .*Bob_Burn_0001\.jpg: No such file"):
            faces.read(KEYS[3])

    def test_no_published_pairs(self, faces):
        with pytest.raises(UserError, match="folder:my faces has no pair list 'view2'"):
            faces.pairs("view2")

    @pytest.mark.parametrize(
        ("files", "message"),
        [
            ([], "holds no images: put each person's images into a subfolder"),
            (["Ann/notes.txt"], "holds no images: put"),
            (["1.jpg", "2.png"], "holds 2 images but no person's subfolder with images: put"),
        ],
    )
    def test_a_folder_without_people_is_an_error(self, tmp_path, files, message):
        for name in files:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(b"x")
        with pytest.raises(UserError, match=message):
            data.load_dataset(str(tmp_path))

    @pytest.mark.parametrize("name", ["./nowhere", "/nowhere/at/all"])
    def test_a_missing_folder_is_an_error(self, name):
        with pytest.raises(UserError, match=r"nowhere.* is not a folder: give a folder with one subfolder"):
            data.load_dataset(name)

    def test_a_file_is_not_a_folder(self, tmp_path):
        (tmp_path / "faces.zip").write_bytes(b"x")
        with pytest.raises(UserError, match=r"faces\.zip is not a folder"):
            data.load_dataset(str(tmp_path / "faces.zip"))

    def test_a_name_that_is_not_utf8_is_an_error(self, people):
        (people / "Bob_Burn" / os.fsdecode(b"\xff.jpg")).write_bytes(b"x")
        with pytest.raises(UserError, match="is not UTF-8: rename the file"):
            data.load_dataset(str(people))


class TestSample:
    def test_at_most_so_many_of_each_in_order(self, faces):
        sample = faces.sample(2, seed=1)
        assert sample.identities == ["Ann_Ames"] * 2 + ["Bob_Burn"] + ["Zoë Žák"] * 2
        assert sample.keys == [key for key in KEYS if key in sample.keys]
        assert sample.version == f"{faces.version}+2-per-person-seed1"
        assert [row["key"].numpy().decode() for row in sample.encoded()] == sample.keys

    def test_the_seed_decides(self, faces):
        draws = [tuple(faces.sample(1, seed=seed).keys) for seed in range(20)]
        assert draws[3] == tuple(faces.sample(1, seed=3).keys)
        # 3 x 1 x 3 possible draws; 20 seeds would all agree with odds of 9 ** -19.
        assert len(set(draws)) > 1

    def test_a_person_more_does_not_change_the_others(self, faces, people):
        before = faces.sample(1, seed=5).keys
        (people / "Abe").mkdir()
        (people / "Abe" / "1.jpg").write_bytes(b"x")
        assert data.load_dataset(str(people), images_per_person=1, seed=5).keys == ["Abe/1.jpg", *before]

    def test_none_is_an_error(self, faces):
        with pytest.raises(UserError, match="0 images per person: ask for 1 or more"):
            faces.sample(0, seed=0)


class TestPairsFile:
    def read(self, faces, tmp_path, text):
        path = tmp_path / "my pairs.txt"
        path.write_text(text)
        return data.read_pairs_file(path, faces)

    def test_lfw_format_with_folds(self, faces, tmp_path):
        text = "2 1\nAnn_Ames 1 2\nAnn_Ames 1 Bob_Burn 1\nAnn_Ames\t2\t10\nBob_Burn\t1\tAnn_Ames\t10\n"
        pairs = self.read(faces, tmp_path, text)
        assert pairs.name == "my pairs.txt"
        assert (pairs.first.tolist(), pairs.second.tolist()) == ([0, 0, 1, 3], [1, 3, 2, 2])
        assert pairs.same.tolist() == [True, False, True, False]
        assert pairs.fold.tolist() == [0, 0, 1, 1]
        assert len(pairs) == 4

    @pytest.mark.parametrize("header", ["1\n", ""])
    def test_lfw_format_of_one_fold_with_or_without_header(self, faces, tmp_path, header):
        pairs = self.read(faces, tmp_path, header + "Ann_Ames 1 2\r\n\r\nAnn_Ames 1 Bob_Burn 1\r\n")
        assert (pairs.first.tolist(), pairs.second.tolist()) == ([0, 0], [1, 3])
        assert pairs.fold.tolist() == [0, 0]

    def test_csv_of_keys(self, faces, tmp_path):
        text = f'a,b,same,fold\n{KEYS[4]},{KEYS[5]},1,0\n"{KEYS[0]}",{KEYS[3]},False,3\n'
        pairs = self.read(faces, tmp_path, text)
        assert (pairs.first.tolist(), pairs.second.tolist()) == ([4, 0], [5, 3])
        assert pairs.same.tolist() == [True, False]
        assert pairs.fold.tolist() == [0, 3]
        assert pairs.same.dtype == bool and pairs.fold.dtype == np.int64

    def test_csv_without_folds_is_one(self, faces, tmp_path):
        assert self.read(faces, tmp_path, f"a,b,same\n{KEYS[0]},{KEYS[1]},1\n").fold.tolist() == [0]

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", r"my pairs\.txt holds no pairs"),
            ("a,b,same\n", r"my pairs\.txt holds no pairs"),
            (
                "Ann_Ames 1 2\nAnn_Ames 1 7\n",
                r"my pairs\.txt, line 2: image Ann_Ames/Ann_Ames_0007 is not in folder:my",
            ),
            ("Ann_Ames 1 2\n\nCid 1 2\n", r"my pairs\.txt, line 3: image Cid/Cid_0001 is not in folder:my faces"),
            ("a,b,same\nAnn_Ames/9.jpg,x,1\n", r"my pairs\.txt, line 2: image Ann_Ames/9\.jpg is not in"),
            ("Ann_Ames 1 2\nAnn_Ames 1\n", r"line 2: neither 'name n1 n2' nor"),
            ("Ann_Ames 1 two\n", r"line 1: an image number is no number"),
            ("2 1\nAnn_Ames 1 2\nAnn_Ames 1 Bob_Burn 1\n", r"has 2 pairs where its first line says 4"),
            ("5\n", r"has 0 pairs where its first line says 10"),
            ("0\n", r"has 0 pairs where its first line says 0"),
            (f"a,b,same\n{KEYS[0]},{KEYS[1]},maybe\n", r"line 2: same is 1 or 0"),
            (f"a,b,same,fold\n{KEYS[0]},{KEYS[1]},1,-1\n", r"line 2: same is 1 or 0 and fold a number"),
            (f"a,b,same,fold\n{KEYS[0]},{KEYS[1]},1\n", r"line 2: 3 columns where the header has 4"),
        ],
    )
    def test_what_is_wrong_is_named(self, faces, tmp_path, text, message):
        with pytest.raises(UserError, match=message):
            self.read(faces, tmp_path, text)

    def test_a_missing_or_binary_file(self, faces, tmp_path):
        with pytest.raises(UserError, match=r"cannot read .*nowhere\.txt: No such file"):
            data.read_pairs_file(tmp_path / "nowhere.txt", faces)
        (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
        with pytest.raises(UserError, match=r"cannot read .*binary"):
            data.read_pairs_file(tmp_path / "binary", faces)


class TestGroupsFile:
    def read(self, faces, tmp_path, files):
        for name, text in files.items():
            (tmp_path / name).write_text(text)
        return data.read_groups_file([tmp_path / name for name in files], faces)

    def test_people_and_images_in_one_table(self, faces, tmp_path):
        groups = self.read(faces, tmp_path, {"age.csv": f"person,group\nBob_Burn,old\n{KEYS[4]},young\nme.bmp,young\n"})
        assert groups == {KEYS[3]: "old", KEYS[4]: "young", KEYS[6]: "young"}

    def test_tabs_and_no_header(self, faces, tmp_path):
        assert self.read(faces, tmp_path, {"age.tsv": "Bob_Burn\told, very\n"}) == {KEYS[3]: "old, very"}

    def test_gender_lists_name_the_group_by_the_file(self, faces, tmp_path, capsys):
        groups = self.read(
            faces,
            tmp_path,
            {
                "lfw_male_names.txt": "Bob_Burn_0001.jpg\r\nNo_One_0001.jpg\r\n",
                "lfw_female_names.txt": "Ann_Ames_0001.jpg\r\nAnn_Ames_0002.JPEG\r\n",
            },
        )
        assert groups == {KEYS[0]: "female", KEYS[1]: "female", KEYS[3]: "male"}
        assert "1 names are not in folder:my faces (No_One_0001.jpg)" in capsys.readouterr().err

    def test_an_image_in_two_groups_is_in_neither(self, faces, tmp_path, capsys):
        groups = self.read(faces, tmp_path, {"a.txt": "Bob_Burn\nAnn_Ames\n", "b.txt": "Ann_Ames_0001.jpg\n"})
        assert groups == {KEYS[1]: "a", KEYS[2]: "a", KEYS[3]: "a"}
        assert f"1 images are in more than one group and left out ({KEYS[0]})" in capsys.readouterr().err

    def test_one_path_does(self, faces, tmp_path):
        (tmp_path / "boys.txt").write_text("Bob_Burn\n")
        assert data.read_groups_file(tmp_path / "boys.txt", faces) == {KEYS[3]: "boys"}

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", r"g\.csv is empty"),
            ("Nobody,x\nNo_One,y\n", "none of the 2 names is in folder:my faces"),
            ("Bob_Burn,x\nAnn_Ames\n", r"g\.csv, line 2: not image-or-person,group"),
            ("Bob_Burn,\n", r"g\.csv, line 1: not image-or-person,group"),
        ],
    )
    def test_what_is_wrong_is_named(self, faces, tmp_path, text, message):
        with pytest.raises(UserError, match=message):
            self.read(faces, tmp_path, {"g.csv": text})


class TestNames:
    def test_the_builders(self):
        assert data.names() == ["five_faces", "lfw", "orl_faces", "vggface2"]

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("lfv", r"unknown data set 'lfv' \(did you mean lfw\?\); valid: five_faces, lfw, .* the path of a folder"),
            ("lfw/none", "unknown data set 'lfw/none'.*valid: lfw/deepfunneled, lfw/funneled, lfw/original"),
            ("five_faces/x", "unknown data set 'five_faces/x'.*valid: five_faces"),
        ],
    )
    def test_an_unknown_one_lists_them(self, name, message):
        for function in (data.load_dataset, data.prepare_dataset, data.describe_dataset):
            with pytest.raises(UserError, match=message):
                function(name)

    def test_a_folder_of_a_known_name_is_reached_by_its_path(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "lfw" / "Ann").mkdir(parents=True)
        (tmp_path / "lfw" / "Ann" / "1.jpg").write_bytes(b"x")
        assert data.load_dataset("./lfw").name == "folder:lfw"

    def test_describe_an_unprepared_one_as_published(self, tmp_path, monkeypatch):
        monkeypatch.setenv("TFFACE_CACHE", str(tmp_path))
        facts = data.describe_dataset("lfw").facts
        assert (facts["name"], facts["images"], facts["people"], facts["prepared"]) == (
            "lfw/deepfunneled",
            13233,
            5749,
            False,
        )
        assert facts["configs"] == ["deepfunneled", "funneled", "original"]
        assert set(facts["pair_sets"]) == {"view1-train", "view1-test", "view2"}
        assert "@techreport" in facts["citation"]
        assert data.describe_dataset("vggface2/train").facts["people"] == 8631

    def test_describe_a_folder(self, people):
        facts = data.describe_dataset(str(people)).facts
        assert (facts["images"], facts["people"], facts["people_with_two_or_more"]) == (7, 3, 2)


def test_natural_order_of_numbers():
    names = ["s10/1.png", "s2/10.png", "s2/9.png", "s2/9a.png", "s 2/1.png"]
    assert sorted(names, key=natural_key) == ["s2/9.png", "s2/9a.png", "s2/10.png", "s10/1.png", "s 2/1.png"]


@given(st.lists(st.text(alphabet="ab/.0129 é", max_size=8)))
def test_natural_order_is_a_total_order_of_any_names(names):
    backwards = names[::-1]
    assert sorted(names, key=natural_key) == sorted(backwards, key=natural_key)
