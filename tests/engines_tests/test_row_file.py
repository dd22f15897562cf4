"""The file of a prefix: computed once by all processes together, compared when it is found, bounded."""

from __future__ import annotations

import errno
import logging
import multiprocessing
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.engines.cut.cut import Cut
from harness.engines.cut.prefix_cache import PATIENCE_S, PrefixBudget, PrefixPlan, PrefixStore
from harness.engines.cut.row_file import RowFile, make_room
from harness.errors import TrialError
from harness.tasks.task import Item

STEPS, WIDTH = 6, 4


def items(number: int = 70) -> list[Item]:
    """Of 1 to 5 steps."""
    return [Item(f"i{n}", torch.full((1 + n % 5, 1), float(n)), torch.tensor(0), 0) for n in range(number)]


def computed(found: Sequence[Item], num_steps: int) -> Tensor:
    """What stands for frozen layers: [items, steps, D], a function of the item alone."""
    table = torch.zeros(len(found), num_steps, WIDTH)
    for row, item in zip(table, found, strict=True):
        row[: len(item.inputs)] = item.inputs.cos() * torch.arange(1, WIDTH + 1)
    return table


def store_in(folder: Path, log: list[str] | None = None, **changes: Any) -> PrefixStore:
    """A store of 70 items; what it computes is noted."""

    def compute(group: Sequence[Item], num_steps: int) -> Tensor:
        if log is not None:
            log.extend(item.key for item in group)
        return computed(group, num_steps)

    settings: dict[str, Any] = {
        "cut": Cut(1, 2), "width": WIDTH, "num_input_steps": 5, "num_steps": STEPS, "dtype": torch.float32,
        "device": torch.device("cpu"), "padded": False, "align": 1, "alone": False, "made_of": ("test",),
    }  # fmt: skip
    return PrefixStore(items(), PrefixPlan(compute, **{**settings, **changes}), PrefixBudget(folder=folder))


def values(store: PrefixStore) -> Tensor:
    return store.gather(store.rows(store.items), STEPS)


def expected() -> Tensor:
    return computed(items(), STEPS)


def damage(path: Path, at: int) -> None:
    """Flip one bit."""
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    with path.open("r+b") as file:
        file.write(content)


def test_rows_are_found_and_not_computed_again(tmp_path: Path) -> None:
    log: list[str] = []
    first = store_in(tmp_path, log)
    first.rows(first.items[:10])  # only what is asked for
    assert sorted(log) == sorted(item.key for item in first.items[:10])
    assert torch.equal(values(first), expected()) and len(log) == 70
    assert torch.equal(values(store_in(tmp_path, log)), expected()) and len(log) == 70
    values(store_in(tmp_path, log, made_of=("another backbone",)))
    assert len(log) == 140 and len([*tmp_path.glob("*.rows")]) == 2


@pytest.mark.parametrize("what", ["row", "mark", "cut", "long", "no marks", "no rows"])
def test_what_is_damaged_is_computed_again_and_told_once(
    what: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    values(store_in(tmp_path))
    (path,) = tmp_path.glob("*.rows")
    marks = path.with_suffix(".marks")
    if what == "row":
        for row in (3, 40):
            damage(path, row * STEPS * WIDTH * 4 + 5)
    elif what == "mark":
        damage(marks, 16 * 7)
    elif what in ("cut", "long"):
        os.truncate(path, path.stat().st_size + (-5 if what == "cut" else 5))
    else:
        (marks if what == "no marks" else path).unlink()
    log: list[str] = []
    with caplog.at_level(logging.WARNING):
        assert torch.equal(values(store_in(tmp_path, log)), expected())
    assert len(log) == {"row": 2, "mark": 1}.get(what, 70)
    assert len(caplog.records) == (0 if what in ("no marks", "no rows") else 1)
    if what == "row":
        assert sorted(log) == ["i3", "i40"] and f"{path}: rows are damaged" in caplog.text
    log.clear()
    assert torch.equal(values(store_in(tmp_path, log)), expected()) and log == []


def _compute_some(folder: Path, start: Any, results: Any) -> None:
    log: list[str] = []
    store = store_in(folder, log)
    start.wait(60)
    results.put((log, bool(torch.equal(values(store), expected()))))


@pytest.mark.slow
def test_processes_compute_a_file_together(tmp_path: Path) -> None:
    """Each has all rows in the end; hardly one is computed twice (a claim is no lock)."""
    context = multiprocessing.get_context("spawn")
    start, results = context.Barrier(3), context.Queue()
    processes = [context.Process(target=_compute_some, args=(tmp_path, start, results)) for _ in range(3)]
    for process in processes:
        process.start()
    found = [results.get(timeout=120) for _ in processes]
    for process in processes:
        process.join()
    assert all(right for _, right in found)
    made = [key for log, _ in found for key in log]
    assert {*made} == {item.key for item in items()} and len(made) < 1.5 * 70


def test_what_a_dead_process_claimed_is_computed_after_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = store_in(tmp_path)
    store.rows(store.items[:1])
    assert store.file is not None and store.file.claim([*range(1, 70)], PATIENCE_S)
    assert not store.file.claim([5], PATIENCE_S) and store.file.claim([5], 0.0)
    store.file.marks["claimed"][9] += 1e6  # its clock was ahead
    monkeypatch.setattr("harness.engines.cut.prefix_cache.PATIENCE_S", 0.2)
    assert torch.equal(values(store_in(tmp_path)), expected())


def test_a_folder_is_bounded_and_files_in_use_stay(tmp_path: Path) -> None:
    """The longest unused goes first."""
    shape, size = (64, 16, 64), 64 * 16 * 64 * 4
    made: list[RowFile | None] = []
    for number in range(4):
        file = RowFile(tmp_path / f"{number}.rows", shape, torch.float32)
        file.table_NPD[:] = 1.0
        file.reserve(range(64))
        os.utime(file.path, (number, number))
        made.append(file)
    made[1:] = [None] * 3  # the first is still in use
    del file
    make_room(tmp_path, size, 4.5 * size)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"{number}.{kind}" for number in (0, 2, 3) for kind in ("marks", "rows")
    ]
    make_room(tmp_path, size, 0)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["0.marks", "0.rows"]


def test_without_a_folder_rows_lie_in_memory_and_that_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    store = store_in(tmp_path / "file")
    with caplog.at_level(logging.WARNING):
        assert torch.equal(values(store), expected())
    assert store.file is None and [record.getMessage() for record in caplog.records] == [
        f"{tmp_path / 'file'}: File exists; each process keeps frozen layers in its memory"
    ]


def test_a_full_disk_is_told_before_a_row_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    store = store_in(tmp_path)
    with pytest.raises(TrialError, match=r"\.rows: cannot be written: No space left on device") as found:
        store.rows(store.items)
    assert found.value.reason == "disk" and store.file is not None
    assert not np.asarray(store.file.marks["checksum"]).any() and not store.done.any()


def test_a_folder_that_is_removed_meanwhile_takes_no_training_with_it(tmp_path: Path) -> None:
    """Somebody clears the cache: what is mapped stays until the process ends, beside what others put in its place."""
    store = store_in(tmp_path / "prefix")
    store.rows(store.items[:20])
    shutil.rmtree(tmp_path / "prefix")
    other = store_in(tmp_path / "prefix")
    assert torch.equal(values(other), expected())
    assert torch.equal(values(store), expected())


def test_a_file_that_another_process_is_making_is_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Two that begin together: the rows are there, their marks not yet."""
    store = store_in(tmp_path)
    store.rows(store.items[:20])
    (rows,) = tmp_path.glob("*.rows")
    rows.with_suffix(".marks").unlink()
    inode = rows.stat().st_ino
    assert torch.equal(values(store_in(tmp_path)), expected())
    assert rows.stat().st_ino == inode and caplog.text == "" and len([*tmp_path.iterdir()]) == 2


def test_a_file_system_without_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """FAT, some that are mounted over a network; what else goes wrong with a link is told."""

    def refuse(number: int) -> Any:
        def link(*paths: Any, **options: Any) -> None:
            raise OSError(number, os.strerror(number), str(paths[0]))

        return link

    log: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(os, "link", refuse(errno.EPERM))
        assert torch.equal(values(store_in(tmp_path, log)), expected())
    assert torch.equal(values(store_in(tmp_path, log)), expected()) and len(log) == 70
    assert len([*tmp_path.iterdir()]) == 2 and caplog.text == ""
    monkeypatch.setattr(os, "link", refuse(errno.EIO))
    assert torch.equal(values(store_in(tmp_path / "other")), expected())
    assert "Input/output error; each process keeps frozen layers in its memory" in caplog.text
    assert [*(tmp_path / "other").iterdir()] == []
