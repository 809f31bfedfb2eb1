"""What preparing, indexing and opening do, on a miniature of LFW."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from tfface import data
from tfface.data import prepared
from tfface.errors import UserError
from tfface.utils.files import lock

KEYS = [
    "Ann_Ames/Ann_Ames_0001.jpg",
    "Ann_Ames/Ann_Ames_0002.jpg",
    "Bob_Burn/Bob_Burn_0001.jpg",
    "Cid_Cole/Cid_Cole_0001.jpg",
    "Cid_Cole/Cid_Cole_0002.jpg",
    "Cid_Cole/Cid_Cole_0003.jpg",
]
PEOPLE = ["Ann_Ames"] * 2 + ["Bob_Burn"] + ["Cid_Cole"] * 3


def elements(dataset, *part):
    return [(example["key"].numpy().decode(), example["image"].numpy()) for example in dataset.encoded(*part)]


def count_builds(monkeypatch):
    builds = []
    build = prepared._build
    monkeypatch.setattr(prepared, "_build", lambda *args, **options: builds.append(args) or build(*args, **options))
    return builds


def test_images_in_natural_order_with_the_bytes_of_the_archive(lfw):
    dataset = data.load_dataset("lfw", manual_dir=lfw.folder, offline=True)
    assert dataset.name == "lfw/deepfunneled"
    assert dataset.keys == KEYS
    assert dataset.identities == PEOPLE
    assert dataset.boxes is None
    assert elements(dataset) == [(key, lfw.images[key]) for key in KEYS]
    assert [dataset.read(key) for key in KEYS] == [lfw.images[key] for key in KEYS]


@pytest.mark.parametrize("part", [(2,), (1, 4), (0, 0), (6,), (4, 99)])
def test_encoded_gives_the_part_that_the_keys_slice_gives(lfw, part):
    dataset = data.load_dataset("lfw", manual_dir=lfw.folder, offline=True)
    assert [key for key, _ in elements(dataset, *part)] == KEYS[slice(*part) if len(part) > 1 else slice(part[0], None)]


def test_order_and_bytes_hold_over_several_record_files(lfw, monkeypatch):
    settings = tfds.download.DownloadConfig
    monkeypatch.setattr(tfds.download, "DownloadConfig", lambda **options: settings(**options, num_shards=3))
    dataset = data.load_dataset("lfw", manual_dir=lfw.folder, offline=True)
    assert len(dataset.shards) == 3
    assert elements(dataset, 1, 5) == [(key, lfw.images[key]) for key in KEYS[1:5]]
    assert [dataset.read(key) for key in KEYS] == [lfw.images[key] for key in KEYS]


def test_a_sample_reads_its_own_images(lfw):
    dataset = data.load_dataset("lfw", manual_dir=lfw.folder, offline=True, images_per_person=1, seed=3)
    assert dataset.identities == ["Ann_Ames", "Bob_Burn", "Cid_Cole"]
    assert set(dataset.keys) <= set(KEYS)
    assert elements(dataset) == [(key, lfw.images[key]) for key in dataset.keys]
    assert elements(dataset, 1, 3) == [(key, lfw.images[key]) for key in dataset.keys[1:3]]
    assert len(dataset.encoded()) == 3
    assert [dataset.read(key) for key in dataset.keys] == [lfw.images[key] for key in dataset.keys]
    assert dataset.version.endswith(".1-per-person-seed3")


def test_the_second_load_builds_nothing_and_needs_no_archive(lfw, monkeypatch):
    first = data.load_dataset("lfw", manual_dir=lfw.folder, offline=True)
    builds = count_builds(monkeypatch)
    lfw.archive.unlink()
    second = data.load_dataset("lfw", offline=True)
    assert builds == []
    assert (second.keys, second.version) == (first.keys, first.version)


def test_a_prepared_set_opens_and_reads_without_tensorflow(lfw):
    data.load_dataset("lfw", manual_dir=lfw.folder, offline=True)
    program = (
        "import sys; from tfface import data; d = data.load_dataset('lfw', offline=True); "
        "print(len(d), len(d.read(d.keys[0])), 'tensorflow' in sys.modules)"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert done.stdout.split() == ["6", str(len(lfw.images[KEYS[0]])), "False"], done.stderr


def test_importing_tfface_data_imports_neither_tensorflow_nor_tfds():
    program = "import sys, tfface.data; print({'tensorflow', 'tensorflow_datasets'} & set(sys.modules))"
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert done.stdout.strip() == "set()", done.stderr


def test_nothing_of_tfds_goes_to_stdout(lfw, capsys):
    data.load_dataset("lfw", manual_dir=lfw.folder, offline=True)
    assert capsys.readouterr().out == ""


def test_the_version_follows_the_images_not_their_packing(lfw, tar, jpeg, cache, tmp_path):
    def version(folder):
        dataset = data.load_dataset("lfw", manual_dir=folder, offline=True)
        (dataset.folder / "faces.parquet").unlink()  # so that the next one is prepared anew
        return dataset.version

    packed = version(lfw.folder)
    same = tmp_path / "repacked"
    same.mkdir()
    tar(same / "lfw-deepfunneled.tgz", {f"lfw-deepfunneled/{key}": lfw.images[key] for key in KEYS})
    other = tmp_path / "changed"
    other.mkdir()
    changed = {**lfw.images, KEYS[2]: jpeg(99)}
    tar(other / "lfw-deepfunneled.tgz", {f"lfw-deepfunneled/{key}": changed[key] for key in KEYS})
    assert version(same) == packed
    assert version(other) != packed
    assert packed.startswith("1.0.0+")


def test_a_failed_preparation_leaves_nothing_behind(lfw, monkeypatch):
    def fail(folder):
        raise OSError("the disk broke")

    monkeypatch.setattr(prepared, "_write_index", fail)
    with pytest.raises(OSError, match="the disk broke"):
        data.load_dataset("lfw", manual_dir=lfw.folder, offline=True)
    folder = prepared.folder_of("lfw", "deepfunneled")
    assert list(folder.parent.iterdir()) == []


def test_a_killed_preparation_is_done_again(lfw):
    folder = prepared.folder_of("lfw", "deepfunneled")
    # Killed once while TFDS wrote, once between that and the index.
    left = folder.parent / "incomplete.ABCDEF_1.0.0"
    for place in (left, folder):
        place.mkdir(parents=True)
        (place / "lfw-faces.tfrecord-00000-of-00001").write_bytes(b"half")
    assert data.load_dataset("lfw", manual_dir=lfw.folder, offline=True).keys == KEYS
    assert not left.exists()


@pytest.mark.parametrize("damage", ["cut", "gone", "index"])
def test_damaged_records_are_prepared_again(lfw, damage, capsys):
    dataset = data.load_dataset("lfw", manual_dir=lfw.folder, offline=True)
    shard = dataset.folder / dataset.shards[0]
    if damage == "cut":
        shard.write_bytes(shard.read_bytes()[:-100])
    elif damage == "gone":
        shard.unlink()
    else:
        (dataset.folder / "faces.parquet").write_bytes(b"no parquet")
    again = data.load_dataset("lfw", manual_dir=lfw.folder, offline=True)
    assert elements(again) == [(key, lfw.images[key]) for key in KEYS]
    assert "damaged" in capsys.readouterr().err


def test_records_cut_after_opening_are_an_error_that_names_them(lfw):
    dataset = data.load_dataset("lfw", manual_dir=lfw.folder, offline=True)
    shard = dataset.folder / dataset.shards[0]
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"lfw-faces\.tfrecord.* is cut short"):
        dataset.read(KEYS[-1])


def test_two_that_prepare_at_once_build_once(lfw, monkeypatch):
    builds, found = count_builds(monkeypatch), []
    threads = [
        threading.Thread(target=lambda: found.append(data.load_dataset("lfw", manual_dir=lfw.folder, offline=True)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(builds) == 1
    assert [dataset.keys for dataset in found] == [KEYS, KEYS]


def test_a_waiting_process_says_what_for(lfw, capsys, cache):
    guard = lock(cache / "datasets" / "lfw-deepfunneled")
    guard.acquire()
    waiting = threading.Thread(target=lambda: data.load_dataset("lfw", manual_dir=lfw.folder, offline=True))
    waiting.start()
    waiting.join(timeout=1)
    held = waiting.is_alive(), not prepared.folder_of("lfw", "deepfunneled").exists()
    guard.release()
    waiting.join()
    assert held == (True, True)
    assert "another process prepares lfw" in capsys.readouterr().err


def test_an_unknown_key_is_an_error(lfw):
    dataset = data.load_dataset("lfw", manual_dir=lfw.folder, offline=True)
    with pytest.raises(UserError, match=r"lfw/deepfunneled has no image 'Zoe/Zoe_0001.jpg'"):
        dataset.read("Zoe/Zoe_0001.jpg")


def test_spans_cover_the_images_exactly(lfw):
    dataset = data.load_dataset("lfw", manual_dir=lfw.folder, offline=True)
    assert dataset.spans[:, 2].tolist() == [len(lfw.images[key]) for key in KEYS]
    assert dataset.spans.dtype == np.int64


def test_builders_bear_the_licence_and_the_citation():
    for name in prepared.names():
        folder = prepared.BUILDERS / name
        assert (folder / "CITATIONS.bib").read_text().startswith("@")
        assert "Licence:" in (folder / "README.md").read_text()
        assert (folder / "checksums.tsv").exists()
        facts = data.describe_dataset(name).facts
        assert facts["licence"] and facts["homepage"].startswith("http") and facts["source"]
        assert not facts["prepared"]
