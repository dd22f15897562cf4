"""From examples to the tensors that an encoder reads, one class a modality: token ids of texts, features of clips."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from harness.backbones.encoder_settings import PretrainedEncoderSettings, SpeechEncoderSettings, SpeechModelSettings
from harness.backbones.model_files import encoder_files
from harness.backbones.recipe import Recipe
from harness.config.trial import VIEW_FIELDS, AugmentSettings
from harness.data.cache import data_cache
from harness.data.corpus import Corpus, Example, Modality, SpeechExample, TextExample
from harness.data.features import FeatureCache, LogMel
from harness.data.model_features import ModelFeatures
from harness.data.spec_augment import AugmentedViews, SpecAugment
from harness.errors import UserError

UNKNOWN = ("[UNK]", "<unk>", "<UNK>")  # what stands for a word or piece that is not in a vocabulary
MOST_UNKNOWN, TOLD_UNKNOWN = 0.5, 0.05  # a share of the tokens
NUM_LOOKED_AT = 500  # texts
SAMPLES_A_FRAME = 160  # of 16,000 in a second, beside 100 frames


class Inputs(ABC):
    """What prepares examples of one modality.

    Attributes:
        score_steps: the most input steps in a batch when scoring, padding included.
        align: the faster engines pad an item to a multiple of this many input steps before they run its frozen layers.
        cut: the keys of examples that did not fit, so that the model sees only their beginning.
        cut_as: what happened to them, for the note below a table.
        tokenizer: of the backbone; for speech, only a decoder has one.
    """

    score_steps: int
    align: int
    cut: Collection[str] = ()
    cut_as: ClassVar[str]
    tokenizer: Any = None

    @classmethod
    @abstractmethod
    def make(cls, recipe: Recipe, tokenizer: Any, corpus: Corpus, augment: AugmentSettings | None) -> Inputs:
        """The inputs of a recipe's encoder; `augment` changes them in training.

        Raises:
            UserError: they cannot be augmented.
        """

    @abstractmethod
    def prepare(self, examples: Sequence[Example]) -> list[Tensor]:
        """One tensor an example, [T] token ids, [T, 2] of pairs for some encoders, or [T, mels] features."""

    def check_readable(self, corpus: Corpus, domain: str) -> None:  # noqa: B027 - what most read needs no check
        """Refuse a domain that the encoder cannot read.

        Raises:
            UserError: it is such a one.
        """

    def notes_on(self, domain: str, parts: Mapping[str, Sequence[Example]]) -> list[str]:
        """What a table must say of inputs that the encoder cannot read whole; `parts` are `training`, `test` ..."""
        return []

    def word_places(self, example: Example) -> list[int | None]:
        """The step of each word's first piece; None for a word that the model does not see."""
        raise AssertionError(f"{type(self).__name__} has no words")

    def augment(self, inputs: Tensor, lengths_B: Tensor, generator: torch.Generator) -> Tensor:
        """Augment a training batch's inputs (nothing by default)."""
        return inputs

    def view(self, inputs: Tensor, key: str, number: int) -> Tensor:
        """One augmented view of an item's inputs."""
        raise AssertionError(f"{type(self).__name__} has no augmented views, so {key} has no view {number}")


class TextInputs(Inputs):
    """Token ids of texts.

    Args:
        tokenizer: a `tokenizers.Tokenizer` (or anything whose `encode(text).ids` gives token ids).
        max_length: longer token sequences are cut.
        has_kinds: pairs come as [T, 2]: token ids, and the number of the text that each is of (0 or 1).
        prefix: what stands before each text.
    """

    score_steps = 4096
    align = 4
    cut_as = "texts have too many tokens and are cut"

    def __init__(self, tokenizer: Any, max_length: int, has_kinds: bool = False, prefix: str = "") -> None:
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.has_kinds = has_kinds
        self.prefix = prefix
        self.cut: set[str] = set()
        self._shares: dict[tuple[str, ...], float] = {}  # by the keys of what was looked at

    @classmethod
    def make(cls, recipe: Recipe, tokenizer: Any, corpus: Corpus, augment: AugmentSettings | None) -> TextInputs:
        assert not isinstance(recipe.encoder, SpeechEncoderSettings | SpeechModelSettings)
        if augment is not None:
            raise UserError("loop.augment: SpecAugment masks speech features; for text set it to null")
        max_length = recipe.encoder.max_length
        prefix = recipe.encoder.prefix if isinstance(recipe.encoder, PretrainedEncoderSettings) else ""
        if not has_pairs(corpus):
            return cls(tokenizer, max_length, prefix=prefix)
        if tokenizer.num_special_tokens_to_add(True) == 0:
            raise UserError(
                f"recipe {recipe.name}: the tokenizer of encoder.kind {recipe.encoder.kind} puts nothing between two "
                "texts, so a model could not tell them apart; choose an encoder whose tokenizer.json joins pairs"
            )
        tokenizer.enable_truncation(max_length)  # of the longer text, so that none of the two is cut off whole
        return cls(tokenizer, max_length, has_kinds=recipe.encoder.kind == "transformers", prefix=prefix)

    def prepare(self, examples: Sequence[Example]) -> list[Tensor]:
        return [self._token_ids(example) for example in examples if isinstance(example, TextExample)]

    def word_places(self, example: Example) -> list[int | None]:
        assert isinstance(example, TextExample)
        # Offsets rather than words given one by one: the tokenizer sees the text as people write it, with its spaces.
        offsets = self.tokenizer.encode(self.prefix + example.text).offsets[: self.max_length]
        places: list[int | None] = []
        start, piece = len(self.prefix), 0
        for word in example.words:
            while piece < len(offsets) and offsets[piece][1] <= start:  # special tokens end at 0
                piece += 1
            is_there = piece < len(offsets) and offsets[piece][0] < start + len(word)
            places.append(piece if is_there else None)
            start += len(word) + 1
        return places

    def check_readable(self, corpus: Corpus, domain: str) -> None:
        share = self._unknown_share(corpus.split(domain, "train"))
        if share > MOST_UNKNOWN:
            first = next(example.shown for example in corpus.split(domain, "train"))
            raise UserError(
                f"corpus {corpus.name}: {share:.0%} of the words and pieces of the training texts of {domain} (first: "
                f"{first[:40]!r}) are unknown to the backbone's tokenizer, so its encoder cannot tell them apart; "
                "choose an encoder that was trained on this language"
            )

    def notes_on(self, domain: str, parts: Mapping[str, Sequence[Example]]) -> list[str]:
        share = self._unknown_share(parts.get("training", ()))
        if share < TOLD_UNKNOWN:
            return []
        return [f"{domain}: {share:.0%} of the words and pieces of its training texts are unknown to the tokenizer"]

    def _unknown_share(self, examples: Sequence[Example]) -> float:
        """The share of tokens that stand for what the tokenizer does not know, over evenly spaced examples."""
        find = getattr(self.tokenizer, "token_to_id", lambda token: None)
        unknown = {find(token) for token in UNKNOWN} - {None}
        if not unknown or not examples:
            return 0.0
        chosen = examples[:: -(-len(examples) // NUM_LOOKED_AT)]
        key = tuple(example.key for example in chosen)  # every trial of a launch asks, mostly for the same ones
        if key not in self._shares:
            texts = [example.text for example in chosen if isinstance(example, TextExample)]
            ids = [token for text in texts for token in self.tokenizer.encode(text, add_special_tokens=False).ids]
            self._shares[key] = sum(token in unknown for token in ids) / max(1, len(ids))
        return self._shares[key]

    def _token_ids(self, example: TextExample) -> Tensor:
        pair = () if example.second is None else (self.prefix + example.second,)
        encoding = self.tokenizer.encode(self.prefix + example.text, *pair)
        taken_away = getattr(encoding, "overflowing", None)  # by a tokenizer that cuts by itself
        if taken_away or len(encoding.ids) > self.max_length:
            self.cut.add(example.key)
        if self.has_kinds:
            return torch.tensor([encoding.ids, encoding.type_ids]).T[: self.max_length]
        return torch.tensor(encoding.ids[: self.max_length] or [0])


def has_pairs(corpus: Corpus) -> bool:
    """Whether the examples of a corpus are pairs of texts."""
    first = next((example for examples in corpus.domains.values() for example in examples), None)
    return isinstance(first, TextExample) and first.second is not None


class SpeechInputs(Inputs):
    """Log-mel features of recordings.

    Args:
        features: examples -> one [frames, mels] tensor each.
        spec_augment: (features [B, T, mels], lengths [B], generator) -> masked features, applied in training only.
        views: (features [T, mels], key, number of the view) -> the masked features of an item that is a view.
        longest_s: the longest clip that is read whole, in seconds; None: any.
    """

    score_steps = 12000
    align = 32
    cut_as = "clips are longer than the model can read and are cut"

    def __init__(
        self,
        features: Callable[[Sequence[SpeechExample]], Sequence[Tensor]],
        spec_augment: Callable[[Tensor, Tensor, torch.Generator], Tensor] | None = None,
        views: Callable[[Tensor, str, int], Tensor] | None = None,
        longest_s: float | None = None,
    ) -> None:
        self.features = features
        self.longest_s = longest_s
        self.cut: set[str] = set()
        self.spec_augment = spec_augment
        self.views = views

    @classmethod
    def make(cls, recipe: Recipe, tokenizer: Any, corpus: Corpus, augment: AugmentSettings | None) -> SpeechInputs:
        extractor = _extractor(recipe)
        inputs = cls._make(extractor, corpus, augment)
        inputs.tokenizer = tokenizer
        if isinstance(extractor, ModelFeatures) and extractor.reads_samples:
            if augment is not None:
                raise UserError(
                    "loop.augment: SpecAugment masks features, and this model reads samples; set it to null"
                )
            inputs.score_steps, inputs.align = SAMPLES_A_FRAME * cls.score_steps, SAMPLES_A_FRAME * cls.align
        return inputs

    @classmethod
    def _make(cls, extractor: LogMel | ModelFeatures, corpus: Corpus, augment: AugmentSettings | None) -> SpeechInputs:
        longest_s = extractor.longest_s if isinstance(extractor, ModelFeatures) else None
        # A search's corpus has no test clips. The usual feature files hold those too, so it gets files of its own.
        cache = FeatureCache(corpus, extractor, data_cache() / "sealed" / corpus.hidden if corpus.is_sealed else None)
        if augment is None:
            return cls(cache.features, longest_s=longest_s)
        masks = SpecAugment(**augment.model_dump(exclude=set(VIEW_FIELDS)))
        if augment.views is None:
            return cls(cache.features, masks, longest_s=longest_s)
        views = AugmentedViews(masks, augment.view_seed, augment.views)
        return cls(cache.features, views=views, longest_s=longest_s)

    def prepare(self, examples: Sequence[Example]) -> list[Tensor]:
        clips = [example for example in examples if isinstance(example, SpeechExample)]
        if self.longest_s is not None:
            self.cut |= {clip.key for clip in clips if clip.seconds > self.longest_s}
        return list(self.features(clips))

    def augment(self, inputs: Tensor, lengths_B: Tensor, generator: torch.Generator) -> Tensor:
        return inputs if self.spec_augment is None else self.spec_augment(inputs, lengths_B, generator)

    def view(self, inputs: Tensor, key: str, number: int) -> Tensor:
        assert self.views is not None, "a task without augmented views"
        return self.views(inputs, key, number)


def _extractor(recipe: Recipe) -> LogMel | ModelFeatures:
    """What computes the features that a recipe's encoder reads."""
    settings = recipe.encoder
    if isinstance(settings, SpeechModelSettings):
        return ModelFeatures.of_folder(encoder_files(recipe), settings.tail_s)
    assert isinstance(settings, SpeechEncoderSettings)
    return LogMel(
        settings.sample_rate, num_mels=settings.num_mels, window_ms=settings.window_ms, hop_ms=settings.hop_ms
    )


INPUTS: Mapping[Modality, type[Inputs]] = {"text": TextInputs, "speech": SpeechInputs}
