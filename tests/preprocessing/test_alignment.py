"""A face by five points: the transform solved by hand and by OpenCV, and one warp in two spellings."""

import cv2
import numpy as np
import pytest

from tfface.data import load_dataset
from tfface.data.crops import Crops, crop_stream, find_faces
from tfface.errors import ImageError, UserError
from tfface.preprocessing import mtcnn
from tfface.preprocessing.alignment import ALIGN5, recipe, similarity, upright, warp, warp_array
from tfface.preprocessing.decoding import decode, encode_png
from tfface.preprocessing.images import crop_boxed, crop_files, crop_photograph

USUAL = np.array(ALIGN5)
SQUARE = ((0.25, 0.25), (0.75, 0.25), (0.5, 0.5), (0.25, 0.75), (0.75, 0.75))


def scene(height: int = 90, width: int = 120, seed: int = 0) -> np.ndarray:
    """uint8 RGB with smooth colours and a sharp edge."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3)).astype(np.uint8)
    pixels = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    pixels[height // 3 : height // 2, width // 3 : width // 2] = (255, 0, 0)
    return pixels


def points_at(scale: float, degrees: float, x: float, y: float) -> np.ndarray:
    """The usual template, turned around its corner, scaled and moved: (10,)."""
    turn = np.deg2rad(degrees)
    matrix = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return (USUAL @ matrix.T + (x, y)).ravel()


class TestSimilarity:
    def test_by_hand(self):
        # A face of 10 pixels lies straight at (10, 10): half a side of the crop is 10 pixels, so the side is 20, and
        # the crop's corner is a quarter of it before the left eye.
        found = similarity(np.array([10, 10, 20, 10, 15, 15, 10, 20, 20, 20]), SQUARE)
        assert found == pytest.approx(np.array([[20, 0, 5], [0, 20, 5]]))

    def test_a_quarter_turn_by_hand(self):
        # The left eye is at the top right, the right eye at the bottom right: going right in the crop goes down here.
        found = similarity(np.array([20, 10, 20, 20, 15, 15, 10, 10, 10, 20]), SQUARE)
        assert found == pytest.approx(np.array([[0, -20, 25], [20, 0, 5]]))

    def test_least_squares_by_hand(self):
        # The nose of a straight face is 5 pixels too low, so the middle of all is (15, 16). From there the eyes are at
        # (-5, -6) and (5, -6), the nose at (0, 4), the mouth at (-5, 4) and (5, 4): their squares sum to
        # 2 * 61 + 16 + 2 * 41 = 220, their products with the template to 2 * 2.75 + 0 + 2 * 2.25 = 10. Left and right
        # are alike: no turn. The crop's side is 220 / 10 = 22 pixels, its middle (15, 16).
        found = similarity(np.array([10, 10, 20, 10, 15, 20, 10, 20, 20, 20]), SQUARE)
        assert found == pytest.approx(np.array([[22, 0, 4], [0, 22, 5]]))

    @pytest.mark.parametrize("seed", range(5))
    def test_equals_opencv_s_with_all_points_as_inliers(self, seed):
        random = np.random.default_rng(seed)
        points = points_at(random.uniform(0.3, 5), random.uniform(-180, 180), *random.uniform(0, 500, 2))
        points += random.normal(0, 4, 10)
        theirs, inliers = cv2.estimateAffinePartial2D(
            points.reshape(5, 2), USUAL, ransacReprojThreshold=1e6, refineIters=200
        )
        assert inliers.all()
        ours = similarity(points, recipe("align5-112").template)
        # From the crop, its pixels' centres being at whole numbers, to the photograph and back again.
        back = np.vstack([theirs, [0, 0, 1]]) @ np.vstack([ours, [0, 0, 1]])
        assert back == pytest.approx(np.array([[112, 0, -0.5], [0, 112, -0.5], [0, 0, 1]]), abs=1e-3)

    def test_points_on_the_template_are_the_crop_itself(self):
        found = recipe("align5-112").place(112, 112, USUAL.ravel())
        assert found == pytest.approx(np.array([[112, 0, -0.5], [0, 112, -0.5]]))

    def test_a_profile_is_a_face(self):
        # All five points on a line: the template's vertical variance, 61% of all, is explained.
        found = similarity((USUAL * (0, 1) + (30, 0)).ravel(), recipe("align5-112").template)
        assert np.linalg.det(found[:, :2]) > 0

    @pytest.mark.parametrize("order", [[1, 0, 2, 4, 3], [1, 0, 2, 3, 4], [3, 4, 2, 0, 1]])
    def test_another_order_of_points_is_refused(self, order):
        # Left as the person has it instead of the viewer, and mouth before eyes: a crop upside down or tiny.
        with pytest.raises(ImageError, match=r"^has five points that are not in the places of a face's: give left eye"):
            similarity(USUAL[order].ravel(), recipe("align5-112").template)

    @pytest.mark.parametrize(
        "points", [np.full(10, 7.3), np.zeros(10), np.full(10, np.nan), np.full(10, np.inf), [1e308, -1e308] * 5]
    )
    def test_points_that_give_none(self, points):
        for name in ("align5-112", "dlib-chip-padding0.25"):
            with pytest.raises(ImageError, match=r"^has five points that coincide$"):
                recipe(name).place(100, 100, np.array(points))

    def test_one_number_that_is_none(self):
        points = USUAL.ravel().copy()
        points[3] = np.nan
        with pytest.raises(ImageError, match="coincide"):
            recipe("align5-112").place(100, 100, points)


class TestRecipes:
    @pytest.mark.parametrize("name", ["align5-80", "align5-112", "align5-200", "dlib-chip-padding0.25"])
    def test_names(self, name):
        own, theirs = recipe(name), recipe(f"given-{name}")
        assert (own.aligned, own.source) == (True, "mtcnn")
        assert (theirs.aligned, theirs.source, theirs.name) == (True, "given", f"given-{name}")
        assert own.template == theirs.template

    @pytest.mark.parametrize("name", ["whole", "center-140", "mtcnn-v1-margin0.20", "given-margin0.30"])
    def test_others_are_not_aligned(self, name):
        assert not recipe(name).aligned

    @pytest.mark.parametrize(
        "name", ["align5", "align5-", "align5-79", "align5-201", "align5-112.0", "align6-112", "mtcnn-v1-align5-112"]
    )
    def test_no_such_recipe(self, name):
        with pytest.raises(UserError, match=r"align5-N \(80 to 200\)"):
            recipe(name)

    @pytest.mark.parametrize("name", ["dlib-chip", "dlib-chip-padding", "dlib-chip-padding1.1", "dlib-chip-padding0"])
    def test_no_such_chip(self, name):
        with pytest.raises(UserError, match=r"dlib-chip-paddingP"):
            recipe(name)

    def test_a_larger_square_shows_more_around_the_same_face(self):
        # 140 pixels of the template are the 112 in the middle and 14 more on each side, black outside the photograph.
        pixels = scene(112, 112)
        usual, more = (
            crop_photograph(encode_png(pixels), recipe(f"align5-{side}"), side, USUAL.ravel())[0] for side in (112, 140)
        )
        assert usual * 255 == pytest.approx(pixels.astype(float), abs=1e-3)
        assert more[14:126, 14:126] == pytest.approx(usual, abs=1e-4)
        assert more[:13].max() == more[127:].max() == more[:, :13].max() == 0

    def test_the_model_s_size_changes_the_scale_alone(self):
        # A model of 56 pixels sees every second place between two pixels' centres.
        pixels = scene(112, 112)
        small, _ = crop_photograph(encode_png(pixels), recipe("align5-112"), 56, USUAL.ravel())
        blocks = pixels.reshape(56, 2, 56, 2, 3).mean((1, 3))
        assert small * 255 == pytest.approx(blocks, abs=1e-3)

    def test_padding_leaves_the_face_and_shows_more(self):
        # With a quarter of the face on each side the face is 1 / 1.5 of the crop, in its middle.
        bare, padded = (np.array(recipe(f"dlib-chip-padding{padding}").template) for padding in ("0.0", "0.25"))
        assert padded == pytest.approx((bare - 0.5) / 1.5 + 0.5)

    def test_the_box_is_around_what_is_cut_out(self):
        # Pixel 0's centre is 0 in points, its edge is 0 in boxes: the crop of 112 pixels from pixel 20 on.
        assert recipe("align5-112").box(300, 300, points_at(1, 0, 20, 30)) == pytest.approx([20, 30, 132, 142])

    def test_the_box_of_a_turned_crop(self):
        # Around its first pixel's centre (100.5 from the edge) by 45 degrees: the corners half a pixel before it.
        half = 112 * np.sqrt(0.5)
        centre = 100.5 - np.sqrt(0.5) * np.array([0, 1])
        found = recipe("align5-112").box(400, 400, points_at(1, 45, 100, 100))
        assert found == pytest.approx([centre[0] - half, centre[1], centre[0] + half, centre[1] + 2 * half], abs=1e-3)

    def test_the_box_ends_at_the_edges(self):
        assert recipe("align5-112").box(80, 90, points_at(1, 0, -10, 5)) == pytest.approx([0, 5, 90, 80])


class TestWarp:
    @pytest.mark.parametrize("seed", range(4))
    def test_equals_opencv_s_where_nothing_is_reduced(self, seed):
        # OpenCV's result is of bytes: half a level.
        random = np.random.default_rng(seed)
        points = points_at(random.uniform(0.3, 1.8), random.uniform(-60, 60), *random.uniform(0, 60, 2))
        transform = similarity(points, recipe("align5-112").template)
        forth = cv2.invertAffineTransform(transform @ [[1 / 112, 0, 0.5 / 112], [0, 1 / 112, 0.5 / 112], [0, 0, 1]])
        theirs = cv2.warpAffine(scene(), forth, (112, 112), flags=cv2.INTER_LINEAR, borderValue=(0, 0, 0))
        assert np.abs(warp_array(scene(), transform, 112) * 255 - theirs).max() < 0.51

    def test_between_two_pixels_by_hand(self):
        # A ramp of 10 levels a pixel, moved by a quarter of a pixel: 2.5 levels more; outside it fades to black.
        ramp = np.repeat(np.tile(np.arange(0, 200, 10, np.uint8), (20, 1))[:, :, None], 3, axis=2)
        found = warp_array(ramp, np.array([[20, 0, -0.25], [0, 20, -0.5]]), 20)[10, :, 0] * 255
        assert found[:19] == pytest.approx(np.arange(19) * 10 + 2.5, abs=1e-3)
        assert found[19] == pytest.approx(190 * 0.75, abs=1e-3)

    @pytest.mark.parametrize(("block", "side"), [(2, 80), (3, 120), (5, 200)])
    def test_blocks_are_averaged_first(self, block, side):
        # The result's pixels are `block` of the image's: each is the mean of its block.
        pixels = scene(side, side)
        found = warp_array(pixels, np.array([[side, 0, -0.5], [0, side, -0.5]], float), side // block)
        mean = pixels.reshape(side // block, block, side // block, block, 3).mean((1, 3))
        assert found * 255 == pytest.approx(mean, abs=1e-3)

    def test_just_below_two_nothing_is_averaged(self):
        # Every second pixel of every second row is lit, and each place that is looked up is one of them.
        dots = np.zeros((64, 64, 3), np.uint8)
        dots[::2, ::2] = 255
        below, above = (warp_array(dots, np.array([[s, 0, -1], [0, s, -1]]), 16)[1:, 1:] for s in (31.999, 32.0))
        assert below.min() > 0.99
        assert above == pytest.approx(0.25)

    def test_both_spellings_are_equal(self):
        import tensorflow as tf

        def graph(pixels, transform):
            return warp(pixels, transform, 24)

        graph = tf.function(
            graph, input_signature=[tf.TensorSpec((None, None, 3), tf.uint8), tf.TensorSpec((2, 3), tf.float64)]
        )
        random = np.random.default_rng(0)
        for scale in np.repeat([0.001, 0.01, 0.3, 1.0, 2.5, 9.0, 60.0, 1e6], 6):
            pixels = random.integers(0, 256, (*random.integers(16, 90, 2), 3)).astype(np.uint8)
            points = points_at(scale, random.uniform(-180, 180), *random.uniform(-60, 60, 2))
            transform = similarity(points, recipe("align5-112").template)
            found = warp_array(pixels, transform, 24)
            assert (found.shape, found.dtype) == ((24, 24, 3), np.float32)
            assert np.abs(graph(pixels, transform).numpy() - found).max() < 1e-6
            assert 0 <= found.min() <= found.max() <= 1

    def test_a_face_far_outside_is_black(self):
        for x, y in ((1e9, 0), (0, -1e12), (-500, -500)):
            transform = similarity(points_at(1, 10, x, y), recipe("align5-112").template)
            for found in (warp_array(scene(), transform, 20), warp(scene(), transform, 20).numpy()):
                assert found.max() == 0

    def test_a_turned_photograph_gives_the_same_crop(self):
        points = points_at(1.3, 25, 40, 10)
        transform = similarity(points, recipe("align5-112").template)
        turned, box = upright(scene(200, 200), transform, 56)
        x0, y0, x1, y1 = box.astype(int)
        assert (x1 - x0, y1 - y0) == (112, 112), "twice the model's side, since the photograph has more"
        cut = turned[y0:y1, x0:x1].astype(float).reshape(56, 2, 56, 2, 3).mean((1, 3))
        assert np.abs(cut - warp_array(scene(200, 200), transform, 56) * 255).mean() < 1.5


@pytest.fixture
def with_points(monkeypatch):
    """A detector that finds the larger of two faces where photographs say, and none in small photographs."""

    def detect(photographs):
        faces = []
        for pixels in photographs:
            some = pixels.shape[0] >= 32
            boxes = np.array([[0, 0, 4, 4], [2, 2, 28, 28]], np.float32)[: 2 * some]
            points = np.stack([USUAL / 112 * 4, USUAL / 112 * 30 + 1]).astype(np.float32)[: 2 * some]
            faces.append(mtcnn.Faces(boxes, np.ones(len(boxes), np.float32), points))
        return faces

    monkeypatch.setattr(mtcnn, "detect", detect)
    return (USUAL / 112 * 30 + 1).astype(np.float32).ravel()


class TestPhotographs:
    @pytest.mark.parametrize("name", ["align5-112", "align5-130", "dlib-chip-padding0.25"])
    def test_all_readers_cut_the_same_pixels(self, with_points, tiny_faces, name):
        dataset, cut = load_dataset(str(tiny_faces)), recipe(name)
        crops, reasons = Crops(dataset, cut, 24)(np.arange(len(dataset)))
        streamed = list(crop_stream(dataset, cut, 24).as_numpy_iterator())
        assert reasons == [""] * len(dataset) == [reason.decode() for _, reason in streamed]
        assert np.array_equal(crops, [crop for crop, _ in streamed])
        files = [dataset.read(key) for key in dataset.keys[:2]]
        alone, boxes = crop_files(files, cut, 24)
        assert np.array_equal(alone, crops[:2])
        without, box = crop_boxed(files[0], recipe(f"given-{name}"), 24, with_points)
        assert np.array_equal(without, crops[0])
        assert np.array_equal(box, boxes[0])
        pixels = decode(files[0])
        assert crops[0] == pytest.approx(warp_array(pixels, cut.place(*pixels.shape[:2], with_points), 24))

    def test_faces_found_before_are_not_looked_for_again(self, with_points, tiny_faces, monkeypatch):
        dataset = load_dataset(str(tiny_faces))
        table = find_faces(dataset)
        monkeypatch.setattr(mtcnn, "detect", lambda photographs: pytest.fail("detected again"))
        Crops(dataset, recipe("align5-112"), 24)(np.arange(2))
        assert table.main_face(0).tolist() == [2, 2, 28, 28]
        assert np.array_equal(table.main_face(0, points=True), with_points)

    def test_no_face(self, with_points, tiny_faces):
        small = encode_png(scene(20, 60))
        with pytest.raises(ImageError, match=r"^1: no face found in it$"):
            crop_files([encode_png(scene()), small], recipe("align5-112"), 24)
        (tiny_faces / "Ann Ames" / "small.png").write_bytes(small)
        dataset = load_dataset(str(tiny_faces))
        place = dataset.position("Ann Ames/small.png")
        _, reasons = Crops(dataset, recipe("align5-112"), 24)(np.array([place]))
        streamed = list(crop_stream(dataset, recipe("align5-112"), 24).as_numpy_iterator())
        assert reasons == ["no face found in it"] == [streamed[place][1].decode()]

    def test_points_that_coincide_are_the_photograph_s_own_failure(self, tiny_faces):
        dataset = load_dataset(str(tiny_faces))
        faces = [np.full(10, 9, np.float32)] + [(USUAL / 4).astype(np.float32).ravel()] * (len(dataset) - 1)
        streamed = list(crop_stream(dataset, recipe("align5-112"), 24, faces=faces).as_numpy_iterator())
        assert [reason.decode() for _, reason in streamed] == ["has five points that coincide"] + [""] * (
            len(dataset) - 1
        )

    def test_a_detector_s_points_that_coincide_are_said_of_their_photograph(self, monkeypatch):
        def detect(photographs):
            boxes, points = np.array([[2, 2, 28, 28]], np.float32), [USUAL / 4, np.full((5, 2), 9)]
            return [mtcnn.Faces(boxes, np.ones(1, np.float32), np.array([own], np.float32)) for own in points]

        monkeypatch.setattr(mtcnn, "detect", detect)
        with pytest.raises(ImageError, match=r"^1: has five points that coincide$"):
            crop_files([encode_png(scene())] * 2, recipe("align5-112"), 24)

    def test_a_face_outside(self):
        with pytest.raises(ImageError, match=r"^has a face at five points that lies outside of it$"):
            crop_boxed(encode_png(scene()), recipe("given-align5-112"), 24, points_at(1, 0, 500, 500))

    def test_a_face_at_the_edge_is_black_beyond_it(self):
        pixels = np.full((60, 60, 3), 200, np.uint8)
        crop, box = crop_boxed(encode_png(pixels), recipe("given-align5-112"), 112, points_at(0.5, 0, -28, 0))
        assert box == pytest.approx([0, 0, 28, 56], abs=0.5)
        assert crop[:, :54].max() == 0
        assert crop[5:105, 58:] == pytest.approx(200 / 255)

    def test_data_sets_give_no_points(self, tiny_faces):
        with pytest.raises(UserError, match="leave out given-"):
            crop_stream(load_dataset(str(tiny_faces)), recipe("given-align5-112"), 24)
