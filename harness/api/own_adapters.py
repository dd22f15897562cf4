"""`harness.train_adapters`: many adapters over one frozen module of the caller's, trained together as if alone."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.api.own_data import Named, Sets, TaskChoice, adapters_by_name, own_config, own_data
from harness.config.base import content_hash
from harness.config.execution import Execution
from harness.errors import TrialError, UserError, first_line, telling_interrupts

if TYPE_CHECKING:
    from torch import Tensor, nn

    from harness.backbones.module_encoder import Call
    from harness.config.trial import TrialConfig
    from harness.engines.registry import Engines
    from harness.tasks.given import OwnLoss
    from harness.training.adapting import Adapted
    from harness.training.engine import Engine, Fitting
    from harness.training.fit_plan import FitState
    from harness.training.given import GivenData

OnEpoch = Callable[[str, Mapping[str, float]], bool | None]
AT_ONCE = 16
logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class TrainedAdapter:
    """One adapter after its training.

    Attributes:
        name: as it was passed.
        settings: all of its settings, defaults included.
        history: the numbers of each epoch: `epoch`, `seconds`, `train/loss`, `train/auxiliary_loss` (the strategies'
            penalties), and with validation examples `valid/loss` and `valid/METRIC`.
        best_epoch: whose weights were kept: the best by the task's first metric, or the last without validation.
        engine: `packed`, or `cut` or `plain` where it could not share its steps.
        why_alone: why it could not; None where it did.
        error: what ended its training, or None. The others are not affected.
        model: the module with this adapter, in eval mode; all adapters' models share the frozen weights.
        pruned: whether `on_epoch` ended it.
    """

    name: str
    settings: Mapping[str, Any]
    history: tuple[dict[str, float], ...]
    best_epoch: int
    engine: str
    why_alone: str | None
    error: TrialError | None
    model: Any = field(repr=False)
    pruned: bool = False

    def state_dict(self) -> dict[str, Tensor]:
        """The weights that were trained, by their names in `model`.

        Raises:
            TrialError: the training failed.
        """
        if self.error is not None:
            raise self.error
        return {name: w.detach().clone() for name, w in self.model.named_parameters() if w.requires_grad}

    def scores(self, inputs: Tensor | Sequence[Tensor], mask: Tensor | None = None) -> list[Tensor]:
        """What its output layer gives for each item: [outputs], or [steps, outputs] with CTC.

        Args:
            inputs, mask: as Examples has them.

        Raises:
            UserError: the inputs are none that the module could have been trained on.
            TrialError: the training failed.
        """
        from harness.training.given import score_rows, tensors_of

        if self.error is not None:
            raise self.error
        return score_rows(self.model, tensors_of(inputs, mask, "inputs"))


def train_adapters(
    module: nn.Module,
    train: Sets,
    valid: Sets | None = None,
    *,
    adapters: Named,
    settings: Mapping[str, Any] | None = None,
    task: str = "classification",
    outputs: int | Sequence[str] | None = None,
    loss: OwnLoss | None = None,
    head: nn.Linear | None = None,
    pooling: str = "mean",
    call: Call | None = None,
    layers_at: str | None = None,
    at_once: int = AT_ONCE,
    checkpoints: str | Path | None = None,
    on_epoch: OnEpoch | None = None,
) -> dict[str, TrainedAdapter]:
    """Train many adapters over one frozen module at once, each exactly as it would be trained alone.

    Each adapter has its own optimizer, learning-rate schedule, clipping, seed, first weights and order of the data. In
    float64 the result equals that of a plain torch loop for each of them to rounding; on a CPU an adapter's bits do not
    depend on the others, nor on how many there are (in modules that are not computed slot by slot, as two examples have
    shown). Frozen layers below the lowest adapter run once for each example. The module is copied, and neither changed
    nor trained.

    Args:
        module: has its layers in an `nn.ModuleList`, and gives a vector of one width for each step.
        train: examples to learn from; several sets by name, of which an adapter chooses one by its setting `data`.
        valid: examples that are scored after each epoch, by the same names; without them the last epoch is kept.
        adapters: name -> settings in which this adapter differs; as a mapping, or as pairs.
        settings: what all adapters have. Both are those of an experiment's arm (`adapter`, `backbone.layers`,
            `backbone.points`, `train`, `optim`, `loop`, `seed`), as trees or by dotted keys: `{"optim.lr": 3e-4}`.
            `train` is `adapters_and_head` unless they say otherwise.
        task: `classification` (the mean over the steps answers), `regression`, or `ctc`.
        outputs: how many classes, or their names; the symbols of CTC, without the blank.
        loss: `(scores [B, C], targets [B]) -> losses [B]`, in place of the task's.
        head: a trained output layer to begin with; without it each adapter draws one from its seed.
        pooling: what a head of one answer reads: `mean`, `first` or `last` of the real steps.
        call: `(module, inputs [B, T, ...], mask [B, T]) -> hidden states [B, T, D]`: how the module is run. By default
            as transformers' text models are, as torch's TransformerEncoder, or `module(inputs, mask)`.
        layers_at: the name of the list of layers, where another one than the largest is meant.
        at_once: the most adapters in one step; the results do not depend on it.
        checkpoints: a folder: an interrupted call that is made again goes on from there, to the same bits.
        on_epoch: called with an adapter's name and the numbers of its epoch; True ends its training there.

    Returns:
        name -> adapter, in the order of `adapters`, those that failed (`error`) included.

    Raises:
        UserError: an input is wrong; nothing was trained.

    Example:
        >>> adapter = {"_target_": "harness.adapters.LinearAdapter", "dim": 16}
        >>> trained = harness.train_adapters(
        ...     encoder, train, valid, outputs=3, settings={"adapter": adapter, "loop.epochs": 5},
        ...     adapters={f"lr {lr}": {"optim.lr": lr} for lr in (1e-4, 3e-4, 1e-3)},
        ... )
        >>> trained["lr 0.0003"].history[-1]["valid/macro_f1"]
    """
    import torch

    from harness.engines.cut.prefix_cache import PrefixBudget
    from harness.engines.registry import Engines

    if at_once < 1:
        raise UserError(f"at_once={at_once}: expected 1 or more adapters in a step")
    named = adapters_by_name(adapters)
    data = own_data(module, train, valid, TaskChoice(task, outputs, loss, head, pooling), call, layers_at)
    kind = type(module).__name__
    configs = {name: own_config(name, own, settings or {}, data, kind) for name, own in named.items()}
    threads = torch.get_num_threads()
    engines = Engines(PrefixBudget(keep="memory"))  # files are told apart by our own code, and the module's is another
    folder = None if checkpoints is None else Path(checkpoints)
    try:
        trainings = [_Training(name, config, data, folder, on_epoch) for name, config in configs.items()]
        with telling_interrupts():
            return _run(trainings, engines, at_once)
    finally:
        torch.set_num_threads(threads)


class _Training:
    """One adapter, from its settings to what is left of its training."""

    def __init__(
        self, name: str, config: TrialConfig, data: GivenData, folder: Path | None, on_epoch: OnEpoch | None
    ) -> None:
        from harness.training.device import check_device
        from harness.training.optim import check_optim
        from harness.training.precision import dtype_of

        self.name, self.config, self.data, self.on_epoch = name, config, data, on_epoch
        # Two adapters may have the same settings, and a name may be none of a file.
        self.checkpoint = folder and folder / f"{content_hash([name, config.trial_id])}.safetensors"
        try:
            check_device(config.loop.device)
            check_optim(config.optim, dtype_of(config.loop))
            self.items = data.items(config.data.target, "train")
            self.task = data.plain_task.for_training(config.loop, self.items)
            self.adapted: Adapted = data.adapted(config)
        except UserError as error:
            raise UserError(f"adapters: {name}: {error}") from error
        self.history: list[dict[str, float]] = []
        self.engine = ""
        self.why_alone: str | None = None

    def steps(self, engine: Engine) -> Generator[Fitting, FitState, TrainedAdapter]:
        """Yields its Fitting and has to be sent its FitState, as Trial.steps."""
        from harness.training.engine import Fitting
        from harness.training.fit_plan import FitPlan
        from harness.training.given import GivenScores

        config, data, model = self.config, self.data, self.adapted.model
        scores = GivenScores(config.data.target, data, config.loop)
        plan = FitPlan(
            optim=config.optim,
            loop=config.loop,
            seed=config.seed,
            score_epoch=lambda model: scores.epoch(partial(scores.score, model)),
            select=f"valid/{self.task.primary}" if scores.names else None,
            metric=self.task.primary,
            checkpoint=self.checkpoint,
            report=self._report,
            made_with="" if self.checkpoint is None else " ".join(data.made_of),
        )
        chosen, self.why_alone = engine.choose(config, data, model)
        self.engine = chosen.execution.engine
        state = yield Fitting(config, data, model, self.task, self.items, plan, scores, [], chosen)
        return self.result(state, None)

    def result(self, state: FitState | None, error: TrialError | None) -> TrainedAdapter:
        """What is left of it."""
        settings = self.config.model_dump(mode="json", by_alias=True)
        settings |= {"data": self.config.data.target, "backbone": self.config.backbone.model_dump(exclude={"recipe"})}
        return TrainedAdapter(
            name=self.name,
            settings=settings,
            history=tuple(self.history),
            best_epoch=0 if state is None else state.best_epoch,
            engine=self.engine,
            why_alone=self.why_alone,
            error=error,
            model=self.adapted.model.eval(),
            pruned=state is not None and state.pruned,
        )

    def _report(self, entry: dict[str, Any]) -> bool:
        numbers = {"epoch": entry["epoch"], **entry["metrics"], "seconds": entry["seconds"]}
        self.history.append(numbers)
        return bool(self.on_epoch is not None and self.on_epoch(self.name, numbers))


def _run(trainings: Sequence[_Training], engines: Engines, at_once: int) -> dict[str, TrainedAdapter]:
    """Train all of them, `at_once` under way at a time."""
    engine, driver = engines.of(Execution(engine="packed", pack=at_once)), engines.driver(at_once)
    waiting, found = list(enumerate(trainings)), dict.fromkeys(training.name for training in trainings)
    try:
        while waiting or len(driver):
            while waiting and len(driver) < at_once:
                number, training = waiting.pop(0)
                driver.start(number, training.steps(engine))
            finished = driver.run()
            for note in driver.scheduler.take_notes():  # as that memory ran out, and steps are smaller from now on
                logger.warning(note)
            for ended in finished:
                training, error = trainings[ended.name], ended.error
                if error is not None and not isinstance(error, Exception):
                    raise error
                found[training.name] = ended.result if error is None else training.result(None, _failure(error))
    finally:
        driver.close()
    return {name: result for name, result in found.items() if result is not None}


def _failure(error: Exception) -> TrialError:
    if isinstance(error, TrialError):
        return error
    failure = TrialError("error", f"{type(error).__name__}: {first_line(error)}")
    failure.__cause__ = error
    return failure
