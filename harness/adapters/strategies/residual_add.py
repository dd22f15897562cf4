"""ResidualAddAdapterStrategy: `input + stochastic_depth(adapter(input))`, with an l2 penalty.

With its default options it computes what NeMo's class of the same name computes, draw for draw. Each
further option changes one thing and has its own name, so that each can be ablated:

    l2_target          result: the penalty sees the noised output, so its expectation is |f|^2 / keep;
                       adapter_output: it sees f itself, and p and lambda are no longer confounded
    l2_reduction       sum: over frames and features, padding included; valid_frame_mean,
                       valid_element_mean: see functional.l2_penalty
    l2_form            squared: |f|^2; norm: |f|; relative: |f|^2 / |x|^2; relative_norm: |f| / |x|
    drop               batch: one draw an adapter call; row: one draw a row; frame: one draw a real frame
    noise              own: drawn from the strategy's generator; global: from torch's, as NeMo does
    skip_dropped       do not compute what is dropped
    depth_schedule     constant, or linear in the layer (Huang et al. 2016, arXiv 1603.09382)
    progress_schedule  constant, or linear in the share of training done
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from harness.adapters import functional
from harness.adapters.access import ADAPTER_LOSS
from harness.adapters.packed import PackedCall, PackedStrategy
from harness.adapters.strategies.abstract import AbstractAdapterStrategy
from harness.adapters.strategies.host import check_probability, fraction_of, is_number, valid_frames_of
from harness.instantiate import target_of

OPTIONS: dict[str, tuple[Any, ...]] = {
    "l2_target": ("result", "adapter_output"),
    "l2_reduction": functional.L2_REDUCTIONS,
    "l2_form": functional.L2_FORMS,
    "drop": functional.DROP_UNITS,
    "noise": ("own", "global"),
    "skip_dropped": (False, True),
    "depth_schedule": functional.SCHEDULES,
    "progress_schedule": functional.SCHEDULES,
}


@dataclass(frozen=True)
class PackedResidualAdd(PackedStrategy):
    """ResidualAddAdapterStrategy for K trials at once; its variant says which penalty they have.

    `skip_dropped` changes nothing here: the output is computed and then dropped, which gives the same values and
    gradients.
    """

    options = ("l2_lambda",)

    def why_not(self, strategy: ResidualAddAdapterStrategy) -> str | None:
        """See PackedStrategy."""
        draws_own = strategy.noise == "own" or strategy.stochastic_depth == 0.0
        return None if draws_own else "noise: global draws from torch's global generator, and a pack has one a trial"

    def variant(self, strategy: ResidualAddAdapterStrategy, training: bool) -> tuple[str, str, str] | None:
        """See PackedStrategy; a trial without a penalty goes with any, as its lambda of 0 leaves it out."""
        has_penalty = training and strategy.l2_lambda > 0.0
        return (strategy.l2_target, strategy.l2_reduction, strategy.l2_form) if has_penalty else None

    def drop_probability(
        self, strategy: ResidualAddAdapterStrategy, depth_fraction: float, training_progress: float
    ) -> float:
        """See PackedStrategy."""
        return strategy.drop_probability_at(depth_fraction, training_progress)

    def drop_unit(self, strategy: ResidualAddAdapterStrategy) -> str:
        """See PackedStrategy."""
        return strategy.drop

    def merge(self, call: PackedCall, x_KBTD: Tensor) -> Tensor:
        """See PackedStrategy."""
        clean_KBTD = noised_KBTD = call.run(x_KBTD)
        if call.noise is not None and call.keep_K is not None:
            noised_KBTD = functional.stochastic_depth(clean_KBTD, call.noise, call.keep_K)
        result_KBTD = functional.residual_add(x_KBTD, noised_KBTD)
        if call.variant is not None:
            target, reduction, form = call.variant
            penalty_K = functional.l2_penalty(
                clean_KBTD if target == "adapter_output" else x_KBTD - result_KBTD,
                call.options["l2_lambda"],
                reduction=reduction,
                form=form,
                x=x_KBTD,
                valid_frames=call.valid_KBT,
                packed=True,
                own_frames=call.own_KBT,
                num_rows=call.num_own_rows_K,
            )
            call.penalties.append(penalty_K)
        return result_KBTD


class ResidualAddAdapterStrategy(AbstractAdapterStrategy):
    """Add the adapter's output to its input, dropping it at random while training.

    Args:
        stochastic_depth: probability of DROPPING the adapter's output while training, in [0, 1].
        l2_lambda: weight of the l2 penalty, >= 0; 0 disables it.
        l2_target: "result" penalises the adapter's output after dropping, "adapter_output" the output itself.
        l2_reduction: "sum" over frames and features, padding included, or the mean over what is no padding:
            "valid_frame_mean" or "valid_element_mean".
        l2_form: what is summed of the output f and the input x of a frame: "squared" |f|^2, "norm" |f|, "relative"
            |f|^2 / |x|^2 or "relative_norm" |f| / |x| (functional.l2_penalty has the formulas in full).
        drop: "batch" draws once for a whole batch, "row" once for each example, "frame" once for each real frame of
            each example (needs `module.valid_frames` where there is padding, which is left as it is).
        noise: "own" draws from `generator`, "global" always from torch's global one, in NeMo's order, so that one seed
            gives NeMo's own training.
        skip_dropped: do not run the adapter on what is dropped. Gradients are those of a dropped output
            (zeros), so only an adapter with noise of its own can tell: the draw comes before it.
        depth_schedule: "constant", or "linear": upper layers are dropped more (needs `module.depth_fraction`).
        progress_schedule: "constant", or "linear" in the share of training that is done (needs
            `module.training_progress`).

    Raises:
        ValueError: a value out of range or unknown, or two options that contradict each other.
    """

    packed_form = PackedResidualAdd()

    def __init__(
        self,
        stochastic_depth: float = 0.0,
        l2_lambda: float = 0.0,
        *,
        l2_target: str = "result",
        l2_reduction: str = "sum",
        l2_form: str = "squared",
        drop: str = "batch",
        noise: str = "own",
        skip_dropped: bool = False,
        depth_schedule: str = "constant",
        progress_schedule: str = "constant",
    ) -> None:
        super().__init__()
        self.stochastic_depth = stochastic_depth
        self.l2_lambda = l2_lambda
        self.l2_target = l2_target
        self.l2_reduction = l2_reduction
        self.l2_form = l2_form
        self.drop = drop
        self.noise = noise
        self.skip_dropped = skip_dropped
        self.depth_schedule = depth_schedule
        self.progress_schedule = progress_schedule
        self.check_options()

    def check_options(self) -> None:
        """Raise ValueError if any option is out of range; called at construction and at each use."""
        check_probability(self.stochastic_depth)
        if not is_number(self.l2_lambda) or not 0.0 <= self.l2_lambda < math.inf:
            raise ValueError(f"l2_lambda has to be a finite number and at least 0, but got {self.l2_lambda}")
        for name, choices in OPTIONS.items():
            value = getattr(self, name)
            if value not in choices:
                raise ValueError(f"{name} has to be one of {', '.join(map(str, choices))}, but got {value!r}")
        if self.skip_dropped and self.l2_target == "adapter_output" and self.l2_lambda > 0.0:
            raise ValueError(
                "skip_dropped=True leaves dropped outputs uncomputed, but l2_target='adapter_output' with "
                f"l2_lambda={self.l2_lambda} needs them: change one of the three"
            )
        if self.skip_dropped and self.drop == "frame":
            raise ValueError("skip_dropped=True leaves out whole rows, but drop='frame' drops parts of rows")
        if self.skip_dropped and self.noise == "global":
            raise ValueError("skip_dropped=True draws before the adapter runs, but noise='global' draws after, as NeMo")
        if self.l2_form != "squared" and self.l2_reduction == "valid_element_mean":
            raise ValueError(
                f"l2_form={self.l2_form!r} is a number of a frame, but l2_reduction='valid_element_mean' is the mean "
                "of squared elements: choose valid_frame_mean or sum"
            )

    def reads_padding(self, training: bool) -> bool:
        """See AbstractAdapterStrategy: NeMo's sum counts padded frames, and there is a penalty only in training."""
        return training and self.l2_lambda > 0.0 and self.l2_reduction == "sum"

    def forward(self, input: Tensor, adapter: nn.Module, *, module: Any) -> Tensor:
        """Return `input + stochastic_depth(adapter(input))`, [B, ..., D], and register the penalty.

        Noise and penalty exist only while `module.training`; the noise also needs a probability above 0.
        """
        self.check_options()
        noisy = module.training and self.drop_probability_in(module) > 0.0
        if noisy and self.skip_dropped:
            out = self.compute_kept_output(input, adapter, module=module)
            clean = None
        else:
            out = clean = self.compute_output(input, adapter, module=module)
            if noisy:
                out = self.apply_stochastic_depth(out, input, adapter, module=module)
        result = functional.residual_add(input, out)
        if self.l2_target == "adapter_output":
            self.compute_auxiliary_losses(result, input, adapter, module=module, adapter_output=clean)
        else:
            self.compute_auxiliary_losses(result, input, adapter, module=module)
        return result

    def compute_output(self, input: Tensor, adapter: nn.Module, *, module: Any) -> Tensor:
        """Run the adapter alone (override point): [B, ..., D] -> [B, ..., D]."""
        output: Tensor = adapter(input)
        return output

    def apply_stochastic_depth(self, output: Tensor, input: Tensor, adapter: nn.Module, *, module: Any) -> Tensor:
        """Draw the noise and apply it to the adapter's output, [B, ..., D] (override point)."""
        keep_prob = 1.0 - self.drop_probability_in(module)
        return functional.stochastic_depth(output, self._draw(output, keep_prob, module), keep_prob)

    def compute_kept_output(self, input: Tensor, adapter: nn.Module, *, module: Any) -> Tensor:
        """Draw first, run the adapter on the kept rows only, and return the noised output, [B, ..., D]."""
        keep_prob = 1.0 - self.drop_probability_in(module)
        noise = self._draw(input, keep_prob, module)
        kept = noise.flatten().expand(input.shape[0]).nonzero().squeeze(-1)
        if len(kept) == 0:
            trained = [p for p in adapter.parameters() if p.requires_grad]
            return functional.touch_with_zero_gradient(torch.zeros_like(input), trained)
        if len(kept) == input.shape[0]:
            output = self.compute_output(input, adapter, module=module)
        else:
            rows = self.compute_output(input[kept], adapter, module=module)
            output = rows.new_zeros(input.shape).index_copy(0, kept, rows)
        return functional.stochastic_depth(output, noise, keep_prob)

    def compute_auxiliary_losses(
        self,
        output: Tensor,
        input: Tensor,
        adapter: nn.Module,
        *,
        module: Any,
        adapter_output: Tensor | None = None,
    ) -> None:
        """Register the l2 penalty on the adapter, as `adapter_loss` (override point).

        Nothing is registered outside training, for a lambda of 0, for an adapter without parameters or
        whose first one is frozen, or if `adapter.access_cfg` says `compute_adapter_loss: False`.

        Args:
            output: the merged result, [B, ..., D].
            input: the adapter's input, [B, ..., D].
            adapter: the adapter; it must have AccessMixin's methods.
            module: the host.
            adapter_output: the output before any noise; penalised instead of `input - output` if given.
        """
        if not module.training or self.l2_lambda <= 0.0:
            return
        access: Any = adapter
        if not callable(getattr(access, "register_accessible_tensor", None)):
            raise ValueError(f"Module {adapter.__class__.__name__} does not implement AccessMixin !")
        first = next(adapter.parameters(), None)
        allowed = access.access_cfg.get("compute_adapter_loss", True)
        if first is None or not first.requires_grad or not allowed:
            return
        # Under the adapter's own id: NeMo uses "default" here, where its models never look.
        access.set_access_enabled(access_enabled=True, guid=getattr(adapter, "model_guid", None))
        penalty = functional.l2_penalty(
            input - output if adapter_output is None else adapter_output,
            self.l2_lambda,
            reduction=self.l2_reduction,
            form=self.l2_form,
            x=input,
            valid_frames=None if self.l2_reduction == "sum" else valid_frames_of(module, input),
        )
        access.register_accessible_tensor(name=ADAPTER_LOSS, tensor=penalty)

    def drop_probability_in(self, module: Any) -> float:
        """The drop probability that the schedules give for a host at this moment.

        Raises:
            ValueError: the probability is out of range, or the host lacks what a linear schedule needs.
        """
        check_probability(self.stochastic_depth)
        depth, progress = 1.0, 1.0
        if self.depth_schedule == "linear":
            depth = fraction_of(module, "depth_fraction", "depth_schedule")
        if self.progress_schedule == "linear":
            progress = fraction_of(module, "training_progress", "progress_schedule")
        return self.drop_probability_at(depth, progress)

    def drop_probability_at(self, depth_fraction: float, training_progress: float) -> float:
        """The drop probability of a layer at a moment, both as shares in [0, 1]."""
        return float(
            functional.drop_probability(
                self.stochastic_depth,
                depth_schedule=self.depth_schedule,
                depth_fraction=depth_fraction,
                progress_schedule=self.progress_schedule,
                training_progress=training_progress,
            )
        )

    def _draw(self, output: Tensor, keep_prob: float, module: Any) -> Tensor:
        return functional.draw_noise(
            output.shape,
            keep_prob,
            drop=self.drop,
            valid_frames=valid_frames_of(module, output) if self.drop == "frame" else None,
            generator=self.generator if self.noise == "own" else None,
            dtype=output.dtype,
            device=output.device,
        )


@dataclass
class ResidualAddAdapterStrategyConfig:
    """Config of ResidualAddAdapterStrategy; fields as its arguments."""

    stochastic_depth: float = 0.0
    l2_lambda: float = 0.0
    l2_target: str = "result"
    l2_reduction: str = "sum"
    l2_form: str = "squared"
    drop: str = "batch"
    noise: str = "own"
    skip_dropped: bool = False
    depth_schedule: str = "constant"
    progress_schedule: str = "constant"
    _target_: str = target_of(ResidualAddAdapterStrategy)
