"""Adapters: trainable modules inserted into a frozen model, and the strategies that merge their output.

    access         tensors, such as an auxiliary loss, handed from a module to the training
    functional     the maths, for one trial or a pack of them
    strategies/    how an adapter's output is merged with its input, one strategy a file, all of them in STRATEGIES
    linear         the bottleneck adapter; registry has all adapter types, in ADAPTERS
    lora           a low-rank update beside a linear module
    across_steps   TinyAttention and Convolution: a step's output depends on other steps
    gated          a gate on the output of another adapter
    vectors        IA3 and BitFit: one scale or one shift for each feature
    fusion         AdapterFusion, which learns to merge other adapters; sim_adapter: SimAdapter; both in FUSIONS
    merging        their maths; attention_mean: what they attend to, for heat maps
    packed         what a strategy or an adapter declares to be computed for several trials at once
    kinds          which classes a config may build
    module_mixin   adapters for one module (the host); model_mixin for a whole model, `module:name`
    insertion      a host that only marks a place, and one beside a module
    attaching      hooks that put them at any module
    freezing       a backbone that stays in eval mode
    checkpoint     adapters in a file of their own (adapter_file: its format; probes: an output in it)
    nemo_files     NeMo's files, read; nemo_writing writes and converts them
    nemo_bridge    lets NeMo's classes and these run in each other

Signatures, numbers and state-dict keys are NVIDIA NeMo's.
"""

from __future__ import annotations

from harness.adapters.access import AccessMixin, collect_adapter_losses
from harness.adapters.across_steps import Convolution, ConvolutionConfig, TinyAttention, TinyAttentionConfig
from harness.adapters.adapter_file import AdapterFileError
from harness.adapters.attaching import attach_before, attach_beside, attach_by_hook
from harness.adapters.attention_mean import watched_attention
from harness.adapters.freezing import freeze_backbone, unfreeze_backbone
from harness.adapters.fusion import AdapterFusion, AdapterFusionConfig
from harness.adapters.gated import Gated, GatedConfig
from harness.adapters.insertion import BesidePoint, InsertionPoint
from harness.adapters.linear import AdapterModuleUtil, LinearAdapter, LinearAdapterConfig
from harness.adapters.lora import LoRA, LoRAConfig
from harness.adapters.model_mixin import AdapterModelMixin
from harness.adapters.module_mixin import AdapterModuleMixin
from harness.adapters.nemo_bridge import allow_in_nemo
from harness.adapters.packed import PackedAdapter, PackedCall, PackedStrategy
from harness.adapters.registry import ADAPTERS, FUSIONS
from harness.adapters.sim_adapter import SimAdapter, SimAdapterConfig
from harness.adapters.strategies import (
    STRATEGIES,
    AbstractAdapterStrategy,
    AverageStrategy,
    AverageStrategyConfig,
    FusionStrategy,
    FusionStrategyConfig,
    ResidualAddAdapterStrategy,
    ResidualAddAdapterStrategyConfig,
    ReturnResultAdapterStrategy,
    ReturnResultAdapterStrategyConfig,
    member_outputs,
)
from harness.adapters.vectors import IA3, BitFit, BitFitConfig, IA3Config

__all__ = [
    "ADAPTERS",
    "FUSIONS",
    "IA3",
    "STRATEGIES",
    "AbstractAdapterStrategy",
    "AccessMixin",
    "AdapterFileError",
    "AdapterFusion",
    "AdapterFusionConfig",
    "AdapterModelMixin",
    "AdapterModuleMixin",
    "AdapterModuleUtil",
    "AverageStrategy",
    "AverageStrategyConfig",
    "BesidePoint",
    "BitFit",
    "BitFitConfig",
    "Convolution",
    "ConvolutionConfig",
    "FusionStrategy",
    "FusionStrategyConfig",
    "Gated",
    "GatedConfig",
    "IA3Config",
    "InsertionPoint",
    "LinearAdapter",
    "LinearAdapterConfig",
    "LoRA",
    "LoRAConfig",
    "PackedAdapter",
    "PackedCall",
    "PackedStrategy",
    "ResidualAddAdapterStrategy",
    "ResidualAddAdapterStrategyConfig",
    "ReturnResultAdapterStrategy",
    "ReturnResultAdapterStrategyConfig",
    "SimAdapter",
    "SimAdapterConfig",
    "TinyAttention",
    "TinyAttentionConfig",
    "allow_in_nemo",
    "attach_before",
    "attach_beside",
    "attach_by_hook",
    "collect_adapter_losses",
    "freeze_backbone",
    "member_outputs",
    "unfreeze_backbone",
    "watched_attention",
]
