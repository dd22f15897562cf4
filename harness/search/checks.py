"""What a sweep's fields must agree on: space, sampler, pruner, rules, budget. Each mistake is one line."""

from __future__ import annotations

from harness.config.adapters import ADAPTER_KEYS
from harness.config.sweep import PrunerSettings, regularisation_keys, that_judge
from harness.errors import UserError, must_be_in
from harness.search import samplers, space
from harness.search.declaration import Sweep


def check_sweep(sweep: Sweep) -> None:
    """Check everything that needs more than one field.

    Raises:
        UserError: the first thing that is wrong.
    """
    _check_space(sweep)
    _check_sampler(sweep)
    _check_pruner(sweep, sweep.config.pruner)
    _check_rules(sweep)
    _check_grid_budget(sweep)


def _check_space(sweep: Sweep) -> None:
    """Resolve each arm's trials at the ends of each range: a wrong key, type or bound shows here."""
    for arm in sweep.arms:
        sweep.trial(arm, {}, 0)
        start = {key: space.extremes(parameter)[0] for key, parameter in arm.space.items()}
        for key, parameter in arm.space.items():
            if (first := key.split(".")[0]) in ADAPTER_KEYS and arm.settings.get(first) is None:
                raise UserError(f"{sweep.path}: space.{key}: arm {arm.name} has no {first}; give space.{key}.arms")
            if arm.settings.get("train") == "none" and "train" not in arm.space:
                raise UserError(f"{sweep.path}: space.{key}.arms: arm {arm.name} trains nothing (train: none)")
            between = space.inner(parameter)
            for value in (*space.extremes(parameter), *(() if between is None else (between,))):
                config = sweep.trial(arm, {**start, key: value}, 0)
                if key == "seed" or config.trial_id is None:
                    raise UserError(f"{sweep.path}: space.seed: seeds are replicates of a trial and cannot be searched")


def _check_sampler(sweep: Sweep) -> None:
    config, path = sweep.config, sweep.path
    samplers.check_choice("sampler", config.sampler.name, config.sampler.options, samplers.SAMPLERS, str(path))
    if len(config.objectives) > 1 and config.sampler.name not in samplers.MULTI_OBJECTIVE:
        raise UserError(
            f"{path}: sampler.name: {config.sampler.name} takes one objective, not {len(config.objectives)}; "
            f"choices: {', '.join(samplers.MULTI_OBJECTIVE)}"
        )
    for arm in sweep.searched:
        for key, parameter in arm.space.items():
            if config.sampler.name == "cma_es" and parameter.type == "categorical":
                numeric = ", ".join(name for name in samplers.SAMPLERS if name != "cma_es")
                raise UserError(
                    f"{path}: sampler.name: cma_es searches numbers, but space.{key} of arm {arm.name} is categorical; "
                    f"choices: {numeric}"
                )
        grid = {key: space.grid_values(parameter) for key, parameter in arm.space.items()}
        if sweep.grid:
            for key, values in grid.items():
                if not values:
                    raise UserError(f"{path}: space.{key}: the grid sampler needs its values: grid: [...]")
                if len(set(values)) != len(values):
                    raise UserError(f"{path}: space.{key}.grid: {list(values)} names a value twice")
        try:
            samplers.make_sampler(config.sampler, 0, grid)
        except UserError as error:
            raise UserError(f"{path}: sampler.options: {error}") from error


def _check_pruner(sweep: Sweep, pruner: PrunerSettings) -> None:
    path, config = sweep.path, sweep.config
    where = "pruner" if pruner is config.pruner else "pruner.wrapped"
    samplers.check_choice("pruner", pruner.name, pruner.options, samplers.PRUNERS, str(path))
    if pruner.name == "none":
        return
    if len(config.objectives) > 1:
        raise UserError(f"{path}: pruner.name: {pruner.name} needs a single objective, not {len(config.objectives)}")
    if pruner.wrapped is not None and pruner.name != "patient":
        raise UserError(f"{path}: {where}.wrapped: only patient can wrap another pruner")
    if pruner.wrapped is not None:
        if pruner.wrapped.name in ("none", "wilcoxon"):
            why = "never prunes" if pruner.wrapped.name == "none" else "compares seeds, and patient waits for epochs"
            raise UserError(f"{path}: {where}.wrapped.name: {pruner.wrapped.name} {why}")
        _check_pruner(sweep, pruner.wrapped)
    if pruner.name == "wilcoxon":
        if len(config.search.seeds) < 3:
            raise UserError(
                f"{path}: pruner.name: wilcoxon compares seeds, so it needs at least 3 search.seeds, "
                f"not {len(config.search.seeds)}"
            )
    else:
        for arm in sweep.searched:
            if "loop.epochs" in arm.space and len(config.search.seeds) > 1:
                raise UserError(
                    f"{path}: pruner.name: {pruner.name} compares trials epoch by epoch and seed by seed, but arm "
                    f"{arm.name} searches loop.epochs; give one seed in search.seeds, or pruner none"
                )
            epochs = sweep.trial(arm, {}, 0).loop.epochs
            if epochs < 2:
                raise UserError(
                    f"{path}: pruner.name: {pruner.name} stops a trial between epochs, "
                    f"but arm {arm.name} trains for {epochs}"
                )
    low, high = pruner.options.get("min_resource", 1), pruner.options.get("max_resource")
    if isinstance(low, int) and isinstance(high, int) and high < low:
        raise UserError(f"{path}: {where}.options: max_resource {high} is below min_resource {low}")
    try:
        samplers.make_pruner(pruner)
    except UserError as error:
        raise UserError(f"{path}: {where}.options: {error}") from error


def _check_rules(sweep: Sweep) -> None:
    config, path = sweep.config, sweep.path
    rules = config.confirm.rules
    if len(set(rules)) != len(rules):
        raise UserError(f"{path}: confirm.rules: {list(rules)} names a rule twice")
    if "constrained" in rules and not config.constraints:
        raise UserError(f"{path}: confirm.rules: constrained needs constraints, and there are none")
    seeds = that_judge(config.search.seeds, config.race.seeds)
    if "one_se" in rules and len(seeds) < 2:
        which = "race.seeds, which judge alone" if config.race.seeds else "race.seeds or search.seeds"
        raise UserError(
            f"{path}: confirm.rules: one_se needs a standard error, so at least 2 seeds that judge, and there is "
            f"{seeds[0]} alone; give more in {which}"
        )
    keys = config.confirm.regularisation
    for key in keys or ():
        must_be_in(key, config.space, f"{path}: confirm.regularisation: {key!r} is not searched")
        if config.space[key].type == "categorical":
            raise UserError(f"{path}: confirm.regularisation: {key} is categorical, so it has no order")
    if "one_se" in rules and not regularisation_keys(config):
        raise UserError(
            f"{path}: confirm.rules: one_se needs a searched regulariser; name it in confirm.regularisation"
        )


def _check_grid_budget(sweep: Sweep) -> None:
    """A grid has as many trials as points, in each arm: another budget is refused."""
    if not sweep.grid:
        return
    for arm in sweep.searched:
        size = 1
        for parameter in arm.space.values():
            size *= len(space.grid_values(parameter))
        if sweep.config.budget.trials != size:
            given = sweep.config.budget.trials or f"{sweep.config.budget.seconds} seconds"
            raise UserError(
                f"{sweep.path}: budget: the grid of arm {arm.name} has {size} points, and the budget is {given}; "
                f"give trials: {size}, and grids of one size to every arm, so that their budgets are equal"
            )
