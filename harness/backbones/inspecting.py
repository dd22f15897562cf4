"""What a pretrained encoder does, seen by running it: which layers it reaches, how often, and in which layout.

transformers has hundreds of models. What they have in common is not enough to put adapters into them unseen: some never
call their layers, run one several times, pool the steps between them, put the steps first, or need other inputs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from harness.errors import UserError, first_line, must_be_in

NUM_STEPS = 12  # of the sentence that is tried
MADE = "made by the layer"
LISTS = (".encoder.layers", ".encoder.layer", ".layers")  # names of the layers of speech models
_POSITIONS = re.compile(r"position|wpe$")  # names of tables of learnt positions


@dataclass(frozen=True)
class _Run:
    """One run of a layer: what it was handed, and what it gave."""

    args: tuple[Any, ...]
    options: dict[str, Any]
    output: Any

    def rest(self) -> tuple[int | str | None, ...] | None:
        """See SeenLayer."""
        if isinstance(self.output, Tensor):
            return None
        handed: list[tuple[int | str, Any]] = [*enumerate(self.args), *self.options.items()]
        return tuple(
            None if part is None else next((place for place, value in handed if value is part), MADE)
            for part in self.output[1:]
        )


@dataclass(frozen=True)
class SeenLayer:
    """How one layer ran in one pass.

    Attributes:
        num_runs: more than 1 where several places of the model share its weights.
        steps_first: its output is [T, B, D], as XLNet's.
        rest: of an output of several parts, where each part after the hidden states is from: an argument of the layer
            by its number or name, None where it is nothing, or `MADE`. None where the output is one tensor.
    """

    num_runs: int
    steps_first: bool
    rest: tuple[int | str | None, ...] | None = None


def layers_of(model: nn.Module, at: str | None = None) -> nn.ModuleList:
    """The model's list of layers: of its `ModuleList`s of one class, the one with the most weights.

    In a speech model the convolutions before the encoder may have more weights than its layers, so a list with one of
    `LISTS` as its name goes before others.

    Args:
        model: of transformers.
        at: its name in the model, where it is known.

    Raises:
        UserError: there is none, or the layers are in several lists, as Funnel's, which pools the steps between them.
    """
    lists = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList)
        and len({type(item) for item in module}) == 1
        and not isinstance(module[0], nn.Embedding)
    }
    if not lists:
        raise UserError(f"{type(model).__name__} has no list of layers, so adapters cannot be inserted")
    if at is not None:
        must_be_in(at, lists, f"encoder.layers_at: {type(model).__name__} has no list of layers {at!r}")
        lists = {at: lists[at]}
    if getattr(model, "main_input_name", None) != "input_ids":
        lists = {name: module for name, module in lists.items() if f".{name}".endswith(LISTS)} or lists
    name, layers = max(lists.items(), key=lambda item: sum(weight.numel() for weight in item[1].parameters()))
    if isinstance(layers[0], nn.ModuleList):
        raise UserError(
            f"{type(model).__name__} keeps its layers in {len(layers)} lists ({name}), between which its steps may "
            "change; adapters go behind the layers of one list"
        )
    return layers


def usable_positions(model: nn.Module) -> int | None:
    """The most steps that a model can read; None where it has no such bound.

    RoBERTa and its kin number positions from `padding_idx` + 1, so that a table of 514 rows serves 512 steps. OPT and
    BART keep the first `offset` rows of theirs for nothing.
    """
    found = []
    said = getattr(getattr(model, "config", None), "max_position_embeddings", None)
    if isinstance(said, int) and said > 0:
        found.append(said)
    for name, module in model.named_modules():
        rows = getattr(module, "weight", None)
        if _POSITIONS.search(name) and isinstance(rows, Tensor) and rows.ndim == 2 and _looks_up(module):
            padding, offset = getattr(module, "padding_idx", None), getattr(module, "offset", 0)
            unused = padding + 1 if isinstance(padding, int) else offset if isinstance(offset, int) else 0
            found.append(len(rows) - unused)
    return min(found, default=None)


def _looks_up(module: nn.Module) -> bool:
    """Whether a module is a table of vectors: torch's, or a quantised one like I-BERT's."""
    return isinstance(module, nn.Embedding) or "Embedding" in type(module).__name__


def see_text_layers(model: nn.Module, layers: Sequence[nn.Module], dim: int, num_steps: int) -> list[SeenLayer]:
    """Run a text model, in eval mode, on two sentences and watch its layers.

    Args:
        model: of transformers.
        layers: behind which adapters are to go.
        dim: the width that the layers and the model must give.
        num_steps: of the longer sentence.

    Raises:
        UserError: see `see_layers`; or the model takes other inputs than token ids and a mask.
    """
    num_rows = 2 if num_steps != 2 else 3  # so that rows and steps can be told apart
    inputs = sentences(model, num_rows, num_steps)
    # Longformer pads what it reads on the right, to a multiple of its window, and cuts its output again.
    is_padded = hasattr(getattr(model, "config", None), "attention_window")
    shape = (num_rows, num_steps, dim)
    expected = Expected(type(model).__name__, "sentences", "tokens", "token ids and an attention mask", shape)
    return see_layers(lambda: _last_hidden(model, inputs), layers, expected, is_padded)


@dataclass(frozen=True)
class Expected:
    """What a model is tried on.

    Attributes:
        kind: its class.
        items: what it reads: sentences of tokens, or clips of frames.
        steps: those.
        inputs: as what.
        shape: [B, T, D] that its layers must give.
    """

    kind: str
    items: str
    steps: str
    inputs: str
    shape: tuple[int, int, int]

    @property
    def tried(self) -> str:
        """What was tried, for a message."""
        return f"{self.shape[0]} {self.items} of {self.shape[1]} {self.steps}"


@torch.no_grad()
def see_layers(
    run: Callable[[], Tensor], layers: Sequence[nn.Module], expected: Expected, is_padded: bool = False
) -> list[SeenLayer]:
    """Run a model twice, in eval mode, and watch its layers.

    Args:
        run: a pass, which gives the last hidden states.
        layers: behind which adapters are to go.
        expected: what it runs on, and what its layers must give.
        is_padded: its layers may give more steps, behind the real ones.

    Raises:
        UserError: it fails, gives other outputs for the same input, or an output of another shape; or an adapter behind
            one of the layers would not be reached. One line, which names the layers.
    """
    kind, shape = expected.kind, expected.shape
    runs: list[list[_Run]] = [[] for _ in layers]
    try:
        with _watched(layers, runs), torch.random.fork_rng(devices=[]):
            whole = run()
            num_runs = [len(found) for found in runs]
            again = run()
    # Whatever a model raises, it is one that takes other inputs than these.
    except Exception as error:
        raise UserError(
            f"{kind} fails on {expected.inputs}, so it cannot be an encoder here: {first_line(error)}"
        ) from error
    if whole.shape[2] != shape[2] or (expected.items == "sentences" and tuple(whole.shape) != shape):
        raise UserError(
            f"{kind} gives hidden states of shape {list(whole.shape)} for {expected.tried}, and {list(shape)} is needed"
        )
    if not torch.equal(whole, again):
        raise UserError(f"{kind} gives other outputs when the same {expected.items} are read again")
    unreached = [str(number) for number, count in enumerate(num_runs) if count == 0]
    if unreached:
        raise UserError(
            f"adapters behind layers {', '.join(unreached)} ({type(layers[0]).__name__}) of {kind} would never be "
            "reached: a pass of the model does not call these layers as modules"
        )
    return [_seen(expected, n, found[: num_runs[n]], is_padded) for n, found in enumerate(runs)]


@torch.no_grad()
def reads_beyond_mask(model: nn.Module, num_steps: int) -> bool:
    """Whether what a model gives for a sentence depends on the longer one beside it, in spite of the mask."""
    inputs = sentences(model, 2, num_steps)
    length = int(inputs["attention_mask"][1].sum())
    beside = _last_hidden(model, inputs)[1, :length]
    alone = _last_hidden(model, {name: ids[1:, :length] for name, ids in inputs.items()})[0]
    return not torch.allclose(beside, alone, rtol=1e-3, atol=1e-3)


def _seen(expected: Expected, number: int, runs: Sequence[_Run], is_padded: bool) -> SeenLayer:
    num_rows, num_steps, dim = shape = expected.shape
    seen = set()
    for output in (run.output for run in runs):
        first = output[0] if isinstance(output, (tuple, list)) and output else output
        found = tuple(first.shape) if isinstance(first, Tensor) else type(first).__name__
        padded = is_padded and isinstance(found, tuple) and len(found) == 3 and found[1] > num_steps
        if padded and found == (num_rows, found[1], dim):
            found = shape  # the point takes the real steps alone
        if found not in (shape, (num_steps, num_rows, dim)):
            what = list(found) if isinstance(found, tuple) else f"a {found}"
            raise UserError(
                f"layer {number} of {expected.kind} gives {what} for {expected.tried}, and an adapter behind it needs "
                f"{list(shape)}"
            )
        seen.add(found == (num_steps, num_rows, dim))
    return SeenLayer(len(runs), seen.pop(), runs[0].rest())


def sentences(model: nn.Module, num_rows: int, num_steps: int) -> dict[str, Tensor]:
    """Token ids, none of them padding, and a mask by which all rows but the first are shorter."""
    config: Any = getattr(model, "config", None)
    vocabulary, padding = getattr(config, "vocab_size", None) or 2, getattr(config, "pad_token_id", None)
    token = next(number for number in (vocabulary - 1, vocabulary - 2) if number != padding)
    mask = torch.ones(num_rows, num_steps, dtype=torch.int64)
    mask[1:, (num_steps + 1) // 2 :] = 0
    return {"input_ids": token * mask, "attention_mask": mask}  # batches are padded with 0, whatever the model's own is


def _last_hidden(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    hidden: Tensor = model(**inputs).last_hidden_state
    return hidden


@contextmanager
def _watched(layers: Sequence[nn.Module], runs: list[list[_Run]]) -> Iterator[None]:
    """Keep what each layer is handed, and what it gives."""

    def keep(found: list[_Run]) -> Callable[[nn.Module, tuple[Any, ...], dict[str, Any], Any], None]:
        return lambda module, args, options, output: found.append(_Run(args, options, output))

    handles = [
        layer.register_forward_hook(keep(found), with_kwargs=True) for layer, found in zip(layers, runs, strict=True)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
