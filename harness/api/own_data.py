"""What is passed to `harness.train_adapters`, checked and turned into what trainings need: data, a task, settings."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.config.messages import validated
from harness.config.trees import check_tree, get_dotted, merge, set_dotted
from harness.config.trial import LoopSettings, TrialConfig
from harness.errors import UserError, first_line, must_be_in
from harness.instantiate import to_plain

if TYPE_CHECKING:
    from torch import Tensor, nn

    from harness.backbones.model import TaskModel
    from harness.backbones.module_encoder import Call, ModuleEncoder
    from harness.tasks.given import GivenTask, OwnLoss
    from harness.tasks.task import Item
    from harness.training.given import GivenData

Named = Mapping[str, Mapping[str, Any]] | Iterable[tuple[str, Mapping[str, Any]]]
KEYS = ("adapter", "backbone", "data", "loop", "optim", "seed", "train")
REFUSED = {  # settings that only an experiment has a use for
    "backbone.recipe": "the module is the one that you pass",
    "loop.augment": "pass inputs that are augmented already",
    "loop.kl_to_base": "a head of your own data has no base model's answers to keep",
    "loop.meta": "pass the data sets by name, and choose one for each adapter by `data`",
    "loop.valid_limit": "all validation examples that you pass are scored",
}
ONLY = ""  # the name of the data set where there is one


@dataclass(frozen=True, eq=False)
class Examples:
    """Tensors to train or to score on.

    Attributes:
        inputs: what the module reads: a tensor [items, steps, ...], or a list of tensors [steps, ...] of any lengths.
        targets: what is learnt, one for each item: class numbers, numbers, or texts for CTC.
        mask: of padded inputs [items, steps], which steps are real; padding is at the end.
    """

    inputs: Tensor | Sequence[Tensor]
    targets: Tensor | Sequence[Any]
    mask: Tensor | None = None


Sets = Examples | Mapping[str, Examples]


@dataclass(frozen=True, eq=False)
class TaskChoice:
    """What is learnt, and by which head; see train_adapters."""

    name: str
    outputs: int | Sequence[str] | None
    loss: OwnLoss | None
    head: nn.Linear | None
    pooling: str


def adapters_by_name(adapters: Named) -> dict[str, Mapping[str, Any]]:
    """Settings by the adapters' names.

    Raises:
        UserError: a name is there twice, or there is none.
    """
    named: dict[str, Mapping[str, Any]] = {}
    for name, own in adapters.items() if isinstance(adapters, Mapping) else adapters:
        if not isinstance(name, str) or not name:
            raise UserError(f"adapters: {name!r} is no name; a text is expected")
        if name in named:
            raise UserError(f"adapters: the name {name!r} is there twice")
        if not isinstance(own, Mapping):
            raise UserError(f"adapters: {name}: {own!r} is no mapping of settings")
        named[name] = own
    if not named:
        raise UserError("adapters: there are none; name at least one, with its settings or an empty mapping")
    return named


def own_config(name: str, own: Mapping[str, Any], shared: Mapping[str, Any], data: GivenData, kind: str) -> TrialConfig:
    """The settings of one adapter: its own above those that all have.

    Args:
        kind: what errors call the module.

    Raises:
        UserError: a key, type or value is wrong, or has no effect here.
    """
    where = f"adapters: {name}"
    tree = merge(_tree(shared, "settings"), _tree(own, where))
    for key in tree:
        must_be_in(key, KEYS, f"{where}: unknown setting {key!r}")
    only = next(iter(data.sets)) if len(data.sets) == 1 else None
    chosen = tree.pop("data", only)
    if chosen is None:
        raise UserError(f"{where}: data: say which data set it learns from; choices: {', '.join(data.sets)}")
    must_be_in(chosen, data.sets, f"{where}: data: no data set {chosen!r}")
    for key, instead in REFUSED.items():
        if get_dotted(tree, key, None) is not None:
            raise UserError(f"{where}: {key} has no effect here; {instead}")
    if get_dotted(tree, "loop.patience", None) is not None and not data.sets[chosen][1]:
        raise UserError(f"{where}: loop.patience needs validation examples; pass some as `valid`, or leave it out")
    train = tree.setdefault("train", "adapters_and_head")
    must_be_in(train, ("adapters", "adapters_and_head", "head"), f"{where}: train: {train!r} is no choice here")
    if train == "adapters" and data.draws_head:
        raise UserError(f"{where}: train: adapters: the head would stay random; pass a trained one as `head`")
    # The corpus and the source are never looked for: the data are the tensors that were passed.
    tree["data"] = {"corpus": "own", "source": [f"not {chosen}"], "target": chosen}
    set_dotted(tree, "backbone.recipe", kind, where)
    set_dotted(tree, "loop.valid_limit", None, where)
    return validated(TrialConfig, {"seed": 0, **tree}, where)


def _tree(settings: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Settings as a tree: dotted keys set, objects as mappings."""
    tree: dict[str, Any] = {}
    for key, value in settings.items():
        set_dotted(tree, str(key), _plain(to_plain(value)), where)
    check_tree(tree, where)
    return tree


def _plain(value: Any) -> Any:
    """A value without numpy's and torch's own numbers, as learning rates from a `logspace` are."""
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return value.item() if getattr(value, "ndim", None) == 0 and hasattr(value, "item") else value


def own_data(
    module: nn.Module, train: Sets, valid: Sets | None, choice: TaskChoice, call: Call | None, layers_at: str | None
) -> GivenData:
    """What the trainings share. The module is copied, because hooks are put on its layers.

    Raises:
        UserError: something does not fit together.
    """
    from harness.training.given import GivenData

    task = _task(choice)
    sets = _sets(task, train, valid)
    encoder = _encoder(module, [item for parts in sets.values() for part in parts for item in part], call, layers_at)
    data = GivenData(_model(encoder, task, choice), task, sets, draws_head=choice.head is None)
    if choice.loss is not None:
        _check_loss(data, choice.loss)
    return data


def _task(choice: TaskChoice) -> GivenTask:
    from harness.tasks.given import GIVEN_TASKS
    from harness.training.given import GivenInputs

    must_be_in(choice.name, GIVEN_TASKS, f"task: no task {choice.name!r}")
    kind, outputs = GIVEN_TASKS[choice.name], choice.outputs
    if choice.loss is not None and not kind.takes_loss:
        raise UserError(f"loss: {choice.name} has its own loss; leave yours out")
    if kind.num_outputs is not None:
        if outputs is not None:
            raise UserError(f"outputs: {choice.name} answers with {kind.num_outputs} number; leave it out")
        names: Sequence[str] = ()
    elif isinstance(outputs, int) and not isinstance(outputs, bool) and outputs > 1 and choice.name != "ctc":
        names = [str(number) for number in range(outputs)]
    elif isinstance(outputs, Sequence) and len(outputs) > 0 and len(set(outputs)) == len(outputs):
        names = list(outputs)
    else:
        wanted = "the symbols without the blank" if choice.name == "ctc" else "2 or more classes, or their names"
        raise UserError(f"outputs: {outputs!r}; {choice.name} needs {wanted}, each once")
    task = kind(names, GivenInputs())
    task.own_loss = choice.loss
    return task


def _sets(task: GivenTask, train: Sets, valid: Sets | None) -> dict[str, tuple[list[Item], list[Item]]]:
    """The items of each data set, to train on and to score."""
    from harness.training.given import make_items

    def by_name(sets: Sets | None, place: str) -> Mapping[str, Examples]:
        found = {} if sets is None else {ONLY: sets} if isinstance(sets, Examples) else sets
        for name, examples in found.items() if isinstance(found, Mapping) else [("", found)]:
            if not isinstance(examples, Examples):
                what = f"{place}[{name!r}]" if name else place
                raise UserError(f"{what}: a {type(examples).__name__}; harness.Examples(inputs, targets) is expected")
        return found

    trains, valids = by_name(train, "train"), by_name(valid, "valid")
    if not trains:
        raise UserError("train: there is no data set")
    for name in valids:
        must_be_in(name, trains, f"valid: no data set {name!r} is trained on")

    def items_of(sets: Mapping[str, Examples], name: str, place: str) -> list[Item]:
        if (one := sets.get(name)) is None:
            return []
        where = f"{place}[{name!r}]" if name else place
        return make_items(task, one.inputs, one.targets, one.mask, where, to_learn=place == "train")

    return {name: (items_of(trains, name, "train"), items_of(valids, name, "valid")) for name in trains}


def _encoder(module: nn.Module, items: Sequence[Item], call: Call | None, layers_at: str | None) -> ModuleEncoder:
    from harness.backbones.module_encoder import ModuleEncoder
    from harness.engines.cut.slot_layers import whole_steps

    try:
        own = copy.deepcopy(module).to("cpu").eval().requires_grad_(False)
    except Exception as error:  # a module may hold anything
        raise UserError(f"module: {type(module).__name__} cannot be copied: {first_line(error)}") from error
    inputs = [item.inputs for item in items]
    kinds = {(row.dtype, row.shape[1:]) for row in inputs}
    if len(kinds) > 1:
        raise UserError(
            f"inputs: those of the data sets are of {len(kinds)} kinds (type and size of a step); all must be of one"
        )
    encoder = ModuleEncoder(own, [min(inputs, key=len), max(inputs, key=len)], call, layers_at)
    most = whole_steps(max(map(len, inputs)))
    if not encoder.reads(most):
        encoder.why_not_packed = f"the module cannot read {most} steps, which packs pad the longest item to"
        encoder.mixes_rows = True  # so its items are computed one by one, at their own lengths
    return encoder


def _model(encoder: ModuleEncoder, task: GivenTask, choice: TaskChoice) -> TaskModel:
    import torch

    from harness.backbones.model import TaskModel
    from harness.backbones.pooling import POOLINGS

    with torch.random.fork_rng(devices=[]):  # not the caller's generator, and always alike: a checkpoint tells it
        torch.manual_seed(0)
        model = TaskModel(encoder, task.head, len(task.symbols))
    pools = [name for name in POOLINGS if name != "attention"]  # which learns with the head, in no pack
    must_be_in(choice.pooling, pools, f"pooling: no pooling {choice.pooling!r}")
    if task.pools:
        model.head.pool = POOLINGS[choice.pooling](encoder.dim)
    elif choice.pooling != "mean":
        raise UserError(f"pooling: {choice.pooling} has no effect in {choice.name}, which answers at each step")
    if (head := choice.head) is not None:
        output = model.head.output
        if getattr(head, "weight", None) is None or head.weight.shape != output.weight.shape or head.bias is None:
            raise UserError(
                f"head: {head!r}; expected Linear(in_features={output.in_features}, "
                f"out_features={output.out_features}, bias=True)"
            )
        output.load_state_dict(head.state_dict())
    return model.to(next(encoder.model.parameters()).dtype)


def _check_loss(data: GivenData, loss: OwnLoss) -> None:
    """Refuse a loss that is no number of each example, or one that depends on the other examples.

    Raises:
        UserError: it is one of these, or fails.
    """
    import torch

    items = next(iter(data.sets.values()))[0]
    first, other = items[0], next((item for item in items if item.reference != items[0].reference), items[-1])
    model = data.frozen_model(LoopSettings())
    batch = data.plain_task.collate([first, other], None).to(torch.device("cpu"), torch.float32)
    with torch.no_grad():
        scores, _ = model(batch.inputs, batch.lengths)
    targets, rows = batch.targets[:, 0], []
    try:
        found = loss(scores, targets)
        rows = [loss(scores[n : n + 1], targets[n : n + 1]) for n in range(2)]
    except Exception as error:  # a user's function may raise anything
        raise UserError(
            f"loss: it fails on scores {list(scores.shape)} and targets [2]: {first_line(error)}"
        ) from error
    shape = list(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
    if shape != [2]:
        raise UserError(f"loss: it gives {shape} for 2 examples; one number for each, [2], is expected (no mean)")
    if not torch.allclose(found, torch.cat(rows), rtol=1e-4, atol=1e-5):
        raise UserError(
            "loss: it gives an example another loss beside other examples than alone, so it cannot be packed"
        )
