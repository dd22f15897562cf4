"""`harness.train_adapters`: each adapter is what a loop in plain torch gives, whatever trains beside it."""

from __future__ import annotations

import copy
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import harness
from harness.api import TrainedAdapter
from harness.data.batching import bucketed_batches
from harness.seeding import derive_seed, torch_generator
from harness.training.checkpoint import load_checkpoint

D, CLASSES, VOCABULARY = 16, 3, 30
LINEAR = {"_target_": "harness.adapters.LinearAdapter", "dim": 8}


class Own(nn.Module):
    """A user's encoder: torch's layers in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, D)
        layer = nn.TransformerEncoderLayer(D, 2, 24, batch_first=True, norm_first=True)
        self.layers: Any = nn.ModuleList(copy.deepcopy(layer) for _ in range(3))
        self.norm = nn.LayerNorm(D)

    def forward(self, ids: Tensor, valid_BT: Tensor) -> Tensor:
        x_BTD = self.embedding(ids)
        for layer in self.layers:
            x_BTD = layer(x_BTD, src_key_padding_mask=~valid_BT)
        out: Tensor = self.norm(x_BTD)
        return out


def bert() -> nn.Module:
    from transformers import BertConfig, BertModel

    sizes: dict[str, Any] = {
        "hidden_size": D,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "intermediate_size": 24,
    }
    return BertModel(BertConfig(vocab_size=VOCABULARY, max_position_embeddings=32, **sizes), add_pooling_layer=False)


class Inside(nn.Module):
    """torch's TransformerEncoder, or layers that are linear modules themselves, or recurrent ones."""

    def __init__(self, num_layers: int, kind: str = "torch") -> None:
        super().__init__()
        self.embedding, self.kind = nn.Embedding(VOCABULARY, D), kind
        layer = nn.TransformerEncoderLayer(D, 2, 24, batch_first=True)
        makes: dict[str, Callable[[], Any]] = {
            "torch": lambda: nn.TransformerEncoder(layer, num_layers),
            "linear": lambda: nn.ModuleList(nn.Linear(D, D) for _ in range(num_layers)),
            "gru": lambda: nn.ModuleList(nn.GRU(D, D, batch_first=True) for _ in range(num_layers)),
        }
        self.layers: Any = makes[kind]()

    def forward(self, ids: Tensor, valid_BT: Tensor) -> Tensor:
        x: Tensor = self.embedding(ids)
        if self.kind == "torch":
            x = self.layers(x, src_key_padding_mask=~valid_BT)
            return x
        for layer in self.layers:
            given = layer(x)
            x = given.tanh() if isinstance(given, Tensor) else given[0]
        return x


@dataclass(frozen=True)
class Kind:
    """A module, where its layers are, and how a loop in plain torch runs it."""

    make: Callable[[], nn.Module]
    layers: Callable[[Any], Any]
    run: Callable[[Any, Tensor, Tensor], Tensor]


KINDS = {
    "own": Kind(Own, lambda module: module.layers, lambda module, ids, valid: module(ids, valid)),
    "bert": Kind(
        bert,
        lambda module: module.encoder.layer,
        lambda module, ids, valid: module(ids, valid.long()).last_hidden_state,
    ),
}


def made(make: Callable[[], nn.Module] = Own) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return make().eval()


def examples(count: int = 44, seed: int = 0, longest: int = 12) -> harness.Examples:
    """Token ids of several lengths; the class follows from the first one."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(3, longest + 1, (count,), generator=generator).tolist()
    inputs = [torch.randint(0, VOCABULARY, (length,), generator=generator) for length in lengths]
    return harness.Examples(inputs, torch.tensor([int(ids[0]) % CLASSES for ids in inputs]))


TRAIN, VALID = examples(), examples(20, seed=1)


def train(adapters: Any, module: nn.Module | None = None, /, **changes: Any) -> dict[str, TrainedAdapter]:
    """A call with what the tests share."""
    settings = {"adapter": LINEAR, "loop": {"epochs": 3, "batch_size": 8}, "backbone.layers": {"from": 1}}
    given: dict[str, Any] = {"train": TRAIN, "valid": VALID, "outputs": CLASSES, "settings": settings}
    given |= {**changes, "settings": settings | changes.get("settings", {})}
    return harness.train_adapters(made() if module is None else module, adapters=adapters, **given)


def strategy(**options: Any) -> dict[str, Any]:
    return {"adapter.adapter_strategy": {"_target_": "harness.adapters.ResidualAddAdapterStrategy", **options}}


MIXED: dict[str, dict[str, Any]] = {
    "plain": {"optim.lr": 0.02},
    "narrow": {"optim.lr": 0.005, "adapter.dim": 5, "seed": 1, "optim.weight_decay": 0.3},
    "dropped": {"optim.lr": 0.01, "seed": 2, **strategy(stochastic_depth=0.5)},
    "pulled": {"optim.lr": 0.01, "seed": 2, **strategy(l2_lambda=0.02), "optim.clip_norm": None},
    "both": {"seed": 3, **strategy(l2_lambda=0.01, stochastic_depth=0.3), "optim.clip_norm": 0.05},
    "batches": {"optim.lr": 0.01, "seed": 4, "loop.batch_size": 7, "optim.warmup": 0.0, "optim.decay": "none"},
    "rows": {"optim.lr": 0.03, "seed": 5, **strategy(stochastic_depth=0.4, drop="row"), "optim.betas": [0.8, 0.99]},
}


# --- a loop in plain torch --------------------------------------------------------------------------------------------


class Bottleneck(nn.Module):
    """An adapter behind a layer: norm, down, SiLU, up; the last one begins at 0."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm, self.down, self.up = nn.LayerNorm(D), nn.Linear(D, dim, bias=False), nn.Linear(dim, D, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.up(F.silu(self.down(self.norm(x))))
        return out


@dataclass
class Expected:
    """What the loop left: weights by their names with us, their moments, and losses."""

    weights: dict[str, Tensor]
    moments: dict[str, Tensor]
    history: list[dict[str, float]]


def plain_loop(kind: Kind, settings: Mapping[str, Any]) -> Expected:
    """One adapter alone, in float64: torch's cross-entropy, clipping and AdamW, and nothing of ours but the order of
    the data and the seeds of its draws."""
    module = made(kind.make).double().requires_grad_(False)
    seed, options = settings.get("seed", 0), settings.get("adapter.adapter_strategy", {})
    drop, weight = options.get("stochastic_depth", 0.0), options.get("l2_lambda", 0.0)
    torch.manual_seed(derive_seed(seed, "init"))
    adapters = [Bottleneck(settings.get("adapter.dim", 8)).double() for _ in range(2)]
    torch.manual_seed(derive_seed(seed, "init", "head"))
    head = nn.Linear(D, CLASSES).double()
    parts = {"head.output": head}
    for number, adapter in enumerate(adapters, 1):
        for name, place in (("norm", 0), ("down", 1), ("up", 3)):
            parts[f"encoder.points.{number}.adapter_layer.adapted.module.{place}"] = getattr(adapter, name)
    named = {f"{path}.{name}": w for path, part in parts.items() for name, w in part.named_parameters()}
    weights = [*named.values()]
    penalties: list[Tensor] = []
    noise: torch.Generator | None = None  # in training

    def behind(adapter: Bottleneck) -> Callable[..., Any]:
        def hook(layer: nn.Module, args: Any, output: Any) -> Any:
            x = output if isinstance(output, Tensor) else output[0]
            out = adapter(x)
            if noise is not None and drop:
                shape = (len(x), 1, 1) if options.get("drop") == "row" else (1, 1, 1)
                kept = torch.empty(shape, dtype=torch.float64).bernoulli_(1 - drop, generator=noise)
                out = kept / (1 - drop) * out
            if noise is not None and weight:
                penalties.append(weight * out.square().sum((1, 2)).mean())
            return x + out if isinstance(output, Tensor) else (x + out, *output[1:])

        return hook

    for layer, adapter in zip(kind.layers(module)[1:], adapters, strict=True):
        layer.register_forward_hook(behind(adapter))

    def loss_of(data: harness.Examples, indices: Sequence[int]) -> Tensor:
        rows = [data.inputs[index] for index in indices]
        valid = nn.utils.rnn.pad_sequence([torch.ones(len(row)) for row in rows], batch_first=True) > 0
        hidden = kind.run(module, nn.utils.rnn.pad_sequence(rows, batch_first=True), valid)
        pooled = (hidden * valid[..., None]).sum(1) / valid.sum(1, keepdim=True)
        return F.cross_entropy(head(pooled), torch.as_tensor([int(data.targets[index]) for index in indices]))

    lr, decay, clip = settings.get("optim.lr", 1e-3), settings.get("optim.weight_decay", 0.01), 1.0
    clip = settings.get("optim.clip_norm", clip)
    warmup, falls = settings.get("optim.warmup", 0.1), settings.get("optim.decay", "linear") == "linear"
    optimizer = torch.optim.AdamW(weights, lr=lr, weight_decay=decay, betas=settings.get("optim.betas", (0.9, 0.999)))
    history = []
    for epoch in range(3):
        noise = torch.Generator().manual_seed(derive_seed(seed, "stochastic_depth", epoch))
        batches = bucketed_batches(
            [len(row) for row in TRAIN.inputs],
            batch_size=settings.get("loop.batch_size", 8),
            generator=torch_generator(seed, "data", "order", epoch),
        )
        sums = [0.0, 0.0]
        for number, indices in enumerate(batches):
            progress = (epoch + number / len(batches)) / 3
            share = progress / warmup if progress < warmup else (1 - progress) / (1 - warmup) if falls else 1.0
            optimizer.param_groups[0]["lr"] = lr * share
            penalties.clear()
            loss = loss_of(TRAIN, indices)
            penalty = torch.stack(penalties).sum() if penalties else torch.zeros(())
            optimizer.zero_grad()
            (loss + penalty).backward()  # type: ignore[no-untyped-call]
            if clip is not None:
                torch.nn.utils.clip_grad_norm_(weights, clip)
            optimizer.step()
            sums = [sums[0] + float(loss.detach()), sums[1] + float(penalty.detach())]
        noise = None
        with torch.no_grad():
            valid = float(torch.stack([loss_of(VALID, [n]) for n in range(len(VALID.inputs))]).mean())
        means = [total / len(batches) for total in sums]
        history.append({"train/loss": means[0], "train/auxiliary_loss": means[1], "valid/loss": valid})
    moments = {f"{name}/{m}": optimizer.state[w][m] for name, w in named.items() for m in ("exp_avg", "exp_avg_sq")}
    return Expected({name: w.detach() for name, w in named.items()}, moments, history)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_each_adapter_is_what_a_plain_loop_gives(kind: str, tmp_path: Path) -> None:
    """float64, 1e-12: every weight, moment and loss of seven adapters that differ in all that they may differ in."""
    module = made(KINDS[kind].make).double()
    loop = {"epochs": 3, "batch_size": 8, "precision": "float64"}
    found = train(MIXED, module, settings={"loop": loop}, checkpoints=tmp_path)
    saved = [load_checkpoint(path) for path in tmp_path.iterdir()]
    by_loss = {one.values["state"]["history"][0]["metrics"]["valid/loss"]: one for one in saved}
    for name, trained in found.items():
        assert (trained.engine, trained.why_alone, trained.error) == ("packed", None, None)
        expected = plain_loop(KINDS[kind], MIXED[name])
        for ours, theirs in zip(trained.history, expected.history, strict=True):
            assert {key: ours[key] for key in theirs} == pytest.approx(theirs, rel=1e-12, abs=1e-14)
        checkpoint = by_loss[trained.history[0]["valid/loss"]]
        assert_close(checkpoint.group("weights"), expected.weights)
        assert_close(checkpoint.group("optimizer"), expected.moments)


def assert_close(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    for name, theirs in expected.items():
        assert float((found[name] - theirs).abs().max()) <= 1e-12 * float(theirs.abs().max()), name


# --- bits -------------------------------------------------------------------------------------------------------------


def assert_same_bits(found: TrainedAdapter, expected: TrainedAdapter) -> None:
    ours, theirs = found.state_dict(), expected.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert without_seconds(found) == without_seconds(expected)


def without_seconds(trained: TrainedAdapter) -> list[dict[str, float]]:
    return [{key: value for key, value in entry.items() if key != "seconds"} for entry in trained.history]


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*KINDS, "torch"])
def test_bits_do_not_depend_on_the_others(kind: str) -> None:
    """float32: packs of 1, 3 (four adapters begin when others end) and 8 give the same; so does another order."""
    module = made(KINDS[kind].make if kind in KINDS else lambda: Inside(3))
    alone = train(MIXED, module, at_once=1)
    for at_once in (3, 8):
        together = train(dict(reversed(MIXED.items())), module, at_once=at_once)
        assert list(together) == list(reversed(MIXED))
        for name, expected in alone.items():
            assert together[name].engine == "packed"
            assert_same_bits(together[name], expected)


def test_a_nan_stays_with_its_adapter() -> None:
    """It ends with a line that says where; what it has learnt cannot be taken for a result."""
    wild = {"optim.lr": 1e30, "optim.clip_norm": None}
    found = train({"wild": wild, "tame": {"seed": 1}, "other": {"seed": 2}})
    assert found["wild"].error is not None and found["wild"].error.reason == "nan"
    assert str(found["wild"].error).startswith("the loss is nan at epoch 1, step")
    for read in (found["wild"].state_dict, lambda: found["wild"].scores(TRAIN.inputs)):
        with pytest.raises(harness.TrialError, match="nan"):
            read()
    for name, expected in train({"tame": {"seed": 1}, "other": {"seed": 2}}).items():
        assert found[name].error is None
        assert_same_bits(found[name], expected)


def test_an_interrupted_call_goes_on(tmp_path: Path) -> None:
    """Ctrl-C in the second epoch; made again, the call gives the bits of one that was not stopped."""
    adapters = {name: MIXED[name] for name in ("plain", "both")}
    whole, epochs = train(adapters), []

    def stop(name: str, numbers: Mapping[str, float]) -> None:
        epochs.append((name, numbers["epoch"]))
        if numbers["epoch"] == 2:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(adapters, checkpoints=tmp_path, on_epoch=stop)
    assert len(epochs) < 6
    resumed = train(adapters, checkpoints=tmp_path)
    for name, expected in whole.items():
        assert_same_bits(resumed[name], expected)
    other = train(adapters, checkpoints=tmp_path, train=examples(seed=5))
    assert all(one.error is not None and "other data" in str(one.error) for one in other.values())


def test_an_adapter_is_stopped_by_whoever_listens() -> None:
    """True ends one of them after its epoch; the other goes on, and has the bits that it has alone."""
    found = train({"bad": {}, "good": {"seed": 1}}, on_epoch=lambda name, numbers: name == "bad")
    assert found["bad"].pruned and len(found["bad"].history) == 1
    assert not found["good"].pruned
    assert_same_bits(found["good"], train({"good": {"seed": 1}})["good"])


def test_the_module_is_left_as_it_was() -> None:
    """Weights, mode, hooks and requires_grad; and the caller's threads and global generator."""
    module = made().train()
    before, threads = {name: w.clone() for name, w in module.state_dict().items()}, torch.get_num_threads()
    state = torch.get_rng_state()
    found = train({"a": {"loop": {"threads": 2, "epochs": 1}}}, module)
    assert torch.equal(torch.get_rng_state(), state) and torch.get_num_threads() == threads
    assert all(torch.equal(w, before[name]) for name, w in module.state_dict().items())
    assert module.training and all(weight.requires_grad for weight in module.parameters())
    assert not any(part._forward_hooks for part in module.modules())
    (scores,) = found["a"].scores(TRAIN.inputs[:1])
    assert scores.shape == (CLASSES,) and not found["a"].model.training
