import numpy as np

from tfface.training.batches import EpochViews


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
