"""InsertionPoint: a host that only marks a place where adapters may go, and hooks it to any module.

Our own backbones call it in their forward pass. For a pretrained model, whose code stays as it is,
`attach_by_hook` puts it behind an existing module.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from harness.adapters.module_mixin import AdapterModuleMixin
from harness.instantiate import MISSING, TARGET_KEY, accepted_keywords, locate, to_plain


class InsertionPoint(nn.Module, AdapterModuleMixin):
    """A place for adapters; the identity, to the bit, unless one is enabled.

    Args:
        dim: D, the width of what passes.

    Attributes:
        valid_frames: bool [B, T], true for real frames, or None; set by the training for each batch.
        depth_fraction: (layer index + 1) / number of layers, for depth schedules.
        training_progress: share of the training that is done, for progress schedules.

    Raises:
        ValueError: dim is not a whole number of at least 1.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        if not isinstance(dim, int) or dim < 1:
            raise ValueError(f"dim has to be a whole number of at least 1, but got {dim!r}")
        self.dim = dim
        self.valid_frames: Tensor | None = None
        self.depth_fraction = 1.0
        self.training_progress = 1.0

    def add_adapter(self, name: str, cfg: Any, **kwargs: Any) -> None:
        """See AdapterModuleMixin; `in_features` is filled in if the config leaves it out.

        Raises:
            ValueError: also if `in_features` is given and is not the width of this point.
        """
        plain = to_plain(cfg)
        if isinstance(plain, dict) and TARGET_KEY in plain and "in_features" not in kwargs:
            width = plain.get("in_features")
            accepted = accepted_keywords(locate(plain[TARGET_KEY], place=f"adapter `{name}`"))
            if width in (None, MISSING) and "in_features" in (accepted or ()):
                plain["in_features"] = self.dim
            elif isinstance(width, int) and width != self.dim:
                raise ValueError(f"adapter `{name}`: in_features is {width}, but the host is {self.dim} wide")
        super().add_adapter(name, plain, **kwargs)

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


class _InsertBehind:
    """A forward hook; an object, not a closure, so that a deepcopy of the model hooks the copied point."""

    def __init__(self, point: InsertionPoint, steps_first: bool) -> None:
        self.point, self.steps_first = point, steps_first

    def __call__(self, module: nn.Module, args: Any, output: Any) -> Any:
        if not self.point.get_enabled_adapters():
            return None  # leaves the output object as it is
        if isinstance(output, Tensor):
            return self._insert(output)
        if isinstance(output, (tuple, list)) and output and isinstance(output[0], Tensor):
            replaced = (self._insert(output[0]), *output[1:])
            if hasattr(output, "_make"):
                return output._make(replaced)
            return replaced if isinstance(output, tuple) else list(replaced)
        raise TypeError(
            f"attach_by_hook: the output of {type(module).__name__} has to be a tensor or a tuple that "
            f"starts with one, but it is {type(output).__name__}"
        )

    def _insert(self, x: Tensor) -> Tensor:
        x_BTD = x.transpose(0, 1) if self.steps_first else x
        valid = self.point.valid_frames
        if valid is not None and x_BTD.ndim == 3 and x_BTD.shape[1] > valid.shape[1]:
            # The module has padded its steps on the right by itself: the point is to see those of the batch alone.
            seen, more = x_BTD[:, : valid.shape[1]], x_BTD[:, valid.shape[1] :]
            x_BTD = torch.cat([self.point(seen), more], dim=1)
        else:
            x_BTD = self.point(x_BTD)
        return x_BTD.transpose(0, 1) if self.steps_first else x_BTD


def attach_by_hook(module: nn.Module, point: InsertionPoint, *, steps_first: bool = False) -> RemovableHandle:
    """Put an insertion point behind an existing module.

    The point is not made a child of the module: keep it in the model yourself (for instance in a
    ModuleList), so that its parameters, state and mode are found.

    Args:
        module: its output is [..., D], or a tuple or list whose first item is.
        point: the point that the output passes through.
        steps_first: the output is [T, B, D]; the point sees [B, T, D].

    Returns:
        The handle; `handle.remove()` takes the point out.
    """
    return module.register_forward_hook(_InsertBehind(point, steps_first))
