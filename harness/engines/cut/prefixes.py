"""The frozen prefixes of everything that this process trains behind a cut, kept for all of its trials."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor

from harness.backbones.model import TaskModel
from harness.config.base import content_hash
from harness.config.trial import AugmentSettings, LoopSettings, TrialConfig
from harness.data.batching import round_up
from harness.data.corpus import Split
from harness.engines.cut.cut import Cut, find_cut, reads_padded_steps, run_prefix, why_not_resumed
from harness.engines.cut.cut_task import CutTask
from harness.engines.cut.prefix_cache import PrefixBudget, PrefixPlan, PrefixStore
from harness.engines.cut.slot_layers import Current, slotwise, whole_steps
from harness.tasks.task import Item, Task, WholeTask
from harness.training.engine import Shared
from harness.training.precision import autocast, dtype_of
from harness.training.views import all_views, num_views_of
from harness.watchdog import beat


class Prefixes:
    """The frozen prefixes of a process, by the data and backbone that they are of.

    Args:
        budget: the memory for all of them.
    """

    def __init__(self, budget: PrefixBudget | None = None) -> None:
        self.budget = budget or PrefixBudget()
        self._of: dict[Shared, DomainPrefixes] = {}

    def of(self, domains: Shared) -> DomainPrefixes:
        """The prefixes of one backbone on one corpus."""
        if domains not in self._of:
            self._of[domains] = DomainPrefixes(domains, self.budget)
        return self._of[domains]


class DomainPrefixes:
    """The frozen prefixes of one backbone on one corpus: one store for each split, cut, device and precision."""

    def __init__(self, domains: Shared, budget: PrefixBudget) -> None:
        self._domains, self._budget = domains, budget
        self._stores: dict[tuple[object, ...], PrefixStore] = {}
        self._slotwise: dict[tuple[str, str], tuple[_OneItemEach, TaskModel]] = {}
        self._why_not: dict[tuple[Cut, str, str, str], str | None] = {}
        self._mixes_rows: dict[tuple[str, str], bool] = {}

    def cut(self, config: TrialConfig) -> Cut:
        """The cut of a trial that has one (harness.engines.cut.cut.why_no_cut)."""
        return find_cut(config, self._domains.frozen_model(config.loop))

    def why_not(self, config: TrialConfig) -> str | None:
        """Why the backbone cannot be run in two parts; None where it can. Tried on two items, once for each cut."""
        domains, loop = self._domains, config.loop
        key = (self.cut(config), config.data.target, loop.device, loop.precision)
        if key not in self._why_not:
            pair = domains.plain_task.collate(self._shortest_and_longest(config), None)
            pair = pair.to(torch.device(loop.device), dtype_of(loop))
            self._why_not[key] = why_not_resumed(domains.frozen_model(loop), pair.inputs, pair.lengths, key[0])
        return self._why_not[key]

    def mixes_rows(self, config: TrialConfig) -> bool:
        """Whether the bits of an item depend on the items beside it, though each layer works slot by slot.

        An encoder of another library is tried on two items, once. Only processors promise bits.
        """
        loop = config.loop
        known = self._domains.frozen_model(loop).encoder.mixes_rows
        if known is not None or torch.device(loop.device).type != "cpu":
            return bool(known)
        key = (loop.device, loop.precision)
        if key not in self._mixes_rows:
            self._mixes_rows[key] = not self._rows_are_alone(config)
        return self._mixes_rows[key]

    @torch.no_grad()
    def _rows_are_alone(self, config: TrialConfig) -> bool:
        """Whether each of two items has the bits that it has alone, at the same padded length, behind all layers."""
        domains, loop = self._domains, config.loop
        task, encoder = domains.plain_task, domains.frozen_model(loop).encoder
        compute = self._compute(Cut(encoder.num_layers, encoder.num_layers), loop, task, rounds=False)
        items = self._shortest_and_longest(config)
        num_steps = round_up(len(items[-1].inputs), task.align)
        together = compute(items, num_steps)
        lengths = encoder.output_lengths(torch.tensor([len(item.inputs) for item in items])).tolist()
        return all(
            torch.equal(compute([item], num_steps)[0, :length], beside[:length])
            for item, beside, length in zip(items, together, lengths, strict=True)
        )

    def _shortest_and_longest(self, config: TrialConfig) -> list[Item]:
        """Two items to validate on."""
        items = sorted(self._domains.items(config.data.target, "valid"), key=lambda item: len(item.inputs))
        return [items[0], items[-1]]

    def store(self, config: TrialConfig, model: TaskModel, domain: str, split: Split) -> PrefixStore:
        """What reaches a trial's cut, for the items of a split.

        Args:
            config: of the trial.
            model: what it trains: its adapters say whether padded steps matter.
            domain: of the corpus.
            split: of the domain. Training items with augmented views have all of them in the store.
        """
        loop, cut = config.loop, self.cut(config)
        padded = reads_padded_steps(model, training=split == "train")
        augment = loop.augment if split == "train" else None
        key = (cut, padded, domain, split, loop.device, loop.precision, augment)
        if key not in self._stores:
            items, num_views = self._domains.items(domain, split), num_views_of(augment)
            items = items if num_views is None else all_views(items, num_views)
            rounds = split == "train" and loop.precision == "bfloat16"  # the plain loop scores in float32, too
            # A processor may sum a bfloat16 product in another order where there are more of them.
            alone = (rounds and torch.device(loop.device).type == "cpu") or self.mixes_rows(config)
            plan = self._plan(cut, padded, loop, items, f"{domain}/{split}", augment, rounds, alone)
            self._stores[key] = PrefixStore(items, plan, self._budget)
        return self._stores[key]

    def task(self, config: TrialConfig, model: TaskModel, domain: str, split: Split, whole: Task) -> CutTask:
        """A trial's task behind its cut, on the items of a split.

        Args:
            config: of the trial.
            model: what it trains.
            domain: of the corpus.
            split: of the domain.
            whole: the task on the items themselves.
        """
        return CutTask(whole, self.store(config, model, domain, split), model.encoder)

    def _plan(
        self,
        cut: Cut,
        padded: bool,
        loop: LoopSettings,
        items: Sequence[Item],
        name: str,
        augment: AugmentSettings | None,
        rounds: bool,
        alone: bool,
    ) -> PrefixPlan:
        domains, encoder = self._domains, self._domains.frozen_model(loop).encoder
        device = torch.device(loop.device)
        longest = max(len(item.inputs) for item in items)
        views = () if augment is None else (content_hash(augment.model_dump(mode="json")),)
        how = ("bfloat16",) if rounds else ()
        # Rows are found by their places, and the corpus's fingerprint is the same in whatever order its file has them.
        places = content_hash([[item.key, item.view] for item in items])
        return PrefixPlan(
            compute=self._compute(cut, loop, domains.plain_task if augment is None else domains.task(augment), rounds),
            cut=cut,
            width=encoder.dim,
            num_input_steps=longest,
            num_steps=1 if cut.pooled else whole_steps(int(encoder.output_lengths(torch.tensor(longest)))),
            dtype=dtype_of(loop),
            device=device,
            padded=padded,
            align=domains.plain_task.align,
            alone=alone,
            made_of=(*domains.made_of, name, places, *views, *how),
        )

    def _compute(
        self, cut: Cut, loop: LoopSettings, task: WholeTask, rounds: bool
    ) -> Callable[[Sequence[Item], int], Tensor]:
        """Make what computes the prefix of some items, padded to a number of input steps: see PrefixPlan.compute."""
        device, dtype = torch.device(loop.device), dtype_of(loop)
        slots, model = self._slotwise_model(loop)

        def compute(items: Sequence[Item], num_input_steps: int) -> Tensor:
            beat()
            inputs = items[0].inputs.new_zeros((len(items), num_input_steps, *items[0].inputs.shape[1:]))
            for row, item in zip(inputs, items, strict=True):
                row[: len(item.inputs)] = task.inputs_of(item)
            inputs = inputs.to(device, dtype if inputs.is_floating_point() else None)
            slots.num_slots = len(items)
            lengths_B = torch.tensor([len(item.inputs) for item in items], device=device)
            with autocast(device, loop.precision) if rounds else nullcontext():
                return run_prefix(model, cut, inputs, lengths_B)

        return compute

    def _slotwise_model(self, loop: LoopSettings) -> tuple[_OneItemEach, TaskModel]:
        """The base model in a form that runs each item as if it were alone, and what tells it how many there are."""
        key = (loop.device, loop.precision)
        if key not in self._slotwise:
            slots = _OneItemEach()
            self._slotwise[key] = slots, slotwise(self._domains.frozen_model(loop), slots.current)
        return self._slotwise[key]


class _OneItemEach:
    """Tells layers that work slot by slot that each slot is one item."""

    def __init__(self) -> None:
        self.num_slots = 0
        self.weights: dict[str, Tensor] = {}
        self.current: Current[_OneItemEach] = Current()
        self.current.launch = self
