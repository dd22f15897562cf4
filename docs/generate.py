"""Write schemas/*.json and docs/reference/*.md from the code: `python docs/generate.py`.

The settings classes (harness/config, harness/backbones/recipe.py), the metrics and the command line say what there is,
with types, defaults and meanings; nothing is written twice. tests/docs_tests/test_reference.py fails when a generated
file is not what this program would write.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from pydoc import locate
from typing import Any

import typer

import harness.adapters
from harness.adapters import ADAPTERS, FUSIONS, STRATEGIES
from harness.backbones.recipe import Recipe
from harness.cli.main import app
from harness.config.schemas import SCHEMAS, schema_of, text_of
from harness.config.trial import TrialConfig
from harness.launch.launchers import LAUNCHERS, launcher_type
from harness.metrics import METRICS, TABLE_METRICS, describe_metric
from harness.tasks.registry import TASKS

ROOT = Path(__file__).resolve().parents[1]
MADE = "<!-- made by docs/generate.py; edit the code it is made from -->"
Schema = Mapping[str, Any]

# file -> (title, opening paragraph)
PAGES = {
    "experiment": (
        "Experiment files",
        "An experiment file declares [arms](../glossary.md#arm) and seeds; `harness run FILE` trains each arm on each"
        " seed and prints the table. What stands under `base` holds for all arms; an arm writes only what differs. On"
        " the command line a setting is written with dots, as `optim.lr=3e-4`.",
    ),
    "sweep": (
        "Sweep files",
        "A sweep file names an experiment and says which settings are searched, how, and with which budget;"
        " `harness sweep FILE` searches, freezes the winners, confirms them on fresh seeds and prints the table."
        " See [how a sweep works](../explanation/sweeps.md).",
    ),
    "table": (
        "Table settings",
        "These keys stand under `table:` in an experiment or sweep file, or in a table file of their own"
        " (`harness table FILE`), which has a `name` and lists its `experiments`.",
    ),
    "recipe": (
        "Recipe files",
        "A recipe describes a backbone: the model, the source domains it is trained on, and how."
        " `harness pretrain FILE` trains it; `backbone.recipe` of an experiment names it."
        " The shipped recipes lie in `harness/backbones/shipped/`.",
    ),
}
FILLED_IN = dict.fromkeys(
    ("in_features", "out_features"), "from the backbone"
)  # arguments that an experiment leaves out
ELSEWHERE = {"TableSettings": "table.md"}  # settings that have a page of their own


def schemas() -> dict[str, dict[str, Any]]:
    """Every schema by the name of its file."""
    return {name: make() for name, make in SCHEMAS.items()} | {"recipe.json": schema_of(Recipe, "A recipe of harness")}


def told_schemas() -> dict[str, dict[str, Any]]:
    """The schemas that the reference is made of: those of the files, but a whole trial says which keys it needs."""
    made, trial = schemas(), schema_of(TrialConfig, "A trial of harness")
    defs = made["experiment.json"]["$defs"] | trial["$defs"]
    defs["PartialTrial"] = defs["PartialTrial"] | {"required": [key for key in trial["required"] if key != "seed"]}
    return made | {"experiment.json": made["experiment.json"] | {"$defs": defs}}


def files() -> dict[Path, str]:
    """Every generated file, relative to the repository, and its text."""
    texts = {Path("schemas") / name: text_of(schema) for name, schema in schemas().items()}
    made, reference = told_schemas(), Path("docs") / "reference"
    for name, (title, opening) in PAGES.items():
        texts[reference / f"{name}.md"] = _page(title, opening, _settings(made[f"{name}.json"]))
    texts[reference / "commands.md"] = _page(
        "Commands",
        "Every command ends with exit code 0 when it is done, 1 when a trial or a check failed, 2 when its input was"
        " wrong, and 128 plus the number of the signal that ended it otherwise: 130 by Ctrl-C, 143 by SIGTERM, 129"
        " where the terminal was closed (SIGHUP). A failed command prints one line; `harness --debug COMMAND` shows the"
        " traceback.",
        _commands(),
    )
    texts[reference / "launchers.md"] = _page(
        "Launchers",
        "A launcher decides where trials run: `launcher: NAME` or `launcher: {name: NAME, ...}` in an experiment or"
        " sweep file, or `--launcher NAME` on the command line, where an option is `launcher.OPTION=VALUE`."
        " None of it is part of a trial's config or id, and every launcher gives the same numbers."
        " `harness doctor` says which of them this machine can use.",
        _launchers(),
    )
    texts[reference / "metrics.md"] = _page(
        "Metrics",
        "Records hold fractions (0.25); tables print percent (25.0). A metric of one domain is written with a slash, as"
        " `tweets/accuracy`; in a sweep, objectives and constraints are validation metrics: `valid_target/macro_f1`,"
        " `valid_source/cer`, `valid_forgetting`.",
        _metrics(),
    )
    texts[reference / "adapters.md"] = _page(
        "Adapters and strategies",
        "The classes that `adapter`, `fusion` and `adapter.adapter_strategy` may name by `_target_`, and their"
        " arguments, which are settings like any other (`adapter.dim`, `fusion.pull_weight`,"
        " `adapter.adapter_strategy.l2_lambda`). A class of your own is"
        " named in the same way: [your own strategy](../tutorials/05-your-own-strategy.md).",
        _classes(),
    )
    return texts


def _page(title: str, opening: str, lines: Iterator[str]) -> str:
    return "\n".join([f"# {title}", MADE, "", opening, "", *lines]).rstrip() + "\n"


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _settings(schema: Schema) -> Iterator[str]:
    """A section for each settings class, titled by where its keys stand in the file."""
    waiting: list[tuple[str, Schema]] = [("", schema)]
    told = set()
    while waiting:
        path, node = waiting.pop(0)
        if path:
            yield f"## `{path}`"
            yield ""
            yield node.get("description", "")
            yield ""
        yield from (_row("key", "type", "default", "meaning"), _row(":---", ":---", ":---", ":---"))
        required = node.get("required", ())
        deeper = []
        for key, field in node["properties"].items():
            default = "required" if key in required else _default(field)
            yield _row(f"`{key}`", _type(field, schema["$defs"]), default, field["description"])
            for place, name in _named_below(f"{path}.{key}" if path else key, field, schema["$defs"]):
                if name not in told and name not in ELSEWHERE:
                    told.add(name)
                    deeper.append((place, schema["$defs"][name]))
        yield ""
        waiting = deeper + waiting


def _named_below(path: str, field: Schema, defs: Schema) -> Iterator[tuple[str, str]]:
    """The settings classes that a key's value may hold, each with where its keys stand."""
    if "$ref" in field:
        name = field["$ref"].rsplit("/", 1)[1]
        kind = next((p["const"] for key, p in defs[name]["properties"].items() if "const" in p), None)
        yield (path if kind is None else f"{path}` with `{_tag(defs[name])}: {kind}"), name
    for option in (*field.get("anyOf", ()), *field.get("oneOf", ())):
        yield from _named_below(path, option, defs)
    if isinstance(field.get("items"), Mapping):
        yield from _named_below(f"{path}[]", field["items"], defs)
    if isinstance(field.get("additionalProperties"), Mapping):
        yield from _named_below(f"{path}.NAME", field["additionalProperties"], defs)
    for value in field.get("patternProperties", {}).values():
        yield from _named_below(f"{path}.NAME", value, defs)


def _tag(node: Schema) -> str:
    return next(key for key, field in node["properties"].items() if "const" in field)


def _default(field: Schema) -> str:
    if "default" not in field:  # made by a function: settings that all have defaults of their own, or an empty mapping
        return "see below" if "$ref" in field else "empty"
    value = field["default"]
    if value in ("", [], {}):
        return "empty"
    if isinstance(value, Mapping):
        return "see below"
    return f"`{json.dumps(value)}`"


def _type(field: Schema, defs: Schema) -> str:
    """A JSON Schema type in words."""
    if "$ref" in field:
        name = field["$ref"].rsplit("/", 1)[1]
        return f"[settings]({ELSEWHERE[name]})" if name in ELSEWHERE else "settings"
    if "const" in field:
        return f"`{field['const']}`"
    if "enum" in field:
        return ", ".join(f"`{choice}`" for choice in field["enum"])
    options = [*field.get("anyOf", ()), *field.get("oneOf", ())]
    if options:
        return " or ".join(dict.fromkeys(_type(option, defs) for option in options))
    match field.get("type"):
        case "array" if "prefixItems" in field:
            return "list: " + ", ".join(_type(item, defs) for item in field["prefixItems"])
        case "array":
            return f"list of {_type(field['items'], defs)}"
        case "object":
            values = field.get("additionalProperties")
            return f"mapping to {_type(values, defs)}" if isinstance(values, Mapping) else "mapping"
        case "number" | "integer" as kind:
            return " ".join([kind, *_bounds(field)])
        case "string":
            return "text"
        case "boolean":
            return "true or false"
        case "null":
            return "null"
    return "anything"


def _bounds(field: Schema) -> list[str]:
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    bounds = [f"{sign} {field[key]:g}" for key, sign in signs.items() if key in field]
    return [" and ".join(bounds)] if bounds else []


def _commands() -> Iterator[str]:
    root = typer.main.get_command(app)
    for path, command in _leaves("harness", root):
        yield f"## `{path}`"
        yield ""
        yield _paragraph(command.help)
        yield ""
        parameters = [p for p in command.params if p.name != "help"]
        if not parameters:
            continue
        yield from (_row("argument or option", "default", "meaning"), _row(":---", ":---", ":---"))
        for parameter in parameters:
            meaning = _paragraph(getattr(parameter, "help", None))
            yield _row(f"`{_written(parameter)}`", _option_default(parameter), meaning)
        yield ""


def _leaves(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    below = getattr(command, "commands", None)
    if below is None:
        yield path, command
        return
    for name, one in below.items():
        yield from _leaves(f"{path} {name}", one)


def _written(parameter: Any) -> str:
    """An argument or option as it is written: `NAME...`, `--jobs N`, `--quiet, -q`."""
    name = (parameter.metavar or parameter.name.upper()).removesuffix("...")
    name = name[1:-1] if name.startswith("[") else name
    if parameter.param_type_name == "argument":
        return f"{name}..." if parameter.nargs == -1 else name
    return ", ".join([*parameter.opts, *parameter.secondary_opts]) + ("" if parameter.is_flag else f" {name}")


def _option_default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    if getattr(parameter, "is_flag", False) or parameter.default in (None, (), []):
        return ""
    return f"`{parameter.default}`"


def _paragraph(text: str | None) -> str:
    return " ".join(inspect.cleandoc(text or "").split())


def _launchers() -> Iterator[str]:
    """A section for each launcher: its class's first paragraph, and its options."""
    for name in LAUNCHERS:
        kind = launcher_type(name)
        yield from (f"## `{name}`", "", _paragraph((inspect.getdoc(kind) or "").split("\n\n")[0]), "")
        schema = schema_of(kind.options_type, name)
        yield from _settings(schema) if schema["properties"] else ("It has no options.", "")


def _metrics() -> Iterator[str]:
    yield from (_row("metric", "better", "unit", "meaning"), _row(":---", ":---", ":---", ":---"))
    for name in TABLE_METRICS:
        metric = describe_metric(name)
        if metric is None:  # which metric it stands for depends on the task
            primary = ", ".join(f"{METRICS[task.primary].label} in {called}" for called, task in TASKS.items())
            yield _row(f"`{name}`", "the task's", "%", f"the task's primary metric: {primary}")
            continue
        yield _row(f"`{name}`", metric.direction, metric.unit, metric.meaning)


def _classes() -> Iterator[str]:
    """A section for each adapter and strategy: what its class says of itself and of each argument."""
    for kind, registry in (("adapter", ADAPTERS), ("fusion", FUSIONS), ("strategy", STRATEGIES)):
        for name, config in registry.items():
            target = _default_of(config, "_target_")
            about, meanings = _docstring(locate(target))
            yield from (f"## {kind} `{name}`", "", f"`_target_: {_public_name(target)}`", "", about, "")
            arguments = [field.name for field in dataclasses.fields(config) if field.name != "_target_"]
            if arguments:
                yield from (_row("argument", "default", "meaning"), _row(":---", ":---", ":---"))
            for argument in arguments:
                default = _default_text(argument, _default_of(config, argument))
                yield _row(f"`{argument}`", default, meanings.get(argument, ""))
            yield ""


def _default_of(config: type, name: str) -> Any:
    """The default of a dataclass's field; MISSING where it has none."""
    field = next(field for field in dataclasses.fields(config) if field.name == name)
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _default_text(argument: str, value: Any) -> str:
    if argument in FILLED_IN:
        return FILLED_IN[argument]
    if dataclasses.is_dataclass(value):
        return f"`{type(value).__name__.removesuffix('Config')}`"
    return "required" if value is dataclasses.MISSING else f"`{json.dumps(value)}`"


def _public_name(target: str) -> str:
    """The short import path of a class that `harness.adapters` exports."""
    name = target.rsplit(".", 1)[1]
    return f"harness.adapters.{name}" if hasattr(harness.adapters, name) else target


def _docstring(cls: object) -> tuple[str, dict[str, str]]:
    """A class's first paragraph, and the meaning of each argument of its `Args:`."""
    text = inspect.getdoc(cls) or ""
    section = re.search(r"^Args:\n(.*?)(?=^\S|\Z)", text, re.DOTALL | re.MULTILINE)
    told = section[1] if section else ""
    entries = re.findall(r"^    (\w+): (.*?)(?=^    \w|\Z)", told, re.DOTALL | re.MULTILINE)
    return _paragraph(text.split("\n\n")[0]), {name: _paragraph(meaning) for name, meaning in entries}


def main() -> None:
    """Write all files, and say which ones changed."""
    for path, text in files().items():
        place = ROOT / path
        if not place.is_file() or place.read_text(encoding="utf-8") != text:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text, encoding="utf-8")
            print(f"wrote {path}")


if __name__ == "__main__":
    main()
