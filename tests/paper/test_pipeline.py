import dataclasses
import inspect

import pytest

import tfface
from tfface.errors import Unavailable, UserError
from tfface.models._embedder import Embedder, candidates
from tfface.paper.pipeline import PAGE, STUDENT, Choices, Model, Models, facts_of, look, names, stages_of, trace
from tfface.paper.stages import Place, Stage, Stages

FACENET = Model("facenet/made", "ab" * 32, "center-140", 160)
SMALL = Model(STUDENT, "cd" * 32, "whole", 160)
ALL = [
    *("evaluate", "mine", "attack", "pairs", "retrain", "adversarial", "augmented", "attack-again"),
    *("evaluate-again", "export", "report"),
]


def choices(**more) -> Choices:
    models = Models({"facenet": FACENET, STUDENT: SMALL}, {"resnet50": "no network"})
    facts = {"version": "made 1.0.0", "protocol": "all-pairs", "pairs": 20, "people": ["Ann Ames", "b"]}
    return Choices(
        **{"main": "facenet", "models": models, "dataset": "made", "own_head": True, "epsilons": (0.01, 0.02)}
        | facts
        | more
    )


def plan(tmp_path, versions=None, **more) -> Stages:
    return Stages(tmp_path, stages_of(choices(**more)), versions or {"tfface": "1"})


def changed(one: Stages, other: Stages) -> set[str]:
    return {name for name in other.inputs if one.inputs.get(name) != other.inputs[name]}


def test_the_papers_loop_in_its_order(tmp_path):
    assert [stage.name for stage in plan(tmp_path)] == ALL
    assert plan(tmp_path).folder("attack") == tmp_path / "3-attack"
    few = [stage.name for stage in plan(tmp_path, own_head=False)]
    assert few.index("retrain") < few.index("attack") and sorted(few) == sorted(ALL)
    with_student = [stage.name for stage in plan(tmp_path, distill=True)]
    assert [name for name in with_student if name not in ALL] == ["distill"]


@pytest.mark.parametrize("more", [{}, {"own_head": False}, {"distill": True}, {"protocol": "view2"}], ids=str)
def test_every_call_is_one_that_its_function_takes(tmp_path, more):
    """Each stage reads stages before it alone, and its function has its arguments."""
    found = plan(tmp_path, settings={"offline": True}, **more)
    seen: list[str] = []
    for stage in found:
        assert set(stage.reads) <= set(seen)
        seen.append(stage.name)
        arguments = found.arguments(stage)
        inspect.signature(getattr(tfface, stage.function)).bind(**arguments)
        save = f".save('{found.folder(stage.name)}')" if stage.measures else ""
        typed = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
        assert found.call(stage) == f"tfface.{stage.function}({typed}){save}"


def test_the_papers_threshold_is_given(tmp_path):
    """Where folds choose theirs none is given, nor for a model that the paper lacks."""
    models = Models({"facenet": dataclasses.replace(FACENET, threshold=0.4), STUDENT: SMALL}, {})
    judged = {"attack", "retrain", "adversarial", "attack-again"}
    for protocol, expected in (("all-pairs", judged | {"mine", "pairs"}), ("view2", judged)):
        found = plan(tmp_path, models=models, protocol=protocol)
        given = {stage.name for stage in found if found.arguments(stage).get("threshold") == 0.4}
        assert given == expected
    assert not any("threshold" in plan(tmp_path).arguments(stage) for stage in plan(tmp_path))


def test_the_papers_threshold_of_a_preset():
    for name, expected in (("facenet/msceleb", 0.4), ("deepface/vggface2", 0.23), ("student/lfw-distilled", None)):
        (preset,) = candidates(name)
        models = look([name], lambda _: Embedder(preset, "0" * 64, lambda: None), needed=[])  # noqa: B023
        assert models.found[name].threshold == expected


def test_what_a_change_redoes(tmp_path):
    before = plan(tmp_path)
    attacked = {"attack", "pairs", "retrain", "adversarial", "attack-again", "evaluate-again", "report"}
    assert changed(before, plan(tmp_path, epsilons=(0.05,))) == attacked
    assert changed(before, plan(tmp_path, pairs=21)) == {"pairs", "report"}
    other = Models({"facenet": FACENET, STUDENT: Model(STUDENT, "ef" * 32, "whole", 160)}, {})
    assert changed(before, plan(tmp_path, models=other)) == {"evaluate", "evaluate-again", "export", "report"}
    for more in ({"seed": 1}, {"version": "made 1.0.1"}):
        assert changed(before, plan(tmp_path, **more)) == set(ALL)
    assert changed(before, plan(tmp_path, versions={"tfface": "2"})) == set(ALL)
    assert changed(before, plan(tmp_path, settings={"offline": True})) == set()
    assert changed(before, Stages(tmp_path / "moved", before.stages, before.versions)) == set()


def test_the_student_is_the_one_that_was_distilled(tmp_path):
    (export,) = [stage for stage in plan(tmp_path, distill=True, seed=3) if stage.name == "export"]
    assert export.reads == ["distill", "augmented"]
    assert export.arguments["embedder"] == "student/made-reproduced-3"


def test_a_stage_and_what_it_reads(tmp_path):
    found = plan(tmp_path)
    assert [stage.name for stage in found.needed_for(["attack-again", "mine"])] == [
        *("mine", "attack", "retrain", "attack-again"),
    ]
    assert [stage.name for stage in found.needed_for([])] == ALL
    with pytest.raises(UserError, match=r"unknown stage 'atack' \(did you mean attack\?\)"):
        found.needed_for(["atack"])


def test_places(tmp_path):
    arguments = {"out": Place("one", "set"), "dataset": ["lfw", Place("zero")]}
    one = Stage(name="one", function="mine", arguments=arguments)
    stages = Stages(tmp_path, [Stage(name="zero", function="mine", arguments={}), one], {})
    assert stages.arguments(one) == {"out": str(tmp_path / "2-one" / "set"), "dataset": ["lfw", f"{tmp_path}/1-zero"]}
    assert one.reads == ["zero"]
    assert stages.inputs["one"]["arguments"] == {"out": {"place": "one/set"}, "dataset": ["lfw", {"place": "zero"}]}
    assert stages.located(PAGE) == tmp_path / "report.html"


def test_what_a_data_set_decides(tiny_faces, make_photo, tmp_path):
    """Of the tiny faces nobody has four photographs."""
    from tfface.data import load_dataset

    facts = facts_of(load_dataset(str(tiny_faces)))
    assert facts["version"].startswith("folder:tiny faces files-")
    assert {name: facts[name] for name in ("protocol", "pairs", "people", "own_head")} == {
        **{"protocol": "all-pairs", "pairs": 20, "people": [], "own_head": False}
    }
    for name, count in (("b", 4), ("a", 4), ("c", 5), ("d", 3)):
        (tmp_path / "more" / name).mkdir(parents=True)
        for number in range(count):
            (tmp_path / "more" / name / f"{number}.jpg").touch()
    assert facts_of(load_dataset(str(tmp_path / "more")))["people"] == ["c", "a", "b"]


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
