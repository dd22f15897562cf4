"""AdapterModuleMixin: gives a module (the host) named adapters that can be switched on and off.

Methods, names and the layout of `adapter_cfg` are NeMo's, so that hosts, adapters and strategies written
for one run in the other. Configs are plain dicts here; dataclasses and omegaconf configs are converted.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from typing import Any, cast

from torch import nn

from harness.adapters import nemo_bridge
from harness.adapters.freezing import freeze_batchnorm_layers, is_frozen, unfreeze_backbone
from harness.adapters.kinds import adapter_kind
from harness.instantiate import TARGET_KEY, InstantiationError, instantiate, locate, to_plain

ENABLED_KEY = "enabled"


class AdapterModuleMixin:
    """Adapter support for any `nn.Module`: put it after `nn.Module` (or a subclass) in the bases.

    Attributes:
        adapter_layer: the adapters by name; absent until the first is added, so that the state dict of a
            host without adapters is that of the plain module.
        adapter_cfg: each adapter's config with its `enabled` flag, in the order in which they run.
        adapter_calls: how often each adapter ran, to see whether it runs at all.
    """

    adapter_global_cfg_key = "global_cfg"
    adapter_metadata_cfg_key = "adapter_meta_cfg"

    adapter_layer: nn.ModuleDict
    adapter_cfg: dict[str, Any]
    adapter_calls: dict[str, int]
    adapter_name: str
    _accepted_adapter_types: set[type]

    def add_adapter(self, name: str, cfg: Any, **kwargs: Any) -> None:
        """Build an adapter and add it to this module, enabled unless the config says otherwise.

        Args:
            name: `adapter` or `module:adapter`; unique in this module.
            cfg: mapping, dataclass or omegaconf config with `_target_`; `enabled: false` adds it disabled.
            **kwargs: arguments added to the config's.

        Raises:
            ValueError: a name that is taken, reserved or cannot be a module name; a type that this host
                does not accept; a config that cannot be built. Nothing has changed then.
        """
        _, adapter_name = self.resolve_adapter_module_name_(name)
        self.check_new_adapter_name_(name, adapter_name)
        plain = to_plain(cfg)
        if not isinstance(plain, dict):
            raise InstantiationError(f"adapter `{name}`: the config has no `{TARGET_KEY}`: {cfg!r}")
        self.check_supported_adapter_type_(plain, self.get_accepted_adapter_types())
        stored = dict(plain)
        enabled = bool(plain.pop(ENABLED_KEY, True))
        locate(plain.get(TARGET_KEY), place=f"adapter `{name}`")  # if that loads NeMo, its classes must
        nemo_bridge.connect_loaded_nemo()  # know ours before the adapter is given one of our strategies
        adapter = instantiate(plain, adapter_kind, **kwargs)
        if not isinstance(adapter, nn.Module):
            raise ValueError(f"adapter `{name}`: {plain.get(TARGET_KEY)} is no nn.Module")
        if not hasattr(self, "adapter_layer"):
            self.adapter_layer = nn.ModuleDict()
        if getattr(self, "adapter_cfg", None) is None:
            self.adapter_cfg = {}
        adapter.train(cast(nn.Module, self).training)
        self.adapter_name = adapter_name
        self.adapter_layer[adapter_name] = adapter
        self.adapter_cfg[adapter_name] = {**stored, **kwargs, ENABLED_KEY: enabled}

    def remove_adapter(self, name: str) -> None:
        """Remove an adapter and its config.

        Raises:
            ValueError: no adapter has that name.
        """
        adapter_name = self.known_adapter_name_(name)
        del self.adapter_layer[adapter_name]
        self.adapter_cfg.pop(adapter_name, None)
        getattr(self, "adapter_calls", {}).pop(adapter_name, None)
        if len(self.adapter_layer) == 0:
            del self.adapter_layer

    def is_adapter_available(self) -> bool:
        """Whether any adapter was added, enabled or not."""
        return len(getattr(self, "adapter_layer", ())) > 0

    def set_enabled_adapters(self, name: str | None = None, enabled: bool = True) -> None:
        """Enable or disable one adapter, or all if no name is given.

        Raises:
            ValueError: there is no adapter, none of that name, or the name is the reserved one.
        """
        if not self.is_adapter_available():
            raise ValueError("No adapter is available to enable/disable")
        if name is not None:
            self.adapter_cfg[self.known_adapter_name_(name)][ENABLED_KEY] = enabled
            return
        for key in self.adapter_cfg:
            if key != self.adapter_global_cfg_key:
                self.adapter_cfg[key][ENABLED_KEY] = enabled

    def get_enabled_adapters(self) -> list[str]:
        """Names of the enabled adapters of accepted types, in the order in which they run."""
        if not self.is_adapter_available():
            return []
        accepted = tuple(self.get_accepted_adapter_types())
        return [
            name
            for name, cfg in self.adapter_cfg.items()
            if name != self.adapter_global_cfg_key
            and name in self.adapter_layer
            and cfg[ENABLED_KEY]
            and (not accepted or isinstance(self.adapter_layer[name], accepted))
        ]

    def get_adapter_module(self, name: str) -> nn.Module | None:
        """The adapter of that name, or None."""
        _, adapter_name = self.resolve_adapter_module_name_(name)
        if self.is_adapter_available() and adapter_name in self.adapter_layer:
            return self.adapter_layer[adapter_name]
        return None

    def get_adapter_cfg(self, name: str) -> dict[str, Any] | None:
        """The config of the adapter of that name, or None."""
        _, adapter_name = self.resolve_adapter_module_name_(name)
        return (getattr(self, "adapter_cfg", None) or {}).get(adapter_name)

    def set_accepted_adapter_types(self, adapter_types: Sequence[type | str]) -> None:
        """Restrict the adapters of this host to some classes, given as classes or import paths.

        Raises:
            ValueError: a class that is no `nn.Module`, or an import path that names nothing.
        """
        types = set()
        for item in adapter_types:
            cls = locate(item, place="accepted adapter types") if isinstance(item, str) else item
            if not inspect.isclass(cls) or not issubclass(cls, nn.Module):
                raise ValueError(f"Attempted to add class ({cls}) but is not a subclass of torch.nn.Module")
            types.add(cls)
        self._accepted_adapter_types = types

    def get_accepted_adapter_types(self) -> set[type]:
        """The accepted classes; the empty set accepts every class."""
        return getattr(self, "_accepted_adapter_types", set())

    def unfreeze_enabled_adapters(self, freeze_batchnorm: bool = True) -> None:
        """Make the enabled adapters below this module trainable, frozen ones too, and put them in training mode.

        Args:
            freeze_batchnorm: keep every BatchNorm outside the adapters in eval mode for good, also after
                the next `.train()`, so that disabling the adapters gives the base model back exactly.
        """
        module = cast(nn.Module, self)
        if freeze_batchnorm:
            freeze_batchnorm_layers(module)
        for host in module.modules():
            if isinstance(host, AdapterModuleMixin) and hasattr(host, "adapter_layer"):
                for name in host.get_enabled_adapters():
                    adapter: Any = host.adapter_layer[name]
                    unfreeze_backbone(adapter)  # one that was frozen would stay in eval mode
                    adapter.train()
                    unfreeze = getattr(adapter, "adapter_unfreeze", None)  # a plain module has none
                    unfreeze() if unfreeze else adapter.requires_grad_(True)

    def forward_enabled_adapters(self, input: Any) -> Any:
        """Run the enabled adapters in a chain, each through its own strategy.

        Args:
            input: the host's output, usually [B, T, D].

        Returns:
            The last strategy's result; the input itself if no adapter is enabled.

        Raises:
            AttributeError: an adapter has no `adapter_strategy`.
        """
        names = self.get_enabled_adapters()
        told = self.tell_valid_frames_() if names else []
        try:
            for name in names:
                input = self.run_adapter_(name, input)
            return input
        finally:  # they keep no tensor of a batch: they may be copied or saved between two passes
            for adapter in told:
                adapter.valid_frames = None

    def tell_valid_frames_(self) -> list[Any]:
        """Tell the modules in adapters that ask for it which steps are real; returns them.

        A module asks by an attribute of its class: `valid_frames: Tensor | None = None`.
        """
        valid_BT = getattr(self, "valid_frames", None)
        told: list[Any] = [module for module in self.adapter_layer.modules() if hasattr(type(module), "valid_frames")]
        for adapter in told:
            adapter.valid_frames = valid_BT
        return told

    def reader_of_steps_(self, name: str) -> str | None:
        """The class in an adapter that reads other steps, since it asks which are real; None where there is none."""
        modules = cast(nn.Module, self.get_adapter_module(name)).modules()
        return next((type(module).__name__ for module in modules if hasattr(type(module), "valid_frames")), None)

    def run_adapter_(self, name: str, input: Any) -> Any:
        """Run one adapter through its own strategy, enabled or not; a frozen one as after training, without noise.

        Raises:
            AttributeError: it has no `adapter_strategy`.
        """
        adapter = self.adapter_layer[name]
        strategy = getattr(adapter, "adapter_strategy", None)
        if strategy is None:
            path = f"{type(adapter).__module__}.{type(adapter).__name__}"
            raise AttributeError(
                f"Adapter module `{name}` does not set the value `adapter_strategy` ! "
                f"Please set the value of the adapter's strategy with the class {path}."
            )
        nemo_bridge.connect_loaded_nemo()  # the strategy may be NeMo's, and ask for its own AccessMixin
        host = cast(nn.Module, self)
        training = host.training
        host.training = training and not is_frozen(adapter)  # strategies ask the host whether they draw noise
        try:
            result = self.forward_single_enabled_adapter_(input, adapter, adapter_name=name, adapter_strategy=strategy)
        finally:
            host.training = training
        self.count_adapter_call_(name)
        return result

    def forward_single_enabled_adapter_(
        self, input: Any, adapter_module: nn.Module, *, adapter_name: str, adapter_strategy: Any
    ) -> Any:
        """Run one adapter through its strategy (override point)."""
        return adapter_strategy(input, adapter_module, module=self)

    def resolve_adapter_module_name_(self, name: str) -> tuple[str, str]:
        """Split `module:adapter`; for a bare name, the module is the one it was added to, or ''."""
        if ":" in name:
            module_name, _, adapter_name = name.partition(":")
            return module_name, adapter_name
        cfg = (getattr(self, "adapter_cfg", None) or {}).get(self.adapter_global_cfg_key, {})
        modules = cfg.get(self.adapter_metadata_cfg_key, {}).get("modules", {})
        return modules.get(name, ""), name

    def check_supported_adapter_type_(
        self, adapter_cfg: Any, supported_adapter_types: Iterable[type] | None = None
    ) -> None:
        """Raise ValueError unless the config's `_target_` is one of the accepted classes."""
        if supported_adapter_types is None:
            supported_adapter_types = self.get_accepted_adapter_types()
        accepted = tuple(supported_adapter_types)
        if not accepted:
            return
        cls = locate(adapter_cfg.get(TARGET_KEY), place="adapter config")
        if not issubclass(cls, accepted):
            raise ValueError(
                f"Config: {to_plain(adapter_cfg)} creates adapter class {cls} that is not in the list "
                f"of accepted adapter types. Accepted adapters: {sorted(map(str, accepted))}"
            )

    def check_new_adapter_name_(self, name: str, adapter_name: str) -> None:
        """Raise ValueError if an adapter of that name cannot be added."""
        if adapter_name == self.adapter_global_cfg_key:
            raise ValueError(f"Adapters cannot have the reserved name : `{self.adapter_global_cfg_key}`")
        if adapter_name in getattr(self, "adapter_layer", ()):
            names = list(self.adapter_layer.keys())
            raise ValueError(f"Adapter with name `{name}` already exists ! Adapter names = {names}")
        if not adapter_name or "." in adapter_name or hasattr(nn.ModuleDict, adapter_name):
            raise ValueError(f"Adapter name `{adapter_name}` is empty, has a dot, or is a method")

    def known_adapter_name_(self, name: str) -> str:
        """Return the adapter's bare name, or raise ValueError with the choices."""
        _, adapter_name = self.resolve_adapter_module_name_(name)
        if adapter_name == self.adapter_global_cfg_key:
            raise ValueError(
                f"Cannot set the state of the global config of adapters, given name = `{self.adapter_global_cfg_key}`"
            )
        names = list(getattr(self, "adapter_layer", ()))
        if adapter_name not in names:
            raise ValueError(f"No adapter with name `{name}` in this module. Adapter names = {names}")
        return adapter_name

    def count_adapter_call_(self, name: str) -> None:
        """Count one run of an adapter."""
        if "adapter_calls" not in self.__dict__:
            self.adapter_calls = {}
        self.adapter_calls[name] = self.adapter_calls.get(name, 0) + 1
