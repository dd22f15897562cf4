"""ModelAdapters: adapters of a whole model, addressed as `module:name`.

`encoder:an4` goes to the hosts of one submodule, `encoder+decoder:an4` to those of two, and a bare name to
the model's default. Each host owns its copy of the config, so that layers can be chosen and switched
one by one; the model keeps the record of what was added where, in NeMo's layout.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from torch import Tensor, nn

from harness.adapters import access
from harness.adapters.module_mixin import ENABLED_KEY, AdapterModuleMixin
from harness.adapters.widths import configs_at
from harness.instantiate import TARGET_KEY, InstantiationError, to_plain


class ModelAdapters(AdapterModuleMixin):
    """The adapters of a whole model: added, addressed, switched and removed; `AdapterModelMixin` also saves them."""

    @property
    def adapter_module_names(self) -> list[str]:
        """Names that may stand before the colon: '' and each child module that holds a host."""
        children = cast(nn.Module, self).named_children()
        return ["", *(name for name, child in children if any(_hosts_in(child)))]

    @property
    def default_adapter_module_name(self) -> str | None:
        """Where a bare name goes; None means every host of the model."""
        return None

    def adapter_hosts(self, module_name: str = "") -> dict[str, AdapterModuleMixin]:
        """The hosts that a module name stands for, by dotted path, in the order of the layers.

        Args:
            module_name: a child's name or dotted path, several joined with `+`, or '' for the default.

        Raises:
            ValueError: an unknown module name.
        """
        module_name = module_name or self.default_adapter_module_name or ""
        hosts: dict[str, AdapterModuleMixin] = {}
        for part in module_name.split("+"):
            hosts.update(self._hosts_below(part, module_name))
        return hosts

    def add_adapter(self, name: str, cfg: Any, *, layers: Sequence[int] | None = None, **kwargs: Any) -> None:
        """Add an adapter to every host that its name addresses, or to some of them.

        Args:
            name: `name`, `module:name` or `module+module:name`; the part after the colon is unique in
                the model.
            cfg: the adapter's config (mapping, dataclass or omegaconf) with `_target_`.
            layers: positions among the addressed hosts, from 0; all if None.
            **kwargs: arguments added to the config's.

        Raises:
            ValueError: a name that is taken or reserved, an unknown module or layer, no host at all, or a
                config that cannot be built. Nothing has changed then.
        """
        module_name, adapter_name = self.resolve_adapter_module_name_(name)
        self.check_new_adapter_name_(name, adapter_name)
        hosts = list(self.adapter_hosts(module_name).values())
        if layers is not None:
            hosts = [hosts[index] for index in _checked_layers(layers, len(hosts), name)]
        self.add_adapter_to_hosts_(name, cfg, hosts, **kwargs)

    def add_adapter_to_hosts_(
        self,
        name: str,
        cfg: Any,
        hosts: Sequence[AdapterModuleMixin],
        widths: Sequence[int] | None = None,
        **kwargs: Any,
    ) -> None:
        """Add an adapter to exactly these hosts, all or none, and record it; widths may be left to them (widths)."""
        module_name, adapter_name = self.resolve_adapter_module_name_(name)
        plain = to_plain(cfg)
        if not isinstance(plain, dict):
            raise InstantiationError(f"adapter `{name}`: the config has no `{TARGET_KEY}`: {cfg!r}")
        if not hosts:
            raise ValueError(
                f"adapter `{name}` touches no host: {type(self).__name__} has none in "
                f"`{module_name or 'the model'}`. Module names = {self.adapter_module_names}"
            )
        configs = configs_at(adapter_name, plain, hosts, widths)
        done: list[AdapterModuleMixin] = []
        try:
            for host, config in zip(hosts, configs, strict=True):
                host.add_adapter(adapter_name, config, **kwargs)
                done.append(host)
        except BaseException:
            for host in done:
                host.remove_adapter(adapter_name)
            raise
        if getattr(self, "adapter_cfg", None) is None:
            self.adapter_cfg = {}
        meta = self.adapter_cfg.setdefault(self.adapter_global_cfg_key, {})
        modules = meta.setdefault(self.adapter_metadata_cfg_key, {}).setdefault("modules", {})
        modules[adapter_name] = module_name
        shared = configs[0] if all(config == configs[0] for config in configs) else plain
        self.adapter_cfg[adapter_name] = {**shared, **kwargs, ENABLED_KEY: bool(plain.get(ENABLED_KEY, True))}

    def remove_adapter(self, name: str) -> None:
        """Remove an adapter from all its hosts, or as `module:name` from those in a module.

        Raises:
            ValueError: no adapter has that name, or none in that module.
        """
        adapter_name = self.known_adapter_name_(name)
        for host in self.hosts_of_adapter(name).values():
            host.remove_adapter(adapter_name)
        meta = self.adapter_cfg[self.adapter_global_cfg_key][self.adapter_metadata_cfg_key]
        if not self.hosts_of_adapter(adapter_name):
            self.adapter_cfg.pop(adapter_name)
            meta["modules"].pop(adapter_name, None)
        elif parts := meta["modules"].get(adapter_name):
            left = [part for part in parts.split("+") if self.hosts_of_adapter(f"{part}:{adapter_name}")]
            meta["modules"][adapter_name] = "+".join(left)

    def hosts_of_adapter(self, name: str) -> dict[str, AdapterModuleMixin]:
        """The hosts, by dotted path, that hold an adapter of exactly that name; of `module:name`, those in a module.

        Raises:
            ValueError: an unknown module name.
        """
        module_name, adapter_name = self.resolve_adapter_module_name_(name)
        found = {
            path: host
            for path, host in _hosts_in(cast(nn.Module, self))
            if host.get_adapter_module(adapter_name) is not None
        }
        if ":" not in name:
            return found
        inside = {id(host) for host in self.adapter_hosts(module_name).values()}
        return {path: host for path, host in found.items() if id(host) in inside}

    def is_adapter_available(self) -> bool:
        """Whether any adapter was added to the model, enabled or not."""
        return bool(self.adapter_names_())

    def set_enabled_adapters(self, name: str | None = None, enabled: bool = True) -> None:
        """Enable or disable one adapter, or all if no name is given, in every host that holds it.

        Args:
            name: of the adapter; `module:name` means its hosts in a module alone.
            enabled: whether it is to run.

        Raises:
            ValueError: there is no adapter, none of that name or none in that module, or the name is the reserved one.
        """
        if not self.is_adapter_available():
            raise ValueError("No adapter is available to enable/disable")
        for asked in self.adapter_names_() if name is None else [name]:
            adapter_name = self.known_adapter_name_(asked)
            for host in self.hosts_of_adapter(asked).values():
                host.set_enabled_adapters(adapter_name, enabled)
            flags = [host.adapter_cfg[adapter_name] for host in self.hosts_of_adapter(adapter_name).values()]
            self.adapter_cfg[adapter_name][ENABLED_KEY] = any(flag[ENABLED_KEY] for flag in flags)

    def get_enabled_adapters(self) -> list[str]:
        """Names of the adapters that are enabled in at least one host, in the order of their addition."""
        enabled = {n for _, host in _hosts_in(cast(nn.Module, self)) for n in host.get_enabled_adapters()}
        return [name for name in self.adapter_names_() if name in enabled]

    def update_adapter_cfg(self, cfg: Mapping[str, Any]) -> None:
        """Set the `enabled` flags of all hosts from a config in NeMo's layout.

        Raises:
            ValueError: an adapter that the model does not have.
        """
        for name, adapter_cfg in to_plain(cfg).items():
            if name != self.adapter_global_cfg_key:
                self.set_enabled_adapters(name, bool(adapter_cfg.get(ENABLED_KEY, True)))

    def get_adapter_module(self, name: str) -> nn.Module | None:
        """The adapter of that name in its first host, or None; of `module:name`, in its first host there."""
        for host in self.hosts_of_adapter(name).values():
            return host.get_adapter_module(name.rpartition(":")[2])
        return None

    def collect_adapter_losses(self) -> Tensor | None:
        """Sum and clear the auxiliary losses of the last forward pass; see access.collect_adapter_losses."""
        return access.collect_adapter_losses(cast(nn.Module, self))

    def adapter_hosts_by_path_(self) -> dict[str, AdapterModuleMixin]:
        """Every host of the model, by dotted path."""
        return dict(_hosts_in(cast(nn.Module, self)))

    def adapter_names_(self) -> list[str]:
        """All adapter names, in the order of their addition."""
        names = getattr(self, "adapter_cfg", None) or {}
        return [name for name in names if name != self.adapter_global_cfg_key]

    def check_new_adapter_name_(self, name: str, adapter_name: str) -> None:
        """Raise ValueError if an adapter of that name cannot be added anywhere in the model."""
        names = self.adapter_names_()
        if adapter_name in names:
            raise ValueError(f"Adapter with name `{name}` already exists ! Adapter names = {names}")
        super().check_new_adapter_name_(name, adapter_name)

    def known_adapter_name_(self, name: str) -> str:
        """Return the adapter's bare name, or raise ValueError with the choices; also if the named module lacks it."""
        _, adapter_name = self.resolve_adapter_module_name_(name)
        if adapter_name == self.adapter_global_cfg_key:
            return super().known_adapter_name_(name)
        names = self.adapter_names_()
        if adapter_name not in names:
            raise ValueError(f"No adapter with name `{name}` in the model. Adapter names = {names}")
        if ":" in name and not self.hosts_of_adapter(name):
            there = ", ".join(self.hosts_of_adapter(adapter_name))
            raise ValueError(f"No adapter with name `{name}` in the model. Adapter `{adapter_name}` is in: {there}")
        return adapter_name

    def _hosts_below(self, part: str, asked: str) -> dict[str, AdapterModuleMixin]:
        model = cast(nn.Module, self)
        if part == "":
            return dict(_hosts_in(model))
        top = part.partition(".")[0]
        try:
            if top not in self.adapter_module_names and part not in self.adapter_module_names:
                raise AttributeError(part)
            below = model.get_submodule(part)
        except AttributeError:
            raise ValueError(
                f"`{part}` in `{asked}` is no adapter module of {type(self).__name__}. "
                f"Module names = {self.adapter_module_names}"
            ) from None
        return {f"{part}.{path}" if path else part: host for path, host in _hosts_in(below)}


def _hosts_in(module: nn.Module) -> Iterator[tuple[str, AdapterModuleMixin]]:
    """Hosts at and below a module, with their dotted paths; models are not hosts."""
    for path, child in module.named_modules():
        if isinstance(child, AdapterModuleMixin) and not isinstance(child, ModelAdapters):
            yield path, child


def _checked_layers(layers: Sequence[int], count: int, name: str) -> list[int]:
    wrong = [layer for layer in layers if not 0 <= layer < count]
    if wrong or len(set(layers)) != len(layers):
        raise ValueError(f"adapter `{name}`: layers have to be distinct, 0 to {count - 1}: {list(layers)}")
    return sorted(layers)
