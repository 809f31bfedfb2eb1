"""Rows computed once and kept: resumable after a kill, safe between processes, never half read."""

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tfface.errors import UserError
from tfface.utils.cache import Store, cached
from tfface.utils.files import lock, read_json

ROOT = Path(__file__).parents[2]


def make_store(rows: int = 10, shard_rows: int = 4, **fingerprint) -> Store:
    return Store("things", {"weights": "abc", **fingerprint}, rows, shard_rows=shard_rows)


def squares(start: int, stop: int) -> pa.Table:
    return pa.table({"square": [number**2 for number in range(start, stop)]})


def fill(store: Store) -> list[tuple[int, int]]:
    """Fills a store with squares; returns the ranges that were computed for it."""
    computed = []

    def compute(missing, save):
        for part in missing:
            computed.append(part)
            save(part, squares(*part))

    store.fill(compute)
    return computed


SQUARES = [0, 1, 4, 9, 16, 25, 36, 49, 64, 81]


def test_rows_come_back_in_order():
    store = make_store()
    assert store.ranges() == [(0, 4), (4, 8), (8, 10)]
    assert fill(store) == [(0, 4), (4, 8), (8, 10)]
    assert store.read()["square"].to_pylist() == SQUARES


def test_what_is_there_is_not_computed_again():
    fill(make_store())
    assert fill(make_store()) == []


def test_only_what_is_missing_is_computed():
    store = make_store()
    fill(store)
    (store.folder / "rows-00000004-00000008.parquet").unlink()
    assert fill(make_store()) == [(4, 8)]
    assert store.read()["square"].to_pylist() == SQUARES


def test_all_that_rows_depend_on_is_in_the_folder_s_name():
    others = [{"weights": "abd"}, {"rows": 11}, {"shard_rows": 5}, {"flip": True}]
    stores = [make_store(), *(make_store(**other) for other in others)]
    assert len({store.folder for store in stores}) == 5
    assert make_store().folder == stores[0].folder


def test_says_what_it_was_computed_from():
    store = make_store()
    fill(store)
    assert read_json(store.folder / "fingerprint.json") == {"weights": "abc", "rows": 10, "shard_rows": 4}


def test_an_interrupted_fill_keeps_its_finished_shards():
    store = make_store()

    def compute(missing, save):
        save(missing[0], squares(*missing[0]))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.fill(compute)
    assert fill(make_store()) == [(4, 8), (8, 10)]
    assert make_store().read()["square"].to_pylist() == SQUARES


def test_a_wrong_number_of_rows_is_our_own_mistake():
    with pytest.raises(ValueError, match=r"3 rows for the range"):
        make_store().fill(lambda missing, save: save((0, 4), squares(0, 3)))
    assert make_store().missing()[0] == (0, 4)


def test_unfinished_files_are_no_shards():
    store = make_store(rows=4)
    (store.folder / ".part-x.parquet").write_bytes(b"PAR1 half")
    assert store.missing() == [(0, 4)]
    with pytest.raises(UserError, match=r"cannot read .*rows-00000000-00000004\.parquet"):
        store.read()
    fill(store)
    assert store.read()["square"].to_pylist() == [0, 1, 4, 9]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:-9],
        lambda data: b"<html>not found</html>",
        lambda data: data[:20] + bytes([data[20] ^ 0xFF]) + data[21:],
    ],
    ids=["empty", "cut", "html", "one byte"],
)
def test_a_damaged_shard_is_named(damage):
    store = make_store()
    fill(store)
    shard = store.folder / "rows-00000004-00000008.parquet"
    shard.write_bytes(damage(shard.read_bytes()))
    with pytest.raises(UserError, match=rf"cannot read {shard}: delete it and run again") as caught:
        store.read()
    assert "\n" not in str(caught.value)
    shard.unlink()
    fill(make_store())
    assert store.read()["square"].to_pylist() == SQUARES


def test_no_changed_byte_of_a_row_goes_unnoticed():
    store = make_store()
    fill(store)
    shard = store.folder / "rows-00000004-00000008.parquet"
    whole = shard.read_bytes()
    # Between the file's mark and its footer, whose length stands before the closing mark.
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    unnoticed = []
    for position in range(4, footer):
        shard.write_bytes(whole[:position] + bytes([whole[position] ^ 0x10]) + whole[position + 1 :])
        try:
            found = store.read()["square"].to_pylist()
        except UserError:
            continue
        if found != SQUARES:
            unnoticed.append(position)
    assert unnoticed == []


def test_a_shard_with_other_rows_is_named():
    store = make_store()
    fill(store)
    pq.write_table(squares(0, 3), store.folder / "rows-00000000-00000004.parquet")
    with pytest.raises(UserError, match=r"rows-00000000-00000004\.parquet has 3 rows, not 4: delete it"):
        store.read()


def test_a_full_disk_keeps_what_was_saved(monkeypatch):
    store = make_store()

    def compute(missing, save):
        save(missing[0], squares(*missing[0]))
        monkeypatch.setattr("os.fsync", full)
        save(missing[1], squares(*missing[1]))

    def full(handle):
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match=r"^no space left to write .*rows-00000004-00000008\.\w+: free some"):
        store.fill(compute)
    monkeypatch.undo()
    assert [path.name for path in store.folder.glob("*.parquet")] == ["rows-00000000-00000004.parquet"]
    assert not list(store.folder.glob(".part-*"))


def slow_fill(log: Path, start) -> None:
    start.wait()

    def compute(missing, save):
        for part in missing:
            with log.open("a") as file:
                file.write(f"{os.getpid()} {part[0]}\n")
            time.sleep(0.2)
            save(part, squares(*part))

    store = make_store()
    store.fill(compute)
    assert store.read()["square"].to_pylist() == SQUARES


def test_of_two_processes_one_computes(tmp_path):
    context = multiprocessing.get_context("spawn")
    start, log = context.Barrier(2), tmp_path / "log"
    executor = [context.Process(target=slow_fill, args=(log, start)) for _ in range(2)]
    for worker in executor:
        worker.start()
    for worker in executor:
        worker.join(60)
    assert [worker.exitcode for worker in executor] == [0, 0]
    lines = [line.split() for line in log.read_text().splitlines()]
    assert [row for _, row in lines] == ["0", "4", "8"]
    assert len({process for process, _ in lines}) == 1


def test_the_one_that_waits_says_so(capsys):
    store = make_store()
    guard = lock(store.folder / "rows")
    guard.acquire()
    worker = threading.Thread(target=fill, args=(store,))
    worker.start()
    end = time.monotonic() + 10
    said = ""
    while "another process prepares things/" not in said and time.monotonic() < end:
        time.sleep(0.02)
        said += capsys.readouterr().err
    assert "another process prepares things/" in said
    assert store.missing() == store.ranges()
    guard.release()
    worker.join(10)
    assert store.missing() == []


def test_kill_9_in_the_middle_and_the_same_command_again(tmp_path):
    code = """
        import time
        import pyarrow as pa
        from tfface.utils.cache import Store, cached
        def compute(missing, save):
            for start, stop in missing:
                save((start, stop), pa.table({"square": [number**2 for number in range(start, stop)]}))
                if start == 4:
                    # In the middle of the third shard.
                    (store.folder / ".part-half.parquet").write_bytes(b"PAR1")
                    time.sleep(60)
        store = Store("things", {"weights": "abc"}, 10, shard_rows=4)
        store.fill(compute)
    """
    victim = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], cwd=ROOT)
    store = make_store()
    half = store.folder / ".part-half.parquet"
    end = time.monotonic() + 30
    while not half.exists() and time.monotonic() < end:
        time.sleep(0.02)
    os.kill(victim.pid, signal.SIGKILL)
    assert victim.wait() == -signal.SIGKILL
    kept = {path.name: path.stat().st_mtime_ns for path in store.folder.glob("rows-*.parquet")}
    assert sorted(kept) == ["rows-00000000-00000004.parquet", "rows-00000004-00000008.parquet"]
    assert fill(make_store()) == [(8, 10)]
    assert {name: (store.folder / name).stat().st_mtime_ns for name in kept} == kept
    assert store.read()["square"].to_pylist() == SQUARES


def test_a_small_result_is_computed_once():
    results = iter([{"rate": 0.5}, {"rate": 0.7}])
    found = [cached("checks", {"seed": seed}, lambda: next(results)) for seed in (0, 0, 1)]
    assert found == [{"rate": 0.5}, {"rate": 0.5}, {"rate": 0.7}]
