import numpy as np
import pytest

from tfface import data
from tfface.errors import Unavailable, UserError


def load(root, **options):
    return data.load_dataset("vggface2", manual_dir=root, offline=True, **options)


def test_images_people_and_boxes(vggface2, capsys):
    dataset = load(vggface2.folder)
    assert dataset.name == "vggface2/test"
    assert dataset.keys == vggface2.keys
    assert dataset.identities == ["n000001", "n000001", "n000009", "n000009"]
    nan = float("nan")
    np.testing.assert_array_equal(dataset.boxes, [[1, 2, 30, 40], [-3, 0, 31, 41], [5, 6, 32, 42.5], [nan] * 4])
    assert dataset.read(vggface2.keys[2]) == (vggface2.folder / "test" / vggface2.keys[2]).read_bytes()
    assert "4 images of 2 people; published are (169396, 500)" in capsys.readouterr().err


def test_a_sample_keeps_the_boxes_of_its_images(vggface2):
    whole, sample = load(vggface2.folder), load(vggface2.folder, images_per_person=1, seed=0)
    assert len(sample) == 2
    np.testing.assert_array_equal(sample.boxes, whole.boxes[[whole.position(key) for key in sample.keys]])


def test_without_a_box_file_there_are_no_boxes(vggface2):
    (vggface2.folder / "bb_landmark" / "loose_bb_test.csv").unlink()
    assert load(vggface2.folder).boxes is None


def test_the_list_says_which_images_there_are(vggface2):
    (vggface2.folder / "test_list.txt").write_text("\n".join(vggface2.keys[:2]) + "\n")
    assert load(vggface2.folder).keys == vggface2.keys[:2]


def test_without_a_list_the_folder_does(vggface2):
    (vggface2.folder / "test_list.txt").unlink()
    assert load(vggface2.folder).keys == vggface2.keys


def test_a_listed_image_that_is_missing_is_named(vggface2):
    (vggface2.folder / "test" / vggface2.keys[1]).unlink()
    with pytest.raises(UserError, match=r"lacks 1 images of test_list\.txt, the first n000001/0002_01\.jpg"):
        load(vggface2.folder)


def test_the_other_split_is_its_own_folder(vggface2):
    with pytest.raises(Unavailable, match=r"vggface2/train is not at hand: .*train_list\.txt .*TFFACE_VGGFACE2"):
        data.load_dataset("vggface2/train", manual_dir=vggface2.folder, offline=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("X,Y\n", "does not begin with NAME_ID,X,Y,W,H"),
        ("NAME_ID,X,Y,W,H\nn1/1,1,2,3\n", "line 2: not a name and four numbers"),
        ("NAME_ID,X,Y,W,H\nn1/1,1,2,3,wide\n", "line 2: not a name and four numbers"),
    ],
)
def test_a_malformed_box_file_is_an_error(vggface2, text, message):
    (vggface2.folder / "bb_landmark" / "loose_bb_test.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        load(vggface2.folder)
