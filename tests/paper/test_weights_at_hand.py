import pytest

from tfface.errors import Unavailable
from tfface.paper.weights import Model, Models, look, names, trace


def test_the_papers_models_each_once():
    student = "student/lfw-distilled"
    assert names("facenet") == ["facenet", "resnet50", "deepface", student]
    assert names("resnet50/vggface2") == ["resnet50/vggface2", "facenet", "deepface", student]
    assert names("student/own") == ["student/own", "facenet", "resnet50", "deepface"]


def test_what_cannot_be_had_is_kept_with_its_reason(tiny_embedder):
    def load(name):
        if name == "resnet50":
            raise Unavailable("no network")
        return tiny_embedder

    found = look(["facenet", "resnet50", "deepface:Made"], load, needed=["facenet"])
    tiny = Model("tiny/random", "0" * 64, "whole", 32)
    assert found.found["facenet"] == tiny
    assert found.found["deepface:Made"].name == "deepface:Made"
    assert found.absent == {"resnet50": "no network"}
    assert Models.of(found.record()) == found
    assert Models({"a": tiny, "b": tiny}, {}).distinct == [tiny]
    with pytest.raises(Unavailable):
        look(["resnet50"], load, needed=["resnet50"])


def test_the_trace_follows_the_files_of_the_names(cache):
    wanted = ["facenet/msceleb", "resnet50"]
    before = trace(wanted, offline=False)
    assert before == trace(wanted, offline=False) != trace(wanted, offline=True)
    (cache / "weights" / "deepface").mkdir(parents=True)
    (cache / "weights" / "deepface" / "w.h5").write_bytes(b"1")
    (cache / "weights" / "facenet").mkdir()
    (cache / "weights" / "facenet" / "w.h5.lock").touch()
    assert trace(wanted, offline=False) == before
    (cache / "weights" / "facenet" / "w.h5").write_bytes(b"1")
    assert trace(wanted, offline=False) != before
