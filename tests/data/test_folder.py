"""Folders of photographs: what is read, what is left out and counted, how a changed photograph is noticed."""

import json
import os
import shutil

import cv2
import matplotlib.pyplot as plt
import numpy as np
import pytest

from tfface import data
from tfface.errors import ImageError, UserError
from tfface.evaluation.embeddings import embed_dataset
from tfface.preprocessing.decoding import encode_png
from tfface.preprocessing.images import recipe
from tfface.report.pictures import save_picture
from tfface.utils import cache as stores
from tfface.utils.files import cache_dir
from tfface.utils.public import save_figure

JPEG = b"\xff\xd8\xff\xe0"


def put(root, *names, content=None):
    """Files with something in them that no other has."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(JPEG + name.encode() if content is None else content)
    return root


@pytest.fixture
def faces(tmp_path):
    """Ann with two photographs, Bob with one."""
    return put(tmp_path / "faces", "Ann/1.jpg", "Ann/2.jpg", "Bob/1.jpg")


KEYS = ["Ann/1.jpg", "Ann/2.jpg", "Bob/1.jpg"]


def version(folder):
    return data.load_dataset(folder).version


def settle(monkeypatch):
    """Have the clock tell all changes of these tests apart from what follows, as after some seconds."""
    monkeypatch.setattr(stores, "_CLOCK_TICK", -(10**12))


class TestVersion:
    def swap(self, faces):
        """Exchange two files of one size, their times kept."""
        first, second = faces / "Ann/1.jpg", faces / "Bob/1.jpg"
        times = [os.stat(path) for path in (first, second)]
        first.rename(faces / "aside")
        second.rename(first)
        (faces / "aside").rename(second)
        for path, time in zip((first, second), times, strict=True):
            os.utime(path, ns=(time.st_atime_ns, time.st_mtime_ns))

    def rewrite(self, faces):
        """Write other bytes of the same number into a file, its times kept."""
        path = faces / "Ann/2.jpg"
        time = path.stat()
        path.write_bytes(path.read_bytes()[::-1])
        os.utime(path, ns=(time.st_atime_ns, time.st_mtime_ns))

    def in_place(self, faces):
        with (faces / "Ann/2.jpg").open("r+b") as file:
            file.write(b"\xff\xd8\xee")

    def relink(self, faces):
        (faces / "Ann/1.jpg").unlink()
        (faces / "Ann/1.jpg").symlink_to(faces / "Bob/1.jpg")

    def rename(self, faces):
        (faces / "Ann/2.jpg").rename(faces / "Ann/3.jpg")

    def remove(self, faces):
        (faces / "Ann/2.jpg").unlink()

    def add(self, faces):
        put(faces, "Bob/2.jpg")

    def move(self, faces):
        (faces / "Ann/2.jpg").rename(faces / "Bob/2.jpg")

    def dangle(self, faces):
        self.remove(faces)
        (faces / "Ann/2.jpg").symlink_to("nowhere.jpg")

    @pytest.mark.parametrize(
        "change", ["swap", "rewrite", "in_place", "relink", "rename", "remove", "add", "move", "dangle"]
    )
    def test_a_changed_photograph_is_a_changed_data_set(self, faces, monkeypatch, change):
        settle(monkeypatch)
        before = version(faces)
        assert version(faces) == before
        getattr(self, change)(faces)
        assert version(faces) != before

    def touch(self, faces):
        os.utime(faces / "Ann/1.jpg", ns=(1, 1))

    def copy(self, faces):
        shutil.copytree(faces, faces.parent / "copied", copy_function=shutil.copy)
        shutil.rmtree(faces)
        (faces.parent / "copied").rename(faces)

    def link(self, faces):
        (faces / "Bob").rename(faces.parent / "elsewhere")
        (faces / "Bob").symlink_to(faces.parent / "elsewhere")

    def note(self, faces):
        put(faces, "Bob/notes.txt", ".hidden/1.jpg", content=b"note")

    @pytest.mark.parametrize("change", ["touch", "copy", "link", "note"])
    def test_the_same_photographs_are_the_same_data_set(self, faces, change):
        before = version(faces)
        getattr(self, change)(faces)
        assert version(faces) == before

    def test_files_as_they_were_are_not_read_again(self, faces, monkeypatch):
        settle(monkeypatch)
        read = []
        monkeypatch.setattr("tfface.data.folder._digest", lambda path: read.append(path.name) or "0" * 64)
        version(faces)
        assert sorted(read) == ["1.jpg", "1.jpg", "2.jpg"]
        version(faces)
        data.open_photographs(put(faces, "loose.jpg"))
        version(faces)
        data.open_photographs(faces)
        assert read[3:] == ["loose.jpg"]

    def test_a_file_that_has_just_changed_is_read_again(self, faces):
        """Two changes within the clock's tick cannot be told apart."""
        version(faces)
        assert not list(cache_dir("folders").iterdir())

    @pytest.mark.parametrize("damage", [b"", b"PAR1 not"])
    def test_a_damaged_or_absent_cache_costs_time_alone(self, faces, monkeypatch, damage):
        settle(monkeypatch)
        before = version(faces)
        (kept,) = cache_dir("folders").iterdir()
        kept.write_bytes(damage)
        assert version(faces) == before
        monkeypatch.setattr(stores, "cache_dir", lambda *parts: (_ for _ in ()).throw(UserError("read only")))
        assert version(faces) == before

    def test_embeddings_are_of_what_is_there_now(self, tmp_path, make_photo, tiny_embedder):
        """The two photographs of one size, exchanged with their times kept: each embedding moves with its own."""
        for number, name in enumerate(["Ann/1.bmp", "Bob/1.bmp"]):
            put(tmp_path / "faces", name, content=cv2.imencode(".bmp", make_photo(number, 0))[1].tobytes())
        whole = recipe("whole")
        before = embed_dataset(data.load_dataset(tmp_path / "faces"), tiny_embedder, whole).vectors
        first, second = tmp_path / "faces/Ann/1.bmp", tmp_path / "faces/Bob/1.bmp"
        assert first.stat().st_size == second.stat().st_size
        os.utime(first, ns=(10**18, 10**18))
        os.utime(second, ns=(10**18, 10**18))
        first.rename(tmp_path / "aside")
        second.rename(first)
        (tmp_path / "aside").rename(second)
        after = embed_dataset(data.load_dataset(tmp_path / "faces"), tiny_embedder, whole).vectors
        np.testing.assert_array_equal(after, before[::-1])
        assert not np.allclose(before[0], before[1])


class TestChangedMeanwhile:
    def test_reading_refuses_it(self, faces):
        loaded = data.load_dataset(faces)
        (faces / "Ann/1.jpg").write_bytes(b"else")
        with pytest.raises(UserError, match=r"Ann/1\.jpg is not as it was when folder:faces was opened"):
            loaded.read("Ann/1.jpg")
        assert loaded.read("Ann/2.jpg") == JPEG + b"Ann/2.jpg"

    @pytest.mark.parametrize("change", ["replace", "remove"])
    def test_nothing_is_kept_of_a_run_in_which_it_happened(self, tmp_path, make_photo, tiny_embedder, change):
        for number in range(3):
            put(tmp_path / "faces", f"Ann/{number}.png", content=encode_png(make_photo(0, number)))
        loaded, path = data.load_dataset(tmp_path / "faces"), tmp_path / "faces/Ann/1.png"
        original = path.read_bytes()
        path.write_bytes((tmp_path / "faces/Ann/2.png").read_bytes()) if change == "replace" else path.unlink()
        with pytest.raises(UserError, match=r"1\.png is not as it was|cannot read .*1\.png"):
            embed_dataset(loaded, tiny_embedder, recipe("whole"))
        path.write_bytes(original)
        assert embed_dataset(data.load_dataset(tmp_path / "faces"), tiny_embedder, recipe("whole")).ok.all()


def keys_and_log(folder, capsys):
    """What evaluate and embed see, and what was said of the rest."""
    people = data.load_dataset(folder).keys
    said = capsys.readouterr().err
    every = data.open_photographs(folder).keys
    assert [key for key in every if "/" in key] == people
    return people, said


class TestOutputs:
    OURS = {  # noqa: RUF012
        "metrics.json": {"command": "evaluate", "versions": {"tfface": "1"}, "started": "now"},
        "manifest.json": {"format": "tfface-manifest-1", "complete": False},
        "stage.json": {"format": 1, "complete": False, "digest": "0", "inputs": {}},
        "reproduction.json": {"format": 1, "dataset": "five_faces"},
        "figure1.json": {"epsilons": [], "rows": []},
        "golden.json": {"inputs": []},
        "preset.json": {"format": 1, "input_size": 160, "embedding_size": 128},
    }

    @pytest.mark.parametrize("place", ["out", "runs/monday", "Ann/out"])
    @pytest.mark.parametrize("name", OURS)
    def test_a_folder_that_a_command_wrote_is_nobody(self, faces, capsys, name, place):
        put(faces, f"{place}/roc.png", f"{place}/deeper/1.png")
        (faces / place / name).write_text(json.dumps(self.OURS[name]))
        keys, said = keys_and_log(faces, capsys)
        assert keys == KEYS
        assert f"{faces}: 1 folders that a command wrote are left out ({place})" in said

    @pytest.mark.parametrize(
        "content",
        [
            {"models": [{"preset": "facenet/msceleb", "weights_sha256": "0"}, {}]},
            {"preset": "facenet/msceleb", "weights_sha256": "0", "photographs": 3},
            {"served_model": "faces", "photographs": 3},
            {"command": "augment", "dataset": "folder:faces"},
            {"artifact": "a.tflite", "artifact_sha256": "0"},
        ],
    )
    def test_every_kind_of_metrics(self, faces, capsys, content):
        put(faces, "out/roc.png")
        (faces / "out" / "metrics.json").write_text(json.dumps(content))
        assert keys_and_log(faces, capsys)[0] == KEYS

    @pytest.mark.parametrize("content", ["", "[]", "{", '{"accuracy": 0.9}', '{"models": []}', '{"models": {"a": 1}}'])
    @pytest.mark.parametrize("name", OURS)
    def test_files_of_other_programs_make_no_difference(self, faces, capsys, name, content):
        put(faces, f"Ann/{name}", content=content.encode())
        assert keys_and_log(faces, capsys) == (KEYS, "")

    def test_a_folder_named_by_the_user_is_taken_though_a_command_wrote_into_it(self, faces):
        put(faces, "metrics.json", content=json.dumps(self.OURS["metrics.json"]).encode())
        assert data.load_dataset(faces).keys == KEYS

    def test_a_folder_with_nothing_else_says_so(self, tmp_path):
        put(tmp_path / "all", "out/1.png")
        (tmp_path / "all/out/manifest.json").write_text(json.dumps(self.OURS["manifest.json"]))
        with pytest.raises(
            UserError, match=r"holds no images: .*; 1 folders that a command wrote are left out \(out\)"
        ):
            data.load_dataset(tmp_path / "all")

    @pytest.mark.parametrize("place", ["", "Ann/", "plots/"])
    def test_a_picture_that_shows_results_is_no_photograph(self, faces, capsys, place):
        (faces / place).mkdir(exist_ok=True)
        save_figure(plt.figure(), faces / f"{place}roc.png")
        save_picture(np.zeros((64, 64, 3), np.uint8), faces / f"{place}verify.png")
        assert plt.imread(faces / f"{place}verify.png").shape == (64, 64, 3)
        assert data.open_photographs(faces).keys == KEYS
        names = f"{place}roc.png, {place}verify.png"
        assert f"2 pictures that tfface drew are left out ({names})" in capsys.readouterr().err
        assert data.load_dataset(faces).keys == KEYS

    def test_the_second_run_sees_what_the_first_saw(self, tmp_path, make_photo, tiny_model, run_cli, monkeypatch):
        for person in range(3):
            for number in range(2):
                put(tmp_path, f"p{person}/{number}.png", content=encode_png(make_photo(person, number)))
        monkeypatch.chdir(tmp_path)
        arguments = ("evaluate", "--dataset", ".", "--model", "tiny", "--recipe", "whole", "--out", "out")
        versions = []
        for _ in range(2):
            assert run_cli(*arguments).code == 0
            versions.append(json.loads((tmp_path / "out" / "metrics.json").read_text())["dataset_version"])
        assert versions[0] == versions[1]


class TestDevices:
    @pytest.mark.parametrize(
        "name",
        [
            *("@eaDir", "#recycle", "$RECYCLE.BIN", "lost+found", "__MACOSX", ".picasaoriginals", ".Trash-1000"),
            *("System Volume Information", "@Recycle", "RECYCLER", ".@__thumb", "LOST.DIR", "#snapshot", ".Trashes"),
        ],
    )
    @pytest.mark.parametrize("place", ["", "Ann/", "Bob/old/"])
    def test_they_are_nobody_and_counted(self, faces, capsys, name, place):
        put(faces, f"{place}{name}/1.jpg", f"{place}{name}/2.jpg/SYNOPHOTO_THUMB_M.jpg")
        keys, said = keys_and_log(faces, capsys)
        assert keys == KEYS
        assert f"1 folders of devices and bins are left out ({place}{name})" in said

    @pytest.mark.parametrize("name", ["eaDir", "recycle", "lost", "Trash", "@home", "MACOSX"])
    def test_people_of_like_names_are_people(self, faces, name):
        assert f"{name}/1.jpg" in data.load_dataset(put(faces, f"{name}/1.jpg")).keys


class TestOmissions:
    @pytest.mark.parametrize(
        "suffix",
        [
            *(".jpg", ".JPG", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".bmp", ".dib", ".gif", ".webp", ".avif"),
            *(".jp2", ".j2k", ".ppm", ".pgm", ".pnm", ".pbm", ".mpo", ".tif", ".TIFF"),
            *(".heic", ".HEIF", ".jxl", ".dng", ".cr2", ".nef", ".psd"),
        ],
    )
    def test_every_kind_of_photograph_counts(self, faces, capsys, suffix):
        assert keys_and_log(put(faces, f"Bob/2{suffix}"), capsys) == ([*KEYS, f"Bob/2{suffix}"], "")

    @pytest.mark.parametrize(
        "name", ["notes.txt", "Thumbs.db", ".DS_Store", "._1.jpg", "1.svg", "a.pdf", "a.json", "jpg"]
    )
    def test_other_files_do_not(self, faces, capsys, name):
        assert keys_and_log(put(faces, f"Bob/{name}", content=b"text, no photograph"), capsys) == (KEYS, "")

    @pytest.mark.parametrize("name", ["IMG_0001", "1.jpg_original", "1.jpg~", "photo.php", "1.jpg.1"])
    def test_a_photograph_under_another_name_is_counted(self, faces, capsys, name):
        keys, said = keys_and_log(put(faces, f"Bob/{name}"), capsys)
        assert keys == KEYS
        assert f"1 files that hold a photograph and are not called one are left out (Bob/{name})" in said

    def test_a_link_that_leads_nowhere_and_a_folder_called_like_a_photograph(self, faces, capsys):
        (faces / "Ann/3.jpg").symlink_to("gone.jpg")
        (faces / "Ann/4.jpg").symlink_to("4.jpg")
        put(faces, "Ann/5.jpg/1.jpg")
        os.mkfifo(faces / "Ann/6.jpg")
        loaded = data.load_dataset(faces)
        assert loaded.keys == [*KEYS[:2], "Ann/3.jpg", "Ann/4.jpg", "Ann/5.jpg/1.jpg", KEYS[2]]
        assert loaded.unreadable == {
            2: "cannot be read (No such file or directory)",
            3: "cannot be read (Too many levels of symbolic links)",
        }
        with pytest.raises(ImageError, match=r"cannot read .*3\.jpg: No such file"):
            loaded.read("Ann/3.jpg")
        assert data.describe_dataset(faces).facts["images"] == 6
        said = capsys.readouterr().err
        assert "Ann/3.jpg cannot be read (No such file or directory)" in said
        assert "2 of 6 photographs cannot be read" in said

    def test_each_that_fails_is_named_and_counted_by_every_command(
        self, tmp_path, make_photo, tiny_model, run_cli, monkeypatch
    ):
        for person in ("Ann", "Bob"):
            for number in range(2):
                put(tmp_path, f"{person}/{number}.png", content=encode_png(make_photo(len(person), number)))
        (tmp_path / "Ann/7.jpg").symlink_to("gone.jpg")
        put(tmp_path, "Bob/8.heic", content=b"\0\0\0\x18ftypheic")
        shared = ("--model", "tiny", "--recipe", "whole")
        for arguments in (
            ("evaluate", "--dataset", str(tmp_path)),
            ("embed", str(tmp_path), "--out", str(tmp_path / "e.npz")),
        ):
            found = run_cli(*arguments, *shared)
            assert found.code == 0
            assert "Ann/7.jpg cannot be read (No such file or directory)" in found.err
            assert "Bob/8.heic is " in found.err
            assert "2 of 6 photographs failed" in found.err
            assert run_cli(*arguments, *shared, "--strict").code == 2
        assert list(np.load(tmp_path / "e.npz")["failed_keys"]) == ["Ann/7.jpg", "Bob/8.heic"]

    @pytest.mark.skipif(os.geteuid() == 0, reason="root reads all")
    def test_an_unreadable_file_and_folder(self, faces, capsys):
        (faces / "Ann/1.jpg").chmod(0)
        put(faces, "Ann/old/3.jpg", "Cid/1.jpg")
        for name in ("Ann/old", "Cid"):
            (faces / name).chmod(0)
        loaded = data.load_dataset(faces)
        assert loaded.keys == KEYS
        assert loaded.unreadable == {0: "cannot be read (Permission denied)"}
        said = capsys.readouterr().err
        assert "2 folders that cannot be read are left out (Ann/old: Permission denied, Cid: Permission denied)" in said

    def test_an_unreadable_folder_for_root_too(self, faces, capsys, monkeypatch):
        look = os.scandir

        def scandir(path):
            if str(path).rstrip("/").endswith(("Bob", "none")):
                raise PermissionError(13, "Permission denied", str(path))
            return look(path)

        monkeypatch.setattr(os, "scandir", scandir)
        assert keys_and_log(faces, capsys)[0] == KEYS[:2]
        (faces.parent / "none").mkdir()
        with pytest.raises(UserError, match=r"cannot read the folder .*none: Permission denied"):
            data.load_dataset(faces.parent / "none")


class TestLinks:
    def test_linked_people_and_nested_links_are_followed(self, faces, tmp_path, capsys):
        put(tmp_path / "elsewhere", "1.jpg", "old/2.jpg")
        (faces / "Cid").symlink_to(tmp_path / "elsewhere")
        (faces / "Bob/more").symlink_to(tmp_path / "elsewhere" / "old")
        (faces / "Bob/9.jpg").symlink_to(tmp_path / "elsewhere" / "1.jpg")
        keys, _ = keys_and_log(faces, capsys)
        assert keys == [*KEYS, "Bob/9.jpg", "Bob/more/2.jpg", "Cid/1.jpg", "Cid/old/2.jpg"]

    @pytest.mark.parametrize(
        ("link", "target"),
        [("Ann/loop", "."), ("Ann/loop", ".."), ("loop", "."), ("Ann/old/loop", "../.."), ("Bob/x", "../Ann/up")],
    )
    def test_a_loop_ends(self, faces, capsys, link, target):
        (faces / link).parent.mkdir(exist_ok=True)
        (faces / link).symlink_to(target)
        (faces / "Ann/up").symlink_to("..")
        keys, said = keys_and_log(faces, capsys)
        assert keys == KEYS
        assert "links to a folder around them are left out" in said and link in said

    def test_folders_that_link_to_each_other_are_seen_once_a_person(self, faces, capsys):
        for one in range(8):
            put(faces, f"Cid/{one}/1.jpg")
            for other in range(8):
                if one != other:
                    (faces / f"Cid/{one}/to{other}").symlink_to(f"../{other}")
        keys, _ = keys_and_log(faces, capsys)
        assert len(keys) == len(KEYS) + 8
