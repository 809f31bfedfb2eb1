"""Models of the `deepface` package, as the package's own code feeds and runs them."""

import shutil
import time

import numpy as np
import pytest

from tfface import data
from tfface.errors import Unavailable, UserError
from tfface.evaluation.embeddings import embed_dataset
from tfface.models import _deepface_package
from tfface.models._embedder import load_embedder
from tfface.preprocessing.images import recipe


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty home folder for the package; its weights belong below `.deepface/weights`."""
    monkeypatch.setenv("DEEPFACE_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("the network was touched")

    monkeypatch.setattr("gdown.download", refuse)
    monkeypatch.setattr("requests.head", refuse)
    monkeypatch.setattr(_deepface_package.urllib.request, "urlopen", refuse)


class Client:
    """Stands for the package's model object: gives the mean of each channel, thrice as large as a unit vector."""

    input_shape = (40, 40)
    output_shape = 3

    def __init__(self):
        self.seen = []

    def forward(self, images):
        self.seen.append(images)
        vectors = 3 * images.mean((1, 2))
        return vectors[0].tolist() if len(vectors) == 1 else vectors.tolist()


def embedder(normalization: str) -> _deepface_package.PackageEmbedder:
    return _deepface_package.PackageEmbedder(None, "0" * 64, lambda: None, Client(), normalization)


def test_bgr_in_zero_to_one_and_unit_vectors_out():
    images = np.zeros((2, 40, 40, 3), np.float32)
    images[0, :, :, 0], images[1, :, :, 1] = 0.5, 0.25
    package = embedder("base")
    assert package.embed(images).tolist() == [[0, 0, 1], [0, 1, 0]]
    assert np.array_equal(package.client.seen[0], images[..., ::-1])


def test_a_single_image_is_a_batch_too():
    found = embedder("base").embed(np.full((1, 40, 40, 3), 0.5, np.float32))
    assert found == pytest.approx(np.full((1, 3), 3**-0.5), abs=1e-6)


def test_the_package_s_normalisation_is_its_own():
    package = embedder("Facenet2018")
    package.embed(np.full((1, 40, 40, 3), 0.75, np.float32))
    # 0.75 * 255 / 127.5 - 1.
    assert package.client.seen[0] == pytest.approx(np.full((1, 40, 40, 3), 0.5), abs=1e-6)


def test_a_data_set_is_embedded_without_a_keras_model(tiny_faces):
    preset = _deepface_package._preset("Facenet", "base", Client(), 0.4, "0" * 64)
    package = _deepface_package.PackageEmbedder(preset, "0" * 64, _deepface_package._from_client, Client(), "base")
    faces = data.load_dataset(str(tiny_faces))
    found = embed_dataset(faces, package, recipe("whole"))
    assert found.ok.all()
    np.testing.assert_allclose(np.linalg.norm(found.vectors, axis=1), 1, atol=1e-6)


def test_images_are_left_as_they_were():
    images = np.random.default_rng(0).random((2, 40, 40, 3)).astype(np.float32)
    before = images.copy()
    embedder("Facenet").embed(images)
    assert np.array_equal(images, before)


class KerasClient:
    """Stands for a client of the package whose network is a Keras model of its own shape."""

    def __init__(self, shape):
        import keras

        self.input_shape, self.output_shape = shape, 4
        inputs = keras.Input((*shape, 3))
        initializer = keras.initializers.RandomNormal(seed=1)
        pooled = keras.layers.Flatten()(keras.layers.AveragePooling2D(9)(inputs))
        self.model = keras.Model(inputs, keras.layers.Dense(4, kernel_initializer=initializer)(pooled))

    def forward(self, images):
        return self.model(images, training=False).numpy().tolist()


@pytest.mark.parametrize("shape", [(55, 55), (55, 47)], ids=["square", "as DeepID's"])
@pytest.mark.parametrize("normalization", _deepface_package.NORMALIZATIONS)
def test_a_keras_network_behind_the_package_s_normalisation_gives_gradients(shape, normalization, make_images):
    from tfface import attacks, criteria

    client = KerasClient(shape)
    preset = _deepface_package._preset("DeepID", normalization, client, 0.4, "0" * 64)
    package = _deepface_package.PackageEmbedder(preset, "0" * 64, None, client, normalization)
    images = make_images(3, 55)
    assert package.differentiable
    np.testing.assert_allclose(package.model(images), package.embed(images), atol=1e-5 if shape[1] == 55 else 1e-2)
    if normalization == "base":
        found = attacks.FGSM()(package, images, criteria.Dodging(package.embed(images), threshold=1e-6), epsilon=0.1)
        assert found.success.all()


def test_other_clients_are_known_by_their_answers_alone(make_images):
    from tfface import attacks, criteria

    preset = _deepface_package._preset("Dlib", "base", Client(), 0.4, "0" * 64)
    package = _deepface_package.PackageEmbedder(preset, "0" * 64, None, Client(), "base")
    images = make_images(2, 40)
    assert not package.differentiable
    np.testing.assert_allclose(package.model(images), package.embed(images), atol=1e-6)
    goal = criteria.Dodging(package.embed(images), threshold=1e-7)
    assert attacks.Square(queries=20)(package, images, goal, epsilon=0.2).success.all()
    with pytest.raises(UserError, match="follows gradients, and deepface:Dlib gives none"):
        attacks.PGD()(package, images, goal, epsilon=0.2)


def test_offline_without_the_file_is_refused_quickly_in_one_line(home, no_network, capfd):
    _deepface_package.names()
    began = time.monotonic()
    reason = rf"facenet512_weights\.h5 is not in {home}/\.deepface/weights and `offline` forbids"
    with pytest.raises(Unavailable, match=reason) as caught:
        load_embedder("deepface:Facenet512", offline=True)
    # The network is built before its weights are asked for.
    assert time.monotonic() - began < 30
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().out == "", "stdout is for results"


@pytest.mark.parametrize("name", ["Facenett", "facenet", "", "../x"])
def test_an_unknown_name_lists_the_valid_ones(name, no_network):
    with pytest.raises(UserError, match=r"^unknown deepface model .*; valid: ArcFace, .*Facenet512, .*VGG-Face$"):
        _deepface_package.load(name)


def test_an_unknown_normalisation_lists_the_valid_ones(no_network):
    with pytest.raises(UserError, match=r"^unknown deepface normalization 'x'; valid: base, raw, Facenet, "):
        _deepface_package.load("Facenet:x")


def test_a_fresh_machine_has_a_folder_for_what_is_fetched(home, monkeypatch):
    seen = []

    def bring(url, output, quiet):
        seen.append(url)
        # As the client does, which makes no folders.
        with open(output, "wb") as file:
            file.write(b"no weights")

    monkeypatch.setattr("gdown.download", bring)
    monkeypatch.setattr(_deepface_package, "_probe", lambda url: None)
    with pytest.raises(Unavailable, match=r"^deepface:Facenet cannot be built by .*: .*facenet_weights"):
        _deepface_package.load("Facenet")
    assert len(seen) == 1
    assert (home / ".deepface" / "weights" / "facenet_weights.h5").read_bytes() == b"no weights"


@pytest.mark.slow
@pytest.mark.registry
class TestTheRealModel:
    @pytest.fixture
    def ours(self, registry_cache, home):
        found = load_embedder("facenet/msceleb")
        folder = home / ".deepface" / "weights"
        folder.mkdir(parents=True)
        # The same network, trained by the same people: the package's client loads this file as its own.
        shutil.copyfile(
            registry_cache / "weights" / "facenet" / "msceleb" / "facenet_keras.h5", folder / "facenet_weights.h5"
        )
        return found

    def test_gives_what_ours_gives_when_its_colours_are_swapped(self, ours, make_photo, no_network):
        images = np.stack([make_photo(person, 0, 160, 160) for person in range(3)]).astype(np.float32) / 255
        theirs = load_embedder("deepface:Facenet:Facenet", offline=True)
        assert theirs.preset.name == "deepface:Facenet:Facenet"
        assert (theirs.preset.input_size, theirs.preset.embedding_size) == (160, 128)
        assert theirs.sha256 == ours.sha256
        found = theirs.embed(images)
        # It feeds BGR; ours wants RGB.
        assert np.abs(found - ours.embed(np.ascontiguousarray(images[..., ::-1]))).max() < 1e-4
        assert np.abs(found - ours.embed(images)).max() > 0.01

    def test_names_its_weights_each_time(self, ours, no_network):
        first, second = (load_embedder(f"deepface:Facenet{suffix}", offline=True) for suffix in ("", ":Facenet2018"))
        assert first.sha256 == second.sha256 == ours.sha256
        assert (first.preset.name, second.preset.name) == ("deepface:Facenet", "deepface:Facenet:Facenet2018")
