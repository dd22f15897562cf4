"""Samplers and pruners by name: options as Optuna has them today, values that it would choke on later."""

from __future__ import annotations

import inspect
import warnings
from typing import Any

import pytest

from harness.config.sweep import PrunerSettings, SamplerSettings
from harness.errors import UserError
from harness.search.samplers import PRUNERS, SAMPLERS, check_choice, make_pruner, make_sampler, options_of

KINDS = [("sampler", name, kind) for name, kind in SAMPLERS.items()]
KINDS += [("pruner", name, kind) for name, kind in PRUNERS.items()]  # type: ignore[misc]
NEEDED = {"patient": {"patience": 2}}


@pytest.mark.parametrize(("what", "name", "kind"), KINDS, ids=lambda item: item if isinstance(item, str) else "")
def test_defaults_are_accepted_and_raise_no_warning(what: str, name: str, kind: type) -> None:
    """Each option at Optuna's own default passes the check, and none is about to be removed."""
    parameters = inspect.signature(kind).parameters
    options: dict[str, Any] = {option: parameters[option].default for option in options_of(kind)}
    options |= NEEDED.get(name, {})
    check_choice(what, name, options, {name: kind}, "file")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if what == "sampler":
            assert isinstance(make_sampler(SamplerSettings(name=name, options=options), 0, {"x": [1, 2]}), kind)
        else:
            assert isinstance(make_pruner(PrunerSettings(name=name, options=options)), kind)


@pytest.mark.parametrize("name", SAMPLERS)
def test_what_the_sweep_sets_is_no_option(name: str) -> None:
    with pytest.raises(UserError, match=f"file: sampler.options: {name} has no option 'seed'"):
        check_choice("sampler", name, {"seed": 3}, SAMPLERS, "file")


@pytest.mark.parametrize(
    ("name", "options", "part"),
    [
        ("tpe", {"n_startup_trials": True}, "True is not of type int"),
        ("tpe", {"n_startup_trials": 2.5}, "2.5 is not of type int"),
        ("tpe", {"multivariate": "yes"}, "'yes' is not of type bool or None"),
        ("tpe", {"prior_weight": 0}, "must be at least 1e-06, but got 0"),
        ("qmc", {"scramble": 1}, "1 is not of type bool"),
        ("nsga2", {"population_size": "x"}, "'x' is not of type int"),
        ("tpe", {"n_ei_candidates": 10**12}, "must be at most 100000, but got 1000000000000"),
        ("cma_es", {"popsize": 10**30}, "must be at most 1000, but got 1"),
        ("gp", {"n_startup_trials": 10**30}, "must be at most 1000000000, but got 1"),
    ],
)
def test_a_wrong_value(name: str, options: dict[str, Any], part: str) -> None:
    with pytest.raises(UserError) as caught:
        check_choice("sampler", name, options, SAMPLERS, "file")
    assert str(caught.value).startswith(f"file: sampler.options.{next(iter(options))}: ") and part in str(caught.value)


def test_an_integer_will_do_for_a_float_and_none_where_it_may_be() -> None:
    check_choice("sampler", "tpe", {"prior_weight": 2, "multivariate": None}, SAMPLERS, "file")
    check_choice("pruner", "hyperband", {"max_resource": "auto"}, PRUNERS, "file")


def test_optuna_has_the_last_word() -> None:
    with pytest.raises(UserError, match=r"sampler qmc: .*halto"):
        make_sampler(SamplerSettings(name="qmc", options={"qmc_type": "halto"}), 0)
    with pytest.raises(UserError, match="pruner wilcoxon: p_threshold"):
        make_pruner(PrunerSettings(name="wilcoxon", options={"p_threshold": 2.0}))
    with pytest.raises(UserError, match=r"sampler cma_es: .*sigma0"):  # a warning that an option will be removed
        make_sampler(SamplerSettings(name="cma_es", options={"sigma0": 0.1}), 0)
