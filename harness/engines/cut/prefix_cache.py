"""Keep what the frozen layers compute for each item, in a mapped file that all processes of a host share.

Each item is computed slot by slot (harness/engines/cut/slot_layers.py), at a padded length that depends on the item
alone, so that its bits do not depend on what else is needed, in which order, by whom, or whether anything is kept. A
file's name hashes all that shapes its numbers: backbone, corpus, preprocessing, cut, dtype, versions, the processor and
the source code of the prefix. The host is in it, too: over a network, processes would not see each other's mapped rows.

Shape legend: N items of a split, B batch, P steps that a row has room for, T steps of a batch, D width.
"""

from __future__ import annotations

import hashlib
import inspect
import logging
import os
import platform
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from harness.backbones.recipe import backbone_cache
from harness.config.base import content_hash
from harness.data.batching import round_up
from harness.engines.cut.cut import Cut
from harness.engines.cut.row_file import RowFile, make_room
from harness.records.provenance import machine, package_versions
from harness.tasks.task import Item

LIMIT_MB = 10240.0  # of all files in the folder; $HARNESS_PREFIX_MB
POLL_S = 0.002  # between two looks at what others compute: a group of a small encoder takes no longer
PATIENCE_S = 5.0  # how long a group is left, at least, to a process that said it computes it
GROUP_ITEMS = 32  # computed together, at most
GROUP_STEPS = 4096  # input steps of those
VECTOR_STEPS = 4  # so many steps of any number of rows fill whole vectors, where the width is a multiple of 4
logger = logging.getLogger(__name__)
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
        host = [platform.node(), machine()["processor"]]
        facts = [asdict(self.cut), self.padded, self.align, str(self.dtype), str(self.device), *self.made_of, *host]
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
    """Where the stores of a process keep their rows, and how much all files there may take.

    Args:
        limit_mb: of all files together; those that no process uses go when another one needs room.
        folder: of the files.
        keep: "files" that all processes of the host share, "memory" of this process, or "nothing": then every item is
            computed anew each time. A GPU's rows are in its memory in any case but the last.
    """

    def __init__(
        self,
        limit_mb: float | None = None,
        folder: Path | None = None,
        keep: Literal["files", "memory", "nothing"] = "files",
    ) -> None:
        chosen = float(os.environ.get("HARNESS_PREFIX_MB", LIMIT_MB)) if limit_mb is None else limit_mb
        self.limit_bytes = chosen * 2**20
        self.folder = folder or backbone_cache() / "prefix"
        self.keep = keep


class PrefixStore:
    """What the prefix gives for the items of one split; an item's place is its index in the split.

    Args:
        items: the whole split, in corpus order (with augmented views, all of each); only those asked for are computed.
        plan: how.
        budget: where they are kept.
    """

    def __init__(self, items: Sequence[Item], plan: PrefixPlan, budget: PrefixBudget) -> None:
        self.plan, self.budget = plan, budget
        self.items = items
        self.place = {(item.key, item.view): number for number, item in enumerate(items)}
        self.done = np.zeros(len(items), dtype=bool)  # computed by this process, or found and compared
        self.file: RowFile | None = None
        self.table_NPD: Tensor | None = None  # made when the first row is asked for
        self._slowest_s = 0.0  # of a group
        # In an order of its own: processes that begin together meet less often at one group.
        self._order = random.Random(os.getpid())

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
        """The places of some items [B], int64, computing those that are not there yet.

        Raises:
            TrialError: the disk is full (`disk`).
        """
        places = self.places(items)
        missing = [place for place in dict.fromkeys(places.tolist()) if not self.done[place]]
        if not missing or self.budget.keep == "nothing":
            return places
        if self.table_NPD is None:
            self.table_NPD = self._make_table(len(missing))
        if self.file is None:
            for group in self._groups(missing):
                self._compute(group, self.table_NPD, group)
        else:
            self._share(missing, self.file)
        self.done[missing] = True
        return places

    def gather(self, rows_B: Tensor, num_steps: int, out: Tensor | None = None) -> Tensor:
        """Rows at some places: [B, T, D], in `out` where it is given; steps after an item's own are its padding."""
        if self.table_NPD is None:
            fresh = torch.empty((len(rows_B), *self._shape[1:]), dtype=self.plan.dtype, device=self.plan.device)
            places = rows_B.tolist()
            row = {place: number for number, place in enumerate(places)}
            for group in self._groups([*row]):
                self._compute(group, fresh, [row[place] for place in group])
            fresh = fresh[[row[place] for place in places]]  # a place may be there twice
            return fresh[:, :num_steps] if out is None else out.copy_(fresh[:, :num_steps])
        return torch.index_select(self.table_NPD[:, :num_steps], 0, rows_B, out=out)

    def _make_table(self, num_rows: int) -> Tensor:
        """Room for the rows: a file that other processes and later runs use as well, or memory.

        Never touched, a row takes neither disk nor memory: the system gives pages when they are written.
        """
        if self.budget.keep == "files" and self.plan.device.type == "cpu":
            try:
                if self.budget.folder.is_dir():
                    make_room(self.budget.folder, num_rows * self.row_bytes, self.budget.limit_bytes)
                self.file = RowFile(self.budget.folder / f"{self.plan.key}.rows", self._shape, self.plan.dtype)
                return self.file.table_NPD
            except OSError as error:
                where = self.budget.folder
                logger.warning("%s: %s; each process keeps frozen layers in its memory", where, error.strerror)
        return torch.empty(self._shape, dtype=self.plan.dtype, device=self.plan.device)

    def _share(self, places: Sequence[int], file: RowFile) -> None:
        """Have rows in the file: those that others made or make, and the rest computed here, a group at a time."""
        waiting = self._groups(places)
        self._order.shuffle(waiting)
        while waiting:
            left = []
            for group in waiting:
                found = set(file.whole(group))
                missing = [place for place in group if place not in found]
                if not missing:
                    continue
                if not file.claim(missing, max(PATIENCE_S, 4 * self._slowest_s)):
                    left.append(group)
                    continue
                began = time.monotonic()
                file.reserve(missing)
                self._compute(missing, file.table_NPD, missing)
                file.mark(missing)
                self._slowest_s = max(self._slowest_s, time.monotonic() - began)
            if len(left) == len(waiting):
                time.sleep(POLL_S)  # others are at what is left
            waiting = left

    def _input_steps(self, place: int) -> int:
        """The number of input steps that an item is padded to; it depends on the item alone."""
        plan = self.plan
        aligned = round_up(len(self.items[place].inputs), plan.align)
        return plan.num_input_steps if plan.padded else min(aligned, plan.num_input_steps)

    def _groups(self, places: Sequence[int]) -> list[list[int]]:
        """Places of one length that are computed together."""
        by_steps: dict[int, list[int]] = {}
        for place in places:
            by_steps.setdefault(self._input_steps(place), []).append(place)
        groups = []
        for num_steps, found in by_steps.items():
            size = 1 if self.plan.alone else max(1, min(GROUP_ITEMS, GROUP_STEPS // num_steps))
            groups += [found[start : start + size] for start in range(0, len(found), size)]
        return groups

    @torch.no_grad()
    def _compute(self, group: Sequence[int], table_RPD: Tensor, rows: Sequence[int]) -> None:
        """Compute a group, and put it into rows of a table."""
        computed_GTD = self.plan.compute([self.items[place] for place in group], self._input_steps(group[0]))
        kept = min(computed_GTD.shape[1], self.plan.num_steps)
        places_G = torch.tensor(rows, device=table_RPD.device)
        table_RPD[places_G, :kept] = computed_GTD[:, :kept].to(table_RPD.dtype)
        table_RPD[places_G, kept:] = 0
