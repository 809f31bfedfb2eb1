"""The same model, the same bytes, whatever the process did before."""

from tensorflow.core.protobuf import saved_model_pb2

from tfface.artifacts.making import make
from tfface.artifacts.saved_model import settle
from tfface.utils.files import digest_of_tree as digest


def test_exports_of_one_process_are_equal(make_order, made, tmp_path):
    first = made("savedmodel")
    # By now TensorFlow has numbered more functions than when the first was made.
    second = make(make_order("savedmodel"), tmp_path)
    assert digest(second.path) == digest(first.path) == second.sha256


def test_functions_are_numbered_in_the_order_of_their_making(tmp_path):
    model = saved_model_pb2.SavedModel()
    graph = model.meta_graphs.add()
    for name in ("step_107", "step_93", "body_94", "other"):
        graph.graph_def.library.function.add().signature.name = name
    graph.graph_def.node.add(name="StatefulPartitionedCall_93").attr["f"].func.name = "step_93"
    graph.graph_def.node.add(name="plain", input=["body_94___unused0"]).attr["_user_specified_name"].s = b"283"
    graph.graph_def.node.add(name="named").attr["_user_specified_name"].s = b"image"
    graph.object_graph_def.concrete_functions["step_107"].bound_inputs.append(5)
    (tmp_path / "saved_model.pb").write_bytes(model.SerializeToString())
    (tmp_path / "fingerprint.pb").write_bytes(b"of the former bytes")
    settle(tmp_path)
    found = saved_model_pb2.SavedModel.FromString((tmp_path / "saved_model.pb").read_bytes()).meta_graphs[0]
    assert [one.signature.name for one in found.graph_def.library.function] == ["body_0", "other", "step_0", "step_1"]
    call, plain, named = found.graph_def.node
    assert (call.name, call.attr["f"].func.name) == ("StatefulPartitionedCall_93", "step_0")
    assert list(plain.input) == ["body_0___unused0"] and not plain.attr
    assert named.attr["_user_specified_name"].s == b"image"
    assert list(found.object_graph_def.concrete_functions["step_1"].bound_inputs) == [5]
    assert not (tmp_path / "fingerprint.pb").exists()
