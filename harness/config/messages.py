"""A pydantic error as one line: the place as the user wrote it, the value, the cause and the choices."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, Tag, ValidationError
from pydantic_core import ErrorDetails

from harness.errors import UserError

M = TypeVar("M", bound=BaseModel)
SECRET = "storage"  # the setting whose value may hold a password
MAX_SHOWN = 200


def validated(model: type[M], content: Any, where: str) -> M:
    """Validate what a file says.

    Args:
        where: the file or place, for the message. One that ends with a dot goes on with the key that is wrong.

    Raises:
        UserError: a key, type or value is wrong; one line.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise UserError(one_line(error, where, model)) from error


def one_line(error: ValidationError, where: str, model: type[BaseModel]) -> str:
    """One problem of a pydantic error in one line: place, value, cause, and the choices.

    An unknown key comes before anything else: a mistyped key is also the reason why the right one is missing.
    """
    more = error.error_count() - 1
    tail = f" (and {more} more)" if more else ""
    for item in error.errors():
        unknown = _unknown_key(item, model)
        if unknown is not None:
            keys, choices = unknown
            near = f" Did you mean {found[0]}?" if (found := get_close_matches(keys[-1], choices, n=1)) else ""
            place = _place(where, keys)
            return f"{place}: unknown key {keys[-1]!r}; choices: {', '.join(choices)}.{near}{tail}"
    problem = error.errors()[0]
    keys, _, allowed = _resolve_location(model, problem["loc"])
    start = f"{_place(where, keys)}: "
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "missing":
        return f"{start}missing{tail}"
    if problem["type"] in _NO_TAG and (name := problem["ctx"]["discriminator"].strip("'()")) in ("type", "kind"):
        classes = [_named_class([member], None) for member in allowed]
        fields = [found.model_fields[name].annotation for found in classes if found is not None]
        types = list(dict.fromkeys(kind for field in fields for kind in get_args(field)))
        tag = problem["ctx"].get("tag")
        hint = f". Did you mean {found[0]}?" if (found := get_close_matches(str(tag), types, n=1)) else ""
        wrong = "missing" if tag is None else f"unknown {name} {tag!r}"
        return f"{_place(where, [*keys, name])}: {wrong}; choices: {', '.join(types)}{hint}{tail}"
    if problem["type"] == "model_type" and (settings := _named_class(allowed, None)) is not None:
        message = f"Input should be settings with the keys {', '.join(field_names(settings))}"
    if problem["type"] == "value_error":
        return f"{start}{message}{tail}"
    if keys[:1] == [SECRET]:
        return f"{start}{message} (what was given is not shown, as it may hold a password){tail}"
    return f"{start}{message}, got {shortened(problem['input'])}{tail}"


def _place(where: str, keys: Sequence[str]) -> str:
    """A key as the user wrote it, after its file or the place that it is in."""
    if where.endswith("."):
        return ".".join([where[:-1], *keys])
    return ": ".join([where, *([".".join(keys)] if keys else [])])


def shortened(value: Any) -> str:
    """A value as a message shows it: a long one by its beginning."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a whole number of thousands of digits, or a value within itself
        return f"a {type(value).__name__} that is too long to be shown"
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}... ({len(text):,} characters)"


def _unknown_key(problem: ErrorDetails, model: type[BaseModel]) -> tuple[list[str], list[str]] | None:
    """The unknown key that a problem is about, with the way to it, and the keys that are allowed there."""
    keys, holder, allowed = _resolve_location(model, problem["loc"])
    if problem["type"] == "extra_forbidden":
        return keys, field_names(holder)
    if problem["type"] in _NO_TAG and isinstance(problem["input"], dict):  # `tpye: float`: of which class is unclear
        choices = list(dict.fromkeys(name for member in allowed for name in field_names(member)))
        unknown = [str(key) for key in problem["input"] if key not in choices]
        return ([*keys, unknown[0]], choices) if unknown else None
    return None


_NO_TAG = ("union_tag_not_found", "union_tag_invalid")  # one of several classes, told apart by a key


def field_names(model: type[BaseModel]) -> list[str]:
    """The keys of a settings class as they are written in a file (`from`, not `first`)."""
    return [field.alias or name for name, field in model.model_fields.items()]


def _resolve_location(
    model: type[BaseModel], location: Sequence[int | str]
) -> tuple[list[str], type[BaseModel], list[Any]]:
    """The keys of a place as the user wrote them, the settings class that has the last one, and what is allowed there.

    Where one of several types is allowed (`encoder`, `layers`, a searched parameter), pydantic adds the name of the one
    that it tried to the location; that is no key.
    """
    keys: list[str] = []
    holder: type[BaseModel] = model
    allowed: list[Any] = [model]
    for part in location:
        if len(allowed) > 1:
            named = _named_class(allowed, str(part)) or _tagged_list(allowed, str(part))
            allowed = [] if named is None else [named]
            continue
        keys.append(str(part))
        here = _named_class(allowed, None)
        if here is None:  # a list or a mapping, as `arms.frozen` or `seeds.1`: go on with the type of its items
            items = get_args(allowed[0]) if allowed and get_origin(allowed[0]) in (dict, list, tuple) else ()
            item = items[1:] if items and get_origin(allowed[0]) is dict else items
            allowed = _allowed_types(item[0]) if item else []
            continue
        holder = here
        field = next((f for name, f in here.model_fields.items() if part in (name, f.alias)), None)
        allowed = [] if field is None else _allowed_types(field.annotation)
    return keys, holder, allowed


def _allowed_types(annotation: Any) -> list[Any]:
    """The types that an annotation allows, None aside."""
    bare = get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
    if get_origin(bare) not in (Union, UnionType):
        return [annotation]
    members = [member for member in get_args(bare) if member is not NoneType]
    return _allowed_types(members[0]) if len(members) == 1 else members


def _tagged_list(allowed: Sequence[Any], name: str) -> Any:
    """The list among some types that pydantic calls by `name`; None without one."""
    tagged = {mark.tag: get_args(member)[0] for member in allowed for mark in get_args(member)[1:] if type(mark) is Tag}
    found = tagged.get(name)
    return found if get_origin(found) in (list, tuple) else None


def _named_class(allowed: Sequence[Any], name: str | None) -> type[BaseModel] | None:
    """The settings class among some types that pydantic calls by `name` (any, for None): by tag, class or kind."""
    for member in allowed:
        bare, *marks = get_args(member) if get_origin(member) is Annotated else (member,)
        if not (isinstance(bare, type) and issubclass(bare, BaseModel)):
            continue
        tags = [mark.tag for mark in marks if isinstance(mark, Tag)]
        kinds = [f.annotation for f in bare.model_fields.values() if get_origin(f.annotation) is Literal]
        names = {bare.__name__, *tags, *(choice for kind in kinds for choice in get_args(kind))}
        if name is None or name in names:
            return bare
    return None
