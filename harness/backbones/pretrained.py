"""Real pretrained text encoders through transformers: from a folder, an installed package, or the hub and its cache.

Adapters are hooked behind each layer of the model, so any encoder with a list of layers can be adapted as it is.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

import harness.data.audio_backend  # noqa: F401 - transformers imports torchaudio, which may need its stand-in
from harness.adapters import InsertionPoint, attach_by_hook
from harness.backbones.blocks import valid_steps
from harness.backbones.encoders import LibraryEncoder
from harness.backbones.fetched import PREFIX, fetched_folder
from harness.backbones.hub import hub_folder, hub_note, is_hub_id
from harness.backbones.inspecting import (
    NUM_STEPS,
    SeenLayer,
    layers_of,
    reads_beyond_mask,
    see_text_layers,
    sentences,
    usable_positions,
)
from harness.backbones.two_parts import run_from, run_to, whole_masks
from harness.config.places import find_path, folder_of
from harness.disk import read_mapping
from harness.errors import UserError, first_line

SAFE: Any = {"local_files_only": True, "trust_remote_code": False}  # None would ask at the terminal
PICKLED = "pytorch_model.bin"
UNUSED = {"pooler", "masked_spec_embed"}  # parts that the last hidden state of a frozen model does not depend on
VOCABULARIES: tuple[set[str], ...] = (
    {"vocab.txt"},
    {"vocab.json", "merges.txt"},
    {"spiece.model"},
    {"sentencepiece.bpe.model"},
    {"tokenizer.model"},
)


def model_directory(path: str) -> Path:
    """Resolve `package:NAME/SUBDIR`, `fetched:NAME`, a folder, or else the id of a model in the hub.

    Raises:
        UserError: the package is not installed, the model was not fetched, or there is no such folder with a
            config.json, nor such a model in the hub or its cache.
    """
    if path.startswith(PREFIX):
        return fetched_folder(path.removeprefix(PREFIX))
    if path.startswith("package:"):
        package, _, rest = path.removeprefix("package:").partition("/")
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            name = package.replace("_", "-")
            raise UserError(f"encoder.path: package {package!r} is not installed; run: pip install {name}")
        directory = Path(spec.origin).parent / rest
    else:
        try:
            directory = find_path(path, folder_of(path))
        except UserError as error:
            if is_hub_id(path):
                return hub_folder(path)
            raise UserError(f"encoder.path: {error}") from error
    if not (directory / "config.json").is_file():
        raise UserError(f"encoder.path: {path}: no config.json there, so it is not a transformers model folder")
    return directory


class PretrainedTextEncoder(LibraryEncoder):
    """A transformers encoder (BERT-like: token ids and an attention mask in, last hidden state out).

    Of a model with encoder and decoder (T5, BART), it is the encoder.

    Attributes:
        notes: what a record must tell of the model.

    Raises:
        UserError: transformers cannot load the folder, weights are missing from it, or its model is none that adapters
            can be put into (harness.backbones.inspecting).
    """

    def __init__(self, directory: Path, max_length: int, notes: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.model = load_transformers_model(directory)
        if getattr(self.model, "main_input_name", None) in ("input_values", "input_features"):
            kind = type(self.model).__name__
            raise UserError(f"encoder.path: {directory}: {kind} reads speech; set encoder.family to speech")
        self.dim = _width(self.model, directory)
        positions = usable_positions(self.model)
        if positions is not None and positions < max_length:
            raise UserError(f"encoder.max_length: {max_length}, but {directory} has {positions} positions")
        try:
            layers = layers_of(self.model)
            seen = see_text_layers(self.model, list(layers), self.dim, min(max_length, NUM_STEPS))
        except UserError as error:
            raise UserError(f"encoder.path: {directory}: {error}") from error
        points = [InsertionPoint(self.dim) for _ in layers]
        self.points = nn.ModuleList(points)
        for layer, point, found in zip(layers, points, seen, strict=True):
            attach_by_hook(layer, point, steps_first=found.steps_first)
        self._seen = seen
        self.mixes_rows = True if any(found.steps_first for found in seen) else None  # XLNet's products are of all rows
        self.repeats_layers = any(found.num_runs > 1 for found in seen)
        self.notes = (*hub_note(directory), *notes, *_notes(layers, seen))
        if reads_beyond_mask(self.model, min(max_length, NUM_STEPS)):
            self.notes += ("what the backbone gives for a text depends on the texts beside it in a batch",)
        self.find_layers(layers)
        self._num_tried = min(max_length, NUM_STEPS)

    def example(self) -> tuple[Tensor, Tensor]:
        inputs = sentences(self.model, 2 if self._num_tried != 2 else 3, self._num_tried)
        return inputs["input_ids"], inputs["attention_mask"].sum(1)

    def forward(self, inputs: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        valid_BT = valid_steps(lengths_B, inputs.shape[1])
        self.tell_valid(valid_BT)
        read = self.model(**self._read(inputs), attention_mask=valid_BT.long())
        hidden_BTD: Tensor = self.end(read.last_hidden_state)
        return hidden_BTD, valid_BT

    def forward_to(self, inputs: Tensor, lengths_B: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        if layer == self.num_layers:
            with whole_masks():
                return self(inputs, lengths_B)
        valid_BT = valid_steps(lengths_B, inputs.shape[1])
        self.tell_valid(valid_BT)
        run = partial(self.model, **self._read(inputs), attention_mask=valid_BT.long())
        x_BTD = run_to(run, self.layers, self._seen, layer)
        return x_BTD[:, : inputs.shape[1]], valid_BT

    def forward_from(self, x_BTD: Tensor, valid_BT: Tensor, layer: int) -> Tensor:
        if layer == self.num_layers:
            return x_BTD
        self.tell_valid(valid_BT)
        # No layer sees these tokens, but the model makes its masks and positions for as many rows and steps.
        tokens_BT = torch.zeros_like(valid_BT, dtype=torch.int64)
        run = partial(self.model, input_ids=tokens_BT, attention_mask=valid_BT.long())
        hidden: Tensor = self.end(run_from(run, self.layers, self._seen, layer, x_BTD).last_hidden_state)
        return hidden

    def _read(self, inputs: Tensor) -> dict[str, Tensor]:
        """What the model gets: token ids [B, T]; of pairs, [B, T, 2], also the numbers of the texts they are of.

        Those are left out where the model was made without them (RoBERTa, DistilBERT, T5): there, the tokens between
        the two texts part them.
        """
        if inputs.ndim == 2:
            return {"input_ids": inputs}
        has_kinds = getattr(self.model.config, "type_vocab_size", 0) > 1
        return {"input_ids": inputs[..., 0]} | ({"token_type_ids": inputs[..., 1]} if has_kinds else {})


def _width(model: nn.Module, directory: Path) -> int:
    width = getattr(model.config, "hidden_size", None)
    if not isinstance(width, int):
        raise UserError(f"encoder.path: {directory}: the config of {type(model).__name__} has no hidden_size")
    return width


def _notes(layers: nn.ModuleList, seen: list[SeenLayer]) -> tuple[str, ...]:
    """What must be told of layers that several places share: their adapters are shared as well."""
    return tuple(
        f"{found.num_runs} places of the backbone share layer {number} ({type(layer).__name__}), and its adapter too"
        for number, (layer, found) in enumerate(zip(layers, seen, strict=True))
        if found.num_runs > 1
    )


Part = Literal["encoder", "ctc", "seq2seq"]
"""What is taken of a model: its encoder (all of a model that has no decoder), or all with its output layer."""
CLASSES: dict[Part, str] = {
    "encoder": "AutoModel",
    "ctc": "AutoModelForCTC",
    "seq2seq": "AutoModelForSpeechSeq2Seq",
}


@torch.no_grad()
def load_transformers_model(directory: Path, part: Part = "encoder") -> nn.Module:
    """The folder's model, in eval mode, with exactly the weights that lie there.

    A pooler that the folder lacks is set to zero: the last hidden states do not depend on it, and random weights
    would change the backbone's fingerprint each time.

    Raises:
        UserError: transformers cannot load it, or other weights are missing.
    """
    config, kind = _config_and_class(directory, part)
    try:
        with _quiet_transformers():
            # float32 and the plain attention path: the base must be restored exactly.
            model, report = kind.from_pretrained(
                directory, config=config, use_safetensors=True, dtype=torch.float32, output_loading_info=True, **SAFE
            )
    # The library and its readers of files have no error in common; whatever it is, the folder is the user's.
    except Exception as error:
        if (directory / PICKLED).is_file() and not any(directory.glob("*.safetensors")):
            raise UserError(
                f"encoder.path: {directory}: {PICKLED} may run code when it is read, so it is not; load it where you "
                "trust it, and write it again with save_pretrained, which makes a model.safetensors"
            ) from error
        raise UserError(f"encoder.path: {directory}: transformers cannot load it: {first_line(error)}") from error
    loaded, missing = _part_of(model, part), set(report["missing_keys"])
    needed = {id(weight) for weight in loaded.parameters()}  # a folder of T5's encoder alone has no decoder
    unread = {name: weight for name, weight in model.named_parameters() if name in missing and id(weight) in needed}
    strangers = sorted(name for name in unread if not UNUSED & {*name.split(".")} and not _is_formula(model, name))
    if strangers:
        raise UserError(f"encoder.path: {directory}: {len(strangers)} weights are missing, for example {strangers[0]}")
    for name, weight in unread.items():
        if not _is_formula(model, name):
            weight.zero_()
    return loaded


def _config_and_class(directory: Path, part: Part) -> tuple[Any, Any]:
    """A folder's configuration, and what makes a model of it."""
    import transformers

    library: Any = transformers
    try:
        config = library.AutoConfig.from_pretrained(directory, **SAFE)
    except Exception as error:  # as in load_transformers_model
        raise UserError(f"encoder.path: {directory}: transformers cannot load it: {first_line(error)}") from error
    return config, getattr(library, CLASSES[part])


def _part_of(model: Any, part: Part) -> nn.Module:
    """The encoder of a model that has a decoder as well; else, and where all is wanted, the model itself."""
    if part != "encoder":
        whole: nn.Module = model
        return whole
    # T5EncoderModel has the config of a T5 without a decoder; AutoModel knows nothing smaller than ParakeetForCTC.
    within = type(model).__name__.endswith("ForCTC") or any(
        name.endswith("EncoderModel") for name in model.config.architectures or ()
    )
    encoder: nn.Module = model.get_encoder() if within or model.config.is_encoder_decoder else model
    return encoder


def _is_formula(model: nn.Module, name: str) -> bool:
    """Whether a weight is a table of sines, which a folder need not hold (Marian's positions)."""
    return "Sinusoidal" in type(model.get_submodule(name.rpartition(".")[0])).__name__


def model_type_of(directory: Path) -> str:
    """The `model_type` of a folder's config.json.

    Raises:
        UserError: it cannot be read, or has none.
    """
    kind = _config_of(directory).get("model_type")
    if not isinstance(kind, str):
        raise UserError(f"encoder.path: {directory}: its config.json has no model_type")
    return kind


def architectures_of(directory: Path) -> tuple[str, ...]:
    """The classes that a folder's config.json names; raises UserError as `model_type_of`."""
    return tuple(map(str, _config_of(directory).get("architectures") or ()))


def _config_of(directory: Path) -> dict[str, Any]:
    try:
        return read_mapping(directory / "config.json")
    except ValueError as error:
        raise UserError(f"encoder.path: {directory}: its config.json cannot be read: {error}") from error


def build_transformers_model(directory: Path, part: Part = "encoder") -> nn.Module:
    """As `load_transformers_model`, with fresh weights.

    Raises:
        UserError: transformers cannot build it.
    """
    config, kind = _config_and_class(directory, part)
    try:
        with _quiet_transformers():
            model = kind.from_config(config, dtype=torch.float32).eval()
    except Exception as error:  # as in load_transformers_model
        raise UserError(f"encoder.path: {directory}: transformers cannot build it: {first_line(error)}") from error
    return _part_of(model, part)


def older_tokenizer(directory: Path) -> Tokenizer:
    """The tokenizer of a folder without tokenizer.json, made by transformers from the vocabulary that lies there.

    Raises:
        ValueError: there is no vocabulary, or transformers cannot make a tokenizer of it.
    """
    names = {path.name for path in directory.iterdir()}
    # Without any of these, transformers would make a tokenizer that knows no word, and say nothing.
    if not any(needed <= names for needed in VOCABULARIES):
        told = ", ".join(" with ".join(sorted(needed, reverse=True)) for needed in VOCABULARIES)
        raise ValueError(f"no tokenizer.json there, nor another vocabulary ({told})")
    from transformers import AutoTokenizer

    try:
        with _quiet_transformers():
            made: Any = AutoTokenizer.from_pretrained(directory, **SAFE)
            tokenizer: Tokenizer = made.backend_tokenizer
    except Exception as error:  # as in load_transformers_model
        raise ValueError(f"no tokenizer.json there, and transformers cannot make one: {first_line(error)}") from error
    return tokenizer


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Switch off transformers' progress bars and reports: what matters is raised."""
    from transformers.utils import logging as transformers_logging

    logging: Any = transformers_logging
    verbosity, had_bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if had_bar:
            logging.enable_progress_bar()
