"""A backbone's recipe: the encoder, the source domains it is trained on, and how. Its hash is the backbone's id.

Recipes are YAML files; the shipped ones lie in harness/backbones/shipped. Importing this module loads no torch.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from harness.config.base import PositiveInt, Settings, content_hash
from harness.config.kinds import refuse_other_kind
from harness.config.messages import validated
from harness.config.places import PathText, find_path, folder_of, place_paths
from harness.config.trial import LoopSettings, OptimSettings
from harness.config.yaml import read_yaml
from harness.data.corpus import Modality
from harness.errors import UserError

SHIPPED = Path(__file__).parent / "shipped"


class TextEncoderSettings(Settings):
    """A small Transformer over word pieces learnt from the source's training sentences."""

    reads: ClassVar[Modality] = "text"
    usual_task: ClassVar[str] = "text_classification"

    kind: Literal["text"]
    """A Transformer that is trained here, on text."""
    vocab_size: PositiveInt = 4000
    """The most word pieces."""
    max_length: PositiveInt = 64
    """The most word pieces of a text; longer texts are cut."""
    dim: PositiveInt = 128
    """The width of the hidden states."""
    num_layers: PositiveInt = 4
    """The number of layers, which are the insertion points of adapters."""
    num_heads: PositiveInt = 4
    """The number of attention heads."""
    hidden: PositiveInt = 256
    """The width of the feed-forward layers."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """The probability of dropout while the backbone is trained."""


class SpeechEncoderSettings(Settings):
    """Log-mel features and a small Conformer (or Transformer: kernel 0)."""

    reads: ClassVar[Modality] = "speech"
    usual_task: ClassVar[str] = "ctc"

    kind: Literal["speech"]
    """A Conformer that is trained here, on speech."""
    sample_rate: PositiveInt = 8000
    """The rate, in Hz, to which audio is resampled."""
    num_mels: PositiveInt = 40
    """The number of mel channels."""
    window_ms: Annotated[float, Field(gt=0)] = 25.0
    """The length of an analysis window, in milliseconds."""
    hop_ms: Annotated[float, Field(gt=0)] = 10.0
    """The distance between windows, in milliseconds."""
    dim: PositiveInt = 144
    """The width of the hidden states."""
    num_layers: PositiveInt = 6
    """The number of layers, which are the insertion points of adapters."""
    num_heads: PositiveInt = 4
    """The number of attention heads."""
    hidden: PositiveInt = 288
    """The width of the feed-forward layers."""
    kernel: Annotated[int, Field(ge=0)] = 15
    """The width of the depthwise convolution; 0 leaves it out, which makes a Transformer."""
    second_stride: PositiveInt = 2
    """The stride of the second subsampling layer; the first one's is 2."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """The probability of dropout while the backbone is trained."""


class PretrainedEncoderSettings(Settings):
    """A text encoder that transformers loads from disk, never from a hub."""

    reads: ClassVar[Modality] = "text"
    usual_task: ClassVar[str] = "text_classification"

    kind: Literal["transformers"]
    """A pretrained text encoder."""
    path: PathText
    """The model's directory, or `package:NAME/SUBDIR` for one inside an installed package. The directory is a path from
    the folder of the recipe's file, or from the current folder."""
    max_length: PositiveInt = 64
    """The most word pieces of a text; longer texts are cut."""


class RecipeData(Settings):
    """The corpus and the source domains that the backbone learns."""

    corpus: PathText
    """A corpus by its name, or `manifest:PATH` for data of your own: a path from the folder of the recipe's file, or
    from the current folder."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Options of the corpus."""
    domains: tuple[str, ...] = Field(min_length=1)
    """The source domains."""


class Recipe(Settings):
    """One backbone: what `harness pretrain` trains, and what an experiment names."""

    name: str
    """The backbone's name."""
    description: str = ""
    """One line for people."""
    data: RecipeData
    """What the backbone learns from."""
    encoder: Annotated[
        TextEncoderSettings | SpeechEncoderSettings | PretrainedEncoderSettings, Field(discriminator="kind")
    ]
    """The model."""
    task: str | None = None
    """What the backbone learns; the usual task of its encoder when left out."""
    train: Literal["full", "head"] = "full"
    """full trains all weights; head trains the output layer alone, for an encoder that comes pretrained."""
    optim: OptimSettings = OptimSettings()
    """The optimizer and its schedule."""
    loop: LoopSettings = LoopSettings()
    """Epochs, batches, precision, device and augmentation."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seeds the first weights, the order of the data, dropout and masks."""

    @property
    def task_name(self) -> str:
        """The task that the backbone is made for."""
        return self.task or self.encoder.usual_task

    @property
    def recipe_id(self) -> str:
        """Hash of everything that shapes the weights (so not of the name and the description)."""
        unhashed = {"name", "description"}
        if self.task_name == self.encoder.usual_task:
            unhashed.add("task")  # recipes that name none keep the id that they had before tasks could be named
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
