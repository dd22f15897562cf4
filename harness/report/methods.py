"""Write the methods paragraphs of a report from the configs and the search; nothing in them is typed by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.backbones.recipe import load_recipe
from harness.config.adapters import needs_in
from harness.config.training import LOOP_FIELDS, OPTIM_FIELDS
from harness.config.trees import flatten, show
from harness.data.corpora.registry import CORPORA
from harness.errors import UserError
from harness.figures.style import words_of
from harness.metrics import metric_words
from harness.report.settings_view import differing
from harness.report.sources import Sources

BY_ARM = "by arm (see the table below)"


@dataclass(frozen=True)
class Paragraph:
    """A paragraph with its run-in heading."""

    heading: str
    text: str


def write_methods(sources: Sources, statistics: Sequence[str]) -> tuple[Paragraph, ...]:
    """How the numbers were made.

    Args:
        statistics: what the table's footnotes say of seeds, intervals and tests.
    """
    configs = sources.configs
    paragraphs = []
    if configs:
        trained = {arm: config for arm, config in configs.items() if config.get("train") != "none"} or configs
        paragraphs = [
            Paragraph("Data", data_text(sources, configs)),
            Paragraph("Backbone", backbone_text(configs)),
            Paragraph("Training", training_text(trained, sources.primary)),
        ]
    if sources.frozen is not None:
        paragraphs.append(Paragraph("Search", search_text(sources.frozen)))
    if sources.manifest is not None:
        paragraphs.append(Paragraph("Arms and seeds", arms_text(sources)))
    if statistics:
        paragraphs.append(Paragraph("Statistics", " ".join(map(sentence, statistics))))
    return tuple(paragraphs)


def sentence(text: str) -> str:
    """A note as a sentence: a capital letter (not on a name, such as that of an arm) and a full stop."""
    text = text.strip()
    first = text.split(" ")[0]
    start = text[:1] if "_" in first or first.endswith(":") else text[:1].upper()
    return start + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def join(parts: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else "".join(parts)


def named(arms: Sequence[str]) -> str:
    """Some arms in a sentence."""
    return join([words_of(arm) for arm in arms])


def quoted(name: str) -> str:
    """A name in quotes, since it could be read as a word of the sentence (the domain `it`)."""
    return f"“{name}”"


class _Common:
    """Settings as text: the value that all arms share, or a hint at the table where they differ."""

    def __init__(self, configs: Mapping[str, Mapping[str, Any]]) -> None:
        self.flat = flatten(next(iter(configs.values())))
        self.different = differing(configs)

    def value(self, key: str) -> Any:
        """The first arm's value."""
        return self.flat.get(key)

    def text(self, key: str) -> str:
        """The shared value; if arms differ, the most common one with exceptions in brackets, or a hint at the table."""
        if key not in self.different:
            return show(self.flat.get(key))
        arms_of: dict[str, list[str]] = {}
        for arm, value in self.different[key].items():
            arms_of.setdefault(show(value), []).append(arm)
        usual, *others = sorted(arms_of.items(), key=lambda entry: -len(entry[1]))
        if len(others) > 2 or len(usual[1]) < 2:
            return BY_ARM
        return f"{usual[0]} ({'; '.join(f'{value} in {named(arms)}' for value, arms in others)})"


def data_text(sources: Sources, configs: Mapping[str, Mapping[str, Any]]) -> str:
    """Corpus, domains, sizes of the test sets."""
    common, data = _Common(configs), next(iter(configs.values()))["data"]
    name = data["corpus"]
    known = CORPORA.get(name.partition(":")[0])
    about = f" ({known.summary}; licence: {known.licence})" if known is not None and ":" not in name else ""
    shown = "a file of the user's own" if ":" in name else name
    limit = common.value("data.train_limit")
    sample = (
        f" with {limit:,} training examples (a different sample for each seed, the same for every arm)"
        if isinstance(limit, int)
        else " with all its training examples"
    )
    text = f"Corpus: {shown}{about}. The target is {quoted(data['target'])},{sample}; "
    text += f"the sources, which the backbone was trained on, are {join([quoted(name) for name in data['source']])}."
    sizes = _test_sizes(sources)
    if sizes:
        text += " Test items: " + join([f"{count:,} ({quoted(domain)})" for domain, count in sizes.items()]) + "."
    return text


def _test_sizes(sources: Sources) -> dict[str, int]:
    """Test items by domain, counted in the first record that has predictions."""
    for arm in sources.arms:
        for predictions in sources.predictions(arm).values() if sources.manifest is not None else ():
            return {domain: len(items) for domain, items in predictions.items()}
    return {}


def backbone_text(configs: Mapping[str, Mapping[str, Any]]) -> str:
    """The frozen model and where adapters go."""
    common = _Common(configs)
    name = str(common.value("backbone.recipe"))
    try:
        recipe = load_recipe(name)
        about = f"{recipe.name}: {sentence(recipe.description)}" if recipe.description else f"{recipe.name}."
    except UserError:
        about = f"{name.rsplit('/', 1)[-1]} (its recipe is not here)."
    kinds = {
        "none": "nothing is trained",
        "head": "the output layer alone is trained",
        "adapters": "adapters are trained in the frozen model",
        "adapters_and_head": "adapters and the output layer are trained",
        "layers_and_head": "some layers and the output layer are trained",
        "full": "all weights are trained",
    }
    by_kind: dict[str, list[str]] = {}
    for arm, config in configs.items():
        by_kind.setdefault(str(config["train"]), []).append(arm)
    most = max(by_kind, key=lambda kind: len(by_kind[kind]))
    what = "; ".join(
        f"{kinds.get(kind, kind)} in "
        + (f"the other {len(arms)} rows" if kind == most and len(arms) > 2 and len(by_kind) > 1 else named(arms))
        for kind, arms in sorted(by_kind.items(), key=lambda entry: entry[0] == most)
    )
    lowest = common.value("backbone.layers.from")
    layers = common.text("backbone.layers") if lowest is None else f"{common.text('backbone.layers.from')} and above"
    where = " Adapters go into every layer." if layers == "all" else f" Layers with adapters: {layers}."
    taking = {arm: needs_in(config) for arm, config in configs.items() if needs_in(config)}
    ids = dict.fromkeys(trial_id for needs in taking.values() for trial_id in needs)
    verb = "starts" if len(taking) == 1 else "start"
    begin = f" {sentence(named([*taking]))[:-1]} {verb} with weights of earlier trainings, whose settings are in their"
    given = f"{begin} records (of the first seed: {', '.join(ids)})." if taking else ""
    return f"{about} {sentence(what)}" + (where if any("adapters" in kind for kind in by_kind) else "") + given


def training_text(configs: Mapping[str, Mapping[str, Any]], primary: str | None) -> str:
    """Optimiser, schedule, length, which epoch is kept."""
    common = _Common({arm: _with_later_fields(config) for arm, config in configs.items()})
    clip = common.value("optim.clip_norm")
    text = (
        f"{_optimizer(common)}; warm-up over {_percent(common, 'optim.warmup')} of the steps, "
        f"then {_decay(common)}"
        + (f"; gradients clipped at norm {common.text('optim.clip_norm')}" if clip is not None else "")
        + f". At most {common.text('loop.epochs')} epochs in batches of {common.text('loop.batch_size')}"
    )
    if common.text("loop.accumulate") != "1":
        text += f", {common.text('loop.accumulate')} of them for a step of the optimizer"
    if common.value("loop.patience") is not None:
        text += f", stopped after {common.text('loop.patience')} epochs without a better validation score"
    metric = metric_words(primary) if primary else "primary metric"
    text += f"; the epoch with the target's best validation {metric} is kept."
    if common.value("loop.augment.time_mask") is not None:
        text += (
            f" SpecAugment: {common.text('loop.augment.num_time_masks')} time masks of at most "
            f"{common.text('loop.augment.time_mask')} frames, {common.text('loop.augment.num_mel_masks')} mel masks of "
            f"at most {common.text('loop.augment.mel_mask')} channels{_views(common)}."
        )
    text += _loss(common)
    for arm, config in configs.items():
        if meta := config["loop"].get("meta"):
            over = join([quoted(name) for name in meta["over"]])
            text += f" {quoted(arm)} is meta-trained on {over} instead of the target; its best epoch is that on these."
        text += _pulls(arm, config["loop"])
    threads = common.text("loop.threads")
    text += f" Precision {common.text('loop.precision')} on {common.text('loop.device')}, "
    return text + f"{threads} thread{'' if threads == '1' else 's'}."


def _with_later_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config with the fields that are not recorded where they have their defaults."""
    later: dict[str, Mapping[str, Any]] = {"optim": OPTIM_FIELDS, "loop": LOOP_FIELDS}
    return {**config, **{part: {**fields, **config[part]} for part, fields in later.items()}}


def _optimizer(common: _Common) -> str:
    names = common.text("optim.name")
    for name, written in (("adamw", "AdamW"), ("sgd", "SGD"), ("adafactor", "Adafactor")):
        names = names.replace(name, written)
    text = f"{names} with learning rate {common.text('optim.lr')}, weight decay {common.text('optim.weight_decay')}"
    if "AdamW" in names or names == BY_ARM:
        text += f", betas {common.text('optim.betas')}"
    if "SGD" in names:
        text += f", momentum {common.text('optim.momentum')}"
    for part in ("head", "adapters", "encoder"):
        for field, words in (("lr", "learning rate"), ("weight_decay", "weight decay")):
            key = f"optim.groups.{part}.{field}"
            if common.value(key) is not None or key in common.different:
                text += f", {words} of the {part} {common.text(key)}"
    return text


def _loss(common: _Common) -> str:
    text = ""
    if common.value("loop.label_smoothing") or "loop.label_smoothing" in common.different:
        text += f" Label smoothing: {common.text('loop.label_smoothing')}."
    keys = [key for key in {**common.flat, **common.different} if key.startswith("loop.class_weights")]
    if told := [key for key in keys if common.value(key) is not None or key in common.different]:
        weights = [f"{key.removeprefix('loop.class_weights').lstrip('.')} {common.text(key)}".strip() for key in told]
        text += f" Weights of the classes in the loss: {', '.join(weights)}."
    return text


def _pulls(arm: str, loop: Mapping[str, Any]) -> str:
    """What holds an arm's training back at where it began."""
    text = ""
    if pull := loop.get("l2_sp"):
        strengths = f"alpha {show(pull['alpha'])}, beta {show(pull['beta'])}"
        text += f" {quoted(arm)} pulls its weights to their values at the start (L2-SP, {strengths})."
    if pull := loop.get("kl_to_base"):
        strengths = f"KL, weight {show(pull['weight'])}, temperature {show(pull['temperature'])}"
        of = "the target's batches" if pull["examples"] == "target" else "batches of the sources"
        text += f" {quoted(arm)} pulls its answers to the base model's on {of} ({strengths})."
    return text


def _percent(common: _Common, key: str) -> str:
    value = common.value(key)
    return common.text(key) if key in common.different or value is None else f"the first {value * 100:g} %"


def _views(common: _Common) -> str:
    key = "loop.augment.views"
    if key in common.different:
        return f"; fixed views of each clip, where they are not drawn anew in each step: {common.text(key)}"
    if common.value(key) is None:
        return ", drawn anew in each step"
    return f", drawn once: {common.text(key)} views of each clip, one an epoch"


def _decay(common: _Common) -> str:
    decay = common.text("optim.decay")
    return {"none": "a constant rate", "linear": "linear decay to zero", "cosine": "cosine decay to zero"}.get(
        decay, decay
    )


def search_text(frozen: Mapping[str, Any]) -> str:
    """Sampler, pruner, budget, objective, constraints, race, rules."""
    budget, race, confirm = frozen["budget"], frozen["race"], frozen["confirm"]
    spent = f"{budget['trials']} trials" if budget.get("trials") else f"{budget['seconds']:g} s of training"
    goals = join([metric_words(item["metric"]) for item in frozen["objectives"]])
    text = (
        f"Each searched arm was tuned with the same budget, {spent}, by {_named(frozen['sampler'])} with pruner "
        f"{_named(frozen['pruner'])}, on {goals} (validation data only; "
        f"search seeds {show(frozen['search']['seeds'])})."
    )
    for constraint in frozen["constraints"]:
        bound = "at most" if constraint.get("at_most") is not None else "at least"
        value = constraint["at_most"] if constraint.get("at_most") is not None else constraint["at_least"]
        text += f" Constraint: {metric_words(constraint['metric'])} {bound} {show(value)}."
    if race["seeds"]:
        text += (
            f" The {race['candidates']} best configurations of each arm were trained on further seeds "
            f"{show(race['seeds'])} before the winner was chosen."
        )
    rules = {"best": "the best mean", "constrained": "the best mean among those that meet the constraints",
             "one_se": "the strongest regularisation within one standard error of the best"}  # fmt: skip
    named = join([f"{words_of(rule)} ({rules.get(rule, rule)})" for rule in confirm["rules"]])
    kind = "rule" if len(confirm["rules"]) == 1 else "rules"
    return text + f" Winners by the {kind} {named}, confirmed on fresh seeds {show(confirm['seeds'])}."


def _named(settings: Mapping[str, Any]) -> str:
    options = settings.get("options") or {}
    return settings["name"] + (f" ({show(options)})" if options else "")


def arms_text(sources: Sources) -> str:
    """Say how many rows and seeds there are, and that arms are paired by seed."""
    seeds, arms = sources.seeds, sources.arms
    count = sum(1 for _ in sources.complete())
    planned = sum(len(planned) for planned in sources.manifest.arms.values()) if sources.manifest is not None else 0
    text = f"{len(arms)} rows, seeds {show(seeds)}; {count} of {planned} planned trials are complete. "
    text += "A seed fixes the training sample, the order of the data and all random draws, the same for every arm, "
    text += "so differences between arms are paired by seed."
    if sources.baseline is not None:
        text += f" The baseline is {words_of(sources.baseline)}."
    return text
