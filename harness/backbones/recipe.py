"""A backbone's recipe: the encoder, the source domains it is trained on, and how. Its hash is the backbone's id.

Recipes are YAML files; the shipped ones lie in harness/backbones/shipped. Importing this module loads no torch.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, ValidationError

from harness.config.base import PositiveInt, Settings, content_hash
from harness.config.messages import one_line
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
    vocab_size: PositiveInt = 4000
    max_length: PositiveInt = 64
    dim: PositiveInt = 128
    num_layers: PositiveInt = 4
    num_heads: PositiveInt = 4
    hidden: PositiveInt = 256
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1


class SpeechEncoderSettings(Settings):
    """Log-mel features and a small Conformer (or Transformer: kernel 0)."""

    reads: ClassVar[Modality] = "speech"
    usual_task: ClassVar[str] = "ctc"

    kind: Literal["speech"]
    sample_rate: PositiveInt = 8000
    num_mels: PositiveInt = 40
    window_ms: Annotated[float, Field(gt=0)] = 25.0
    hop_ms: Annotated[float, Field(gt=0)] = 10.0
    dim: PositiveInt = 144
    num_layers: PositiveInt = 6
    num_heads: PositiveInt = 4
    hidden: PositiveInt = 288
    kernel: Annotated[int, Field(ge=0)] = 15
    second_stride: PositiveInt = 2
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1


class PretrainedEncoderSettings(Settings):
    """A text encoder that transformers loads from disk, never from a hub.

    `path` is a directory, or `package:NAME/SUBDIR` for one inside an installed package.
    """

    reads: ClassVar[Modality] = "text"
    usual_task: ClassVar[str] = "text_classification"

    kind: Literal["transformers"]
    path: str
    max_length: PositiveInt = 64


class RecipeData(Settings):
    """The corpus and the source domains that the backbone learns."""

    corpus: str
    options: dict[str, Any] = Field(default_factory=dict)
    domains: tuple[str, ...] = Field(min_length=1)


class Recipe(Settings):
    """One backbone: what `harness pretrain` trains, and what an experiment names.

    `train` is "full", or "head" for an encoder that comes pretrained and only needs an output layer.
    """

    name: str
    description: str = ""
    data: RecipeData
    encoder: Annotated[
        TextEncoderSettings | SpeechEncoderSettings | PretrainedEncoderSettings, Field(discriminator="kind")
    ]
    task: str | None = Field(
        default=None, description="What the backbone learns; the usual task of its encoder when left out."
    )
    train: Literal["full", "head"] = "full"
    optim: OptimSettings = OptimSettings()
    loop: LoopSettings = LoopSettings()
    seed: Annotated[int, Field(ge=0)] = 0

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
    """Read a shipped recipe by name, or a recipe file by path.

    Raises:
        UserError: no such recipe (the shipped ones are named), or a setting is wrong.
    """
    shipped = SHIPPED / f"{name_or_path}.yaml"
    path = shipped if shipped.is_file() else Path(name_or_path)
    if not path.is_file():
        choices = ", ".join(sorted(file.stem for file in SHIPPED.glob("*.yaml")))
        raise UserError(f"no backbone recipe {name_or_path!r}; choices: {choices}, or the path of a recipe file")
    try:
        return Recipe.model_validate(read_yaml(path))
    except ValidationError as error:
        raise UserError(one_line(error, path.name, Recipe)) from error


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
