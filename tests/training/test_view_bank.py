import errno

import numpy as np
import pytest

from tfface.training import view_bank as module
from tfface.training.view_bank import EpochViews, ViewBank, drawn_to_centers, view_of_epoch, views_within


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(module, "PART", 4)


def values(number, start, stop):
    """Every row bears its view and its place."""
    rows = np.arange(start, stop)
    views = np.broadcast_to((10 * number + rows)[:, None, None, None], (len(rows), 2, 2, 3))
    return views.astype(np.uint8), np.stack([rows, np.full(len(rows), number)], axis=1)


@pytest.fixture
def empty(cache):
    return ViewBank({"teacher": "made-up"}, 10, 2, 2)


def test_what_is_filled_is_read(empty):
    assert not empty.ready(1)
    assert empty.fill(1, values)
    views, answers = values(1, 0, 10)
    np.testing.assert_array_equal(empty.views(1), views)
    np.testing.assert_array_equal(empty.answers(1), answers)
    assert empty.answers(1).dtype == np.float16
    assert not empty.ready(0)
    assert sorted(path.suffix for path in empty.folder.iterdir()) == [".json", ".lock", ".npy", ".npy"]


def test_a_killed_process_loses_one_part(empty):
    made = []

    def until_row_8(number, start, stop):
        if start >= 8:
            raise KeyboardInterrupt
        made.append(start)
        return values(number, start, stop)

    with pytest.raises(KeyboardInterrupt):
        empty.fill(0, until_row_8)
    assert not empty.ready(0)
    assert empty.done(0) == 8

    def rest(number, start, stop):
        made.append(start)
        return values(number, start, stop)

    assert empty.fill(0, rest)
    assert made == [0, 4, 8]
    np.testing.assert_array_equal(empty.views(0), values(0, 0, 10)[0])
    np.testing.assert_array_equal(empty.answers(0), values(0, 0, 10)[1])


def test_two_processes_do_not_collide(empty):
    other = ViewBank({"teacher": "made-up"}, 10, 2, 2)
    inner = []

    def meanwhile(number, start, stop):
        inner.append(other.fill(0, values, wait_seconds=0))
        return values(number, start, stop)

    assert empty.fill(0, meanwhile)
    assert inner == [False] * 3
    assert other.fill(0, lambda *_: pytest.fail("it is made already"))


def test_other_settings_are_another_bank(empty):
    empty.fill(0, values)
    assert not ViewBank({"teacher": "another"}, 10, 2, 2).ready(0)
    assert not ViewBank({"teacher": "made-up"}, 9, 2, 2).ready(0)
    assert ViewBank({"teacher": "made-up"}, 10, 2, 2).ready(0)


def test_a_full_disk_is_one_line_and_loses_nothing(empty, user_error, monkeypatch):
    def full(number, start, stop):
        if start == 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        return values(number, start, stop)

    saved = module._save
    monkeypatch.setattr(module, "_save", lambda path, array: full(0, int(path.stem[-7:]), 0) and saved(path, array))
    with user_error("no space left to write"), module.explain_full_disk(empty.folder):
        empty.fill(0, values)
    monkeypatch.undo()
    monkeypatch.setattr(module, "PART", 4)
    assert empty.done(0) == 4
    assert empty.fill(0, values)
    np.testing.assert_array_equal(empty.views(0), values(0, 0, 10)[0])


@pytest.mark.parametrize("kind", ["views", "answers"])
def test_a_damaged_file_names_itself(empty, user_error, kind):
    empty.fill(0, values)
    path = empty.folder / f"{kind}-000.npy"
    path.write_bytes(path.read_bytes()[:-5])
    with user_error(f"cannot read .*{kind}-000.npy: delete"):
        getattr(empty, kind)(0)


def test_waiting_ends_when_the_view_is_whole_or_its_maker_fails(empty):
    asked = []

    def made_at_the_third_look():
        asked.append(1)
        if len(asked) == 3:
            empty.fill(0, values)

    empty.wait(0, made_at_the_third_look, seconds=0)
    assert len(asked) == 3

    def failed():
        raise RuntimeError("the maker failed")

    with pytest.raises(RuntimeError):
        empty.wait(1, failed, seconds=0)


def test_as_many_views_as_fit(user_error):
    """A view of 1,000 photographs of 100 px and answers of 50 takes 1,000 x (30,000 + 100) bytes: 30.1 MB."""
    bank = ViewBank({}, 1000, 100, 50)
    assert bank.bytes_per_view == 30_100_000
    assert views_within(bank, 14, 0.1) == 3
    assert views_within(bank, 2, 0.1) == 2
    with user_error("`bank_gb` 0.03 does not hold one view of each of the 1000"):
        views_within(bank, 14, 0.03)


def test_unseen_views_come_first_then_those_used_least():
    numbers = [view_of_epoch(epoch, 5, seed=7) for epoch in range(20)]
    assert numbers[:5] == [0, 1, 2, 3, 4]
    for turn in range(4):
        assert sorted(numbers[5 * turn : 5 * turn + 5]) == [0, 1, 2, 3, 4]
    assert len({tuple(numbers[5 * turn : 5 * turn + 5]) for turn in range(4)}) > 1


def rows_of(batches):
    """Which photographs an epoch's batches hold, known by their answers."""
    number_answers = {tuple(answer): row for row, answer in enumerate(np.asarray(batches._epoch[1], np.float32))}
    return [[number_answers[tuple(answer)] for answer in batches[index][1]] for index in range(len(batches))]


def test_an_epoch_goes_once_over_the_photographs(bank):
    batches = EpochViews(bank, views=2, batch_size=8, seed=0)
    assert len(batches) == 2
    assert sorted(row for rows in rows_of(batches) for row in rows) == list(range(16))


def test_views_and_answers_stay_together(bank):
    batches = EpochViews(bank, views=2, batch_size=5, seed=0, epoch=1)
    views, answers = batches[2]
    assert (views.shape, views.dtype, answers.dtype) == ((5, 8, 8, 3), np.uint8, np.float32)
    np.testing.assert_allclose(views[:, 0, 0], 127 + 120 * answers[:, :3], atol=0.6)


def test_the_order_is_drawn_from_seed_and_epoch(bank):
    def order(seed, epoch):
        batches = EpochViews(bank, views=1, batch_size=8, seed=seed)
        batches.start(epoch)
        return rows_of(batches)

    assert order(0, 3) == order(0, 3)
    assert order(0, 3) != order(0, 4)
    assert order(0, 3) != order(1, 3)


def test_each_epoch_has_the_view_whose_turn_it_is(bank):
    batches = EpochViews(bank, views=2, batch_size=16, seed=0)
    first = batches[0][0]
    batches.start(1)
    assert np.abs(first.astype(int) - batches[0][0]).max() > 0
    np.testing.assert_array_equal(np.sort(batches[0][0], axis=None), np.sort(bank.views(1), axis=None))


def test_jitter_changes_views_anew_in_each_epoch_and_leaves_answers(bank):
    def first_batch(epoch, **options):
        return EpochViews(bank, views=1, batch_size=16, seed=0, epoch=epoch, **options)[0]

    plain, changed = first_batch(0), first_batch(0, jitter=0.1)
    np.testing.assert_array_equal(changed[1], plain[1])
    assert (changed[0] != plain[0]).any()
    np.testing.assert_array_equal(changed[0], first_batch(0, jitter=0.1)[0])
    assert (changed[0] != first_batch(1, jitter=0.1)[0]).any()


def test_answers_are_drawn_to_their_persons(bank):
    people = np.arange(16) // 4
    batches = EpochViews(bank, views=1, batch_size=16, seed=0, people=people, center_weight=1.0)
    answers, views = batches[0][1], batches[0][0]
    np.testing.assert_allclose(answers, np.repeat(answers[::4], 4, axis=0), atol=1e-6)
    assert len(np.unique(answers.round(4), axis=0)) == 4
    np.testing.assert_array_equal(views, EpochViews(bank, views=1, batch_size=16, seed=0)[0][0])


def test_hints_are_not_drawn_to_centers(hinted_bank):
    def answers(weight):
        people = np.arange(16) // 4
        batches = EpochViews(hinted_bank, views=1, batch_size=16, seed=0, people=people, center_weight=weight)
        return batches[0][1]

    np.testing.assert_array_equal(answers(1.0)[:, 4:], answers(0.0)[:, 4:])
    assert np.abs(answers(1.0)[:, :4] - answers(0.0)[:, :4]).max() > 0.1


ANSWERS = np.array([[1, 0], [0, 1], [0, -1], [0.6, 0.8]], np.float16)
PEOPLE = np.array([1, 1, 0, 2])


def test_no_weight_leaves_answers():
    np.testing.assert_allclose(drawn_to_centers(ANSWERS, PEOPLE, 0.0), ANSWERS, atol=1e-3)


def test_full_weight_gives_the_persons_mean():
    """Of (1, 0) and (0, 1) it is (1, 1) / sqrt 2; who has one photograph keeps its answer."""
    half = 0.5**0.5
    found = drawn_to_centers(ANSWERS, PEOPLE, 1.0)
    np.testing.assert_allclose(found, [[half, half], [half, half], [0, -1], [0.6, 0.8]], atol=1e-3)
    assert found.dtype == np.float32


def test_between_by_hand():
    """Half way from (1, 0) to the center at 45 degrees is at 22.5."""
    angle = np.deg2rad(22.5)
    found = drawn_to_centers(ANSWERS, PEOPLE, 0.5)
    np.testing.assert_allclose(found[0], [np.cos(angle), np.sin(angle)], atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)


def test_opposite_answers_have_no_center():
    found = drawn_to_centers(np.array([[1.0, 0.0], [-1.0, 0.0]]), np.array([0, 0]), 0.5)
    np.testing.assert_allclose(found, [[1, 0], [-1, 0]])


@pytest.mark.parametrize("weight", [0.25, 1.0])
def test_people_come_closer(weight):
    random = np.random.default_rng(0)
    answers = random.standard_normal((40, 8))
    answers /= np.linalg.norm(answers, axis=1, keepdims=True)
    people = np.repeat(np.arange(10), 4)
    found = drawn_to_centers(answers, people, weight)
    cosines = [(one[people == 3] @ one[people == 3].T).mean() for one in (answers, found)]
    assert cosines[1] > cosines[0] + 0.05
