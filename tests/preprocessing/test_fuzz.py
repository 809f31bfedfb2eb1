"""Photographs damaged in every way: pixels or an ImageError, and nothing on stderr. `make fuzz` tries many more."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.preprocessing import fuzz

FILES = st.integers(0, len(fuzz.corpus()) - 1).map(lambda place: fuzz.corpus()[place])
PLACES = st.one_of(st.floats(0, 0.1), st.floats(0, 1, exclude_max=True))
EDITS = st.lists(st.tuples(st.sampled_from(fuzz.KINDS), PLACES, st.integers(0, 2**16 - 1)), min_size=1, max_size=4)


@settings(deadline=None, max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(FILES, EDITS, FILES, st.booleans())
def test_a_damaged_photograph_is_pixels_or_an_error(capfd, data, edits, other, mend):
    said = fuzz.judge(fuzz.mutate(data, edits, other, mend=mend))
    assert said
    assert capfd.readouterr().err == ""


def test_the_corpus_is_read_as_it_is():
    said = [fuzz.judge(data) for data in fuzz.corpus()]
    assert said.count("pixels") >= len(said) - 5
    assert {text.split(",")[0] for text in said} == {
        "pixels",
        "holds floating-point numbers",
    }


def test_cases_are_the_same_in_every_run():
    assert fuzz.case(7) == fuzz.case(7) != fuzz.case(8)
    assert fuzz.case(123456) not in fuzz.corpus()


def test_a_small_campaign(capsys):
    assert fuzz.campaign(20, 0, 1) == 0
    assert "20 mutated photographs" in capsys.readouterr().out
