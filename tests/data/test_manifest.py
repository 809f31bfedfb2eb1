"""Manifests: written, read back as a data set, gone on with, and what is refused."""

import json

import pytest

from tfface import data
from tfface.data import manifest
from tfface.errors import UserError
from tfface.preprocessing.decoding import encode_png

HEADER = {"command": "augment", "recipe": "center-140", "seed": 1, "kinds": ("flip", "zoom:0.2")}
FILES = {"Ann/a 10-aug1.png": "Ann", "Ann/a 9-aug1.png": "Ann", "Zoë Žák/b-aug1.png": "Zoë Žák"}


@pytest.fixture
def written(tmp_path, make_photo):
    """A folder of three images and their manifest."""
    folder = tmp_path / "made"
    for number, file in enumerate(FILES):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(encode_png(make_photo(0, number)))
    records = [{"file": file, "person": person, "source": "a", "epsilon": 0.01} for file, person in FILES.items()]
    manifest.write(folder, HEADER, records)
    return folder


def rewrite(folder, **changes):
    """The manifest with some of its content changed by hand."""
    path = folder / manifest.FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def refused(folder) -> str:
    with pytest.raises(UserError) as error:
        data.load_dataset(str(folder))
    return str(error.value)


class TestRead:
    def test_gives_what_was_written(self, written):
        found = manifest.read(written)
        assert found.header == {**HEADER, "kinds": ["flip", "zoom:0.2"]}
        assert [record["file"] for record in found.records] == list(FILES)
        assert found.records[0]["epsilon"] == 0.01

    def test_is_a_data_set_of_crops(self, written):
        dataset = data.load_dataset(str(written))
        assert dataset.name == "folder:made"
        assert dataset.keys == ["Ann/a 9-aug1.png", "Ann/a 10-aug1.png", "Zoë Žák/b-aug1.png"]
        assert dataset.identities == ["Ann", "Ann", "Zoë Žák"]
        assert dataset.own_recipe == "whole"
        assert dataset.read(dataset.keys[2]) == (written / dataset.keys[2]).read_bytes()
        assert dataset.sample(1, 0).own_recipe == "whole"
        with pytest.raises(UserError, match="no pair list"):
            dataset.pairs("view2")

    def test_the_person_is_the_records_not_the_folders(self, written):
        records = manifest.read(written).records
        manifest.write(written, HEADER, [{**record, "person": "Bea"} for record in records])
        assert set(data.load_dataset(str(written)).identities) == {"Bea"}

    def test_images_that_are_no_crops_have_no_recipe_of_their_own(self, written):
        manifest.write(written, {"command": "copy"}, manifest.read(written).records)
        assert data.load_dataset(str(written)).own_recipe is None

    def test_the_version_is_of_the_content_alone(self, written, tmp_path, make_photo):
        version = data.load_dataset(str(written)).version
        moved = written.rename(tmp_path / "moved")
        for file in FILES:
            (moved / file).touch()
        assert data.load_dataset(str(moved)).version == version
        (moved / "Ann/a 9-aug1.png").write_bytes(encode_png(make_photo(0, 8)))
        manifest.write(moved, HEADER, manifest_records())
        assert data.load_dataset(str(moved)).version != version

    def test_other_files_in_the_folder_are_no_part_of_it(self, written):
        (written / "contact_sheet.png").write_bytes(b"")
        (written / "Ann" / "more.png").write_bytes(b"")
        assert len(data.load_dataset(str(written))) == 3


def manifest_records():
    return [{"file": file, "person": person} for file, person in FILES.items()]


class TestRefused:
    @pytest.mark.parametrize(
        "file", ["../../etc/passwd", "/etc/passwd", "Ann/../../x.png", "Ann//a 9-aug1.png", "./Ann/a 9-aug1.png"]
    )
    def test_a_file_outside_of_the_folder(self, written, file):
        rewrite(written, records=[{"file": file, "person": "Ann", "sha256": "0"}])
        assert refused(written) == f"{written}/manifest.json names {file}, which is not in the folder: " + (
            "nothing is read from there"
        )

    def test_a_link_out_of_the_folder(self, written, tmp_path):
        (tmp_path / "secret.png").write_bytes(b"secret")
        (written / "Ann" / "link.png").symlink_to(tmp_path / "secret.png")
        rewrite(written, records=[{"file": "Ann/link.png", "person": "Ann", "sha256": "0"}])
        assert "Ann/link.png, which is not in the folder" in refused(written)

    @pytest.mark.parametrize("person", ["..", ".", "a/b", "../x", "a\\b"])
    def test_a_person_that_no_folder_can_be_called(self, written, person):
        rewrite(written, records=[{"file": "Ann/a 9-aug1.png", "person": person, "sha256": "0"}])
        assert f"names the person {person!r}" in refused(written)

    @pytest.mark.parametrize(
        "record",
        [None, 3, {}, {"file": "Ann/a 9-aug1.png"}, {"file": 1, "person": "Ann"}, {"file": "a\0", "person": "A"}],
    )
    def test_a_record_that_is_none(self, written, record):
        rewrite(written, records=[record])
        assert "has a record without file and person" in refused(written)

    def test_a_missing_file(self, written):
        (written / "Ann/a 9-aug1.png").unlink()
        assert refused(written).startswith(f"{written}/Ann/a 9-aug1.png is named by manifest.json and cannot be read")

    def test_a_changed_file(self, written):
        (written / "Ann/a 9-aug1.png").write_bytes(b"else")
        assert refused(written).startswith(f"{written}/Ann/a 9-aug1.png is not what manifest.json says it was")

    def test_a_file_named_twice(self, written):
        records = manifest.read(written).records
        rewrite(written, records=[*records, records[0]])
        assert "names Ann/a 10-aug1.png twice" in refused(written)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ('{"format": "tfface-manifest-1", "comp', "as JSON"),
            ('{"format": "tfface-manifest-2"}', "is no manifest of the format tfface-manifest-1"),
            ('{"format": "tfface-manifest-1", "complete": true, "header": {}}', "is damaged (its records)"),
            ('{"format": "tfface-manifest-1", "complete": true, "header": {}, "records": []}', "holds no images"),
        ],
    )
    def test_what_is_no_manifest(self, written, text, message):
        (written / manifest.FILE).write_text(text)
        assert message in refused(written)

    @pytest.mark.parametrize("text", ["", "[1", "[]", '{"name": "Photos", "icons": []}', '{"format": 1}', "\0\xff"])
    def test_a_manifest_of_another_program_is_none(self, written, text):
        (written / manifest.FILE).write_text(text)
        dataset = data.load_dataset(str(written))
        assert (dataset.identities, dataset.own_recipe) == (["Ann", "Ann", "Zoë Žák"], None)
        with pytest.raises(UserError, match="is not empty"), manifest.claim(written, HEADER):
            pass
        assert (written / manifest.FILE).read_text() == text

    def test_writing_a_record_of_no_file(self, written):
        with pytest.raises(UserError, match=r"none\.png is named by manifest\.json and cannot be read"):
            manifest.write(written, HEADER, [{"file": "Ann/none.png", "person": "Ann"}])


class TestClaim:
    def test_a_folder_is_unfinished_until_it_is_written(self, tmp_path):
        folder = tmp_path / "deep" / "new"
        with manifest.claim(folder, HEADER) as done:
            assert done is None
        assert refused(folder) == f"{folder} is unfinished: run the command that writes it again (augment)"
        (folder / "Ann").mkdir()
        (folder / "Ann" / ".part-killed.png").write_bytes(b"")
        (folder / "Ann" / "a.png").write_bytes(b"a")
        with manifest.claim(folder, HEADER) as done:
            assert done is None
            assert [file.name for file in (folder / "Ann").iterdir()] == ["a.png"]
            manifest.write(folder, HEADER, [{"file": "Ann/a.png", "person": "Ann"}])
        with manifest.claim(folder, HEADER) as done:
            assert [record["file"] for record in done.records] == ["Ann/a.png"]

    def test_another_run_is_left_alone(self, written):
        before = (written / manifest.FILE).read_bytes()
        with pytest.raises(UserError) as error, manifest.claim(written, {**HEADER, "seed": 2}):
            pass
        assert (
            str(error.value) == f"{written} holds another run, of augment with seed 1 and not 2: choose another folder"
        )
        assert (written / manifest.FILE).read_bytes() == before

    def test_a_folder_of_other_things_is_left_alone(self, tmp_path):
        (tmp_path / "notes.txt").write_text("mine")
        with pytest.raises(UserError, match="is not empty"), manifest.claim(tmp_path, HEADER):
            pass
        assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]

    def test_one_process_at_a_time(self, tmp_path):
        with (
            manifest.claim(tmp_path / "out", HEADER),
            pytest.raises(UserError, match="another process writes"),
            manifest.claim(tmp_path / "out", HEADER),
        ):
            pass

    def test_a_file_in_the_way(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(UserError, match="a file stands where a folder is needed"):
            manifest.claim(tmp_path / "file" / "out", HEADER).__enter__()
