import shlex

import pytest

from tfface.errors import UserError
from tfface.paper.pipeline import PAGE, Choices, facts_of, stages_of
from tfface.paper.stages import Place, Stage, Stages
from tfface.paper.weights import STUDENT, Model, Models
from tfface.utils import registry

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
def test_every_line_is_one_that_its_command_takes(tmp_path, more):
    """Each stage reads stages before it alone, and click parses each line, once the files that it names are there."""
    found = plan(tmp_path, settings=["--offline"], **more)
    seen: list[str] = []
    for stage in found:
        assert set(stage.reads) <= set(seen)
        seen.append(stage.name)
        folder = found.folder(stage.name)
        folder.mkdir()
        (folder / "head.npz").touch()
        (folder / "old_head.npz").touch()
        (folder / stage.name).mkdir()
        command = registry.load("cli", stage.command).command
        command.make_context(stage.command, found.command_line(stage))
        assert shlex.split(found.spoken(stage))[3:] == found.command_line(stage)


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
    assert changed(before, plan(tmp_path, settings=["--offline"])) == set()
    assert changed(before, Stages(tmp_path / "moved", before.stages, before.versions)) == set()


def test_the_student_is_the_one_that_was_distilled(tmp_path):
    (export,) = [stage for stage in plan(tmp_path, distill=True, seed=3) if stage.name == "export"]
    assert export.reads == ["distill", "augmented"]
    assert export.arguments[:2] == ["--model", "student/made-reproduced-3"]


def test_a_stage_and_what_it_reads(tmp_path):
    found = plan(tmp_path)
    assert [stage.name for stage in found.needed_for(["attack-again", "mine"])] == [
        *("mine", "attack", "retrain", "attack-again"),
    ]
    assert [stage.name for stage in found.needed_for([])] == ALL
    with pytest.raises(UserError, match=r"unknown stage 'atack' \(did you mean attack\?\)"):
        found.needed_for(["atack"])


def test_places(tmp_path):
    stages = Stages(tmp_path, [Stage(name="one", command="mine", arguments=["--out", Place("one", "set")])], {})
    assert stages.command_line(stages.stages[0]) == ["--out", str(tmp_path / "1-one" / "set")]
    assert stages.stages[0].reads == []
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
