import os
import sys
import time

import numpy as np
import pytest

from tfface.errors import UserError
from tfface.training.bank import ViewBank
from tfface.training.growth import PARENT, Growth, grow, wait_for


@pytest.fixture
def one(cache):
    return ViewBank({"what": "one"}, 3, 2, 2)


def make(number, start, stop):
    return np.zeros((stop - start, 2, 2, 3), np.uint8), np.full((stop - start, 2), number)


def ended(code):
    growth = Growth([sys.executable, "-c", code])
    growth._process.wait()
    return growth


def test_what_a_growing_process_says_at_its_end(one):
    growth = ended("import sys; print('tfface: a note\\nerror: no space left', file=sys.stderr); sys.exit(2)")
    with pytest.raises(UserError, match=r"^no space left$"):
        wait_for(one, 0, growth)


def test_a_growing_process_that_dies(one):
    with pytest.raises(UserError, match="ended with -9: the same command goes on"):
        wait_for(one, 0, ended("import os; os.kill(os.getpid(), 9)"))


def test_nobody_grows(one):
    with pytest.raises(UserError, match=r"view 0 of the bank .* is missing"):
        wait_for(one, 0, None)


def test_all_views_in_order(one):
    grow(one, 2, make)
    assert [int(one.answers(number)[0, 0]) for number in range(2)] == [0, 1]


def test_it_ends_with_its_training(one, monkeypatch):
    monkeypatch.setenv(PARENT, str(os.getppid()))
    grow(one, 1, make)
    monkeypatch.setenv(PARENT, "1" if os.getppid() != 1 else "2")
    with pytest.raises(UserError, match="the training that these views are for has ended"):
        grow(one, 2, make)


def test_stopping_ends_the_process():
    growth = Growth([sys.executable, "-c", "import time; time.sleep(60)"])
    begin = time.monotonic()
    growth.check()
    growth.stop()
    assert time.monotonic() - begin < 10
    assert growth._process.poll() is not None


def test_the_teacher_answers_under_tensorflow(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    growth = ended("import os, sys; sys.exit(0 if os.environ['KERAS_BACKEND'] == 'tensorflow' else 3)")
    growth.check()
