"""Which face a photograph is of, and the way from the detector's rows back to the photograph."""

import cv2
import numpy as np
import pytest

from tfface import data
from tfface.data.crops import find_faces
from tfface.preprocessing import mtcnn
from tfface.preprocessing.decoding import decode
from tfface.preprocessing.mtcnn import choose_face, detect


def boxes(*rows) -> np.ndarray:
    return np.array(rows, np.float32).reshape(-1, 4)


class TestChooseFace:
    def test_none(self):
        assert choose_face(boxes(), 100, 100) is None

    def test_the_only_one(self):
        assert choose_face(boxes([0, 0, 5, 5]), 100, 100) == 0

    def test_the_largest_of_equally_central_ones(self):
        assert choose_face(boxes([45, 45, 10, 10], [40, 40, 20, 20], [47, 47, 6, 6]), 100, 100) == 1

    def test_the_most_central_of_equal_ones(self):
        assert choose_face(boxes([0, 0, 20, 20], [38, 42, 20, 20], [80, 80, 20, 20]), 100, 100) == 1

    @pytest.mark.parametrize(("width", "chosen"), [(64, 0), (66, 1)])
    def test_size_against_distance(self, width, chosen):
        # Both 40 px high in a photograph of 200x200. The first, 40 wide, is central: 40 * 40 = 1600. The second's
        # centre lies 22 px to the right: 40 * width - 2 * 22**2 = 40 * width - 968, more than 1600 from 64.2 on.
        found = boxes([80, 80, 40, 40], [122 - width / 2, 80, width, 40])
        assert choose_face(found, 200, 200) == chosen


class Detector:
    """Stands for the package: finds one face at the same place of every photograph, and remembers what it saw."""

    def __init__(self):
        self.seen = []

    def __call__(self, photograph):
        self.seen.append(photograph)
        landmarks = [120, 140, 130, 122, 138, 110, 110, 120, 130, 130]  # x1..x5, y1..y5
        return np.array([[0, 100, 96, 160, 156, 0.5 + photograph[0, 0, 0] / 1000, *landmarks]])


@pytest.fixture
def detector(monkeypatch):
    fake = Detector()
    monkeypatch.setattr(mtcnn, "_run", fake)
    return fake


def grey(height: int, width: int, value: int = 90) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


class TestDetect:
    def test_photographs_are_seen_as_they_are(self, detector):
        sizes = [(250, 250), (64, 128), (640, 30)]
        detect([grey(*size) for size in sizes])
        assert sorted(seen.shape for seen in detector.seen) == [(64, 128, 3), (250, 250, 3), (640, 30, 3)]

    def test_positions_are_those_of_the_photograph(self, detector):
        (faces,) = detect([grey(250, 250, 0)])
        assert faces.boxes.tolist() == [[100, 96, 60, 60]]
        assert faces.landmarks[0].tolist() == [[120, 110], [140, 110], [130, 120], [122, 130], [138, 130]]
        assert faces.confidences.tolist() == [0.5]

    def test_large_photographs_are_scaled_there_and_back(self, detector):
        # 2560x1920 is seen at a quarter, as 640x480.
        (faces,) = detect([grey(1920, 2560)])
        assert detector.seen[0].shape == (480, 640, 3)
        assert faces.boxes.tolist() == [[400, 384, 240, 240]]
        assert faces.landmarks[0][0].tolist() == [480, 440]

    def test_a_very_long_photograph_keeps_a_row(self, detector):
        detect([grey(16, 40_000)])
        assert detector.seen[0].shape == (1, 640, 3)

    def test_each_is_seen_alone_and_results_stay_in_order(self, detector):
        found = detect(grey(64 + value % 3, 64, value) for value in range(0, 250, 5))
        assert len(detector.seen) == 50
        # Each photograph is told by the confidence.
        assert [round(float(faces.confidences[0] - 0.5) * 1000) for faces in found] == list(range(0, 250, 5))

    def test_several_faces_and_none(self, monkeypatch):
        rows = np.array([[0, 1, 2, 11, 22, 0.9, *range(10)], [0, 3, 4, 13, 24, 0.8, *range(10)]])
        monkeypatch.setattr(mtcnn, "_run", lambda photograph: rows if photograph.max() else rows[:0])
        first, second = detect([grey(64, 64), grey(64, 64, 0)])
        assert first.boxes.tolist() == [[1, 2, 10, 20], [3, 4, 10, 20]]
        assert len(second) == 0
        assert second.landmarks.shape == (0, 5, 2)

    def test_nothing_to_look_at(self, detector):
        assert detect([]) == []

    def test_no_face_in_noise_by_the_real_detector(self):
        noise = np.random.default_rng(0).integers(0, 256, (120, 100, 3)).astype(np.uint8)
        first, second = detect([noise, grey(120, 100)])
        assert len(first) == len(second) == 0


@pytest.mark.registry
class TestAlone:
    """A photograph's faces hang on nothing else: not on what is beside it, its place, or how it was grouped."""

    @pytest.fixture
    def photographs(self, registry_cache):
        faces = data.load_dataset("five_faces", images_per_person=2, seed=1)
        return [decode(faces.read(key)) for key in faces.keys]

    @staticmethod
    def same(one: mtcnn.Faces, other: mtcnn.Faces) -> bool:
        return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ("boxes", "landmarks"))

    def test_of_ten(self, photographs):
        together = detect(photographs)
        assert sum(map(len, together)) >= 9
        for place, faces in enumerate(together):
            assert self.same(faces, detect([photographs[place]])[0])
        backwards = detect([*photographs[::-1], grey(250, 250), photographs[0]])
        assert all(self.same(*both) for both in zip(together[::-1], backwards, strict=False))
        assert self.same(backwards[-1], together[0])

    def test_compiling_the_networks_changes_nothing(self, photographs):
        from mtcnn import MTCNN

        package = MTCNN()
        for pixels in photographs[:3]:
            pixels, _ = mtcnn._scale_down(pixels)
            rows = package.detect_faces([pixels], output_type="numpy", box_format="xyxy", postprocess=False)
            assert np.array_equal(mtcnn._run(pixels), np.asarray(rows).reshape(-1, 16))


class TestFindFaces:
    @pytest.fixture
    def faces(self, tiny_faces):
        (tiny_faces / "cid" / "0 bad.jpg").write_bytes(b"no image")
        return data.load_dataset(str(tiny_faces))

    def test_every_photograph_has_its_row(self, faces, detector):
        table = find_faces(faces)
        assert faces.keys[9] == "cid/0 bad.jpg"
        assert table.failed == [""] * 9 + ["is no image that can be read"] + [""]
        assert table.sizes.tolist() == [[80, 64], [88, 64], [96, 64]] * 3 + [[0, 0], [80, 64]]
        assert table.main_face(9) is None
        assert table.main_face(0).tolist() == [100, 96, 60, 60]

    def test_is_found_once(self, faces, detector):
        first = find_faces(faces)
        seen = len(detector.seen)
        second = find_faces(faces)
        assert len(detector.seen) == seen
        assert second.failed == first.failed
        assert np.array_equal(second.sizes, first.sizes)
        for one, other in zip(first.faces, second.faces, strict=True):
            assert np.array_equal(one.boxes, other.boxes)
            assert np.array_equal(one.landmarks, other.landmarks)
            assert np.array_equal(one.confidences, other.confidences)

    def test_another_version_of_the_data_is_looked_at_again(self, faces, detector, tiny_faces):
        find_faces(faces)
        seen = len(detector.seen)
        (tiny_faces / "cid" / "0 bad.jpg").write_bytes(cv2.imencode(".jpg", grey(64, 64))[1].tobytes())
        assert find_faces(data.load_dataset(str(tiny_faces))).failed == [""] * 11
        assert len(detector.seen) > seen

    @pytest.mark.registry
    def test_real_faces(self, registry_cache):
        photographs = data.load_dataset("five_faces", images_per_person=4, seed=0)
        table = find_faces(photographs)
        found = [index for index in range(len(photographs)) if table.main_face(index) is not None]
        assert len(found) >= 19
        for index in found:
            height, width = table.sizes[index]
            x, y, w, h = table.main_face(index)
            assert 0 < w < 1.2 * width
            assert 0 < h < 1.2 * height
            points = table.faces[index].landmarks[choose_face(table.faces[index].boxes, height, width)]
            left_eye, right_eye, nose, left_mouth, right_mouth = points
            # A nose in profile reaches past its box.
            assert (points >= (x - w / 10, y)).all()
            assert (points <= (x + w * 1.1, y + h)).all()
            assert max(left_eye[1], right_eye[1]) < min(left_mouth[1], right_mouth[1])
            assert left_eye[0] < right_eye[0]
            assert min(left_eye[1], right_eye[1]) < nose[1] < max(left_mouth[1], right_mouth[1])
