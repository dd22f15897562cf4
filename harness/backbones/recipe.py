"""A backbone's recipe: the encoder, the source domains it is trained on, and how. Its hash is the backbone's id.

Recipes are YAML files; the shipped ones lie in harness/backbones/shipped. Importing this module loads no torch.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from harness.backbones.encoder_settings import EncoderSettings
from harness.config.base import Settings, content_hash
from harness.config.kinds import refuse_other_kind
from harness.config.messages import validated
from harness.config.places import PathText, find_path, folder_of, place_paths
from harness.config.trial import LoopSettings, OptimSettings
from harness.config.yaml import read_yaml
from harness.data.speech_text import LATIN28, NORMALISERS
from harness.errors import UserError

SHIPPED = Path(__file__).parent / "shipped"


class RecipeData(Settings):
    """The corpus and the source domains that the backbone learns."""

    corpus: PathText
    """A corpus by its name, or `manifest:PATH` for data of your own: a path from the folder of the recipe's file, or
    from the current folder."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Options of the corpus."""
    domains: tuple[str, ...] = Field(min_length=1)
    """The source domains."""


class SpeechTextSettings(Settings):
    """How the transcripts of speech are written: as which text, and with which symbols."""

    alphabet: PathText = LATIN28.name
    """The symbols that a CTC head writes. `latin28`: a-z, apostrophe and space. `characters`: the characters of the
    source domains' training transcripts. Or a path from the folder of the recipe's file: a `vocab.json` of a CTC model
    of transformers (its pad token is the blank), a `tokenizer.json`, or a folder with one of them."""
    normaliser: str | None = None
    """What is done to transcripts before they are learnt and scored: `latin28` (lower case, accents stripped, Cyrillic
    transliterated), `basic` (lower case, punctuation and symbols as spaces), `basic_turkish` (the same with the lower
    case of Turkish), or `none`. null: latin28 for the alphabet latin28, else basic."""
    language: str | None = None
    """Whose vocabulary is used, of a `vocab.json` with one a language."""

    @property
    def normaliser_name(self) -> str:
        """The normaliser, also where none is named."""
        return self.normaliser or (LATIN28.name if self.alphabet == LATIN28.name else "basic")

    @field_validator("normaliser")
    @classmethod
    def _normaliser_is_known(cls, value: str | None) -> str | None:
        if value is not None and value not in NORMALISERS:
            raise ValueError(f"unknown normaliser {value!r}; choices: {', '.join(NORMALISERS)}")
        return value


class Recipe(Settings):
    """One backbone: what `harness pretrain` trains, and what an experiment names."""

    name: str
    """The backbone's name."""
    description: str = ""
    """One line for people."""
    data: RecipeData
    """What the backbone learns from."""
    encoder: EncoderSettings
    """The model."""
    task: str | None = None
    """What the backbone learns; the usual task of its encoder when left out."""
    text: SpeechTextSettings = SpeechTextSettings()
    """How the transcripts of speech are written."""
    pooling: Literal["mean", "first", "last", "attention"] = "mean"
    """What the head of a classifier or a regression answers from: the mean over the text or recording, its first or
    last step, or a mean with learnt weights (attention). `first` is the token [CLS] of BERT and its kind."""
    train: Literal["full", "head", "none"] = "full"
    """full trains all weights; head trains the output layer alone, for an encoder that comes pretrained; none takes a
    pretrained model as it is, with its own output layer or decoder, and there is nothing to pretrain."""
    weights: Literal["float32", "float16"] = "float32"
    """The numbers that the weights are kept in. float16 halves the file; the weights are rounded before the backbone is
    scored, and what is computed with them stays in float32."""
    optim: OptimSettings = OptimSettings()
    """The optimizer and its schedule."""
    loop: LoopSettings = LoopSettings()
    """Epochs, batches, precision, device and augmentation."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seeds the first weights, the order of the data, dropout and masks."""

    @model_validator(mode="after")
    def _loop_is_plain(self) -> Recipe:
        if self.loop.meta is not None:
            raise ValueError("loop.meta is a setting of trials: a backbone learns from all of data.domains at once")
        for name in ("l2_sp", "kl_to_base"):
            if getattr(self.loop, name) is not None:
                raise ValueError(
                    f"loop.{name} pulls a trial back to its base model, and a recipe makes one; leave it out"
                )
        return self

    @property
    def task_name(self) -> str:
        """The task that the backbone is made for."""
        return self.task or self.encoder.usual_task

    @property
    def recipe_id(self) -> str:
        """Hash of everything that shapes the weights (so not of the name and the description)."""
        unhashed = {"name", "description"}
        if self.pooling == "mean":
            unhashed.add("pooling")  # as every recipe had it before others could be chosen
        if self.task_name == self.encoder.usual_task:
            unhashed.add("task")  # recipes that name none keep the id that they had before tasks could be named
        if self.weights == "float32":
            unhashed.add("weights")  # likewise
        if self.text == SpeechTextSettings():
            unhashed.add("text")  # likewise
        content = self.model_dump(mode="json", by_alias=True)
        return content_hash({key: value for key, value in content.items() if key not in unhashed})


def load_recipe(name_or_path: str) -> Recipe:
    """Read a shipped recipe by name, or a recipe file by path (see harness/config/places.py).

    Raises:
        UserError: no such recipe (the shipped ones are named), or a setting is wrong.
    """
    shipped = SHIPPED / f"{name_or_path}.yaml"
    if shipped.is_file():
        path = shipped
    else:
        try:
            path = find_path(name_or_path, folder_of(name_or_path))
        except UserError as error:
            choices = ", ".join(sorted(file.stem for file in SHIPPED.glob("*.yaml")))
            missing = f"no backbone recipe {str(name_or_path)!r}; choices: {choices}, or the path of a recipe file"
            raise UserError(f"{missing} ({error})" if Path(name_or_path).suffix else missing) from None
    content = place_paths(read_yaml(path), path.parent)
    refuse_other_kind(content, str(path), "recipe")
    return validated(Recipe, content, path.name)


def backbone_directory(recipe: Recipe) -> Path:
    """Where the recipe's weights lie: with the package if they are shipped, else in the user's cache.

    The cache is `$HARNESS_CACHE`, else `$XDG_CACHE_HOME/harness`, else `~/.cache/harness`.
    """
    shipped = SHIPPED / f"{recipe.name}-{recipe.recipe_id}"
    if shipped.is_dir():
        return shipped
    return backbone_cache() / "backbones" / f"{recipe.name}-{recipe.recipe_id}"


def backbone_cache() -> Path:
    """The user's cache folder for trained backbones."""
    if chosen := os.environ.get("HARNESS_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "harness"
