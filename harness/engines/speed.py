"""Say, without measuring, what makes a config's trainings fast: its cut, and whether its trials can be packed."""

from __future__ import annotations

from harness.adapters.widths import has_open_width
from harness.config.execution import Execution
from harness.config.trial import TrialConfig
from harness.engines.cut.cut import find_cut, learning_in_layers, num_block_weights, why_no_cut
from harness.engines.registry import Engines
from harness.training.adapting import Adapted
from harness.training.peft_arm import BEFORE_LAYERS, WHY_BEFORE
from harness.training.resources import Resources
from harness.training.trial import Trial
from harness.training.views import num_views_of


def describe_cut(trial: Trial, adapted: Adapted) -> tuple[float, float] | str:
    """phi and the predicted gain of a trial's cut (harness/engines/cut/cut.py); or why there is none.

    Args:
        trial: what is described.
        adapted: its model.

    Raises:
        UserError: the config does not fit its data, backbone or layers.
    """
    if reason := why_no_cut(trial.config):
        return reason
    cut = find_cut(trial.config, adapted.model)
    if cut.layer == BEFORE_LAYERS:
        return WHY_BEFORE
    num_learning = adapted.num_trainable - learning_in_layers(adapted.model) * 2 / 3
    return cut.phi, cut.gain(num_block_weights(trial.base.encoder), num_learning)


def describe_speed(config: TrialConfig, resources: Resources, engines: Engines, known: Execution | None) -> str:
    """What makes a config's trainings fast, in words.

    Args:
        config: of a trial.
        resources: of a search.
        engines: of the process.
        known: the engine, where it is chosen already.

    Raises:
        UserError: the config does not fit its data, backbone or layers.
    """
    chosen = "" if known is None else f"{known.text}; "
    trial = Trial(config, resources)
    adapted = trial.adapted()
    if any(has_open_width(member.settings) for member in config.members):
        chosen = "; ".join([*adapted.told, chosen])
    alone = f"{chosen}each trial trains by itself and runs all layers in every step: "
    cut = describe_cut(trial, adapted)
    if isinstance(cut, str):
        return alone + cut
    engine, reason = engines.of(Execution(engine="auto")).choose(config, trial.domains, adapted.model)
    if engine.execution.engine == "plain":
        return alone + str(reason)
    together = f"its trials cannot train together: {reason}" if reason else "its trials can train together"
    num_views = num_views_of(config.loop.augment)
    views = "" if num_views is None else f" of each of the {num_views} augmented views"
    return (
        f"{chosen}the layers that never change ({cut[0]:.2f} of the forward pass) can be run once for each item{views},"
        f" which makes training at most {cut[1]:.2f} times as fast; {together}"
    )
