"""One decoder, one resize: what TensorFlow's readers would see, and what no reader should see."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.preprocessing.photographs import scene
from tfface.errors import UserError
from tfface.preprocessing import images
from tfface.preprocessing.images import crop_array, crop_resize, recipe


class TestRecipe:
    def test_whole(self):
        assert recipe("whole").box(80, 60).tolist() == [0, 0, 60, 80]

    def test_center_of_an_lfw_image(self):
        # (250 - 140) / 2 = 55.
        assert recipe("center-140").box(250, 250).tolist() == [55, 55, 195, 195]

    def test_center_of_another_shape(self):
        # 140 / 250 of the shorter side of 100 is 56: x from (200 - 56) / 2 = 72, y from (100 - 56) / 2 = 22.
        assert recipe("center-140").box(100, 200).tolist() == [72, 22, 128, 78]

    def test_mtcnn_grows_both_sides_by_the_margin_in_total(self):
        # A face of 40x80 at (30, 60) grows by a quarter: 5 px left and right, 10 px above and below.
        assert recipe("mtcnn-v1-margin0.25").box(250, 250, np.array([30, 60, 40, 80])).tolist() == [25, 50, 75, 150]

    def test_given_boxes_do_too(self):
        assert recipe("given-margin0.30").box(200, 300, np.array([100, 50, 20, 40])).tolist() == [97, 44, 123, 96]

    def test_no_margin(self):
        assert recipe("given-margin0.0").box(200, 300, np.array([1, 2, 3, 4])).tolist() == [1, 2, 4, 6]

    def test_boxes_end_at_the_edges(self):
        # Grown by half: 10 px each side of 40, 20 px each side of 80.
        found = recipe("mtcnn-v1-margin0.50").box(100, 60, np.array([-4, 10, 40, 80]))
        assert found.tolist() == [0, 0, 46, 100]

    @given(
        name=st.sampled_from(["whole", "center-16", "center-250", "mtcnn-v1-margin0.25", "given-margin2.0"]),
        height=st.integers(16, 5000),
        width=st.integers(16, 5000),
        x=st.floats(-6000, 6000),
        y=st.floats(-6000, 6000),
        w=st.floats(0, 6000),
        h=st.floats(0, 6000),
    )
    def test_a_box_is_always_inside(self, name, height, width, x, y, w, h):
        x0, y0, x1, y1 = recipe(name).box(height, width, np.array([x, y, w, h])).tolist()
        assert 0 <= x0 <= x1 <= width
        assert 0 <= y0 <= y1 <= height

    @pytest.mark.parametrize("name", images.RECIPES)
    def test_examples_are_valid(self, name):
        assert recipe(name).name == name

    @pytest.mark.parametrize(
        "name",
        [
            "",
            "center",
            "center-",
            "center-15",
            "center-251",
            "center-9.5",
            "Whole",
            "mtcnn",
            "mtcnn-v1-margin",
            "mtcnn-v2-margin0.25",
            "mtcnn-v1-margin1",
            "given-margin2.1",
            "given-margin-0.1",
            " whole",
            "center-140\n",
        ],
    )
    def test_other_names_list_the_forms(self, name):
        with pytest.raises(UserError, match=r"^unknown recipe .*valid: whole, center-N \(16 to 250\), mtcnn-v1-m"):
            recipe(name)


def cropped(pixels: np.ndarray, box, size: int) -> np.ndarray:
    return crop_resize(pixels, np.asarray(box, np.float32), size).numpy()


class TestCropResize:
    def test_two_by_two_to_one_is_the_mean(self):
        # The four pixels lie equally far from the new one's centre.
        pixels = np.array([[[0, 10, 20], [100, 30, 20]], [[200, 50, 20], [60, 70, 20]]], np.uint8)
        assert cropped(pixels, [0, 0, 2, 2], 1)[0, 0] * 255 == pytest.approx([90, 40, 20])

    def test_two_to_four_by_hand(self):
        # New centres lie at -0.25, 0.25, 0.75 and 1.25 between the old ones at 0 and 1; the edge is repeated.
        row = np.repeat(np.array([[0, 100], [0, 100]], np.uint8)[:, :, None], 3, axis=2)
        assert cropped(row, [0, 0, 2, 2], 4)[:, :, 0] * 255 == pytest.approx(np.tile([0, 25, 75, 100], (4, 1)))

    @pytest.mark.parametrize("size", [20, 61, 160])
    def test_the_whole_equals_tensorflow_s_antialiased_resize(self, size):
        import tensorflow as tf

        theirs = tf.image.resize(scene().astype(np.float32), (size, size), antialias=True).numpy() / 255
        assert np.abs(cropped(scene(), [0, 0, 83, 61], size) - theirs).max() < 1e-5

    @pytest.mark.parametrize("size", [12, 30, 100])
    def test_a_box_of_whole_pixels_equals_tensorflow_s_resize_of_the_slice(self, size):
        import tensorflow as tf

        x0, y0, x1, y1 = 20, 10, 60, 50
        theirs = tf.image.resize(scene()[y0:y1, x0:x1].astype(np.float32), (size, size), antialias=True).numpy() / 255
        assert np.abs(cropped(scene(), [x0, y0, x1, y1], size) - theirs).max() < 1e-5

    def test_a_box_of_its_own_size_is_the_slice(self):
        found = cropped(scene(), [20, 10, 52, 42], 32)
        assert np.abs(found * 255 - scene()[10:42, 20:52]).max() < 1e-3

    def test_fractions_of_a_pixel_count(self):
        # A ramp of 10 levels a pixel: moving the box by a quarter pixel moves the values by 2.5.
        ramp = np.repeat(np.tile(np.arange(0, 250, 10, np.uint8), (25, 1))[:, :, None], 3, axis=2)
        whole, moved = cropped(ramp, [5, 5, 15, 15], 10), cropped(ramp, [5.25, 5, 15.25, 15], 10)
        assert (moved - whole) * 255 == pytest.approx(np.full((10, 10, 3), 2.5), abs=1e-3)

    def test_boxes_are_stretched_to_a_square(self):
        pixels = np.zeros((40, 80, 3), np.uint8)
        pixels[:, 40:] = 200
        found = cropped(pixels, [0, 0, 80, 40], 16)
        assert found.shape == (16, 16, 3)
        assert found[:, 2].max() == 0
        assert found[:, 13].min() == pytest.approx(200 / 255)

    @given(
        st.integers(0, 2**32 - 1),
        st.integers(1, 50),
        st.tuples(st.floats(0, 80), st.floats(0, 60), st.floats(0, 80), st.floats(0, 60)),
    )
    def test_values_stay_in_the_image_space(self, seed, size, box):
        pixels = np.random.default_rng(seed).integers(0, 256, (60, 80, 3)).astype(np.uint8)
        x0, x1 = sorted((box[0], box[2]))
        y0, y1 = sorted((box[1], box[3]))
        found = cropped(pixels, [x0, y0, x1, y1], size)
        assert found.dtype == np.float32
        assert found.shape == (size, size, 3)
        assert 0 <= found.min() <= found.max() <= 1

    @pytest.mark.parametrize("box", [[0, 0, 83, 61], [3.7, 2.2, 40.9, 50.1], [20, 10, 25, 14]])
    @pytest.mark.parametrize("size", [3, 32, 160])
    def test_float_images_are_on_the_same_scale(self, box, size):
        assert np.array_equal(cropped(scene().astype(np.float32), box, size), cropped(scene(), box, size))

    @given(
        st.integers(0, 2**32 - 1),
        st.integers(1, 90),
        st.tuples(st.floats(0, 83), st.floats(0, 61), st.floats(0, 83), st.floats(0, 61)),
    )
    @example(0, 2, (0.0, 2.8161424712292385e-10, 0.0, 1.0))
    def test_without_tensorflow_it_is_the_same(self, seed, size, box):
        pixels = np.random.default_rng(seed).integers(0, 256, (61, 83, 3)).astype(np.uint8)
        corners = np.array([*np.minimum(box[:2], box[2:]), *np.maximum(box[:2], box[2:])], np.float32)
        assert np.abs(crop_array(pixels, corners, size) - cropped(pixels, corners, size)).max() < 5e-5
