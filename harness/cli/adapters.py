"""The commands `harness adapters show`, `check` and `convert`."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.options import Overrides
from harness.errors import TrialError, UserError, must_be_in

if TYPE_CHECKING:
    from harness.config.experiment import Experiment

adapters = typer.Typer(
    help="List, check and convert adapters and their places.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

FORMATS = ("text", "json")
Format = Annotated[str, typer.Option(help="text or json.")]


@adapters.command()
def show(
    file: Annotated[str, typer.Argument(help="Recipe or experiment file (YAML), or the name of a shipped one.")],
    overrides: Overrides = None,
    arm: Annotated[str | None, typer.Option(help="Whose adapter the sizes are of; the first arm that has one.")] = None,
    format: Format = "text",
) -> None:
    """List a backbone's insertion points, and those that each arm of an experiment fills. Nothing is trained."""
    must_be_in(format, FORMATS, f"--format {format}: no such format")
    from harness.backbones.recipe import SHIPPED, load_recipe
    from harness.config.shipped import shipped_files

    backbones, shipped = sorted(one.stem for one in SHIPPED.glob("*.yaml")), shipped_files("experiment")
    path = Path(file)
    if (file in backbones and file not in shipped) or (path.is_file() and _is_recipe(path)):
        if overrides or arm is not None:
            raise UserError(f"{file}: a recipe has no arms and no settings to change; name an experiment for that")
        from harness.checks.adapter_points import backbone_points
        from harness.cli.views.adapters import points_as_json, print_points

        found = backbone_points(load_recipe(file), file)
        if format == "json":
            print(json.dumps({"backbones": [points_as_json(found)], "arms": []}, indent=1, ensure_ascii=False))
        else:
            print_points(found)
        return
    if path.name == file and not path.suffix and not path.exists() and file not in shipped:
        if file in shipped_files("sweep"):
            raise UserError(f"{file}: expected a recipe or an experiment, but this is a sweep; name its experiment")
        what = f"no backbone or experiment {file!r} comes with harness, and no such file is here"
        must_be_in(file, [*backbones, *shipped], what)
    _show_experiment(_experiment(file, overrides), arm, format)


def _show_experiment(experiment: Experiment, arm: str | None, format: str) -> None:
    from harness.adapters.peft_bridge import names_peft
    from harness.adapters.widths import has_open_width
    from harness.backbones.recipe import load_recipe
    from harness.checks.adapter_points import arm_points, backbone_points, first_configs
    from harness.cli.views.adapters import arms_as_json, points_as_json, print_arms, print_points

    configs = first_configs(experiment)
    if arm is not None:
        must_be_in(arm, configs, f"--arm {arm!r}: no such arm")
    with_adapter = [name for name in ([arm] if arm is not None else configs) if configs[name].members]
    if arm is not None and not with_adapter:
        raise UserError(f"--arm {arm}: it trains no adapter; arms that do: {', '.join(_having(configs)) or 'none'}")
    backbones = []
    for asked in dict.fromkeys(config.backbone.recipe for config in configs.values()):
        ours = [name for name in with_adapter if not names_peft(configs[name].adapter)]  # PEFT's have no points
        sized = (name for name in ours if not has_open_width(configs[name].members[-1].settings))
        of = next((name for name in sized if configs[name].backbone.recipe == asked), None)  # else it needs all places
        found = backbone_points(
            load_recipe(asked), asked, dict(configs[of].members[-1].settings) if of is not None else None
        )
        backbones.append((asked, found, of))
    arms = arm_points(experiment)
    if format == "json":
        shown = [points_as_json(found, of) for _, found, of in backbones]
        content = {"backbones": shown, "arms": arms_as_json(arms)}
        print(json.dumps(content, indent=1, ensure_ascii=False))
        return
    for asked, found, of in backbones:
        print_points(found, of)
        print_arms([one for one in arms if one.recipe == asked], found)


@adapters.command()
def check(
    file: Annotated[
        str, typer.Argument(help="Experiment file (YAML) or the name of a shipped one, or the folder of a trial.")
    ],
    overrides: Overrides = None,
    arm: Annotated[str | None, typer.Option(help="The arm to check; all that have an adapter if left out.")] = None,
    inputs: Annotated[
        str,
        typer.Option(
            help="What the model reads: random, corpus (validation items of the target), a file of texts, one a line, "
            "or recordings, separated by commas."
        ),
    ] = "random",
    allow: Annotated[
        list[str] | None, typer.Option(help="A class that a trial's folder may name besides those of harness.")
    ] = None,
    format: Format = "text",
) -> None:
    """Prove that adapters change the output: on against off, all together and each point alone. Nothing is trained.

    The adapters of an experiment get random weights; those of a trial's folder are what it has trained. It ends with
    code 1 where an adapter changes nothing, or where switching all of them off does not give the base model's output.
    """
    must_be_in(format, FORMATS, f"--format {format}: no such format")
    from harness.cli.views.adapters import effect_as_json, print_effect

    if Path(file).is_dir():
        effects = _check_trial(Path(file), arm, overrides, inputs, allow or [])
    else:
        if allow:
            raise UserError("--allow is for the folder of a trial; an experiment's own classes need no leave")
        effects = _check_arms(_experiment(file, overrides), arm, inputs)
    if format == "json":
        print(json.dumps({name: effect_as_json(effect) for name, effect in effects.items()}, indent=1))
    else:
        for name, effect in effects.items():
            print_effect(name, effect)
    faults = [f"{name}: {fault}" for name, effect in effects.items() for fault in effect.faults]
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise TrialError("no_effect", f"{faults[0]}{more}")


@adapters.command()
def convert(
    source: Annotated[Path, typer.Argument(help="The adapter file: NAME.safetensors of harness, or NAME.pt of NeMo.")],
    target: Annotated[Path, typer.Argument(help="The file to write, of the other kind: NAME.pt or NAME.safetensors.")],
    module: Annotated[
        str | None, typer.Option(help="Which module of the other model they are for, as encoder; else as before.")
    ] = None,
    allow: Annotated[
        list[str] | None, typer.Option(help="A class that the file may name besides those of harness and NeMo.")
    ] = None,
) -> None:
    """Turn an adapter file of harness into one that NeMo's load_adapters reads, or NeMo's into one of harness.

    The weights stay the same, bit for bit. An adapter that the other format cannot hold is refused. No class that a
    file names is imported.
    """
    suffixes = {source.suffix, target.suffix}
    if suffixes != {".pt", ".safetensors"}:
        found = f"{source.name} to {target.name}"
        raise UserError(f"{found}: one of the two has to end in .pt (NeMo's format), the other in .safetensors")
    written_too = [target] if target.suffix == ".pt" else [target, target.with_suffix(".json")]
    if there := [path for path in written_too if path.exists()]:
        raise UserError(f"{there[0]}: there is such a file already; give another name, or remove it")
    if module is not None and ":" in module:
        raise UserError(f"--module {module}: the name of a module has no colon; what stands behind it is the adapter's")
    from harness.adapters.nemo_writing import convert_adapters
    from harness.backbones.mms import is_language_file

    if is_language_file(source):
        raise UserError(
            f"{source}: an adapter file of MMS: its projections have biases, which a LinearAdapter does not have; "
            "text.language of a recipe reads it"
        )
    names, written = convert_adapters(source, target, module=module, allow=allow or [])
    print(f"{', '.join(names)}: written to {' and '.join(map(str, written))}")
    if target.suffix == ".pt":
        print("left out, as NeMo's format has no room: the base model's fingerprint, the places and the probe")
    else:
        print(
            "NeMo's format says neither which base model it is for nor where in it: load_adapters needs "
            "allow_other_base=True, and takes the places in their order"
        )


def _check_trial(folder: Path, arm: str | None, overrides: Any, inputs: str, allow: list[str]) -> dict[str, Any]:
    if arm is not None or overrides:
        raise UserError(f"{folder}: a trial has no arms and no settings to change; name an experiment for that")
    from harness.api.inputs import add_user_code
    from harness.checks.adapter_effect import inputs_for, measure_effect, model_without, trained_adapters, trial_config
    from harness.training.resources import Resources

    if allow:
        add_user_code(folder)
    config, resources = trial_config(folder), Resources(sealed=True)
    backbone = resources.backbone(config.backbone.recipe)
    adapted, without = trained_adapters(backbone, folder, allow), model_without(backbone, folder)
    effect = measure_effect(without, adapted, inputs_for(inputs, config, backbone.model, resources))
    if config.start is not None:
        effect = dataclasses.replace(effect, without="that of the model that it started from")
    return {folder.name: effect}


def _check_arms(experiment: Experiment, arm: str | None, inputs: str) -> dict[str, Any]:
    from harness.backbones.recipe import load_recipe
    from harness.checks.adapter_effect import inputs_for, measure_effect, random_adapters
    from harness.checks.adapter_points import first_configs, model_of
    from harness.training.resources import Resources

    configs = first_configs(experiment)
    if arm is not None:
        must_be_in(arm, configs, f"--arm {arm!r}: no such arm")
    names = [arm] if arm is not None else _having(configs)
    if not names:
        raise UserError(f"{experiment.path}: no arm trains an adapter, so there is nothing to check")
    resources, bases, effects = Resources(sealed=True), {}, {}
    for name in names:
        config = configs[name]
        asked = config.backbone.recipe
        if asked not in bases:
            bases[asked] = model_of(load_recipe(asked), asked)[0]
        try:
            adapted = random_adapters(bases[asked], config)
        except UserError as error:
            raise UserError(f"arm {name}: {error}") from error
        effects[name] = measure_effect(bases[asked], adapted, inputs_for(inputs, config, bases[asked], resources))
    return effects


def _having(configs: Any) -> list[str]:
    return [name for name, config in configs.items() if config.members]


def _experiment(file: str, overrides: list[str] | None) -> Experiment:
    from harness.api.inputs import user_file
    from harness.config.experiment import load_experiment

    return load_experiment(user_file(file, "experiment"), overrides or [])


def _is_recipe(path: Path) -> bool:
    from harness.config.kinds import kinds_of
    from harness.config.yaml import read_yaml

    return kinds_of(read_yaml(path)) == ("recipe",)
