"""What a trained backbone's folder says of it (backbone.json), read before its weights and without torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harness.backbones.recipe import Recipe, backbone_directory
from harness.data.symbol_table import SymbolTable
from harness.errors import UserError

FACTS = "backbone.json"


def read_facts(recipe: Recipe, asked: str | None = None) -> dict[str, Any]:
    """The contents of a trained backbone's backbone.json: `symbols`, `fingerprint`, scores, versions.

    Args:
        recipe: its recipe.
        asked: the name or path that the recipe was loaded by, for the command in error messages.

    Raises:
        UserError: the backbone has not been trained yet (the command is named), or the file is corrupt.
    """
    directory = backbone_directory(recipe)
    if not (directory / FACTS).is_file():
        raise UserError(
            f"backbone {recipe.name} ({recipe.recipe_id}) has no weights yet; run: {pretrain_command(recipe, asked)}"
        )
    try:
        facts: dict[str, Any] = json.loads((directory / FACTS).read_text(encoding="utf-8"))
        symbols, facts["fingerprint"] = tuple(facts["symbols"]), str(facts["fingerprint"])
        facts["symbols"] = SymbolTable(symbols, **facts["symbol_table"]) if "symbol_table" in facts else symbols
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise unreadable(directory, pretrain_command(recipe, asked), error) from error
    return facts


def pretrain_command(recipe: Recipe, asked: str | None) -> str:
    """The command that trains a backbone."""
    return f"harness pretrain {asked or recipe.name}"


def unreadable(directory: Path, command: str, cause: Exception | str) -> UserError:
    """The error for a backbone's folder that cannot be read."""
    reason = f"{cause!r}" if isinstance(cause, KeyError) else str(cause).partition("\n")[0]
    return UserError(f"{directory}: unreadable backbone ({reason}); delete the folder and run: {command}")
