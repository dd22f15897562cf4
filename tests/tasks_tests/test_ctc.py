"""CTC: the loss against a sum over all paths, greedy collapse, and clips too short for their transcript."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from harness.backbones.blocks import valid_steps
from harness.backbones.encoders import SpeechEncoder
from harness.backbones.model import CtcHead, TaskModel
from harness.backbones.recipe import Recipe
from harness.data.corpus import Corpus, Example, SpeechExample
from harness.data.spec_augment import SpecAugment
from harness.data.speech_text import NORMALISERS, SPEECH_ALPHABET
from harness.data.symbol_table import SymbolTable
from harness.errors import UserError
from harness.tasks.ctc import CtcTask
from harness.tasks.inputs import SpeechInputs
from harness.tasks.task import Batch, Item

SYMBOLS = ("a", "b", " ")


def make_task(spec_augment: SpecAugment | None = None) -> CtcTask:
    return CtcTask(SYMBOLS, SpeechInputs(lambda examples: [torch.zeros(10, 4) for _ in examples], spec_augment))


def example(transcript: str) -> SpeechExample:
    return SpeechExample("k", "g", "d", path=Path("none.wav"), seconds=1.0, transcript=transcript)


def collapse_by_hand(path: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(symbol for symbol, _ in itertools.groupby(path) if symbol != 0)


def loss_by_hand(log_probs_TV: Tensor, target: tuple[int, ...]) -> float:
    """Minus the log of the summed probability of every path that collapses to the target."""
    num_steps, num_symbols = log_probs_TV.shape
    total = 0.0
    for path in itertools.product(range(num_symbols), repeat=num_steps):
        if collapse_by_hand(path) == target:
            total += math.exp(sum(float(log_probs_TV[step, symbol]) for step, symbol in enumerate(path)))
    return -math.log(total)


def test_loss_is_the_sum_over_all_paths() -> None:
    """Each example by its target length, then the mean; padded steps and padded targets count for nothing."""
    targets, lengths = [(1, 2), (2,), (1, 1, 3)], [4, 2, 5]
    scores_BTV = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    items = [Item(str(n), torch.zeros(n, 4), torch.tensor(t), "") for n, t in zip(lengths, targets, strict=True)]
    batch = make_task().collate(items, None)
    valid_BT = valid_steps(torch.tensor(lengths), 5)
    expected = sum(
        loss_by_hand(scores_BTV[row, :length].log_softmax(-1), target) / len(target)
        for row, (length, target) in enumerate(zip(lengths, targets, strict=True))
    )
    assert float(make_task().loss(scores_BTV, valid_BT, batch)) == pytest.approx(expected / 3, rel=1e-12)
    poisoned_BTV = scores_BTV.masked_fill(~valid_BT[..., None], 1e30)
    assert float(make_task().loss(poisoned_BTV, valid_BT, batch)) == pytest.approx(expected / 3, rel=1e-12)


def test_a_loss_that_cannot_be_aligned_counts_as_nothing_when_scoring() -> None:
    batch = Batch(torch.zeros(1, 2, 4), torch.tensor([2]), torch.tensor([[1, 1]]), torch.tensor([2]))
    assert float(make_task().loss(torch.zeros(1, 2, 4), torch.ones(1, 2, dtype=torch.bool), batch)) == 0.0


def test_half_precision_scores_are_summed_in_float32() -> None:
    scores_BTV = torch.randn(1, 6, 4, generator=torch.Generator().manual_seed(0)).bfloat16()
    batch = Batch(torch.zeros(1, 6, 4), torch.tensor([6]), torch.tensor([[1, 2]]), torch.tensor([2]))
    loss = make_task().loss(scores_BTV, torch.ones(1, 6, dtype=torch.bool), batch)
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(loss_by_hand(scores_BTV[0].double().log_softmax(-1), (1, 2)) / 2, rel=1e-5)


@pytest.mark.parametrize(
    "path, expected",
    [
        ([], ""),
        ([0, 0], ""),
        ([1, 1, 1], "a"),
        ([1, 0, 1], "aa"),
        ([0, 1, 1, 0, 0, 2, 2, 1], "aba"),
        ([1, 3, 3, 2], "a b"),
        ([1, 3, 0, 3, 2], "a b"),  # two spaces are one
        ([3, 1, 3], "a"),  # and none at the ends
        ([3], ""),
    ],
)
def test_collapse(path: list[int], expected: str) -> None:
    assert make_task().collapse(path) == expected


def test_predictions_stop_at_the_last_real_step() -> None:
    scores_BTV = torch.nn.functional.one_hot(torch.tensor([[1, 2, 1], [2, 2, 1]]), 4).double()
    batch = Batch(torch.zeros(2, 3, 4), torch.tensor([3, 2]), torch.zeros(2, 1), torch.tensor([1, 1]))
    predicted = make_task().predict(scores_BTV, valid_steps(torch.tensor([3, 2]), 3), batch)
    assert predicted == ["aba", "b"]


@pytest.mark.parametrize("transcript", ["a", "ab", "aa", "aab", "abba", "a b", "aaaa"])
@pytest.mark.parametrize("num_frames", [1, 3, 4, 5, 8, 9, 12, 13, 20, 28])
def test_a_clip_can_be_learnt_exactly_when_its_loss_is_finite(transcript: str, num_frames: int) -> None:
    torch.manual_seed(0)
    model = TaskModel(SpeechEncoder(4, 8, 1, 2, 16, kernel=3), CtcHead, len(SYMBOLS)).eval()
    target = torch.tensor([make_task().table.indices[symbol] for symbol in transcript])
    item = Item("k", torch.zeros(num_frames, 4), target, transcript)
    batch = make_task().collate([item], None)
    scores_BTV, valid_BT = model(batch.inputs, batch.lengths)
    loss = torch.nn.functional.ctc_loss(
        scores_BTV.log_softmax(-1).transpose(0, 1), batch.targets, valid_BT.sum(1), batch.target_lengths
    )
    assert make_task().can_learn(item, model) == bool(loss.detach().isfinite())


def test_encoding_gives_indices_above_the_blank() -> None:
    examples: list[Example] = [example("ab a")]
    (item,) = make_task().encode(examples)
    assert item.target.tolist() == [1, 2, 3, 1] and item.reference == "ab a"
    assert torch.equal(item.inputs, torch.zeros(10, 4))


def test_a_character_without_a_symbol_is_not_learnt_but_scored() -> None:
    task, examples = make_task(), [example("axbz"), example("zz")]
    some, none = task.encode(examples)
    assert some.target.tolist() == [1, 2] and some.reference == "axbz" and none.target.tolist() == []
    model = TaskModel(SpeechEncoder(4, 8, 1, 2, 16, kernel=3), CtcHead, len(SYMBOLS))
    assert task.can_learn(some, model) and not task.can_learn(none, model)
    assert task.score(["axbz", "zz"], ["ab", ""]) == {"cer": 4 / 6, "wer": 1.0}
    about = "of the 6 characters of the {} transcripts of d ('z', 'x'; 2 of 2 clips) are none of the backbone's symbols"
    assert task.notes_on("d", {"training": examples, "test": examples}) == [
        f"4 {about.format('training')}: CTC learns the rest",
        f"4 {about.format('test')}: its character error rate cannot fall below 66.7 %",
    ]
    assert task.notes_on("d", {"test": [example("a b")]}) == []


def test_an_empty_target_has_the_loss_of_blanks_alone() -> None:
    """What remains of a transcript without a symbol: -log P(blank at every step), of a batch with another clip."""
    scores_BTV = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    items = [Item(str(n), torch.zeros(3, 4), torch.tensor(t, dtype=torch.long), "") for n, t in enumerate(([], [1, 2]))]
    task, valid_BT = make_task(), torch.ones(2, 3, dtype=torch.bool)
    log_probs = scores_BTV.log_softmax(-1)
    blanks, other = -float(log_probs[0, :, 0].sum()), loss_by_hand(log_probs[1], (1, 2)) / 2
    batch = task.collate(items, None)
    assert task.loss_rows(scores_BTV, valid_BT, batch).tolist() == pytest.approx([blanks, other], rel=1e-12)
    assert float(task.loss(scores_BTV, valid_BT, batch)) == pytest.approx((blanks + other) / 2, rel=1e-12)
    alone = task.collate(items[:1], None)
    assert float(task.loss(scores_BTV[:1], valid_BT[:1], alone)) == pytest.approx(blanks, rel=1e-12)


def test_the_blank_is_where_the_table_has_it() -> None:
    """A vocab.json in upper case with its blank last: indices, loss, padding and text follow it."""
    table = SymbolTable(("|", "A", "<unk>", "B"), blank=4, delimiter="|", unknown="<unk>", special=("<unk>",))
    task = CtcTask(table, SpeechInputs(lambda examples: [torch.zeros(10, 4) for _ in examples]), NORMALISERS["basic"])
    (item,) = task.encode([example("ab ca")])
    assert item.target.tolist() == [1, 3, 0, 2, 1]
    assert task.collapse([4, 1, 1, 4, 1, 0, 0, 3, 2, 4]) == "aa b"  # as references are written: in lower case
    assert task.notes_on("d", {"training": [example("ac")]})[0].endswith(": they are learnt as <unk>")
    scores_BTV = torch.randn(1, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    batch = Batch(torch.zeros(1, 4, 4), torch.tensor([4]), torch.tensor([[0, 3]]), torch.tensor([2]))
    moved_BTV = scores_BTV[..., [4, 0, 1, 2, 3]]  # the blank first, as the sum by hand has it
    expected = loss_by_hand(moved_BTV[0].log_softmax(-1), (1, 4)) / 2
    for loss in (task.loss, task.loss_rows):
        assert float(loss(scores_BTV, torch.ones(1, 4, dtype=torch.bool), batch)) == pytest.approx(expected, rel=1e-12)
    one_hot_BTV = torch.nn.functional.one_hot(torch.tensor([[1, 3], [1, 3]]), 5).double()
    assert task.predict(one_hot_BTV, valid_steps(torch.tensor([2, 1]), 2), batch) == ["ab", "a"]


def clips(**texts: tuple[str, ...]) -> Corpus:
    domains = {
        domain: tuple(SpeechExample(f"{domain}{n}", f"{domain}{n}", domain, Path("n.wav"), 1.0, text) for n, text in
                      enumerate(found))
        for domain, found in texts.items()
    }  # fmt: skip
    groups = {clip.group: "test" if clip.transcript == "test" else "train" for c in domains.values() for clip in c}
    return Corpus("own", "speech", domains, ("a", "б"), "f", fixed_splits=groups)  # type: ignore[arg-type]


def recipe(**text: str) -> Recipe:
    settings = {"kind": "speech", "num_mels": 4}
    data = {"corpus": "own", "domains": ["en", "ru"]}
    return Recipe.model_validate({"name": "r", "data": data, "encoder": settings, "text": text})


def test_the_alphabet_is_that_of_the_sources_training_transcripts() -> None:
    corpus = clips(en=("ab c", "test"), ru=("где",), uk=("ї",))
    assert CtcTask.symbols_of(recipe(alphabet="characters"), corpus) == (" ", "a", "b", "c", "г", "д", "е")
    assert CtcTask.symbols_of(recipe(), corpus) == ("a", "б")  # that of the corpus, as it was before
    with pytest.raises(
        UserError, match=r"^recipe r: text\.normaliser basic leaves more characters than .* characters$"
    ):
        CtcTask.symbols_of(recipe(normaliser="basic"), corpus)
    with pytest.raises(UserError, match=r"^recipe r: text\.language: the alphabet characters is of no language$"):
        CtcTask.symbols_of(recipe(alphabet="characters", language="eng"), corpus)
    with pytest.raises(
        UserError, match=r"^recipe r: text\.alphabet: nowhere\.json: .*; choices: latin28, characters, or"
    ):
        CtcTask.symbols_of(recipe(alphabet="nowhere.json"), corpus)


def test_another_script_than_the_backbones_is_refused_with_a_way_out() -> None:
    task, corpus = make_task(), clips(en=("ab ab",), mixed=("ab xy", "ab"), ru=("где a",))
    task.check_domain(corpus, "en")
    task.check_domain(corpus, "mixed")  # 2 of 6 characters
    with pytest.raises(
        UserError, match=r"^corpus own: 75% of the .* of ru \('г', 'д', 'е'\) are none of the 3 .*latin28$"
    ):
        task.check_domain(corpus, "ru")


def test_a_latin28_corpus_fits_an_alphabet_that_can_write_most_of_it() -> None:
    upper = SymbolTable([*"ABCDEFGHIJKLMNOPQRSTUVWXYZ'|", "<pad>"][:-1], blank=28, delimiter="|")
    assert CtcTask.can_answer(upper, SPEECH_ALPHABET) and CtcTask.can_answer(SPEECH_ALPHABET, SPEECH_ALPHABET)
    assert CtcTask.can_answer(SPEECH_ALPHABET[:-1], SPEECH_ALPHABET)  # a source without a z; `notes_on` tells of it
    assert not CtcTask.can_answer(SPEECH_ALPHABET[:13], SPEECH_ALPHABET)


def test_augmentation_masks_in_training_only() -> None:
    task = make_task(SpecAugment(num_time_masks=2, time_mask=5, max_time_share=0.9))
    items = [Item(str(n), torch.ones(20, 4), torch.tensor([1]), "a") for n in range(4)]
    first, again, other = (task.collate(items, torch.Generator().manual_seed(seed)).inputs for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other) and bool((first == 0).any())
    assert torch.equal(task.collate(items, None).inputs, torch.ones(4, 20, 4))
    assert all(torch.equal(item.inputs, torch.ones(20, 4)) for item in items)  # the shared items are not changed
    plain = make_task().collate(items, torch.Generator().manual_seed(0))
    assert torch.equal(plain.inputs, torch.ones(4, 20, 4))
