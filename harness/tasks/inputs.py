"""From examples to the tensors that an encoder reads, one class a modality: token ids of texts, features of clips."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from harness.backbones.encoder_settings import SpeechEncoderSettings, SpeechModelSettings
from harness.backbones.recipe import Recipe
from harness.backbones.store import encoder_files
from harness.config.trial import VIEW_FIELDS, AugmentSettings
from harness.data.cache import data_cache
from harness.data.corpus import Corpus, Example, Modality, SpeechExample, TextExample
from harness.data.features import FeatureCache, LogMel
from harness.data.model_features import ModelFeatures
from harness.data.spec_augment import AugmentedViews, SpecAugment
from harness.errors import UserError

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
        """One tensor an example, [T] token ids or [T, mels] features."""

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
    """

    score_steps = 4096
    align = 4
    cut_as = "texts have too many tokens and are cut"

    def __init__(self, tokenizer: Any, max_length: int) -> None:
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.cut: set[str] = set()

    @classmethod
    def make(cls, recipe: Recipe, tokenizer: Any, corpus: Corpus, augment: AugmentSettings | None) -> TextInputs:
        assert not isinstance(recipe.encoder, SpeechEncoderSettings | SpeechModelSettings)
        if augment is not None:
            raise UserError("loop.augment: SpecAugment masks speech features; for text set it to null")
        return cls(tokenizer, recipe.encoder.max_length)

    def prepare(self, examples: Sequence[Example]) -> list[Tensor]:
        return [self._token_ids(example) for example in examples if isinstance(example, TextExample)]

    def _token_ids(self, example: TextExample) -> Tensor:
        encoding = self.tokenizer.encode(example.text)
        taken_away = getattr(encoding, "overflowing", None)  # by a tokenizer that cuts by itself
        if taken_away or len(encoding.ids) > self.max_length:
            self.cut.add(example.key)
        return torch.tensor(encoding.ids[: self.max_length] or [0])


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
