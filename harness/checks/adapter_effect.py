"""Whether adapters change what a model gives: on against off, all of them, and each of them alone. Loads torch."""

from __future__ import annotations

import copy
import math
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from harness.adapters.peft_bridge import WEIGHTS_FILE as PEFT_FILE
from harness.adapters.peft_bridge import names_peft
from harness.adapters.registry import unregistered_targets
from harness.backbones.model import TaskModel
from harness.backbones.store import Backbone
from harness.backbones.whisper_decoder import WhisperDecoderHead
from harness.config.base import content_hash
from harness.config.messages import validated
from harness.config.trial import TrialConfig
from harness.data.audio_files import audio_seconds
from harness.data.batching import pad_sequence_batch
from harness.data.corpus import Corpus, Example, SpeechExample, TextExample
from harness.errors import TrialError, UserError
from harness.records.trial_folder import TrialFolder
from harness.tasks.making import make_task
from harness.training.adapting import Adapted, adapt, chosen_places
from harness.training.resources import Resources
from harness.training.taking import ADAPTER_FILE, WEIGHTS_FILE, Sources, start_from

RANDOM, CORPUS = "random", "corpus"  # inputs that need no file
NUM_ITEMS = 4  # of the corpus
SPREAD = 0.1  # of random weights

Inputs = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Effect:
    """What adapters change.

    Attributes:
        num_items: inputs that were tried.
        largest: the largest difference of a number that the head reads, with all adapters on and off.
        by_point: insertion point -> the same, with the adapter there alone.
        is_restored: whether the output with all adapters off is that of the model without them, bit for bit.
        without: whose output that is: the base model's, or that of the model that a trial started from.
    """

    num_items: int
    largest: float
    by_point: dict[str, float]
    is_restored: bool
    without: str = "the base model's"

    @property
    def faults(self) -> list[str]:
        """What is wrong, one line each."""
        lines = [
            f"{name}: the adapter there changes nothing"
            if change == 0.0
            else f"{name}: the adapter there gives an output that is not finite"
            for name, change in self.by_point.items()
            if change == 0.0 or not math.isfinite(change)
        ]
        if self.largest == 0.0 or not math.isfinite(self.largest):
            lines.append(f"all adapters together change the output by {self.largest}")
        return lines if self.is_restored else [*lines, f"with all adapters off, the output is not {self.without}"]


@torch.no_grad()
def measure_effect(base: TaskModel, adapted: Adapted, inputs: Inputs) -> Effect:
    """Compare what the head of a model reads with the adapters on and off.

    Args:
        base: the model without adapters, in eval mode: the base model, or what `model_without` gives.
        adapted: with adapters that are not their first ones, which give nothing.
        inputs: [B, T, ...], and lengths [B].
    """
    model = adapted.model.eval()
    expected = _real_output(base, inputs)
    changed = _difference(_real_output(model, inputs), expected)
    points, alone = model.encoder.insertion_points, {}
    injected = model.encoder.injected
    if injected is not None:
        for name in adapted.adapters:
            with injected.switched_off(but=name):
                alone[name] = _difference(_real_output(model, inputs), expected)
    with adapted.switched_off():
        is_restored = torch.equal(_real_output(model, inputs), expected)
        for name in adapted.adapters if injected is None else ():
            there = [one for one in adapted.chain if points[name].get_adapter_module(one) is not None]
            for one in there:
                points[name].set_enabled_adapters(one, enabled=True)
            alone[name] = _difference(_real_output(model, inputs), expected)
            for one in there:
                points[name].set_enabled_adapters(one, enabled=False)
    return Effect(len(inputs[1]), changed, alone, is_restored)


def _real_output(model: TaskModel, inputs: Inputs) -> Tensor:
    """What a model's head reads, of the steps that are no padding, [N, D]; the scores of a decoder that has points."""
    hidden_BTD, valid_BT = model.hidden(*inputs)
    if not isinstance(model.head, WhisperDecoderHead):
        return hidden_BTD[valid_BT]
    tokens_BS = torch.zeros((len(hidden_BTD), NUM_ITEMS), dtype=torch.int64)
    scores: Tensor = model.head(hidden_BTD, valid_BT, tokens_BS, torch.full((len(hidden_BTD),), NUM_ITEMS))
    return scores


def _difference(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max())


@torch.no_grad()
def with_random_weights(adapted: Adapted) -> None:
    """Move every weight of the adapters a little: those that they start with give nothing."""
    generator = torch.Generator().manual_seed(0)
    injected = adapted.model.encoder.injected
    for weight in injected.learns.values() if injected is not None else ():
        weight.add_(SPREAD * torch.randn(weight.shape, generator=generator).to(weight))
    for name in adapted.adapters if injected is None else ():
        for weight in adapted.model.encoder.insertion_points[name].adapter_layer.parameters():
            weight.add_(SPREAD * torch.randn(weight.shape, generator=generator).to(weight))


def random_adapters(base: TaskModel, config: TrialConfig) -> Adapted:
    """A copy of a model with the adapters of a config, which have random weights.

    Raises:
        UserError: the config trains no adapter, or it does not fit.
    """
    if not config.members:
        raise UserError(f"train: {config.train} trains no adapter, so there is nothing to check")
    adapted = adapt(copy.deepcopy(base), config)
    with_random_weights(adapted)
    return adapted


def model_without(backbone: Backbone, folder: Path) -> TaskModel:
    """What a finished trial's adapters were put into: a copy of the base model, with the weights it started with.

    A head that was trained with the adapters is that of the trial, since a decoder's scores show what adapters change.

    Raises:
        UserError: the trial that it started from does not lie beside it any more, or was changed.
    """
    config, model = trial_config(folder), copy.deepcopy(backbone.model)
    if config.start is not None:
        try:
            start_from(model, str(config.start.trial), Sources(backbone.fingerprint, folder.resolve().parent))
        except TrialError as error:
            raise UserError(f"{folder}: what it started from is needed to compare with: {error}") from error
    if config.train == "adapters_and_head":
        _load_others(model, folder, only="head.")
    return model


def trained_adapters(backbone: Backbone, folder: Path, allow: Collection[str]) -> Adapted:
    """A copy of a backbone's model with what a finished trial has trained.

    Args:
        backbone: the one that the trial adapted.
        folder: of the trial's record.
        allow: classes of the trial's adapter that may be built besides those of harness.adapters.

    Raises:
        UserError: the trial has no adapters, or no weights; they are of another backbone; or a class is not allowed.
    """
    config = trial_config(folder)
    for target in unregistered_targets([member.settings for member in config.members], allow):
        raise UserError(f"{folder}: its adapter is built by {target!r}; if you trust that code, add --allow {target}")
    if not config.members:
        raise UserError(f"{folder}: train: {config.train} trains no adapter, so there is nothing to check")
    theirs = names_peft(config.adapter)
    file = f"adapter/{PEFT_FILE}" if theirs else ADAPTER_FILE
    if not (folder / file).is_file():
        raise UserError(f"{folder}: there is no {file}; published records have no weights: train it again")
    model = copy.deepcopy(backbone.model)
    base = tuple(model.parameters())
    if theirs:
        adapters = adapt(model, config).adapters
        assert model.encoder.injected is not None
        model.encoder.injected.load(folder / "adapter")
    else:
        adapters = adapt(copy.deepcopy(model), config, Sources(backbone.fingerprint)).adapters
        model.encoder.put_points(chosen_places(model.encoder, config))
        model.load_adapters(folder / "adapter", base_fingerprint=backbone.fingerprint, allow=allow)
    _load_others(model, folder)
    return Adapted(model, config, base, adapters)


def _load_others(model: TaskModel, folder: Path, only: str = "") -> None:
    """Load what a trial has besides adapters (a head, the shares of the layers, what it started with), if anything."""
    others = folder / WEIGHTS_FILE
    if not others.is_file():
        return
    try:
        chosen = {name: weight for name, weight in load_file(others).items() if name.startswith(only)}
        unknown = model.load_state_dict(chosen, strict=False).unexpected_keys
    except (SafetensorError, OSError, RuntimeError) as error:
        raise UserError(f"{others}: unreadable: {' '.join(str(error).split())}") from error
    if unknown:
        raise UserError(f"{others}: the model has no weight {unknown[0]}")


def trial_config(folder: Path) -> TrialConfig:
    """The config of a trial's record, with its paths as they are seen from here, on the CPU.

    Raises:
        UserError: it is missing or corrupt.
    """
    record = TrialFolder(folder).record()
    content = TrialFolder(folder).config() if record is None else record.config
    config = validated(TrialConfig, dict(content), str(folder / "config.json"))
    return config.model_copy(update={"loop": config.loop.model_copy(update={"device": "cpu", "precision": "float32"})})


def inputs_for(name: str, config: TrialConfig, base: TaskModel, resources: Resources) -> Inputs:
    """The inputs that adapters are tried on.

    Args:
        name: `random`; `corpus`, validation items of the target; or files: one of texts, a line each, or recordings,
            separated by commas.
        config: names backbone and corpus.
        base: the backbone's model.
        resources: load them where they are needed.

    Raises:
        UserError: a file cannot be read, or the corpus or the backbone's weights are not there.
    """
    if name == RANDOM:
        return base.encoder.example()
    if name == CORPUS:
        domains = resources.domains(config)
        items = domains.items(config.data.target, "valid")[:NUM_ITEMS]
        batch = domains.plain_task.collate(items, None)
        return batch.inputs, batch.lengths
    backbone = resources.backbone(config.backbone.recipe)
    corpus = _corpus_of(name, backbone)
    task = make_task(backbone.recipe, backbone.symbols, backbone.tokenizer, corpus, None)
    return pad_sequence_batch(task.inputs.prepare(corpus.domains["inputs"]))


def _corpus_of(name: str, backbone: Backbone) -> Corpus:
    """The texts of a file, or the recordings of several, as a corpus without right answers."""
    reads = backbone.recipe.encoder.reads
    paths = [Path(part.strip()) for part in name.split(",")] if reads == "speech" else [Path(name)]
    for path in paths:
        if not path.is_file():
            raise UserError(f"--inputs {name!r}: there is no file {path}; choices: {RANDOM}, {CORPUS}, or a file")
    examples: tuple[Example, ...]
    if reads == "speech":
        examples = tuple(SpeechExample(str(path), str(path), "inputs", path, audio_seconds(path), "") for path in paths)
        content = [content_hash(path.read_bytes().hex()) for path in paths]
    else:
        try:
            content = [line for line in paths[0].read_text(encoding="utf-8").splitlines() if line.strip()]
        except UnicodeDecodeError as error:
            raise UserError(f"--inputs {name!r}: {paths[0]} is no text in UTF-8: {error.reason}") from error
        examples = tuple(TextExample(str(n), str(n), "inputs", text, 0) for n, text in enumerate(content))
        if not examples:
            raise UserError(f"--inputs {name!r}: {paths[0]} has no line with a text")
    return Corpus("inputs", reads, {"inputs": examples}, backbone.symbols, content_hash(content, 64))
