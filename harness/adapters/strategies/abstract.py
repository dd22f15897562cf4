"""AbstractAdapterStrategy: how an adapter's output is merged with its input.

A strategy is a plain object, not a module: it owns no parameters. One that learns its merge keeps the
weights in an adapter and reaches the others through `module.adapter_layer`.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from harness.adapters.packed import PackedStrategy


class AbstractAdapterStrategy:
    """Subclass it, define `forward`, and name the class by `_target_` in a config.

    A class may declare two things more: how several trials are computed at once, and that padding does not matter.
    Its subclasses do not inherit either. Without them its trials train alone, with all padding computed.
    """

    generator: torch.Generator | None = None
    """Source of the noise; None is torch's default generator, as in NeMo."""

    packed_form: ClassVar[PackedStrategy | None] = None
    """How it is computed for several trials at once (harness/adapters/packed.py); None: it is not."""

    def reads_padding(self, training: bool) -> bool:
        """Whether what padded steps hold may change the result at real steps, or a penalty.

        Args:
            training: rather than scoring.
        """
        return True

    def forward(self, input: Any, adapter: nn.Module, *, module: Any) -> Tensor:
        """Run the adapter and merge its output.

        Args:
            input: the host's output, or that of the previous adapter, usually [B, T, D].
            adapter: the adapter to run.
            module: the host (an AdapterModuleMixin), with all its adapters in `module.adapter_layer` and
                the attributes that training sets: `valid_frames` (bool [B, T], true for real frames, or
                None), `depth_fraction` and `training_progress` (floats in [0, 1]; the latter None without a training).

        Returns:
            The input of the next adapter or layer, [B, T, D].
        """
        raise NotImplementedError(f"{type(self).__name__} does not define forward(input, adapter, *, module)")

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        """Call `forward`."""
        return self.forward(*args, **kwargs)
