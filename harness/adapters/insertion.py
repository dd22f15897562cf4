"""InsertionPoint: a host that only marks a place where adapters may go, and BesidePoint, one beside a module.

Our own backbones call it in their forward pass; hooks put it at a module of any other model (attaching.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor, nn

from harness.adapters.module_mixin import AdapterModuleMixin
from harness.instantiate import MISSING, TARGET_KEY, accepted_keywords, locate, to_plain


class InsertionPoint(nn.Module, AdapterModuleMixin):
    """A place for adapters; the identity, to the bit, unless one is enabled.

    Args:
        dim: D, the width of what passes.

    Attributes:
        reads_dim: the width of what adapters read, and so their `in_features`: D.
        valid_frames: bool [B, T], true for real frames, or None; set by the training for each batch.
        hides_later_steps: no step may depend on later ones, as in a decoder; adapters across steps are refused.
        depth_fraction: (layer index + 1) / number of layers, for depth schedules.
        training_progress: share of the training that is done, for progress schedules; None until the training sets it.

    Raises:
        ValueError: dim is not a whole number of at least 1.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        if not isinstance(dim, int) or dim < 1:
            raise ValueError(f"dim has to be a whole number of at least 1, but got {dim!r}")
        self.dim = self.reads_dim = dim
        self.valid_frames: Tensor | None = None
        self.hides_later_steps = False
        self.depth_fraction = 1.0
        self.training_progress: float | None = None

    def add_adapter(self, name: str, cfg: Any, **kwargs: Any) -> None:
        """See AdapterModuleMixin; `in_features` is filled in if the config leaves it out.

        Raises:
            ValueError: also if `in_features` is given and is not the width of this point, or if it reads hidden steps.
        """
        plain = to_plain(cfg)
        if isinstance(plain, dict) and TARGET_KEY in plain and "in_features" not in kwargs:
            for config, accepted in _configs_in(plain, f"adapter `{name}`"):
                width = config.get("in_features")
                if width in (None, MISSING) and "in_features" in accepted:
                    config["in_features"] = self.reads_dim
                elif isinstance(width, int) and width != self.reads_dim:
                    raise ValueError(f"adapter `{name}`: in_features is {width}, but the host is {self.reads_dim} wide")
        super().add_adapter(name, plain, **kwargs)
        if self.hides_later_steps and (reader := self.reader_of_steps_(name)):
            self.remove_adapter(name)
            raise ValueError(
                f"adapter `{name}`: {reader} reads across steps, but this place is in a decoder, where the later steps "
                "are the tokens that it is to write; choose layers of the encoder (backbone.layers)"
            )

    def forward(self, x: Tensor) -> Tensor:
        """Pass x [..., D] through the enabled adapters; the same tensor object if there is none.

        Raises:
            ValueError: the last axis of x is not `dim`.
        """
        if not self.get_enabled_adapters():
            return x
        if x.shape[-1] != self.dim:
            raise ValueError(f"InsertionPoint: the last axis has to be {self.dim}, but got {list(x.shape)}")
        result: Tensor = self.forward_enabled_adapters(x)
        return result

    def extra_repr(self) -> str:
        """Shown by `print(model)`."""
        return f"dim={self.dim}"


def _configs_in(plain: dict[str, Any], place: str) -> Iterator[tuple[dict[str, Any], Sequence[str]]]:
    """An adapter's config, and those of the adapters in it (key `adapter`), with the arguments that each accepts."""
    config: Any = plain
    while isinstance(config, dict) and TARGET_KEY in config:
        yield config, accepted_keywords(locate(config[TARGET_KEY], place=place)) or ()
        config, place = config.get("adapter"), f"{place}.adapter"


class BesidePoint(InsertionPoint):
    """A place beside a module: adapters read what the module reads, and are merged with what the module gives.

    A strategy is called as everywhere, `strategy(input, adapter, module=host)`, with the module's output for `input`;
    the adapter that it is handed reads the module's input instead of the `input` that it is called with. So residual
    add gives `module(x) + adapter(x)`, and its penalty and its noise are those of `adapter(x)`. In a chain, each
    adapter reads the same.

    Args:
        reads_dim: the width of what adapters read, their `in_features`.
        dim: the width of what they are merged with, their `out_features`, where their class has that.
    """

    def __init__(self, reads_dim: int, dim: int) -> None:
        super().__init__(dim)
        self.reads_dim = reads_dim
        self._reads: Tensor | None = None  # during a pass
        self._share: Tensor | None = None

    def add_adapter(self, name: str, cfg: Any, **kwargs: Any) -> None:
        """See InsertionPoint; `out_features` is filled in as well.

        Raises:
            ValueError: also if the class gives the width that it reads, and the two widths differ, or if it rescales.
        """
        plain = to_plain(cfg)
        if isinstance(plain, dict) and TARGET_KEY in plain:
            for config, accepted in _configs_in(plain, f"adapter `{name}`"):
                if "out_features" in accepted:
                    config.setdefault("out_features", self.dim)
                elif self.reads_dim != self.dim:
                    raise ValueError(
                        f"adapter `{name}`: {config[TARGET_KEY]} gives the width that it reads, but here it would read "
                        f"{self.reads_dim} and be merged with {self.dim}"
                    )
        super().add_adapter(name, plain, **kwargs)
        modules = self.adapter_layer[self.adapter_name].modules()
        if scaler := next((type(module).__name__ for module in modules if getattr(module, "rescales", False)), None):
            self.remove_adapter(name)
            raise ValueError(
                f"adapter `{name}`: {scaler} rescales what it reads, but is merged with something else here; choose "
                "{behind: NAME} or {before: NAME}, since the bare name of a linear module means beside it"
            )

    def forward(self, x: Tensor, reads: Tensor | None = None, share: Tensor | None = None) -> Tensor:
        """Merge what the enabled adapters make of `reads` with x.

        Args:
            x: what the module gave, [..., D].
            reads: what it was given, [..., reads_dim]; zeros without, to try an adapter.
            share: a factor of what each adapter gives, a scalar; 1 without.
        """
        self._reads = x.new_zeros((*x.shape[:-1], self.reads_dim)) if reads is None else reads
        self._share = share
        try:
            return super().forward(x)
        finally:
            self._reads = self._share = None

    def forward_single_enabled_adapter_(
        self, input: Any, adapter_module: nn.Module, *, adapter_name: str, adapter_strategy: Any
    ) -> Any:
        if self._reads is not None:
            beside: Any = _Beside(adapter_module, self._reads, input, self._share)
            return adapter_strategy(input, beside, module=self)
        # An adapter is tried by itself (filling.run_probe): what it reads is all there is, for it and for others
        # that its strategy runs.
        self._reads = input
        try:
            zeros = input.new_zeros((*input.shape[:-1], self.dim))
            return self.forward_single_enabled_adapter_(
                zeros, adapter_module, adapter_name=adapter_name, adapter_strategy=adapter_strategy
            )
        finally:
            self._reads = None

    def extra_repr(self) -> str:
        return f"reads_dim={self.reads_dim}, dim={self.dim}"


class _Beside:
    """An adapter as a strategy is handed it beside a module: called with the module's output, it reads the input."""

    def __init__(self, adapter: nn.Module, reads: Tensor, merged_with: Tensor, share: Tensor | None) -> None:
        self.adapter, self.reads, self.merged_with, self.share = adapter, reads, merged_with, share

    def __call__(self, input: Any) -> Any:
        if input is not self.merged_with:
            raise ValueError(
                "beside a module, a strategy has to call its adapter with its whole input, as it is; one that runs the "
                "adapter on some rows (skip_dropped), or on something else, works behind a module alone"
            )
        output = self.adapter(self.reads)
        return output if self.share is None else output * self.share

    def __getattr__(self, name: str) -> Any:
        return getattr(self.adapter, name)  # parameters, access_cfg, register_accessible_tensor ...

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        # NeMo's strategies ask isinstance(adapter, AccessMixin).
        return type(self.adapter)
