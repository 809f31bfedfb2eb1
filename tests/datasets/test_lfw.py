import hashlib
import tarfile
import types
from collections import Counter

import pytest

from tfface import data
from tfface.data import prepared
from tfface.errors import Unavailable, UserError
from tfface.hub import weights

Builder = prepared.builder_class("lfw")
# Two folds, each of one genuine and one impostor pair.
PAIRS = "2\t1\nAnn_Ames\t1\t2\nAnn_Ames\t1\tBob_Burn\t1\nCid_Cole\t1\t3\nBob_Burn\t1\tCid_Cole\t2\n"


def load(folder, **options):
    return data.load_dataset("lfw", manual_dir=folder, offline=True, **options)


def with_pairs(lfw, monkeypatch, text=PAIRS, published=PAIRS):
    """Puts a pairs.txt beside the archive, and makes the hash of `published` the published one."""
    (lfw.folder / "pairs.txt").write_text(text)
    digest = hashlib.sha256(published.encode()).hexdigest()
    facts = {**Builder.url_infos, Builder.PAIR_LISTS["view2"].url: types.SimpleNamespace(checksum=digest)}
    monkeypatch.setattr(Builder, "url_infos", facts)


def test_the_archive_itself_may_be_named(lfw, monkeypatch):
    monkeypatch.setenv("TFFACE_LFW", str(lfw.archive))
    assert len(data.load_dataset("lfw", offline=True)) == 6


def test_an_unpacked_folder_does(lfw, tmp_path, monkeypatch):
    with tarfile.open(lfw.archive) as bundle:
        bundle.extractall(tmp_path / "unpacked", filter="data")
    monkeypatch.setenv("TFFACE_LFW", str(tmp_path / "unpacked"))
    above = data.load_dataset("lfw", offline=True)
    (above.folder / "faces.parquet").unlink()
    itself = load(tmp_path / "unpacked" / "lfw-deepfunneled")
    assert above.version == itself.version
    assert itself.read("Bob_Burn/Bob_Burn_0001.jpg") == lfw.images["Bob_Burn/Bob_Burn_0001.jpg"]


def test_the_folder_of_another_alignment_is_not_taken_for_this_one(lfw, tmp_path):
    with tarfile.open(lfw.archive) as bundle:
        bundle.extractall(tmp_path, filter="data")
    (tmp_path / "lfw-deepfunneled").rename(tmp_path / "lfw_funneled")
    with pytest.raises(Unavailable, match=r"get lfw-deepfunneled\.tgz"):
        load(tmp_path / "lfw_funneled")
    assert data.load_dataset("lfw/funneled", manual_dir=tmp_path, offline=True).name == "lfw/funneled"


@pytest.mark.parametrize(("config", "archive"), [("original", "lfw.tgz"), ("funneled", "lfw-funneled.tgz")])
def test_each_configuration_has_its_archive(lfw, config, archive, tar):
    with pytest.raises(Unavailable, match=rf"lfw/{config} cannot be had .*`offline`.*get {archive} .*TFFACE_LFW"):
        data.load_dataset(f"lfw/{config}", manual_dir=lfw.folder, offline=True)
    tar(lfw.folder / archive, {f"any/{key}": image for key, image in lfw.images.items()})
    assert len(data.load_dataset(f"lfw/{config}", manual_dir=lfw.folder, offline=True)) == 6


def test_without_an_archive_the_error_names_every_file():
    with pytest.raises(Unavailable, match=r"lfw-deepfunneled\.tgz .* pairs\.txt, pairsDevTrain\.txt and pairsDevTest"):
        data.load_dataset("lfw", offline=True)


def test_a_file_that_is_no_archive_of_lfw_is_refused(tmp_path):
    other = tmp_path / "holiday.tgz"
    other.write_bytes(b"")
    with pytest.raises(UserError, match=r"holiday\.tgz is no file of lfw: .*lfw-deepfunneled\.tgz"):
        load(other)
    with pytest.raises(UserError, match=r"nowhere does not exist: `manual_dir` or TFFACE_LFW"):
        load(tmp_path / "nowhere")


@pytest.mark.parametrize("cut", [0.3, 0.6, 0.99])
def test_a_cut_archive_is_never_read_as_whole(lfw, cut):
    whole = lfw.archive.read_bytes()
    lfw.archive.write_bytes(whole[: int(len(whole) * cut)])
    with pytest.raises(UserError, match=r"lfw-deepfunneled\.tgz is damaged"):
        load(lfw.folder)
    assert not prepared.folder_of("lfw", "deepfunneled").exists()


@pytest.mark.parametrize("place", [0.2, 0.5, 0.8])
def test_a_changed_byte_in_the_archive_is_found(lfw, place):
    content = bytearray(lfw.archive.read_bytes())
    content[int(len(content) * place)] ^= 0xFF
    lfw.archive.write_bytes(content)
    with pytest.raises(UserError, match=r"lfw-deepfunneled\.tgz is damaged"):
        load(lfw.folder)


def test_an_html_page_for_an_archive_is_refused(lfw):
    lfw.archive.write_text("<html>moved</html>")
    with pytest.raises(UserError, match="is damaged or not whole"):
        load(lfw.folder)


def test_a_missing_image_is_counted(lfw, tar):
    tar(lfw.archive, {f"lfw/{key}": image for key, image in list(lfw.images.items())[:-1]})
    with pytest.raises(UserError, match="holds 5 images of 3 people where lfw has 6 of 3"):
        load(lfw.folder)


@pytest.mark.parametrize("how", ["cut", "size", "png"])
def test_every_image_must_be_a_whole_jpeg_of_the_published_size(lfw, tar, jpeg, how):
    key = "Cid_Cole/Cid_Cole_0002.jpg"
    bad = {"cut": lfw.images[key][:-20], "size": jpeg(1, width=249), "png": b"\x89PNG" + b"0" * 99}[how]
    tar(lfw.archive, {f"lfw/{name}": image for name, image in {**lfw.images, key: bad}.items()})
    with pytest.raises(UserError, match=rf"{key} is no whole JPEG of 250x250"):
        load(lfw.folder)


def test_jpeg_size_is_width_then_height(jpeg):
    from lfw_dataset_builder import jpeg_size

    assert jpeg_size(jpeg(1, width=31, height=17)) == (31, 17)
    assert jpeg_size(b"") is None


def test_pairs_of_the_published_list(lfw, monkeypatch):
    with_pairs(lfw, monkeypatch)
    dataset = load(lfw.folder)
    (lfw.folder / "pairs.txt").unlink()  # stored with the prepared data by now
    pairs = dataset.pairs("view2")
    assert pairs.name == "view2"
    assert list(zip(pairs.first, pairs.second, strict=True)) == [(0, 1), (0, 2), (3, 5), (2, 4)]
    assert pairs.same.tolist() == [True, False, True, False]
    assert pairs.fold.tolist() == [0, 0, 1, 1]
    assert data.describe_dataset("lfw").facts["pair_sets"] == {
        "view1-train": None,
        "view1-test": None,
        "view2": {"pairs": 4, "folds": 2},
    }


def test_missing_pairs_do_not_hinder_the_images(lfw):
    dataset = load(lfw.folder)
    assert len(dataset) == 6
    with pytest.raises(Unavailable, match=r"pair list pairs\.txt of lfw is not at hand .*TFFACE_LFW"):
        dataset.pairs("view2")


def test_pairs_may_be_supplied_later(lfw, monkeypatch, tmp_path):
    load(lfw.folder)
    with_pairs(lfw, monkeypatch)
    assert len(load(lfw.folder).pairs("view2")) == 4


def test_a_pair_list_that_is_not_the_published_one_is_refused(lfw, monkeypatch):
    with_pairs(lfw, monkeypatch, text=PAIRS.replace("Cid", "Sid"))
    with pytest.raises(UserError, match=r"archives/pairs\.txt is not the published list"):
        load(lfw.folder).pairs("view2")


def test_an_unknown_pair_list_names_those_there_are(lfw):
    with pytest.raises(UserError, match="no pair list 'view3': it has view1-train, view1-test, view2"):
        load(lfw.folder).pairs("view3")


def test_a_pair_outside_of_a_sample_is_an_error_that_names_it(lfw, monkeypatch):
    with_pairs(lfw, monkeypatch)
    with pytest.raises(UserError, match=r"pairs\.txt, line 2: image Ann_Ames/Ann_Ames_000\d is not in lfw"):
        load(lfw.folder, images_per_person=1).pairs("view2")


def test_a_download_is_checked_by_hash(monkeypatch, cache):
    asked = []

    def send_a_page(url, folder, *, sha256=None):
        asked.append((url, sha256))
        (folder / "file").write_text("<html>")
        return folder / "file"

    monkeypatch.setattr(weights, "download", send_a_page)
    with pytest.raises(Unavailable, match="another hash than the published one"):
        data.load_dataset("lfw")
    assert not (cache / "downloads" / "lfw" / "lfw-deepfunneled.tgz").exists()
    with pytest.raises(UserError):
        data.load_dataset("lfw/original")
    assert asked == [
        ("http://vis-www.cs.umass.edu/lfw/lfw-deepfunneled.tgz", None),
        (
            "https://ndownloader.figshare.com/files/5976018",
            "055f7d9c632d7370e6fb4afc7468d40f970c34a80d4c6f50ffec63f5a8d536c0",
        ),
    ]


def test_a_host_that_does_not_answer_is_one_line(monkeypatch):
    def silent(url, folder, *, sha256=None):
        raise Unavailable("vis-www.cs.umass.edu cannot be reached (timed out)")

    monkeypatch.setattr(weights, "download", silent)
    with pytest.raises(Unavailable, match=r"cannot be had \(vis-www.* cannot be reached .* get lfw-deepfunneled\.tgz"):
        data.load_dataset("lfw")


@pytest.fixture
def real(lfw_dir, lfw_cache, monkeypatch):
    monkeypatch.setenv("TFFACE_CACHE", str(lfw_cache))
    return data.load_dataset("lfw", manual_dir=lfw_dir, offline=True)


@pytest.mark.lfw
def test_the_published_data_set(real):
    images_of = Counter(real.identities)
    assert (len(real), len(images_of), sum(count > 1 for count in images_of.values())) == (13233, 5749, 1680)
    assert images_of.most_common(1) == [("George_W_Bush", 530)]
    expected = {"view1-train": (2200, 1100, 1), "view1-test": (1000, 500, 1), "view2": (6000, 3000, 10)}
    for name, (total, genuine, folds) in expected.items():
        pairs = real.pairs(name)
        assert (len(pairs), int(pairs.same.sum()), int(pairs.fold.max()) + 1) == (total, genuine, folds)
        # Whether a pair is genuine, as the list says, is whether its people are one.
        people = [(real.identities[a], real.identities[b]) for a, b in zip(pairs.first, pairs.second, strict=True)]
        assert [a == b for a, b in people] == pairs.same.tolist()
    for key in real.keys[:: len(real) // 20]:
        assert real.read(key)[-2:] == b"\xff\xd9"
