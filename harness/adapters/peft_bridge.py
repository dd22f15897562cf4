"""Adapters of the library PEFT (extra `peft`): its configs put its own modules inside the layers of a frozen model.

    adapter: {_target_: peft.LoraConfig, r: 8, target_modules: [query, value]}

What they compute, how they start and what learns is PEFT's. Here they are injected, switched off without a trace,
checked (the output must depend on all that learns, and be the base model's without it) and kept in PEFT's own folder
format, which `PeftModel.from_pretrained` reads.
"""

from __future__ import annotations

import re
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from harness.disk import write_together
from harness.errors import UserError, no_exits, text_of
from harness.instantiate import TARGET_KEY, InstantiationError, instantiate, locate

# Of the adapter in PEFT's modules, and so in the names of its weights: by it optim.groups, L2-SP and records tell
# weights of adapters from those of the base model. PEFT's files do not have it.
NAME = "adapter_layer"
CONFIG_FILE, WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"

REFUSED = {
    "ADALORA": "it has to be told of every step of the optimizer, and is given a loss of its own",
    "POLY": "it is told the number of each example's task in the forward pass",
    "XLORA": "it mixes adapters that have been trained before",
}
"""Methods that need more than a forward pass, though they put modules into layers."""

REFUSED_OPTIONS: dict[str, tuple[Any, str]] = {
    "use_asa": (True, "it has to be told of every step of the optimizer"),
    "init_lora_weights": ("eva", "its first weights come from passes over data"),
    "alora_invocation_tokens": (None, "it is told where in a text it begins"),
}
"""Option -> the value that needs more, or None where every value but none does; and why."""

_NOT_TOLD = ("Unsupported layer type", "Failed to load the CUDA extension")


def names_peft(config: Mapping[str, Any] | None) -> bool:
    """Whether an adapter's config names a class of PEFT, or one below PEFT's configs. It imports that class.

    Raises:
        UserError: PEFT is not installed.
    """
    target = (config or {}).get(TARGET_KEY)
    if not isinstance(target, str):
        return False
    is_theirs = target.partition(".")[0] == "peft"
    if is_theirs:
        if find_spec("peft") is None:
            raise UserError(f"adapter: {target}: PEFT is not installed; run: pip install 'peft>=0.21,<0.22'")
        import harness.data.audio_backend  # noqa: F401 - PEFT imports torchaudio, which may need its stand-in
    try:
        cls = locate(target, place="adapter")
    except InstantiationError as error:
        if is_theirs:
            raise UserError(f"{error}") from error
        return False  # whoever builds the adapter tells of it
    peft = sys.modules.get("peft")
    return peft is not None and issubclass(cls, peft.PeftConfig)


def _kind(key: str, cls: type) -> str | None:
    """The kind of a config of PEFT (harness.instantiate.Kind), and of the configs in it."""
    peft = sys.modules["peft"]
    if issubclass(cls, peft.PeftConfig) or (key and cls.__module__.partition(".")[0] == "peft"):
        return None
    return "a config of PEFT (a class below peft.PeftConfig)"


@dataclass(frozen=True, eq=False)
class Injected:
    """PEFT's adapters in a model.

    Attributes:
        target: the import path of their config's class.
        wrapper: PEFT's model around it; the model itself is unchanged but for the modules that PEFT has replaced.
        sites: the modules that PEFT has put there, by path in the model; what is inside of one is left out.
        learns: the weights that learn, by path in the model.
        own: the ids of all weights and buffers that came with them.
        notes: what PEFT warned of.
    """

    target: str
    wrapper: Any
    sites: dict[str, nn.Module]
    learns: dict[str, nn.Parameter]
    own: frozenset[int]
    notes: tuple[str, ...]

    @property
    def sizes(self) -> dict[str, int]:
        """Path of a module -> number of weights that learn there; weights that several share count at the first."""
        counts = dict.fromkeys(self.sites, 0)
        for path, weight in self.learns.items():
            site = next(site for site in self.sites if f"{path}.".startswith(f"{site}."))
            counts[site] += weight.numel()
        return {site: count for site, count in counts.items() if count}

    @contextmanager
    def switched_off(self, *, but: str | None = None) -> Iterator[None]:
        """The model as it was without them, bit for bit; or with the one at `but` alone."""
        layers = [
            module
            for site, top in self.sites.items()
            for module in top.modules()
            if site != but and callable(getattr(module, "enable_adapters", None))
        ]
        flags = {weight: weight.requires_grad for weight in self.wrapper.parameters()}  # PEFT changes them as well
        for layer in layers:
            layer.enable_adapters(False)  # type: ignore[operator]
        try:
            yield
        finally:
            for layer in layers:
                layer.enable_adapters(True)  # type: ignore[operator]
            for weight, learns in flags.items():
                weight.requires_grad_(learns)

    def save(self, folder: Path) -> list[Path]:
        """Write PEFT's two files; returns their paths.

        Raises:
            TrialError: the disk is full or not writable (reason `disk`).
        """
        tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in self._state().items()}
        config = self.wrapper.peft_config[NAME]
        before, config.inference_mode = config.inference_mode, True  # as PEFT itself writes it
        try:
            with tempfile.TemporaryDirectory() as temporary:
                config.save_pretrained(temporary)
                text = (Path(temporary) / CONFIG_FILE).read_bytes()
        finally:
            config.inference_mode = before
        contents = {folder / WEIGHTS_FILE: save(tensors, {"format": "pt"}), folder / CONFIG_FILE: text}
        write_together(contents, sync=list(contents))
        return list(contents)

    def load(self, folder: Path) -> None:
        """Take the weights that `save` wrote for the same config.

        Raises:
            UserError: the file is missing, damaged, of other modules, or lacks weights.
        """
        from peft import set_peft_model_state_dict

        path = folder / WEIGHTS_FILE
        try:
            found, wanted = load_file(path), self._state().keys()
            absent = sorted(wanted - found.keys())  # of which PEFT would say nothing
            result: Any = None if absent else set_peft_model_state_dict(self.wrapper, found, adapter_name=NAME)
        # The library's errors have nothing in common; whatever it is, the file is not this model's.
        except Exception as error:
            raise UserError(f"{path}: cannot be loaded: {_reason(error)}") from error
        if unknown := sorted(found.keys() - wanted) if absent else result.unexpected_keys:
            raise UserError(f"{path}: the model has no weight {unknown[0]}")
        if absent:
            raise UserError(
                f"{path}: {len(absent)} weights of the adapter are not in it, the first of them {absent[0]}"
            )

    def _state(self) -> Mapping[str, Tensor]:
        """The weights of the adapters, by their names in PEFT's files."""
        from peft import get_peft_model_state_dict

        state: Mapping[str, Tensor] = get_peft_model_state_dict(
            self.wrapper, adapter_name=NAME, save_embedding_layers=False
        )
        return state


def inject(model: nn.Module, config: Mapping[str, Any]) -> Injected:
    """Put the adapters of a PEFT config into a frozen model; their first weights are drawn from torch's generator.

    Args:
        model: of transformers, say; its frozen modules stay frozen.
        config: with `_target_`.

    Raises:
        UserError: the config cannot be built, its method does not work here, or it finds nothing to adapt.
    """
    from peft import get_peft_model

    target = str(config[TARGET_KEY])
    with _warnings_as_notes() as notes:
        made = _built(config)
        _refuse(made, target)
        modules, paths = set(model.modules()), [path for path, _ in model.named_modules()]
        before = {id(tensor) for tensor in (*model.parameters(), *model.buffers())}
        try:
            with no_exits():
                wrapper: Any = get_peft_model(model, made, NAME)
        # What a method finds wrong with a model, it says by errors of any kind.
        except Exception as error:
            raise UserError(f"adapter: {target}: {_reason(error)}") from error
    added = [path for path, module in model.named_modules() if module not in modules]
    _refuse_unmatched(config, paths, added)
    inner = {path for path in added if any(path.startswith(f"{other}.") for other in added)}
    learns = {path: weight for path, weight in model.named_parameters() if weight.requires_grad}
    if changed := [path for path, weight in learns.items() if id(weight) in before]:
        raise UserError(
            f"adapter: {target}: it would train {changed[0]} of the base model itself, which switching the adapter off "
            "does not give back (bias: none leaves biases as they are)"
        )
    known = {id(weight) for path, weight in learns.items() if NAME in path.split(".")}
    if not known or known != {id(weight) for weight in wrapper.parameters() if weight.requires_grad}:
        raise UserError(f"adapter: {target}: the weights that learn are not in modules of the backbone")
    own = frozenset({id(tensor) for tensor in (*model.parameters(), *model.buffers())} - before)
    sites = {path: model.get_submodule(path) for path in added if path not in inner}
    for module in sites.values():
        module.train(model.training)
    return Injected(target, wrapper, sites, learns, own, tuple(notes))


def _refuse_unmatched(config: Mapping[str, Any], paths: Sequence[str], added: Sequence[str]) -> None:
    """Refuse a name that matches nothing: PEFT is content if one of several does, and leaves the others out in silence.

    Args:
        config: with `_target_`.
        paths: of all modules that the model had.
        added: of those that PEFT has put there.

    Raises:
        UserError: an item of an option matches nothing.
    """
    for option in ("target_modules", "feedforward_modules", "rank_pattern", "alpha_pattern", "exclude_modules"):
        given = config.get(option)
        for name in given if isinstance(given, (list, tuple, Mapping)) else ():
            pattern = str(name) if option.endswith("_pattern") else re.escape(str(name))
            among = paths if option == "exclude_modules" else added
            if not any(re.match(rf"(.*\.)?({pattern})$", path) for path in among):  # as PEFT compares
                near = get_close_matches(str(name), {path.rpartition(".")[2] for path in paths}, n=1)
                hint = f"; nearest: {near[0]}" if near else ""
                raise UserError(f"adapter.{option}: {name!r} matches no module that could be adapted{hint}")
    chosen = config.get("layers_to_transform")
    for number in chosen if isinstance(chosen, (list, tuple)) else ():
        if not any(str(number) in path.split(".") for path in added):
            raise UserError(f"adapter.layers_to_transform: no module that is adapted is in layer {number}")


def check(injected: Injected, run: Callable[[], Tensor], expected: Tensor) -> None:
    """Try adapters that were just injected on a pass of the model.

    Args:
        injected: into the model.
        run: a pass in eval mode; gives the real steps of the output, [N, D].
        expected: what it gave before.

    Raises:
        UserError: the pass fails or gives another shape, the output does not depend on some of the weights that learn,
            or without the adapters it is not what it was.
    """
    target, weights = injected.target, list(injected.learns.values())
    try:
        with no_exits(), _warnings_as_notes(), torch.enable_grad():
            found = run()
            total = found.square().sum()
            reached = total.requires_grad  # a model may take the weights of a module that it never calls (WavLM's)
            gradients = torch.autograd.grad(total, weights, allow_unused=True) if reached else [None] * len(weights)
            with injected.switched_off(), torch.no_grad():
                off = run()
    except Exception as error:  # as in `inject`
        raise UserError(f"adapter: {target} fails in a pass of the backbone: {_reason(error)}") from error
    if found.shape != expected.shape:
        shapes = f"{list(found.shape)} for {list(expected.shape)}"
        raise UserError(f"adapter: {target} changes the shape of the backbone's output: {shapes}")
    unused = [path for path, gradient in zip(injected.learns, gradients, strict=True) if gradient is None]
    if unused:
        raise UserError(
            f"adapter: {target}: the output does not depend on {unused[0]}, which would learn nothing; leave that "
            "module out by target_modules or exclude_modules"
        )
    if not torch.equal(off, expected):
        raise UserError(
            f"adapter: {target}: it changes the base model's own weights, so that switching it off does not give the "
            "base model back; choose another way to make its first weights (init_lora_weights, init_weights ...)"
        )


def _built(config: Mapping[str, Any]) -> Any:
    """The PEFT config of an adapter's settings."""
    try:
        with no_exits():
            return instantiate(dict(config), _kind)
    # As in `inject`.
    except Exception as error:
        raise UserError(f"adapter: {_reason(error).removeprefix('config: ')}") from error


def _reason(error: Exception) -> str:
    """An error of a library in one line."""
    return " ".join(text_of(error).split()) or type(error).__name__


@contextmanager
def _warnings_as_notes() -> Iterator[list[str]]:
    """Collect what PEFT warns of, for the record: a size that it has adjusted, say."""
    notes: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield notes
    for warning in caught:
        text = _reason(warning.message)  # type: ignore[arg-type]
        # Of its own code, or of a layer that is tried by a pass here; each once, as all layers are alike.
        if not (issubclass(warning.category, (FutureWarning, DeprecationWarning)) or text.startswith(_NOT_TOLD)):
            notes += [] if text in notes else [text]


def _refuse(config: Any, target: str) -> None:
    """Refuse methods and options that need more than modules inside layers."""
    method = str(getattr(config.peft_type, "value", config.peft_type))
    if config.is_prompt_learning:
        raise UserError(
            f"adapter: {target}: it changes what a model reads, and not its layers, so it cannot be used here"
        )
    if config.is_adaption_prompt:
        raise UserError(f"adapter: {target}: it is made for the attention of decoders alone")
    if method in REFUSED:
        raise UserError(f"adapter: {target}: {REFUSED[method]}, which a trial does not do")
    for option, (value, why) in REFUSED_OPTIONS.items():
        given = getattr(config, option, None)
        if given is not None and given is not False and value in (given, None):
            raise UserError(f"adapter.{option}: {given}: {why}, which a trial does not do")
    if config.inference_mode:
        raise UserError(f"adapter.inference_mode: true: {target} would have no weights that learn")
    if getattr(config, "modules_to_save", None):
        raise UserError("adapter.modules_to_save: train: adapters_and_head trains the head; other modules stay frozen")
