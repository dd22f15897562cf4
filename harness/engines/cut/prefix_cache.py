"""Keep what the frozen layers compute for each item: in memory, and beyond a limit in a memory-mapped file.

Each item is computed slot by slot (harness/engines/cut/slot_layers.py), at a padded length that depends on the item
alone, so that its bits do not depend on what else is needed, in which order, or whether anything is kept. A file's name
hashes all that shapes its numbers: backbone, corpus, preprocessing, cut, dtype, versions and the source code of the
prefix.

Shape legend: N items of a split, B batch, P steps that a row has room for, T steps of a batch, D width.
"""

from __future__ import annotations

import hashlib
import inspect
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from harness.config.base import content_hash
from harness.data.batching import round_up
from harness.data.cache import data_cache
from harness.engines.cut.cut import Cut
from harness.errors import TrialError
from harness.records.provenance import package_versions
from harness.tasks.task import Item

LIMIT_MB = 1024.0  # of all rows that a process keeps in memory; $HARNESS_PREFIX_MB
GROUP_ITEMS = 32  # computed together, at most
GROUP_STEPS = 4096  # input steps of those
VECTOR_STEPS = 4  # so many steps of any number of rows fill whole vectors, where the width is a multiple of 4
NUMBERED_BY = ("torch", "torchaudio", "transformers", "tokenizers", "numpy")  # versions that may change the numbers


@dataclass(frozen=True)
class PrefixPlan:
    """How a prefix is computed and stored.

    Attributes:
        compute: items, and the number of input steps to pad them to -> [items, steps, D]; an item's bits must not
            depend on the others.
        cut: where the prefix ends.
        width: D.
        num_input_steps: of the split's longest item.
        num_steps: P, what those become, rounded up (`whole_steps`).
        dtype: of the rows.
        device: of the rows.
        padded: compute every item at the full length, so that its padded steps hold what the whole model gives there
            (NeMo's l2 sum counts them). Otherwise they are 0.
        align: an item that is not computed at the full length is padded to a multiple of this.
        alone: compute every item by itself, where the numbers of one may depend on how many are computed.
        made_of: names of everything that shapes the numbers, for the file's name.
    """

    compute: Callable[[Sequence[Item], int], Tensor]
    cut: Cut
    width: int
    num_input_steps: int
    num_steps: int
    dtype: torch.dtype
    device: torch.device
    padded: bool
    align: int
    alone: bool
    made_of: tuple[str, ...]

    @property
    def key(self) -> str:
        """Hash of everything that shapes the numbers."""
        versions = {name: version for name, version in package_versions().items() if name in NUMBERED_BY}
        facts = [asdict(self.cut), self.padded, self.align, str(self.dtype), str(self.device), *self.made_of]
        return content_hash([facts, versions, prefix_code(), torch.get_num_threads()], 24)


@cache
def prefix_code() -> str:
    """SHA-256 over the source files that compute a prefix."""
    from harness.adapters import insertion, module_mixin
    from harness.backbones import (
        blocks,
        encoders,
        inspecting,
        pooling,
        pretrained,
        pretrained_speech,
        speech_families,
        two_parts,
        whisper,
    )
    from harness.data import model_features, spec_augment
    from harness.engines.cut import cut, slot_layers
    from harness.training import precision

    of_model = [insertion, module_mixin, blocks, encoders, inspecting, pooling, pretrained, two_parts]
    of_speech = [pretrained_speech, speech_families, whisper, model_features]
    modules = [*of_model, *of_speech, spec_augment, precision, cut, slot_layers]
    state = hashlib.sha256(Path(__file__).read_bytes())
    for module in (*modules, inspect.getmodule(Item)):
        state.update(Path(str(module.__file__)).read_bytes())  # type: ignore[union-attr]
    return state.hexdigest()


class PrefixBudget:
    """Memory that all stores of a process share; `keep` False computes every item anew each time (for tests)."""

    def __init__(self, limit_mb: float | None = None, folder: Path | None = None, keep: bool = True) -> None:
        chosen = float(os.environ.get("HARNESS_PREFIX_MB", LIMIT_MB)) if limit_mb is None else limit_mb
        self.limit_bytes = chosen * 2**20
        self.folder = folder
        self.keep = keep
        self.used_bytes = 0

    def take(self, num_bytes: int) -> bool:
        """Take memory; False when that is more than is left."""
        if self.used_bytes + num_bytes > self.limit_bytes:
            return False
        self.used_bytes += num_bytes
        return True


class PrefixStore:
    """What the prefix gives for the items of one split; an item's place is its index in the split.

    Args:
        items: the whole split, in corpus order (with augmented views, all of each); only those asked for are computed.
        plan: how.
        budget: the memory that it may use; what does not fit goes to a file.
    """

    def __init__(self, items: Sequence[Item], plan: PrefixPlan, budget: PrefixBudget) -> None:
        self.plan, self.budget = plan, budget
        self.items = items
        self.place = {(item.key, item.view): number for number, item in enumerate(items)}
        self.done = np.zeros(len(items), dtype=bool)
        self.file: Path | None = None
        # Never touched, a row takes no memory: the system gives pages when they are written.
        self.table_NPD = torch.empty(self._shape, dtype=plan.dtype, device=plan.device) if budget.keep else None

    @property
    def _shape(self) -> tuple[int, int, int]:
        return len(self.items), self.plan.num_steps, self.plan.width

    @property
    def row_bytes(self) -> int:
        """Memory of one item."""
        return self.plan.num_steps * self.plan.width * self.plan.dtype.itemsize

    def places(self, items: Sequence[Item]) -> Tensor:
        """The places of some items [B], int64, without computing any."""
        places = [self.place[item.key, item.view] for item in items]
        return torch.tensor(places, dtype=torch.int64, device=self.plan.device)

    def rows(self, items: Sequence[Item]) -> Tensor:
        """The places of some items [B], int64, computing those that are not there yet."""
        places = self.places(items)
        missing = [place for place in dict.fromkeys(places.tolist()) if not self.done[place]]
        if self.table_NPD is None:  # nothing is kept
            missing = []
        if missing and self.file is None and not self.budget.take(len(missing) * self.row_bytes):
            self._move_to_file()  # where an earlier run, or another process, may have left some of them
            missing = [place for place in missing if not self.done[place]]
        self._reserve(missing)
        if self.table_NPD is not None:
            self._compute(missing, self.table_NPD, missing)
        self._mark_done(missing)
        return places

    def gather(self, rows_B: Tensor, num_steps: int, out: Tensor | None = None) -> Tensor:
        """Rows at some places: [B, T, D], in `out` where it is given; steps after an item's own are its padding."""
        if self.table_NPD is None:
            fresh = torch.empty((len(rows_B), *self._shape[1:]), dtype=self.plan.dtype, device=self.plan.device)
            self._compute(rows_B.tolist(), fresh, range(len(rows_B)))
            return fresh[:, :num_steps] if out is None else out.copy_(fresh[:, :num_steps])
        return torch.index_select(self.table_NPD[:, :num_steps], 0, rows_B, out=out)

    def _input_steps(self, place: int) -> int:
        """The number of input steps that an item is padded to; it depends on the item alone."""
        plan = self.plan
        aligned = round_up(len(self.items[place].inputs), plan.align)
        return plan.num_input_steps if plan.padded else min(aligned, plan.num_input_steps)

    @torch.no_grad()
    def _compute(self, places: Sequence[int], table_RPD: Tensor, rows: Sequence[int]) -> None:
        """Compute items, those of one length together, and put them into rows of a table."""
        by_steps: dict[int, list[tuple[int, int]]] = {}
        for place, row in zip(places, rows, strict=True):
            by_steps.setdefault(self._input_steps(place), []).append((place, row))
        for num_steps, found in by_steps.items():
            size = 1 if self.plan.alone else max(1, min(GROUP_ITEMS, GROUP_STEPS // num_steps))
            for start in range(0, len(found), size):
                group = found[start : start + size]
                computed_GTD = self.plan.compute([self.items[place] for place, _ in group], num_steps)
                for (_, row), found_TD in zip(group, computed_GTD, strict=True):
                    table_RPD[row, : len(found_TD)] = found_TD[: self.plan.num_steps]
                    table_RPD[row, len(found_TD) :] = 0

    def _reserve(self, places: Sequence[int]) -> None:
        """Claim disk for rows: writing to a mapped hole on a full disk would kill the process.

        Raises:
            TrialError: the disk is full (`disk`).
        """
        if self.file is None or not places:
            return
        with self.file.open("r+b") as rows:
            try:
                for place in places:
                    os.posix_fallocate(rows.fileno(), place * self.row_bytes, self.row_bytes)
            except OSError as error:
                raise TrialError("disk", f"{self.file}: cannot be written: {error.strerror}") from error

    def _mark_done(self, places: Sequence[int]) -> None:
        if not places:
            return
        if self.file is not None:
            # The rows first: who finds a mark, now or after a crash, must find the row.
            with self.file.open("r+b") as rows:
                os.fsync(rows.fileno())
        self.done[list(places)] = True
        if isinstance(self.done, np.memmap):
            self.done.flush()

    def _move_to_file(self) -> None:
        """Copy the rows to a mapped file, which other processes and later runs read as well, and go on there."""
        assert self.table_NPD is not None
        if self.plan.device.type != "cpu":
            return  # a GPU's table stays where it is
        folder = self.budget.folder or data_cache() / "prefix"
        folder.mkdir(parents=True, exist_ok=True)
        self.file = folder / f"{self.plan.key}.rows"
        num_bytes = len(self.items) * self.row_bytes
        sizes = {self.file: num_bytes, self.file.with_suffix(".done"): len(self.items)}
        found = tuple(path.stat().st_size if path.exists() else 0 for path in sizes)
        if found not in ((0, 0), (num_bytes, 0), (num_bytes, len(self.items))):
            for path in sizes:  # cut short or half deleted: made longer again, marks would vouch for rows of zeros
                path.unlink(missing_ok=True)
        for path, size in sizes.items():
            with path.open("ab") as file:
                file.truncate(size)  # no more than a hole until rows are written
        table = torch.from_file(
            str(self.file), shared=True, size=num_bytes // self.plan.dtype.itemsize, dtype=self.plan.dtype
        )
        table = table.reshape(self._shape)
        done = np.memmap(self.file.with_suffix(".done"), dtype=bool, mode="r+", shape=len(self.items))
        kept = np.flatnonzero(self.done & ~done)
        self._reserve(kept.tolist())
        table[torch.from_numpy(kept)] = self.table_NPD[torch.from_numpy(kept)]
        self.budget.used_bytes -= int(self.done.sum()) * self.row_bytes
        self.table_NPD, self.done = table, done
        self._mark_done(kept.tolist())
