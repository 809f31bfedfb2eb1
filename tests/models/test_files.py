"""Models of one's own: every format gives back its network's embeddings; what is no embedder is refused in a line."""

import io
import json
import pickle
import zipfile

import h5py
import keras
import numpy as np
import pytest

import tfface
from tfface.attacks import FGSM, PGD, Square
from tfface.attacks._criteria import Dodging
from tfface.errors import UserError
from tfface.models import _files
from tfface.models._embedder import as_embedder, load_embedder
from tfface.models._input_format import SCALES, InputFormat, read_record, write_record
from tfface.utils.files import digest_of_tree, write_json

SIDE = 32


def build(size=SIDE, outputs=8, seed=3, shape=None, **options):
    """A small network of bare images, whose vectors are not of unit length."""
    inputs = keras.Input(shape or (size, size, 3), **options)
    draw = keras.initializers.GlorotUniform(seed=seed)
    x = keras.layers.Conv2D(6, 5, strides=3, activation="tanh", kernel_initializer=draw, name="first")(inputs)
    x = keras.layers.Flatten(name="flat")(keras.layers.AveragePooling2D(3)(x))
    return keras.Model(inputs, keras.layers.Dense(outputs, kernel_initializer=draw, name="vectors")(x))


def to_tflite(model, path):
    import tensorflow as tf

    folder = path.with_suffix(".folder")
    model.export(folder, verbose=False)
    path.write_bytes(tf.lite.TFLiteConverter.from_saved_model(str(folder)).convert())


def to_onnx(model, path):
    tf2onnx = pytest.importorskip("tf2onnx")
    import tensorflow as tf

    signature = [tf.TensorSpec((None, *model.input_shape[1:]), tf.float32, name="image")]
    function = tf.function(lambda image: model(image, training=False), input_signature=signature)
    tf2onnx.convert.from_function(function, input_signature=signature, output_path=str(path))


WRITERS = {
    "own.keras": lambda model, path: model.save(path),
    "own.h5": lambda model, path: model.save(path),
    "own": lambda model, path: model.export(path, verbose=False),
    "own.tflite": to_tflite,
    "own.onnx": to_onnx,
}


@pytest.fixture(scope="module")
def network():
    return build()


@pytest.fixture(scope="module")
def written(tmp_path_factory, network):
    """Write the network once in each format."""
    folder, done = tmp_path_factory.mktemp("own"), {}

    def write(name):
        if name not in done:
            done[name] = folder / name
            WRITERS[name](network, done[name])
        return done[name]

    return write


@pytest.fixture
def images(make_images):
    return make_images(3, SIDE)


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize(("scale", "colour"), [("0..1", "rgb"), ("127.5/128", "bgr")])
def test_every_format_answers_as_the_network(written, network, images, unit, name, scale, colour):
    embedder = load_embedder(f"{written(name)}:scale={scale},colour={colour}")
    fed = InputFormat(colour, scale).array(images)
    want = unit(network(fed))
    np.testing.assert_allclose(embedder.embed(images), want, atol=1e-5)
    np.testing.assert_allclose(embedder.model(images), want, atol=1e-5)
    np.testing.assert_allclose(unit(embedder.raw(images)), want, atol=1e-5)
    assert (embedder.preset.input_size, embedder.preset.embedding_size) == (SIDE, 8)
    assert embedder.preset.threshold is None


@pytest.mark.parametrize("name", WRITERS)
def test_gradients_where_there_are_some_and_a_line_where_there_are_none(written, network, images, name):
    embedder = load_embedder(written(name), scale="0..1")
    goal = Dodging(embedder.embed(images), threshold=1e-4)
    if name in ("own.keras", "own.h5", "own"):
        same = tfface.wrap(network, SIDE)
        ours, theirs = (PGD(steps=3)(one, images, goal, epsilon=0.02) for one in (same, embedder))
        np.testing.assert_allclose(ours.images, theirs.images, atol=1e-6)
    else:
        assert Square(queries=30)(embedder, images, goal, epsilon=0.3).success.all()
        with pytest.raises(UserError, match=rf"FGSM follows gradients, and {name} gives none: take Square"):
            FGSM()(embedder, images, goal, epsilon=0.1)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
def test_keras_prepares_images_as_numpy_does(images, scale, layout):
    prepared = InputFormat("bgr", scale, layout)
    inputs = keras.Input((SIDE, SIDE, 3))
    model = keras.Model(inputs, prepared.prepare(inputs))
    np.testing.assert_allclose(model(images), prepared.array(images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("scale", "white"),
    [
        ("-1..1", [1, 1, 1]),
        ("127.5/128", [127.5 / 128] * 3),
        ("0..255", [255] * 3),
        ("imagenet", [(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225]),
        ("imagenet-means", [255 - 123.68, 255 - 116.779, 255 - 103.939]),
        ("vggface2-means", [255 - 131.0912, 255 - 103.8827, 255 - 91.4953]),
        ("per-image", [0, 0, 0]),
    ],
)
def test_white_on_every_scale(scale, white):
    found = InputFormat("rgb", scale).array(np.ones((1, 4, 4, 3), np.float32))
    np.testing.assert_allclose(found[0, 0, 0], white, rtol=1e-5, atol=1e-3)


def test_a_record_beside_the_file_says_how_it_is_fed(tmp_path, written, images):
    path = tmp_path / "own.keras"
    path.write_bytes(written("own.keras").read_bytes())
    with pytest.raises(UserError, match=r"nothing says how own\.keras is fed: run `tfface probe .*own\.keras`"):
        load_embedder(path).embed(images)
    record = write_record(path, {"scale": "-1..1", "colour": "bgr", "recipe": "whole", "threshold": 0.5})
    assert record.name == "own.keras.tfface.json"
    embedder = load_embedder(path)
    assert (embedder.input_format.scale, embedder.input_format.colour) == ("-1..1", "bgr")
    assert (embedder.preset.recipe, embedder.preset.threshold) == ("whole", 0.5)
    given = load_embedder(f"{path}:colour=rgb")
    assert (given.input_format.scale, given.input_format.colour) == ("-1..1", "rgb")
    assert given.fingerprint() != embedder.fingerprint()
    write_record(path, {"metric": "euclidean"})
    assert read_record(path)["threshold"] == 0.5


def test_a_record_by_hand_is_read_and_never_written(tmp_path, written):
    path = tmp_path / "own.keras"
    path.write_bytes(written("own.keras").read_bytes())
    by_hand = tmp_path / "own.keras.tfface.toml"
    by_hand.write_text('scale = "0..255"\nrecipe = "center-140"\n')
    assert load_embedder(path).input_format.scale == "0..255"
    write_record(path, {"recipe": "whole"})
    assert load_embedder(path).preset.recipe == "whole"
    assert by_hand.read_text() == 'scale = "0..255"\nrecipe = "center-140"\n'
    by_hand.write_text("scale = ")
    with pytest.raises(UserError, match=r"cannot read .*own\.keras\.tfface\.toml as TOML"):
        load_embedder(path)
    by_hand.write_text('color = "bgr"')
    with pytest.raises(UserError, match=r"color is no fact of a model; valid: .*colour"):
        load_embedder(path)


def test_the_record_of_another_file_is_refused(tmp_path, written):
    path = tmp_path / "own.keras"
    path.write_bytes(written("own.keras").read_bytes())
    write_record(path, {"scale": "0..1"})
    build(seed=9).save(path)
    with pytest.raises(UserError, match=r"own\.keras\.tfface\.json is the record of another file than own\.keras"):
        load_embedder(path)
    write_record(path, {"scale": "-1..1"})
    assert load_embedder(path).input_format.scale == "-1..1"


def test_other_weights_are_another_model(tmp_path):
    path = tmp_path / "own.keras"
    found = set()
    for seed in (1, 2):
        build(seed=seed).save(path)
        found.add(load_embedder(path, scale="0..1").fingerprint()["weights_sha256"])
    assert len(found) == 2


def test_a_fixed_batch_is_padded(tmp_path, images, unit):
    import tensorflow as tf

    model = build(batch_size=2)
    model.save(tmp_path / "two.keras")
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    (tmp_path / "two.tflite").write_bytes(converter.convert())
    for name in ("two.keras", "two.tflite"):
        embedder = load_embedder(tmp_path / name, scale="0..1")
        want = np.concatenate([model(images[:2]), model(images[[2, 2]])[:1]])
        np.testing.assert_allclose(embedder.embed(images), unit(want), atol=1e-5)


def saved_of(model, path, *sides):
    """Save a network with a signature for images of that shape."""
    import tensorflow as tf

    module = tf.Module()
    module.model = model
    module.answer = tf.function(lambda image: model(image), input_signature=[tf.TensorSpec(sides)])
    tf.saved_model.save(module, str(path), signatures=module.answer)


def test_a_saved_model_of_a_fixed_batch_gives_the_networks_gradients(tmp_path, network, images):
    saved_of(network, tmp_path / "two", 2, SIDE, SIDE, 3)
    ours, theirs = load_embedder(tmp_path / "two", scale="0..1"), tfface.wrap(network, SIDE)
    assert (ours.input_format.batch, ours.differentiable) == (2, True)
    np.testing.assert_allclose(ours.embed(images), theirs.embed(images), atol=1e-6)
    goal = Dodging(theirs.embed(images), threshold=0.5)
    found = [PGD(steps=2)(one, images, goal, epsilon=0.02).images for one in (ours, theirs)]
    np.testing.assert_allclose(*found, atol=1e-6)


def test_a_free_size_is_said(tmp_path, images, unit):
    inputs = keras.Input((None, None, 3))
    network = keras.Model(inputs, keras.layers.GlobalMaxPooling2D()(keras.layers.Conv2D(4, 3)(inputs)))
    saved_of(network, tmp_path / "any", None, None, None, 3)
    with pytest.raises(UserError, match=r"takes images of any size: say which, as any:size=112"):
        load_embedder(tmp_path / "any", scale="0..1")
    embedder = load_embedder(tmp_path / "any", scale="0..1", size=SIDE)
    assert embedder.differentiable
    np.testing.assert_allclose(embedder.embed(images), unit(network(images)), atol=1e-6)


def test_bytes_are_given_to_what_takes_bytes(tmp_path, images, unit):
    inputs = keras.Input((SIDE, SIDE, 3), dtype="uint8")
    model = build()
    network = keras.Model(inputs, model(keras.ops.cast(inputs, "float32") / 255))
    network.save(tmp_path / "bytes.keras")
    embedder = load_embedder(tmp_path / "bytes.keras", scale="0..255")
    assert not embedder.differentiable
    want = unit(network(np.rint(images * 255).astype(np.uint8)))
    np.testing.assert_allclose(embedder.embed(images), want, atol=1e-6)
    np.testing.assert_allclose(embedder.model(images), want, atol=1e-6)


def write_onnx(path, nodes, outputs, constants=(), **options):
    onnx = pytest.importorskip("onnx")
    from onnx import helper

    shapes = {"image": ["N", 3, SIDE, SIDE], **outputs}
    values = [helper.make_tensor_value_info(name, 1, shape) for name, shape in shapes.items()]
    made = [helper.make_node(*node[:3], **node[3]) for node in nodes]
    graph = helper.make_graph(made, "graph", values[:1], values[1:], list(constants))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=9)
    onnx.save(model, path, **options)


def test_a_batch_that_the_file_does_not_say(tmp_path, images, unit):
    numpy_helper = pytest.importorskip("onnx.numpy_helper")
    path = tmp_path / "one.onnx"
    shape = numpy_helper.from_array(np.array([1, 3 * SIDE**2]), "shape")
    write_onnx(path, [("Reshape", ["image", "shape"], ["out"], {})], {"out": ["N", "D"]}, [shape])
    with pytest.raises(UserError, match=r"one\.onnx fails on images of shape \[4, 3, 32, 32\]") as caught:
        load_embedder(path, scale="0..1").open()
    assert "\n" not in str(caught.value)
    embedder = load_embedder(path, scale="0..1", batch=1)
    assert embedder.preset.embedding_size == 3 * SIDE**2
    np.testing.assert_allclose(embedder.embed(images), unit(images.transpose(0, 3, 1, 2).reshape(3, -1)), atol=1e-6)


def test_classes_of_an_onnx_file_are_refused_by_their_name(tmp_path, images):
    path = tmp_path / "classes.onnx"
    write_onnx(path, [("ReduceMean", ["image"], ["logits"], {"axes": [2, 3], "keepdims": 0})], {"logits": ["N", 3]})
    with pytest.raises(UserError, match=r"its output logits gives classes, not embeddings"):
        load_embedder(path, scale="0..1")
    assert load_embedder(path, scale="0..1", output="logits").embed(images).shape == (3, 3)


def test_weights_beside_an_onnx_file_are_in_its_hash(tmp_path):
    numpy_helper = pytest.importorskip("onnx.numpy_helper")
    found = set()
    for value in (1.0, 2.0):
        weights = numpy_helper.from_array(np.full((1, 3, 1, 1), value, np.float32), "w")
        nodes = [("Mul", ["image", "w"], ["m"], {}), ("ReduceMean", ["m"], ["v"], {"axes": [2, 3], "keepdims": 0})]
        (tmp_path / "w.bin").unlink(missing_ok=True)
        options = {"save_as_external_data": True, "location": "w.bin", "size_threshold": 0}
        write_onnx(tmp_path / "w.onnx", nodes, {"v": ["N", 3]}, [weights], **options)
        assert (tmp_path / "w.bin").stat().st_size == 12
        found.add((digest_of_tree(tmp_path / "w.onnx"), load_embedder(tmp_path / "w.onnx", scale="0..1").sha256))
    files, models = zip(*found, strict=True)
    assert len(set(files)) == 1, "the graph is the same"
    assert len(set(models)) == 2


def test_channels_first_and_several_outputs_of_onnx(tmp_path, images, unit):
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("ReduceMean", ["image"], ["means"], axes=[2, 3], keepdims=0),
        helper.make_node("ReduceMax", ["image"], ["largest"], axes=[2, 3], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "means",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 3]) for name in ("means", "largest")],
    )
    path = tmp_path / "means.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=9), path)
    with pytest.raises(UserError, match=r"it has 2 outputs, means, largest: name one by `output`"):
        load_embedder(path, scale="0..1")
    embedder = load_embedder(path, scale="0..1", output="means", colour="bgr")
    assert embedder.input_format.layout == "nchw"
    np.testing.assert_allclose(embedder.embed(images), unit(images.mean((1, 2))[:, ::-1]), atol=1e-5)
    np.testing.assert_allclose(
        load_embedder(path, scale="0..1", output="1").embed(images), unit(images.max((1, 2))), atol=1e-5
    )


def test_an_exported_artifact_says_itself_how_it_is_fed(tmp_path, written, images):
    path = tmp_path / "s.tflite"
    path.write_bytes(written("own.tflite").read_bytes())
    preset = {"recipe": "whole", "metric": "euclidean", "threshold": 0.9, "threshold_source": "there"}
    sidecar = {"artifact": "tflite", "sha256": digest_of_tree(path), "preset": preset, "signatures": ["embed_float"]}
    write_json(tmp_path / "s.tflite.json", sidecar)
    output = next(iter(_files.inspect(path).outputs))
    embedder = load_embedder(path, output=output)
    assert embedder.input_format.scale == "0..1"
    assert (embedder.preset.metric, embedder.preset.threshold) == ("euclidean", 0.9)
    write_json(tmp_path / "s.tflite.json", {**sidecar, "sha256": "0" * 64})
    with pytest.raises(UserError, match=r"s\.tflite is not what was exported"):
        load_embedder(path)


def test_wrapped_functions(images, unit):
    embedder = tfface.wrap(lambda batch: batch.mean((1, 2)), SIDE, scale="0..255", colour="bgr", name="means")
    np.testing.assert_allclose(embedder.embed(images), unit(images.mean((1, 2))[:, ::-1]), atol=1e-6)
    np.testing.assert_allclose(embedder.model(images), embedder.embed(images), atol=1e-6)
    assert not embedder.differentiable
    other = tfface.wrap(lambda batch: batch.max((1, 2)), SIDE)
    assert other.sha256 != embedder.sha256
    with pytest.raises(UserError, match="a function of this process and cannot be sent"):
        pickle.dumps(embedder)


def test_what_is_wrapped_is_a_function_for_its_batch(images, unit):
    def two(batch):
        assert batch.shape == (2, SIDE, SIDE, 3)
        return batch.max((1, 2))

    np.testing.assert_allclose(tfface.wrap(two, SIDE, batch=2).embed(images), unit(images.max((1, 2))), atol=1e-6)
    with pytest.raises(UserError, match=r"wrapped fails on images of shape \[4, 32, 32, 3\]"):
        tfface.wrap(two, SIDE)
    with pytest.raises(UserError, match="leave out `batch` or `differentiable`"):
        tfface.wrap(two, SIDE, batch=2, differentiable=True)
    with pytest.raises(UserError, match=r"a str is no function of images: give a file's path to `load_embedder`"):
        tfface.wrap("own.keras", SIDE)


def test_wrapped_networks_are_told_apart_by_their_weights(network):
    changed = keras.models.clone_model(network)
    changed.set_weights([weight + 1e-6 for weight in network.get_weights()])
    assert tfface.wrap(network, SIDE).sha256 == tfface.wrap(network, SIDE).sha256
    assert tfface.wrap(changed, SIDE).sha256 != tfface.wrap(network, SIDE).sha256


def test_wrapped_classes_of_keras_give_gradients(images, network):
    class Own(keras.Model):
        def call(self, inputs):
            return network(inputs) * 2

    ours, theirs = tfface.wrap(Own(), SIDE), tfface.wrap(network, SIDE)
    assert ours.differentiable
    goal = Dodging(theirs.embed(images), threshold=0.5)
    found = [PGD(steps=2)(one, images, goal, epsilon=0.02).images for one in (ours, theirs)]
    np.testing.assert_allclose(*found, atol=1e-6)


def test_wrapped_tensorflow_functions_give_gradients_on_request(images):
    import tensorflow as tf

    embedder = tfface.wrap(lambda batch: tf.reduce_mean(batch, (1, 2)), SIDE, differentiable=True)
    goal = Dodging(embedder.embed(images), threshold=1e-6)
    assert FGSM()(embedder, images, goal, epsilon=0.2).images.std() > 0
    assert PGD(steps=5)(embedder, images, goal, epsilon=0.2).success.all()


def test_defenses_stand_in_front_of_any_model(written, images):
    embedder = tfface.defenses.apply(load_embedder(written("own.tflite"), scale="0..1"), "bit-depth:bits=3")
    assert not embedder.differentiable
    assert np.abs(embedder.embed(images) - embedder.undefended.embed(images)).max() > 1e-4
    np.testing.assert_allclose(np.linalg.norm(embedder.embed(images), axis=1), 1, atol=1e-5)


def test_another_process_opens_the_file_itself(written, images):
    embedder = load_embedder(written("own.keras"), scale="-1..1")
    sent = pickle.dumps(embedder)
    again = pickle.loads(sent)
    np.testing.assert_allclose(again.embed(images), embedder.embed(images), atol=1e-6)
    assert pickle.loads(sent) is again, "it is built once, however many jobs come with it"


def test_another_process_refuses_another_file(tmp_path):
    path = tmp_path / "own.keras"
    build(seed=1).save(path)
    sent = pickle.dumps(load_embedder(path, scale="0..1"))
    build(seed=2).save(path)
    with pytest.raises(UserError, match=r"own\.keras is another file here than where the command runs"):
        pickle.loads(sent)


def with_lambda(config):
    config["config"]["layers"][1] |= {"class_name": "Lambda", "config": {"name": "evil"}}
    return config


def with_module(config):
    config["config"]["layers"][1] |= {"class_name": "system", "module": "os", "config": {"name": "evil"}}
    return config


def with_pickle(path):
    build().save(path)
    with zipfile.ZipFile(path, "a") as bundle:
        bundle.writestr("payload.pkl", b"\x80\x04.")


def linked_h5(path):
    build().save(path)
    with h5py.File(path, "a") as file:
        file["elsewhere"] = h5py.ExternalLink("/etc/passwd", "/")


def softmax(path):
    model = build()
    keras.Model(model.input, keras.layers.Dense(5, activation="softmax", name="people")(model.output)).save(path)


def softmax_layer(path):
    model = build()
    keras.Model(model.input, keras.layers.Softmax()(model.output)).save(path)


def logits(path):
    model = build()
    keras.Model(model.input, keras.layers.Dense(5, name="logits")(model.output)).save(path)


def lambda_behind_a_zip(path):
    """Write one file that is HDF5 with a Lambda and a zip with a harmless description."""
    build().save(path)
    with h5py.File(path, "a") as file:
        file.attrs["model_config"] = json.dumps(with_lambda(json.loads(file.attrs["model_config"])))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as bundle:
        bundle.writestr("config.json", "{}")
    path.write_bytes(path.read_bytes() + buffer.getvalue())


def endless_h5(path):
    build().save(path)
    with h5py.File(path, "a") as file:
        file["model_weights"]["loop"] = file["model_weights"]


def replaced(member, change):
    """Write a `.keras` file with a change in one of its members."""

    def write(path):
        buffer = io.BytesIO()
        build().save(path)
        with zipfile.ZipFile(path) as old, zipfile.ZipFile(buffer, "w") as new:
            for name in old.namelist():
                new.writestr(name, change(old.read(name)) if name == member else old.read(name))
        path.write_bytes(buffer.getvalue())

    return write


def described(change):
    return replaced("config.json", lambda config: json.dumps(change(json.loads(config))))


def with_link(weights):
    buffer = io.BytesIO(weights)
    with h5py.File(buffer, "a") as file:
        file["elsewhere"] = h5py.ExternalLink("/etc/passwd", "/")
    return buffer.getvalue()


def unbuilt(path):
    keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(4)]).save(path)


def writes_a_file(path):
    import tensorflow as tf

    module, spec = tf.Module(), tf.TensorSpec([None, SIDE, SIDE, 3])

    @tf.function(input_signature=[spec])
    def answer(image):
        tf.io.write_file(str(path) + ".written", "x")
        return tf.reduce_mean(image, (1, 2))

    module.answer = answer
    tf.saved_model.save(module, str(path), signatures=answer)


def two_inputs(path):
    inputs = [keras.Input((SIDE, SIDE, 3)) for _ in range(2)]
    keras.Model(inputs, keras.layers.Flatten()(keras.layers.Add()(inputs))).save(path)


def rank_4(path):
    inputs = keras.Input((SIDE, SIDE, 3))
    keras.Model(inputs, keras.layers.Conv2D(4, 3)(inputs)).save(path)


def free(path):
    inputs = keras.Input((None, None, 3))
    keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(inputs))).save(path)


def constant(value):
    def write(path):
        model = build()
        model.layers[-1].set_weights([np.full((shape := model.layers[-1].kernel.shape), value), np.full(8, value)])
        assert shape[1] == 8
        model.save(path)

    return write


BAD = {
    "text.keras": (lambda path: path.write_text("no model"), r"it is no Keras model"),
    "text.h5": (lambda path: path.write_text("no model"), r"it is no Keras model"),
    "text.tflite": (lambda path: path.write_text("no model"), r"LiteRT cannot read it"),
    "text.onnx": (lambda path: path.write_text("no model"), r"onnxruntime cannot read it"),
    "lambda.keras": (described(with_lambda), r"its layer evil is a Lambda, which runs code of the file"),
    "module.keras": (described(with_module), r"its layer evil is a os\.system, which this project does not know"),
    "pickle.keras": (with_pickle, r"it holds payload\.pkl, which no Keras file does"),
    "linked.h5": (linked_h5, r"its entry elsewhere points to another file"),
    "weights.weights.h5": (lambda path: build().save_weights(path), r"weights without their network"),
    "softmax.keras": (softmax, r"its last layer people gives class probabilities.* give `output=vectors`"),
    "layer.keras": (softmax_layer, r"its last layer softmax gives class probabilities.* give `output=vectors`"),
    "logits.keras": (logits, r"its last layer logits gives classes, not embeddings: give `output=vectors`"),
    "both.h5": (lambda_behind_a_zip, r"its layer evil is a Lambda"),
    "endless.h5": (endless_h5, r"its entry /model_weights/loop holds itself"),
    "deep.keras": (replaced("config.json", lambda _: "[" * 10**5 + "]" * 10**5), r"it is no Keras model"),
    "linked.keras": (replaced("model.weights.h5", with_link), r"its entry elsewhere points to another file"),
    "unbuilt.keras": (unbuilt, r"its layers have met no input: call it once, then save it"),
    "writes": (writes_a_file, r"its graph holds WriteFile, which runs code, or reads or writes files: it is refused"),
    "two.keras": (two_inputs, r"it has 2 inputs"),
    "rank4.keras": (rank_4, r"answers with the shape .*, not one vector an image: name another `output`"),
    "free.keras": (free, r"takes images of any size: say which"),
    "oblong.keras": (lambda path: build(shape=(32, 28, 3)).save(path), r"takes 32x28 pixels, and crops are square"),
    "grey.keras": (lambda path: build(shape=(32, 32, 1)).save(path), r"not three colours"),
    "nan.keras": (constant(np.nan), r"gives embeddings that are not finite"),
    "zero.keras": (constant(0.0), r"gives embeddings that are zero"),
    "vector.keras": (
        lambda path: keras.Sequential([keras.Input((5,)), keras.layers.Dense(2)]).save(path),
        r"its input has the shape \[None, 5\], not images",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_embedder_is_refused_in_one_line(tmp_path, name):
    write, reason = BAD[name]
    write(tmp_path / name)
    with pytest.raises(UserError, match=reason) as caught:
        load_embedder(tmp_path / name, scale="0..1").open()
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)
    assert not (tmp_path / f"{name}.written").exists()


def test_a_layer_before_the_classes_can_be_taken(tmp_path, images, unit):
    softmax(tmp_path / "people.keras")
    embedder = load_embedder(f"{tmp_path / 'people.keras'}:scale=0..1,output=vectors")
    np.testing.assert_allclose(embedder.embed(images), unit(build()(images)), atol=1e-5)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("nothing.onnx", r"nothing\.onnx does not exist: give a \.keras"),
        ("own.keras:scala=1", r"'scala=1' is no fact of a model; valid: scale, colour"),
        ("own.keras:scale=7", r"unknown scale '7' of a model's input; valid: 0\.\.1"),
        ("own.keras:scale=0..1,colour=grey", r"unknown colour 'grey'"),
        ("own.keras:scale=0..1,size=64", r"takes 32 pixels a side, not 64"),
        ("own.keras:scale=0..1,output=x", r"it has no output 'x'"),
        ("own.keras:scale=0..1,threshold=x", r"own\.keras: its threshold 'x' is no number"),
        ("own.tflite:scale=0..1,batch=3", r"takes 1 images at once, not 3"),
        ("own.onnx:scale=0..1,layout=nchw", r"takes images of shape .*, not three colours where nchw has them"),
        ("notes.pt", r"notes\.pt is no model that can be read: give a \.keras"),
    ],
)
def test_texts_that_name_no_model(written, monkeypatch, text, reason):
    folder = written(text.split(":")[0] if text.startswith("own") else "own.keras").parent
    monkeypatch.chdir(folder)
    (folder / "notes.pt").write_text("none of these formats")
    with pytest.raises(UserError, match=reason):
        load_embedder(text)


def test_presets_go_before_folders_of_their_names(written, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "student").symlink_to(written("own"))
    assert load_embedder("student", offline=True).preset.name.startswith("student/")
    assert load_embedder("./student:scale=0..1").preset.name == "student"
    monkeypatch.chdir(written("own"))
    assert load_embedder(".", scale="0..1").preset.name == "own"


def test_an_output_with_a_colon_in_its_name(written, images):
    output = next(iter(_files.inspect(written("own.tflite")).outputs))
    assert ":" in output
    load_embedder(f"{written('own.tflite')}:output={output},scale=0..1").open()


def test_an_onnx_file_without_its_data(tmp_path):
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    weights = numpy_helper.from_array(np.ones((3, 3), np.float32), "w")
    weights.data_location = TensorProto.EXTERNAL
    weights.ClearField("raw_data")
    entry = weights.external_data.add()
    entry.key, entry.value = "location", "missing.bin"
    node = helper.make_node("MatMul", ["image", "w"], ["out"])
    spec = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, SIDE, SIDE, 3]) for name in ("image", "out")]
    graph = helper.make_graph([node], "g", spec[:1], spec[1:], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=9)
    (tmp_path / "cut.onnx").write_bytes(model.SerializeToString())
    assert onnx
    with pytest.raises(UserError, match=r"cut\.onnx: onnxruntime cannot read it: .*missing\.bin"):
        load_embedder(tmp_path / "cut.onnx", scale="0..1")


def test_a_model_object_is_to_be_wrapped(network):
    with pytest.raises(UserError, match=r"a Functional is no embedder: wrap it by `tfface\.wrap`"):
        as_embedder(network)


def test_a_bare_name_takes_no_facts():
    with pytest.raises(UserError, match="student is no file: scale are facts of a model of one's own"):
        load_embedder("student", scale="0..1")


def test_the_command_line_takes_a_path(written, tiny_faces, run_cli, tmp_path):
    model = f"{written('own.tflite')}:scale=0..1,recipe=whole"
    out = ("--out", tmp_path / "o")
    result = run_cli("evaluate", "--model", model, "--dataset", tiny_faces, "--threshold", "0.1", *out)
    assert result.code == 0, result.err
    metrics = json.loads((tmp_path / "o" / "metrics.json").read_text())
    assert metrics["preset"] == "own.tflite"
    assert metrics["input_format"]["scale"] == "0..1"
    line = run_cli("attack", "--model", model, "--dataset", tiny_faces, "--attack", "pgd", "--threshold", "0.1").err
    assert "PGD follows gradients, and own.tflite gives none: take --attack square, or name a --surrogate" in line
    result = run_cli(
        *("attack", "--model", model, "--dataset", tiny_faces, "--attack", "square", "--queries", "5"),
        *("--threshold", "0.1", "--count", "2", "--epsilon", "0.1"),
    )
    assert result.code == 0, result.err


@pytest.mark.parametrize(("name", "known"), [("own", "its signature"), ("own.tflite", "its answers")])
def test_what_has_no_network_is_not_exported(written, tmp_path, name, known):
    model = load_embedder(written(name), scale="0..1", threshold=0.5)
    with pytest.raises(UserError, match=f"{name} is known by {known} alone, there is no network of it to export"):
        tfface.export(model, tmp_path, format="tflite")
    assert not any(tmp_path.iterdir())
