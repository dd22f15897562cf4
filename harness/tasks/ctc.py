"""Speech recognition with CTC (Graves et al. 2006): a recording in, characters out, greedy decoding."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Any

from harness.config.places import find_path, folder_of
from harness.data.corpus import Corpus, Example, SpeechExample
from harness.data.speech_text import LATIN28, SPEECH_ALPHABET, Normaliser
from harness.data.symbol_table import SymbolTable, read_symbol_table
from harness.errors import UserError
from harness.tasks.losses import mean_kl
from harness.tasks.task import Batch, Item
from harness.tasks.transcripts import TranscriptTask

if TYPE_CHECKING:
    from torch import Tensor, nn

    from harness.backbones.model import TaskModel
    from harness.backbones.recipe import Recipe
    from harness.tasks.inputs import Inputs

CHARACTERS = "characters"  # the alphabet of the source's training transcripts
MOST_LACKING = 0.5  # where more characters than this share have no symbol, the transcripts are in another script
NAMED = 8  # so many characters are named in a message


def steps_needed(symbols: Sequence[int]) -> int:
    """The fewest steps to which CTC can align some symbols: equal neighbours have a blank between them."""
    return len(symbols) + sum(left == right for left, right in pairwise(symbols))


class CtcTask(TranscriptTask):
    """Character error rate (primary) and word error rate; the backbone's symbol table has the indices."""

    metrics = ("cer", "wer")
    primary = "cer"
    columns = ("target_cer", "target_wer", "source_cer")
    text_keys = ("alphabet", "normaliser", "language")
    why_not_captured = "torch reads the lengths for a CTC loss on the processor"

    def __init__(self, symbols: Sequence[str], inputs: Inputs, normaliser: Normaliser = LATIN28) -> None:
        super().__init__(symbols, inputs, normaliser)
        self.table = symbols if isinstance(symbols, SymbolTable) else SymbolTable(symbols)

    @classmethod
    def symbols_of(cls, recipe: Recipe, corpus: Corpus) -> tuple[str, ...]:
        text = recipe.text
        if text.language is not None and text.alphabet in (LATIN28.name, CHARACTERS):
            raise UserError(f"recipe {recipe.name}: text.language: the alphabet {text.alphabet} is of no language")
        if text.alphabet == LATIN28.name:
            if text.normaliser_name != LATIN28.name:
                raise UserError(
                    f"recipe {recipe.name}: text.normaliser {text.normaliser} leaves more characters than the alphabet "
                    "latin28 has; choose alphabet: characters"
                )
            return cls.outputs(corpus)
        if text.alphabet == CHARACTERS:
            clips = (clip for domain in recipe.data.domains for clip in corpus.speech(domain, "train"))
            return tuple(sorted({character for clip in clips for character in clip.transcript}))
        try:
            path = find_path(text.alphabet, folder_of(text.alphabet))
        except UserError as error:
            choices = f"choices: {LATIN28.name}, {CHARACTERS}, or the path of a vocab.json or tokenizer.json"
            raise UserError(f"recipe {recipe.name}: text.alphabet: {error}; {choices}") from None
        return read_symbol_table(path, text.language)

    @classmethod
    def can_answer(cls, symbols: Sequence[str], outputs: Sequence[str]) -> bool:
        if tuple(outputs) != SPEECH_ALPHABET:
            return True  # the characters that occur in a corpus: `check_domain` counts those of a trial's domains
        table = symbols if isinstance(symbols, SymbolTable) else SymbolTable(symbols)
        return len(table.lacking("".join(outputs))) <= MOST_LACKING * len(outputs)

    def check_domain(self, corpus: Corpus, domain: str) -> None:
        texts = [clip.transcript for clip in corpus.speech(domain, "train")]
        lacking = Counter(character for text in texts for character in self.table.lacking(text))
        share = lacking.total() / max(1, sum(len("".join(text.split())) for text in texts))
        if share > MOST_LACKING:
            raise UserError(
                f"corpus {corpus.name}: {share:.0%} of the characters in the training transcripts of {domain} "
                f"({_listed(lacking)}) are none of the {len(self.symbols)} symbols of the backbone; name a backbone "
                "whose recipe has them (source domains in this script with text.alphabet: characters), or one with the "
                "normaliser latin28"
            )

    def notes_on(self, domain: str, parts: Mapping[str, Sequence[Example]]) -> list[str]:
        notes = []
        for part, examples in parts.items():
            texts = [clip.transcript for clip in examples if isinstance(clip, SpeechExample)]
            lacking = Counter(character for text in texts for character in self.table.lacking(text))
            if not lacking:
                continue
            num_clips, total = sum(bool(self.table.lacking(text)) for text in texts), sum(map(len, texts))
            counted = (
                f"{lacking.total()} of the {total} characters of the {part} transcripts of {domain} "
                f"({_listed(lacking)}; {num_clips} of {len(texts)} clips) are none of the backbone's symbols"
            )
            meant = f"they are learnt as {self.table.unknown}" if self.table.unknown else "CTC learns the rest"
            least = f"its character error rate cannot fall below {100 * lacking.total() / total:.1f} %"
            notes.append(f"{counted}: {meant if part == 'training' else least}")
        return notes

    @staticmethod
    def head(dim: int, num_symbols: int) -> nn.Module:
        from harness.backbones.model import CtcHead

        return CtcHead(dim, num_symbols)

    def target(self, example: Example) -> Tensor:
        import torch

        # A character without a symbol is left out of what is learnt, not the clip: CTC needs no symbol for every sound,
        # and a few-shot sample keeps its size. The reference keeps it, so that error rates count it; `notes_on` tells.
        return torch.tensor(self.table.write(str(self.reference(example, self.symbols))), dtype=torch.long)

    def can_learn(self, item: Item, model: TaskModel) -> bool:
        import torch

        symbols = item.target.tolist()
        num_steps = int(model.encoder.output_lengths(torch.tensor(len(item.inputs))))
        return bool(symbols) and num_steps >= steps_needed(symbols)

    def loss(self, scores: Tensor, valid_BT: Tensor, batch: Batch) -> Tensor:
        import torch.nn.functional as F

        # Each example's loss is divided by its target length, then averaged.
        # Scoring meets clips too short for their transcript; their infinite loss counts as 0 there (training has none).
        return F.ctc_loss(
            _log_probs(scores),
            batch.targets,
            valid_BT.sum(1),
            batch.target_lengths,
            blank=self.table.blank,
            zero_infinity=True,
        )

    def loss_rows(self, scores: Tensor, valid_BT: Tensor, batch: Batch) -> Tensor:
        import torch.nn.functional as F

        num_steps = valid_BT.sum(1)
        losses = F.ctc_loss(
            _log_probs(scores),
            batch.targets,
            num_steps,
            batch.target_lengths,
            self.table.blank,
            reduction="none",
            zero_infinity=True,
        )
        return losses / batch.target_lengths.clamp(min=1)

    def kl_rows(self, scores: Tensor, base: Tensor, valid_BT: Tensor, batch: Batch, temperature: float) -> Tensor:
        return mean_kl(scores, base, valid_BT, temperature)

    def predict(self, scores: Tensor, valid_BT: Tensor, batch: Batch) -> list[Any]:
        import torch

        best_BT = torch.where(valid_BT, scores.argmax(-1), self.table.blank).tolist()
        return [self.collapse(row) for row in best_BT]

    def collapse(self, path: Sequence[int]) -> str:
        """Merge repeats, drop blanks, trim spaces."""
        indices = [index for index, _ in groupby(path) if index != self.table.blank]
        text = self.table.read(indices)
        # An alphabet that somebody else made may be in upper case, or have punctuation; references have neither.
        return self.normaliser.normalise(text) if self.table.facts() else text


def _listed(characters: Counter[str]) -> str:
    """The most frequent characters."""
    more = f" and {len(characters) - NAMED} more" if len(characters) > NAMED else ""
    return ", ".join(repr(character) for character, _ in characters.most_common(NAMED)) + more


def _log_probs(scores_BTV: Tensor) -> Tensor:
    """Log probabilities [T, B, V], in float32 at least."""
    import torch

    return scores_BTV.to(torch.promote_types(scores_BTV.dtype, torch.float32)).log_softmax(-1).transpose(0, 1)
