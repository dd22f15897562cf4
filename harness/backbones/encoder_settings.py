"""What a recipe says of its encoder: one class a kind. Importing this module loads no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, SerializerFunctionWrapHandler, Tag, model_serializer

from harness.config.base import PositiveInt, Settings
from harness.config.places import PathText
from harness.data.corpus import Modality


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
    """A text encoder that transformers loads from disk."""

    reads: ClassVar[Modality] = "text"
    usual_task: ClassVar[str] = "text_classification"

    kind: Literal["transformers"]
    """A pretrained encoder."""
    family: Literal["text", "speech"] = Field(default="text", exclude=True, json_schema_extra={"enum": ["text"]})
    """What the model reads."""
    path: PathText
    """The model's directory, `package:NAME/SUBDIR` for one inside an installed package, or `fetched:NAME` for one of
    `harness data list`. The directory is a path from the folder of the recipe's file, or from the current folder. Where
    there is no such directory, `org/name` and `org/name@REVISION` are a model of the Hugging Face hub, from its cache
    or fetched into it."""
    max_length: PositiveInt = 64
    """The most word pieces of a text, with those of the prefix; longer texts are cut."""
    prefix: str = ""
    """What stands before each text. Models of the E5 family were trained with `"query: "` there."""

    @model_serializer(mode="wrap")
    def _without_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave the later field out where it changes nothing, so that ids are those from before it existed."""
        content: dict[str, Any] = handler(self)
        return {key: value for key, value in content.items() if (key, value) != ("prefix", "")}


class SpeechModelSettings(Settings):
    """A speech encoder that transformers loads from disk: wav2vec2 and its kin, Whisper, Moonshine, Parakeet ..."""

    reads: ClassVar[Modality] = "speech"
    usual_task: ClassVar[str] = "ctc"

    kind: Literal["transformers"]
    """A pretrained encoder."""
    family: Literal["speech"]
    """What the model reads."""
    path: PathText
    """The model's directory, `package:NAME/SUBDIR` for one inside an installed package, or `fetched:NAME` for one of
    `harness data list`. The directory is a path from the folder of the recipe's file, or from the current folder. Where
    there is no such directory, `org/name` and `org/name@REVISION` are a model of the Hugging Face hub, from its cache
    or fetched into it."""
    tail_s: Annotated[float, Field(ge=0, le=30)] = 0.3
    """Seconds of silence behind each clip. Whisper was trained on clips in 30 s of silence, and misses the last word of
    one that ends at once. Only Whisper's clips have it."""
    layers_at: str | None = None
    """The name of the list of layers in the model, such as `encoder.layers`, where another one would be taken."""

    @model_serializer(mode="wrap")
    def _without_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave the later field out where it says nothing, so that ids are those from before it existed."""
        content: dict[str, Any] = handler(self)
        return {key: value for key, value in content.items() if (key, value) != ("layers_at", None)}


def kind(value: Any) -> str | None:
    """The class that an encoder's settings are of: named after the key that users know it by (config/messages.py)."""
    given = value if isinstance(value, Mapping) else getattr(value, "__dict__", {})
    named, family = given.get("kind"), given.get("family")
    return "transformers_speech" if (named, family) == ("transformers", "speech") else named


EncoderSettings = Annotated[
    Annotated[TextEncoderSettings, Tag("text")]
    | Annotated[SpeechEncoderSettings, Tag("speech")]
    | Annotated[PretrainedEncoderSettings, Tag("transformers")]
    | Annotated[SpeechModelSettings, Tag("transformers_speech")],
    Discriminator(kind),
]
