"""Widths that a config leaves to the places of an adapter: one a layer, from one to another, or from a budget.

    dim: 8                     the same at every place
    dim: [8, 8, 16, 32]        one for each layer that has adapters, or for each place, lowest first
    dim: {from: 8, to: 64}     from the lowest of these layers to the highest, evenly spaced, rounded
    dim: {budget: 50_000}      the largest one with which the adapters of all places have at most so many weights

`dim` and `r`, of the adapter itself or of one in it (`adapter`), are widths. What is written is what the trial's id is
made of; each host is given, and its `adapter_cfg` keeps, the number that follows.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch

from harness.adapters.module_mixin import AdapterModuleMixin

WIDTHS = ("dim", "r")
CHOICES = "a whole number, a list with one for each layer, {from: n, to: n} or {budget: n}"
_LARGEST = 2**24


def open_width(config: Any) -> tuple[str, Any] | None:
    """The argument, as a dotted path, whose width a config leaves to its places, and what it says; None if it is given.

    Raises:
        ValueError: there are two, or one says something else than CHOICES.
    """
    found = list(_open_widths(config, ""))
    if len(found) > 1:
        raise ValueError(f"{found[0][0]} and {found[1][0]}: only one width of an adapter may be left to its places")
    for path, value in found:
        keys = set(value) if isinstance(value, Mapping) else None
        numbers = list(value.values() if isinstance(value, Mapping) else value)
        if keys not in (None, {"from", "to"}, {"budget"}) or not numbers or not all(map(_is_size, numbers)):
            raise ValueError(f"{path}: {_shown(value)}: a width is {CHOICES}; the numbers are whole and at least 1")
    return found[0] if found else None


def has_open_width(config: Any) -> bool:
    """Whether a config leaves a width to its places, right or wrong."""
    return any(True for _ in _open_widths(config, ""))


def _open_widths(config: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    if isinstance(config, Mapping):
        for name in WIDTHS:
            value = config.get(name)
            if isinstance(value, Mapping):  # an arm sets to null what it has from the settings below it
                yield f"{prefix}{name}", {key: one for key, one in value.items() if one is not None}
            elif isinstance(value, (list, tuple)):
                yield f"{prefix}{name}", value
        yield from _open_widths(config.get("adapter"), f"{prefix}adapter.")


def configs_at(
    name: str, config: dict[str, Any], hosts: Sequence[AdapterModuleMixin], widths: Sequence[int] | None = None
) -> list[dict[str, Any]]:
    """An adapter's config for each of its hosts, every width a number.

    Args:
        name: that the adapter will have in the hosts, none of which has it yet.
        config: plain, as `add_adapter` takes it.
        hosts: in the order of the model's modules, which need not be that of the layers.
        widths: of each host, where they are known already, as from a file.

    Raises:
        ValueError: what is written does not fit the hosts, or no width keeps a budget.
    """
    found = open_width(config)
    if found is None:
        return [config] * len(hosts)
    path, value = found
    if widths is not None:
        return [with_width(config, path, width) for width in widths]
    if isinstance(value, Mapping) and "budget" in value:

        def count(width: int) -> int:
            return _num_weights(name, with_width(config, path, width), hosts)

        return [with_width(config, path, _largest_width(value["budget"], count, path))] * len(hosts)
    return [with_width(config, path, width) for width in _by_layer(path, value, hosts)]


def with_width(config: Mapping[str, Any], path: str, width: Any) -> dict[str, Any]:
    """A copy of a config with another width at a path that `open_width` gave."""
    changed = copy.deepcopy(dict(config))
    inner: Any = changed
    *parents, last = path.split(".")
    for key in parents:
        inner = inner[key]
    inner[last] = width
    return changed


def width_at(host: AdapterModuleMixin, name: str, path: str) -> int:
    """The width of the adapter of a host."""
    inner: Any = host.adapter_cfg[name]
    for key in path.split("."):
        inner = inner[key]
    return int(inner)


def told_width(name: str, config: Mapping[str, Any] | None, hosts: Iterable[AdapterModuleMixin]) -> str | None:
    """What a reader must know of a width that followed from the places; None where it was given."""
    found = open_width(config)
    if found is None:
        return None
    path, value = found
    there = [host for host in hosts if host.get_adapter_module(name) is not None]
    widths = [width_at(host, name, path) for host in there]
    shown = str(widths[0]) if len(set(widths)) == 1 else f"{', '.join(map(str, widths))} (lowest place first)"
    total = sum(weight.numel() for host in there for weight in host.adapter_layer[name].parameters())
    places = f"{len(there)} places" if len(there) > 1 else "one place"
    return f"{path}: {_shown(value)}: the width is {shown}; {total:,} weights in {places}"


def _by_layer(path: str, value: Any, hosts: Sequence[AdapterModuleMixin]) -> list[int]:
    """The width at each host, of a list or of `{from, to}`."""
    depths = [float(getattr(host, "depth_fraction", 1.0)) for host in hosts]
    layers = sorted(set(depths))
    if isinstance(value, Mapping):
        first, last, steps = value["from"], value["to"], len(layers) - 1
        if steps == 0 and first != last:
            raise ValueError(f"{path}: {_shown(value)}: the adapters are in one layer, so give one number")
        widths = [first + ((last - first) * 2 * number + steps) // (2 * steps or 1) for number in range(len(layers))]
    elif len(value) in (len(layers), len(hosts)):
        widths = list(value)
    else:
        places = f" or {len(hosts)} (places)" if len(hosts) != len(layers) else ""
        raise ValueError(f"{path}: {_shown(value)} has {len(value)} widths, not {len(layers)} (layers){places}")
    if len(widths) == len(layers):
        return [widths[layers.index(depth)] for depth in depths]
    return widths


def _largest_width(budget: int, count: Callable[[int], int], path: str) -> int:
    """The largest width whose weights keep a budget; they grow with the width."""
    where, least = f"{path}: {{budget: {budget}}}", count(1)
    if least > budget:
        raise ValueError(f"{where}: no width keeps it; with a width of 1 there are {least:,} weights in all places")
    fits, beyond = 1, 2
    while count(beyond) <= budget:
        fits, beyond = beyond, 2 * beyond
        if beyond > _LARGEST:
            raise ValueError(f"{where}: every width keeps it, because the number of weights does not follow from it")
    while beyond - fits > 1:
        middle = (fits + beyond) // 2
        fits, beyond = (middle, beyond) if count(middle) <= budget else (fits, middle)
    return fits


def _num_weights(name: str, config: dict[str, Any], hosts: Sequence[AdapterModuleMixin]) -> int:
    """Weights of an adapter at all hosts; one is built for each kind of host, and taken away again."""
    kinds: dict[Any, int] = {}
    total = 0
    for host in hosts:
        kind = (type(host), getattr(host, "reads_dim", None), getattr(host, "dim", None))
        if None in kind or kind not in kinds:
            with torch.random.fork_rng(devices=[]):  # what is drawn later must not depend on it
                host.add_adapter(name, config)
            adapter = host.adapter_layer[name]
            kinds[kind] = sum(weight.numel() for weight in adapter.parameters())
            host.remove_adapter(name)
        total += kinds[kind]
    return total


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {number}" for key, number in value.items()) + "}"
    return str(list(value))
