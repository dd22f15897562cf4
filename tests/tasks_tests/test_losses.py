"""Losses, targets and answers of the tasks against numpy, and how words and pairs become inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pretrained_kinds import write_encoder
from tokenizers import Tokenizer, models, pre_tokenizers

from harness.backbones.blocks import valid_steps
from harness.backbones.pooling import POOLINGS
from harness.backbones.pretrained import PretrainedTextEncoder
from harness.backbones.recipe import Recipe
from harness.backbones.store import pretrained_tokenizer
from harness.config.trial import LoopSettings
from harness.data.corpus import Corpus, TextExample
from harness.errors import UserError
from harness.tasks.inputs import TextInputs
from harness.tasks.losses import LossOptions, class_losses
from harness.tasks.making import make_task
from harness.tasks.registry import TASKS
from harness.tasks.regression import RegressionTask
from harness.tasks.task import Batch, Item
from harness.tasks.text_classification import ClassificationTask
from harness.tasks.token_tagging import TaggingTask
from harness.training.pretrain import make_tokenizer

Numbers = NDArray[np.float64]
NAMES = ("bad", "fair", "good")
TAGS = ("B-A", "I-A", "O")


def numpy_losses(
    scores_RC: Numbers, targets: list[int], smoothing: float, weights: tuple[float, ...] | None
) -> Numbers:
    """Cross-entropy with a target of 1 - s on the right class and s / C on all, times the weight of the class."""
    log_probs = scores_RC - np.log(np.exp(scores_RC).sum(1, keepdims=True))
    wanted = np.full(scores_RC.shape, smoothing / scores_RC.shape[1])
    wanted[np.arange(len(targets)), targets] += 1.0 - smoothing
    losses: Numbers = -(wanted * log_probs).sum(1)
    return losses if weights is None else losses * np.array(weights)[targets]


def log_softmax(scores: Numbers) -> Numbers:
    result: Numbers = scores - np.log(np.exp(scores).sum(-1, keepdims=True))
    return result


@pytest.mark.parametrize("name", ["text_classification", "token_tagging", "ctc", "seq2seq", "regression"])
def test_divergence_from_the_base_model(name: str) -> None:
    """Value and gradient, T^2 sum p log(p / q) and T (q - p), of each example; padding may be NaN and has none."""
    draw = np.random.default_rng(1)
    shape, temperature = {"text_classification": (3, 4), "regression": (3, 1)}.get(name, (3, 5, 4)), 2.5
    scores, base = draw.normal(size=shape), draw.normal(size=shape)
    valid_BT = torch.arange(5) < torch.tensor([5, 2, 3])[:, None]
    # Words at the pieces 0 and 3, and one without a piece; one word at 1; three at 0, 1 and 2. Tags do not matter.
    words, num_words = torch.tensor([[0, 14, -1], [5, 0, 0], [3, 7, 8]]), torch.tensor([3, 1, 3])
    places: dict[str, list[list[int]]] = {
        "token_tagging": [[0, 3], [1], [0, 1, 2]],
        "ctc": [[0, 1, 2, 3, 4], [0, 1], [0, 1, 2]],
        "seq2seq": [[0, 1, 2, 3], [0, 1], [0, 1, 2, 3]],  # the tokens, and the end
    }
    if name in places:
        for row, chosen in enumerate(places[name]):
            unread = [step for step in range(5) if step not in chosen]
            scores[row, unread] = base[row, unread] = np.nan
    leaf, inputs = torch.tensor(scores, requires_grad=True), TextInputs(None, 4)
    task = TASKS[name](("a", "b", "c", "d") if name != "ctc" else ("a", "b", "c"), inputs)
    batch = Batch(torch.zeros(3, 5), valid_BT.sum(1), words, num_words)
    t = 1.0 if name == "regression" else temperature
    rows = task.kl_rows(leaf, torch.tensor(base), valid_BT, batch, t)
    rows.sum().backward()  # type: ignore[no-untyped-call]
    log_p, log_q = log_softmax(base / t), log_softmax(scores / t)
    values, slopes = t**2 * (np.exp(log_p) * (log_p - log_q)).sum(-1), t * (np.exp(log_q) - np.exp(log_p))
    if name == "regression":
        values, slopes = (scores - base)[:, 0] ** 2 / 2, scores - base
    if name in places:
        shares = np.zeros((3, 5))
        for row, chosen in enumerate(places[name]):
            shares[row, chosen] = 1 / len(chosen)
        values, slopes = np.nansum(shares * values, axis=1), np.nan_to_num(shares[..., None] * slopes)
    np.testing.assert_allclose(rows.detach(), values, rtol=1e-12)
    assert leaf.grad is not None
    np.testing.assert_allclose(leaf.grad, slopes, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("weights", [None, (0.5, 2.0, 1.25)])
def test_losses_of_classes(smoothing: float, weights: tuple[float, ...] | None) -> None:
    draw = np.random.default_rng(0)
    scores_RC, targets = draw.normal(size=(7, 3)), [0, 1, 2, 2, 1, 0, 1]
    options = LossOptions(smoothing, weights)
    found = class_losses(torch.tensor(scores_RC), torch.tensor(targets), options)
    np.testing.assert_allclose(found, numpy_losses(scores_RC, targets, smoothing, weights), rtol=1e-12)
    task = ClassificationTask(NAMES, TextInputs(None, 4))
    task.loss_options = options
    items = [Item(str(n), torch.zeros(1, dtype=torch.int64), torch.tensor(t), t) for n, t in enumerate(targets)]
    loss = task.loss(torch.tensor(scores_RC), torch.ones(7, 1), task.collate(items, None))
    assert float(loss) == pytest.approx(numpy_losses(scores_RC, targets, smoothing, weights).mean(), rel=1e-12)
    assert class_losses(torch.tensor(scores_RC).bfloat16(), torch.tensor(targets), options).dtype == torch.float32


def test_weights_of_classes_are_counted_in_the_training_sample() -> None:
    """As scikit-learn's "balanced": n / (classes that occur * n of the class); 1 for one without an example."""
    task = ClassificationTask(NAMES, TextInputs(None, 4))
    labels = [0, 0, 0, 2]
    items = [Item(str(n), torch.zeros(1), torch.tensor(label), label) for n, label in enumerate(labels)]
    balanced = task.for_training(LoopSettings(class_weights="balanced"), items)
    assert balanced.loss_options.class_weights == pytest.approx((4 / (2 * 3), 1.0, 4 / (2 * 1)))
    named = task.for_training(LoopSettings(class_weights={"good": 3.0}, label_smoothing=0.1), items)
    assert named.loss_options == LossOptions(0.1, (1.0, 1.0, 3.0))
    assert task.for_training(LoopSettings(), items) is task and task.loss_options == LossOptions()
    tagging = TaggingTask(TAGS, TextInputs(None, 4))
    words = [Item("k", torch.zeros(4), torch.tensor([1 * 3 + 0, 2 * 3 + 1, -1, 3 * 3 + 1]), "")]
    found = tagging.for_training(LoopSettings(class_weights="balanced"), words).loss_options.class_weights
    assert found == pytest.approx((3 / (2 * 1), 3 / (2 * 2), 1.0)), "words that are not seen do not count"


class Pieces:
    """A tokenizer that cuts words into pieces of two letters, and puts a special token at both ends."""

    def encode(self, text: str) -> Any:
        offsets = [(0, 0)]
        start = 0
        for word in text.split(" "):
            visible = "" if word == "\u25a1" else word  # of a word that the normaliser takes away, nothing is left
            offsets += [(start + n, min(start + n + 2, start + len(word))) for n in range(0, len(visible), 2)]
            start += len(word) + 1
        self.offsets = [*offsets, (0, 0)]
        self.ids = list(range(len(self.offsets)))
        return self


def tagged(words: tuple[str, ...], tags: tuple[str, ...]) -> TextExample:
    return TextExample("k", "g", "d", text=" ".join(words), words=words, tags=tags)


def test_the_first_piece_of_a_word_carries_its_tag() -> None:
    """Pieces: [CLS] Pe te r sl ee ps [SEP], cut behind the sixth; a word of which nothing is left has none."""
    task = TaggingTask(TAGS, TextInputs(Pieces(), 6))
    example = tagged(("Peter", "\u25a1", "sleeps", "now"), ("B-A", "I-A", "O", "B-A"))
    assert task.inputs.word_places(example) == [1, None, 4, None]
    (item,) = task.encode([example])
    assert item.target.tolist() == [1 * 3 + 0, -1, 4 * 3 + 2, -1] and item.reference == "B-A I-A O B-A"
    scores_BTV = torch.zeros(1, 6, 3, dtype=torch.float64)
    scores_BTV[0, 1, 1] = scores_BTV[0, 4, 0] = 5.0
    batch = task.collate([item], None)
    assert task.predict(scores_BTV, torch.ones(1, 6), batch) == ["I-A O B-A O"]


def test_the_loss_of_tags_is_a_sentences_mean_over_its_words() -> None:
    task = TaggingTask(TAGS, TextInputs(Pieces(), 99))
    examples = [
        tagged(("Peter", "sleeps"), ("B-A", "O")),
        tagged(("A", "b", "c"), ("O", "I-A", "O")),
        tagged(("\u25a1",), ("O",)),  # nothing is seen of it: nothing is learnt from it
    ]
    items = task.encode(examples)
    batch = task.collate(items, None)
    scores = np.random.default_rng(0).normal(size=(3, 12, 3))  # more steps than there are pieces
    valid_BT = valid_steps(batch.lengths, 12)
    expected = [
        numpy_losses(scores[0, [1, 4]], [0, 2], 0.0, None).mean(),
        numpy_losses(scores[1, [1, 2, 3]], [2, 1, 2], 0.0, None).mean(),
        0.0,
    ]
    found = task.loss_rows(torch.tensor(scores), valid_BT, batch)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert float(task.loss(torch.tensor(scores), valid_BT, batch)) == pytest.approx(np.mean(expected), rel=1e-12)
    poisoned = torch.tensor(scores).masked_fill(~valid_BT[..., None], torch.nan)
    np.testing.assert_allclose(task.loss_rows(poisoned, valid_BT, batch), expected, rtol=1e-12)
    task.loss_options = LossOptions(0.2, (2.0, 1.0, 0.5))
    smoothed = numpy_losses(scores[0, [1, 4]], [0, 2], 0.2, (2.0, 1.0, 0.5)).mean()
    assert float(task.loss_rows(torch.tensor(scores), valid_BT, batch)[0]) == pytest.approx(smoothed, rel=1e-12)


def test_the_loss_of_numbers_is_the_squared_error() -> None:
    task = RegressionTask((), TextInputs(None, 4))
    values = [1.5, -2.0, 0.1]
    items = [Item(str(n), torch.zeros(1), torch.tensor(v, dtype=torch.float64), v) for n, v in enumerate(values)]
    batch, scores = task.collate(items, None), torch.tensor([[1.0], [2.0], [0.1]], dtype=torch.float64)
    assert task.loss_rows(scores, torch.ones(3, 1), batch).tolist() == pytest.approx([0.25, 16.0, 0.0])
    assert float(task.loss(scores, torch.ones(3, 1), batch)) == pytest.approx(16.25 / 3)
    assert task.predict(scores, torch.ones(3, 1), batch) == [1.0, 2.0, 0.1]
    half = batch.to(torch.device("cpu"), torch.float32)
    assert task.loss(scores.float(), torch.ones(3, 1), half).dtype == torch.float32
    assert task.answer_text(-1.23456, ()) == "-1.23"


@pytest.mark.parametrize("name", POOLINGS)
def test_poolings(name: str) -> None:
    """Against numpy; a padded step counts for nothing, and one step alone is what is given."""
    hidden = np.random.default_rng(0).normal(size=(2, 4, 3))
    lengths = [4, 2]
    pool: Any = POOLINGS[name](3).double()
    query = np.zeros(3)
    if name == "attention":
        query = np.array([0.5, -1.0, 2.0])
        assert not pool.query.any(), "it begins as the mean"
        pool.query.data = torch.tensor(query)
    expected = []
    for row, length in zip(hidden, lengths, strict=True):
        real = row[:length]
        weights = np.exp(real @ query / np.sqrt(3))
        one = {"first": real[0], "last": real[-1]}.get(name, (weights[:, None] * real).sum(0) / weights.sum())
        expected.append(one)
    valid_BT = valid_steps(torch.tensor(lengths), 4)
    poisoned = torch.tensor(hidden).masked_fill(~valid_BT[..., None], torch.nan)
    for tensor in (torch.tensor(hidden), poisoned):
        np.testing.assert_allclose(pool(tensor, valid_BT).detach(), expected, rtol=1e-12)
    single = torch.tensor(hidden)[:, :1]
    assert torch.equal(pool(single, torch.ones(2, 1, dtype=torch.bool)), single[:, 0])


def pairs_corpus(*pairs: tuple[str, str]) -> Corpus:
    examples = tuple(
        TextExample(f"{n}", f"{n}", "d", text=one, second=other, label=n % 2) for n, (one, other) in enumerate(pairs)
    )
    return Corpus("pairs", "text", {"d": examples}, ("no", "yes"), "f")


def recipe_of(**encoder: Any) -> Recipe:
    content = {"name": "r", "task": "text_pair_classification", "data": {"corpus": "c", "domains": ["d"]}}
    return Recipe.model_validate({**content, "encoder": encoder})


@pytest.mark.slow
def test_pairs_reach_a_model_as_its_tokenizer_joins_them(tmp_path: Path) -> None:
    """Against the model called by hand with input_ids and token_type_ids; without the types it gives other numbers."""
    folder = write_encoder("bert", tmp_path)
    recipe = recipe_of(kind="transformers", path=str(folder), max_length=12)
    corpus = pairs_corpus(("the kitchen was awful", "it is awful"), ("a lovely lamp " * 4, "it is plain"))
    tokenizer = pretrained_tokenizer(recipe.encoder)  # type: ignore[arg-type]
    task = make_task(recipe, ("no", "yes"), tokenizer, corpus, None)
    items = task.encode(corpus.domains["d"])
    encoder = PretrainedTextEncoder(folder, 12).eval()
    batch = task.collate(items, None)
    with torch.no_grad():
        found_BTD, _ = encoder(batch.inputs, batch.lengths)
        cut_BTD = encoder.forward_from(*encoder.forward_to(batch.inputs, batch.lengths, 1), 1)
        for row, (item, example) in enumerate(zip(items, corpus.domains["d"], strict=True)):
            assert isinstance(example, TextExample)
            encoding = tokenizer.encode(example.text, example.second)
            ids, kinds = torch.tensor([encoding.ids]), torch.tensor([encoding.type_ids])
            assert item.inputs.T.tolist() == [encoding.ids, encoding.type_ids] and set(encoding.type_ids) == {0, 1}
            right_TD = encoder.model(input_ids=ids, token_type_ids=kinds).last_hidden_state[0]
            blind_TD = encoder.model(input_ids=ids).last_hidden_state[0]
            torch.testing.assert_close(found_BTD[row, : len(item.inputs)], right_TD, rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(cut_BTD[row, : len(item.inputs)], right_TD, rtol=1e-5, atol=1e-5)
            assert not torch.allclose(blind_TD, right_TD, atol=1e-3)
    assert task.inputs.cut == {"1"}, "the longer text is cut, and the shorter one is still there whole"
    assert tokenizer.decode(items[1].inputs[:, 0].tolist()).endswith("it is plain")


def test_our_own_tokenizer_parts_the_texts_of_a_pair() -> None:
    corpus = pairs_corpus(*[("one two three", "four")] * 8)
    recipe = recipe_of(kind="text", vocab_size=60, max_length=9)
    tokenizer = make_tokenizer(recipe, corpus)
    assert tokenizer is not None
    task = make_task(recipe, ("no", "yes"), tokenizer, corpus, None)
    (item,) = task.encode(corpus.domains["d"][:1])
    separator = tokenizer.token_to_id("[SEP]")
    parts = [tokenizer.encode(text).ids for text in ("one two three", "four")]
    assert item.inputs.tolist() == [*parts[0], separator, *parts[1]]
    single = make_tokenizer(
        recipe_of(kind="text"), Corpus("c", "text", {"d": (TextExample("k", "g", "d", "a", 0),)}, ("x",), "f")
    )
    assert single is not None and single.token_to_id("[SEP]") is None, "tokenizers of single texts are as they were"


def test_a_tokenizer_that_puts_nothing_between_two_texts_is_refused() -> None:
    bare = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    bare.pre_tokenizer = pre_tokenizers.Whitespace()
    with pytest.raises(
        UserError, match=r"^recipe r: the tokenizer of encoder\.kind text puts nothing between two texts"
    ) as told:
        make_task(recipe_of(kind="text"), ("no", "yes"), bare, pairs_corpus(("a", "b")), None)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    "task, example, message",
    [
        ("regression", {"label": 0}, "task: regression needs number, but .* have class; choices: text_classification$"),
        ("token_tagging", {"value": 1.0}, "needs tags, but .* have number; choices: regression$"),
        (
            "text_classification",
            {"label": 0, "second": "b"},
            "needs class and no second text, .*; choices: text_pair_class",
        ),
        ("text_pair_classification", {"label": 0}, "needs class and second text, but .*; choices: text_classification"),
    ],
)
def test_a_corpus_that_a_task_cannot_learn(task: str, example: dict[str, Any], message: str) -> None:
    corpus = Corpus("c", "text", {"d": (TextExample("k", "g", "d", "a", **example),)}, (), "f")
    recipe = recipe_of(kind="text").model_copy(update={"task": task})
    with pytest.raises(UserError, match=message) as told:
        make_task(recipe, (), None, corpus, None)
    assert "\n" not in str(told.value)
