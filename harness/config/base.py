"""The base of every settings class, and the plain types of settings. Loads no torch."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from harness.config.trees import one_line


class Settings(BaseModel):
    """Base of every settings class: frozen, and an unknown key is an error.

    The text below a field says what the key means: in the JSON Schemas, and in the reference (docs/reference/).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


def _refuse_text_and_bool(value: Any) -> Any:
    if isinstance(value, (str, bool)):  # pydantic alone takes "3" for 3 and `yes` for 1
        raise ValueError(f"expected a number, got {value!r}")
    return value


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=100)]  # also that of a folder
OneLine = Annotated[str, AfterValidator(one_line)]
NUMBER = BeforeValidator(_refuse_text_and_bool)
PositiveInt = Annotated[int, Field(gt=0), NUMBER]
NonNegativeInt = Annotated[int, Field(ge=0), NUMBER]
PositiveFloat = Annotated[float, Field(gt=0), NUMBER]
NonNegativeFloat = Annotated[float, Field(ge=0), NUMBER]
Fraction = Annotated[float, Field(ge=0, le=1), NUMBER]
FractionBelowOne = Annotated[float, Field(ge=0, lt=1), NUMBER]


def refuse_unplain(value: Any, place: str = "") -> Any:
    """Raise ValueError at the first value that JSON does not have: it could not be hashed, nor recorded."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            refuse_unplain(item, f"{place}.{key}" if place else str(key))
    elif not place:
        return value  # not a mapping; pydantic's own type check, which follows, says so
    elif isinstance(value, (list, tuple)):
        for number, item in enumerate(value):
            refuse_unplain(item, f"{place}.{number}")
    elif not (value is None or isinstance(value, (str, int)) or (isinstance(value, float) and math.isfinite(value))):
        raise ValueError(f"{place}: expected a finite number, a text, a list or a mapping, got {value!r}")
    return value


PlainSettings = Annotated[dict[str, Any], BeforeValidator(refuse_unplain)]  # for a class that checks them itself


def content_hash(content: Any, length: int = 12) -> str:
    """First `length` hex digits of the SHA-256 of `content` as canonical JSON."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:length]
