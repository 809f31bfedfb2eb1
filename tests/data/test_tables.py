"""Tables that a user gives: how they are separated and spelled, and what in them cannot be right."""

import codecs

import pytest

import tfface
from tfface import data
from tfface.data.catalogue import labels_of
from tfface.errors import UserError
from tfface.preprocessing.decoding import encode_png
from tfface.preprocessing.images import read_faces
from tfface.utils.files import file_names, folded, read_json, read_lines, split_lines

KEYS = ["Ames, Ann/1.jpg", "Ames, Ann/2.jpg", "Bob/1;2.jpg", "Bob/3.jpg"]


@pytest.fixture
def faces(tmp_path):
    for key in KEYS:
        (tmp_path / "faces" / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "faces" / key).write_bytes(key.encode())
    return data.load_dataset(tmp_path / "faces")


def quoted(cells, separator):
    return separator.join(f'"{cell}"' if set(";,\t") & set(cell) else cell for cell in cells)


def table(rows, separator):
    return [quoted(cells, separator) for cells in rows]


WRITERS = {
    "plain": lambda lines: "\n".join(lines).encode(),
    "with a mark": lambda lines: codecs.BOM_UTF8 + "\n".join(lines).encode(),
    "of Windows": lambda lines: ("\r\n".join(lines) + "\r\n").encode(),
    "of old Macs": lambda lines: "\r".join(lines).encode(),
    "UTF-16": lambda lines: "\n".join(lines).encode("utf-16"),
    "UTF-16, big end first": lambda lines: codecs.BOM_UTF16_BE + "\n".join(lines).encode("utf-16-be"),
    "with blank lines": lambda lines: ("\n" + "\n\n".join(lines) + "\n \n").encode(),
}


@pytest.mark.parametrize("separator", [",", ";", "\t", ", ", "; "])
@pytest.mark.parametrize("writer", WRITERS)
class TestEverySpelling:
    """Pairs, groups and boxes, of one content in every spelling."""

    def write(self, tmp_path, rows, separator, writer):
        (tmp_path / "table.csv").write_bytes(WRITERS[writer](table(rows, separator)))
        return tmp_path / "table.csv"

    def test_pairs(self, faces, tmp_path, separator, writer):
        rows = [("a", "b", "same", "fold"), (KEYS[0], KEYS[1], "1", "0"), (KEYS[0], KEYS[2], "0", "1")]
        pairs = data.read_pairs_file(self.write(tmp_path, rows, separator, writer), faces)
        assert (pairs.first.tolist(), pairs.second.tolist()) == ([0, 0], [1, 2])
        assert (pairs.same.tolist(), pairs.fold.tolist()) == ([True, False], [0, 1])

    @pytest.mark.parametrize("heading", [[("person", "group")], []])
    def test_groups(self, faces, tmp_path, separator, writer, heading):
        rows = [*heading, ("Ames, Ann", "old"), (KEYS[2], "young")]
        groups = data.read_groups_file(self.write(tmp_path, rows, separator, writer), faces)
        assert groups == {KEYS[0]: "old", KEYS[1]: "old", KEYS[2]: "young"}

    def test_boxes(self, tmp_path, separator, writer):
        rows = [("image", "x", "y", "width", "height"), (KEYS[0], "1.5", "2", "30", "40")]
        boxes = read_faces(self.write(tmp_path, rows, separator, writer))
        assert {name: box.tolist() for name, box in boxes.items()} == {KEYS[0]: [1.5, 2, 30, 40]}

    def test_points(self, tmp_path, separator, writer):
        names = [f"{axis}{number}" for number in range(5) for axis in "xy"]
        rows = [("image", *names), (KEYS[0], *(str(number) for number in range(10)))]
        points = read_faces(self.write(tmp_path, rows, separator, writer), "points")
        assert points[KEYS[0]].tolist() == list(range(10))

    def test_a_list_of_names(self, faces, tmp_path, separator, writer):
        path = tmp_path / "young.txt"
        path.write_bytes(WRITERS[writer](["Bob", KEYS[1].replace("Ames, Ann/", "")]))
        groups = data.read_groups_file(path, faces)
        assert groups == {KEYS[1]: "young", KEYS[2]: "young", KEYS[3]: "young"}


@pytest.mark.parametrize(
    ("lines", "cells"),
    [
        (["sep=;", "a;b", "1;2"], [["a", "b"], ["1", "2"]]),
        (['"sep=|"', "a|b,c"], [["a", "b,c"]]),
        (["image;x", "a,b.jpg;1,5"], [["image", "x"], ["a,b.jpg", "1,5"]]),
        (["image,x", '"a;b.jpg",1'], [["image", "x"], ["a;b.jpg", "1"]]),
        (["a\tb", "x, y\tz;w"], [["a", "b"], ["x, y", "z;w"]]),
        (["a,b", "c"], [["a", "b"], ["c"]]),
        (["a", "b"], [["a"], ["b"]]),
        (['a,"b ""c"" d"', "e,f"], [["a", 'b "c" d'], ["e", "f"]]),
        ([], []),
    ],
)
def test_the_separator_is_the_one_that_cuts_all_lines_alike(lines, cells):
    assert [found for _, found in split_lines(list(enumerate(lines, start=1)))] == cells


def test_a_decimal_comma_is_a_point(tmp_path):
    (tmp_path / "b.csv").write_text("image;x;y;width;height\na.jpg;1,5;2;3;4,25\n")
    assert read_faces(tmp_path / "b.csv")["a.jpg"].tolist() == [1.5, 2, 3, 4.25]


def test_json_with_a_mark(tmp_path):
    (tmp_path / "a.json").write_bytes(codecs.BOM_UTF8 + '{"name": "Zoë"}'.encode())
    assert read_json(tmp_path / "a.json") == {"name": "Zoë"}


def test_line_numbers_count_blank_lines(tmp_path):
    (tmp_path / "a.txt").write_text("\na\r\n\r\nb\rc")
    assert read_lines(tmp_path / "a.txt") == [(2, "a"), (4, "b"), (5, "c")]


def lines_of(kind, rows):
    """Pairs by number of key as CSV, or of names as LFW has them."""
    if kind == "csv":
        return "a,b,same\n" + "".join(quoted((KEYS[a], KEYS[b], str(same)), ",") + "\n" for a, b, same in rows)
    return "".join(f"{row}\n" for row in rows)


class TestBadPairs:
    """What cannot be right in a list of pairs: (rows, pairs that are left, what is said)."""

    def read(self, faces, tmp_path, rows):
        (tmp_path / "p.csv").write_text(lines_of("csv", rows))
        return data.read_pairs_file(tmp_path / "p.csv", faces)

    @pytest.mark.parametrize(
        ("rows", "left", "said"),
        [
            ([(0, 1, 1), (0, 2, 0)], [(0, 1), (0, 2)], ""),
            ([(0, 0, 1), (0, 1, 1)], [(0, 1)], "1 pairs are of a photograph with itself and left out (line 2)"),
            ([(0, 0, 0), (0, 1, 1)], [(0, 1)], "1 pairs are of a photograph with itself and left out (line 2)"),
            ([(0, 1, 1), (0, 1, 1)], [(0, 1)], "1 pairs were listed before and are left out (line 3)"),
            (
                [(0, 1, 1), (1, 0, 1), (0, 1, 1)],
                [(0, 1)],
                "2 pairs were listed before and are left out (line 3, line 4)",
            ),
            ([(0, 2, 1), (0, 1, 0)], [(0, 2), (0, 1)], "2 pairs are labelled against the people of folder:faces"),
        ],
    )
    def test_it_is_said_and_counted(self, faces, tmp_path, capsys, rows, left, said):
        pairs = self.read(faces, tmp_path, rows)
        assert list(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)) == left
        found = capsys.readouterr().err
        assert said in found and bool(said) == bool(found)

    @pytest.mark.parametrize("rows", [[(0, 1, 1), (0, 1, 0)], [(0, 1, 1), (0, 2, 0), (1, 0, 0)]])
    def test_a_contradiction_is_refused(self, faces, tmp_path, rows):
        last = len(rows) + 1
        with pytest.raises(UserError, match=rf"p\.csv, line {last}: the opposite of line 2: one of them is wrong"):
            self.read(faces, tmp_path, rows)

    def test_nothing_left(self, faces, tmp_path):
        with pytest.raises(UserError, match=r"p\.csv holds no pairs"):
            self.read(faces, tmp_path, [(0, 0, 1)])

    def test_the_format_of_lfw_too(self, tmp_path, capsys):
        for name in ("Ann_0001", "Ann_0002", "Bob_0001"):
            (tmp_path / "faces" / name[:3]).mkdir(parents=True, exist_ok=True)
            (tmp_path / "faces" / name[:3] / f"{name}.jpg").write_bytes(name.encode())
        faces = data.load_dataset(tmp_path / "faces")
        (tmp_path / "p.txt").write_text("Ann 1 2\nAnn 2 1\nBob 1 1\nAnn 1 Bob 1\n")
        assert len(data.read_pairs_file(tmp_path / "p.txt", faces)) == 2
        said = capsys.readouterr().err
        assert "1 pairs are of a photograph with itself and left out (line 3)" in said
        assert "1 pairs were listed before and are left out (line 2)" in said
        (tmp_path / "p.txt").write_text("Ann 1 2\nAnn 1 Ann 2\n")
        with pytest.raises(UserError, match="line 2: the opposite of line 1"):
            data.read_pairs_file(tmp_path / "p.txt", faces)


@pytest.mark.parametrize("second", ["a.jpg,1,2,3,4", "a.jpg,9,9,9,9"])
def test_two_boxes_for_one_image_are_refused(tmp_path, second):
    (tmp_path / "b.csv").write_text(f"image,x,y,width,height\na.jpg,1,2,3,4\nb.jpg,1,2,3,4\n{second}\n")
    with pytest.raises(UserError, match=r"b\.csv:4 gives a second face for a\.jpg: leave one"):
        read_faces(tmp_path / "b.csv")


class TestOnePhotographTwice:
    def said(self, tmp_path, names, capsys):
        for name, content in names.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(content)
        data.load_dataset(tmp_path)
        return capsys.readouterr().err

    def test_under_two_people(self, tmp_path, capsys):
        said = self.said(tmp_path, {"Ann/1.jpg": b"a", "Ann/2.jpg": b"b", "Bob/x.png": b"a", "Cid/1.jpg": b"a"}, capsys)
        assert said == (
            f"tfface: {tmp_path}: 1 photographs are there under more than one person: an impostor pair of each has "
            "distance 0 (Ann/1.jpg = Bob/x.png)\n"
        )

    def test_under_one_person(self, tmp_path, capsys):
        said = self.said(tmp_path, {"Ann/1.jpg": b"a", "Ann/copy.jpg": b"a", "Bob/1.jpg": b"b"}, capsys)
        assert said.endswith("a genuine pair of each has distance 0 (Ann/1.jpg = Ann/copy.jpg)\n")

    def test_a_link_to_another_person(self, tmp_path, capsys):
        (tmp_path / "Bob").mkdir()
        (tmp_path / "Bob" / "1.jpg").symlink_to("../Ann/1.jpg")
        assert "under more than one person" in self.said(tmp_path, {"Ann/1.jpg": b"a"}, capsys)

    def test_none(self, tmp_path, capsys):
        assert self.said(tmp_path, {"Ann/1.jpg": b"a", "Bob/1.jpg": b"b"}, capsys) == ""


class TestThreshold:
    @pytest.mark.parametrize("threshold", [60, 2.01, -0.1, float("nan"), float("inf")])
    def test_beyond_all_distances(self, tiny_embedder, threshold):
        with pytest.raises(UserError, match=r"`threshold` is .*: distances go from 0 to 2, so it would decide nothing"):
            tiny_embedder.preset.decide(threshold)

    @pytest.mark.parametrize("threshold", [0, 0.4, 2])
    def test_within_them(self, tiny_embedder, threshold):
        assert tiny_embedder.preset.decide(threshold) == ("cosine", threshold, "given")

    @pytest.mark.parametrize(
        "command",
        [
            ("evaluate", "--dataset", "FACES"),
            ("mine", "--dataset", "FACES", "--out", "OUT"),
            ("verify", "FACES/cid/cid 0.jpg", "FACES/cid/cid 0.jpg"),
            ("attack", "--dataset", "FACES"),
        ],
    )
    def test_every_command_refuses_it(self, tiny_faces, tiny_model, refused, tmp_path, command):
        places = {"FACES": str(tiny_faces), "OUT": str(tmp_path / "out")}
        arguments = [word.replace("FACES", places["FACES"]).replace("OUT", places["OUT"]) for word in command]
        said = refused(*arguments, "--model", "tiny", "--recipe", "whole", "--threshold", "60")
        assert said == "error: --threshold is 60: distances go from 0 to 2, so it would decide nothing"


class TestTwoDataSetsOfOneName:
    def datasets(self, tmp_path, *places):
        for number, place in enumerate(places):
            for key in ("Ann/1.jpg", "Ann/2.jpg", "Bob/1.jpg"):
                (tmp_path / place / key).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / place / key).write_bytes(f"{number} {key}".encode())
        return [data.load_dataset(tmp_path / place) for place in places]

    @pytest.mark.parametrize(
        ("places", "labels"),
        [
            (("a/faces", "b"), ["folder:faces", "folder:b"]),
            (("a/faces", "b/faces"), ["folder:a/faces", "folder:b/faces"]),
            (("a/x/faces", "b/x/faces", "c"), ["folder:a/x/faces", "folder:b/x/faces", "folder:c"]),
            (("faces", "faces/faces"), [None, "folder:faces/faces"]),
        ],
    )
    def test_labels(self, tmp_path, places, labels):
        found = labels_of(self.datasets(tmp_path, *places))
        assert len(set(found)) == len(found)
        assert all(wanted in (None, label) for wanted, label in zip(labels, found, strict=True))

    def test_samples_of_one_folder(self, tmp_path):
        (faces,) = self.datasets(tmp_path, "faces")
        one, two = labels_of([faces.sample(1, 0), faces.sample(1, 1)])
        assert one != two and one.startswith("folder:faces files-")

    def test_a_comparison_keeps_them_apart(self, tmp_path, tiny_model, run_cli, make_photo):
        for place in ("a b/faces", "a-b/faces"):
            for person in range(2):
                for number in range(2):
                    path = tmp_path / place / f"p{person}" / f"{number}.png"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(encode_png(make_photo(person, number + len(place))))
            (tmp_path / place / "p0" / "more.png").write_bytes(encode_png(make_photo(0, len(place) + ord(place[1]))))
        names = [str(tmp_path / "a b/faces"), str(tmp_path / "a-b/faces"), str(tmp_path / "a-b/../a-b/faces")]
        options = [word for name in names for word in ("--dataset", name)]
        found = run_cli("evaluate", *options, "--model", "tiny", "--recipe", "whole", "--out", tmp_path / "out")
        assert found.code == 0
        models = read_json(tmp_path / "out" / "metrics.json")["models"]
        assert [entry["dataset"] for entry in models] == ["folder:a b/faces", "folder:a-b/faces"]
        assert len(list((tmp_path / "out").glob("distances-*.png"))) == 2
        assert len(list((tmp_path / "out").glob("worst-*.csv"))) == 2


class TestFileNames:
    @pytest.mark.parametrize(
        ("names", "found"),
        [
            (["a/b", "a b", "A-B"], ["a-b", "a-b-2", "A-B-3"]),
            (["é", "e\u0301"], ["é", "é-2"]),
            (["straße", "STRASSE"], ["straße", "STRASSE-2"]),
            (["x" * 300, "x" * 299 + "y"], ["x" * 120, "x" * 120 + "-2"]),
            (["名" * 50], ["名" * 40]),
            (["team\\ann", "a:b*?", "..", "a-b--"], ["team-ann", "a-b--", "..", "a-b---2"]),
        ],
    )
    def test_short_and_distinct(self, names, found):
        assert file_names(names) == found

    def test_augment_refuses_a_person_before_it_works(self, tmp_path, make_photo):
        path = tmp_path / "faces" / "team\\ann" / "1.png"
        path.parent.mkdir(parents=True)
        path.write_bytes(encode_png(make_photo(0, 0)))
        with pytest.raises(UserError, match=r"no folder can be called 'team\\\\ann' everywhere: rename"):
            tfface.augment(tmp_path / "faces", out=tmp_path / "out", recipe="whole")
        assert not (tmp_path / "out").exists()

    def test_augment_keeps_like_names_apart(self, tmp_path, make_photo):
        names = ["ann.png", "ANN.jpg", "é.png", "e\u0301.png", "n" * 233 + ".png"]
        for number, name in enumerate(names):
            path = tmp_path / "faces" / "Ann" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode_png(make_photo(0, number)))
        made = tfface.augment(tmp_path / "faces", out=tmp_path / "out", recipe="whole", copies=1, size=32)
        files = [record["file"] for record in made.manifest.records]
        assert len({folded(file) for file in files}) == len(names)
        assert max(len(file.split("/")[1].encode()) for file in files) <= 255
