"""From an experiment file and overrides to trials: merging, overriding, refusing."""

from __future__ import annotations

import copy
import itertools
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.backbones.recipe import Recipe, load_recipe
from harness.config.experiment import Experiment, apply_overrides, load_experiment, parse_overrides, select_trials
from harness.config.kinds import RECIPE_KEYS
from harness.config.trees import merge, set_dotted
from harness.errors import UserError

EXPERIMENT = """\
name: small
base:
  data: {corpus: vader, source: [movie], target: tweets}
  backbone: {recipe: text_small}
  train: adapters
  adapter:
    _target_: harness.adapters.LinearAdapter
    dim: 32
    adapter_strategy:
      _target_: harness.adapters.ResidualAddAdapterStrategy
      stochastic_depth: 0.0
  optim: {lr: 1e-3}
arms:
  frozen: {train: none, adapter: null}
  full: {train: full, adapter: null, optim: {lr: 3e-4, warmup: 0.2}}
  plain: {}
  depth: {adapter: {adapter_strategy: {stochastic_depth: 0.5}}}
  alone: {adapter: {adapter_strategy: {_target_: harness.adapters.ReturnResultAdapterStrategy}}}
seeds: [0, 7]
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "small.yaml"
    file.write_text(EXPERIMENT, encoding="utf-8")
    return file


def edited(path: Path, **changes: Any) -> Path:
    """Write the experiment again with some of its top-level keys replaced."""
    path.write_text(yaml.safe_dump(yaml.safe_load(EXPERIMENT) | changes, sort_keys=False), encoding="utf-8")
    return path


def edited_base(path: Path, **changes: Any) -> Path:
    return edited(path, base=yaml.safe_load(EXPERIMENT)["base"] | changes)


def by_arm(experiment: Experiment) -> dict[str, dict[str, Any]]:
    """Each arm's settings, at its first seed."""
    return {trial.arm: trial.config.model_dump(by_alias=True) for trial in reversed(experiment.trials)}


def refusal(path: Path, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        load_experiment(path, overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


class TestMerging:
    def test_mappings_merge_key_by_key_and_anything_else_replaces(self) -> None:
        below = {"a": {"x": 1, "y": [1, 2]}, "b": 1, "c": {"z": 1}}
        above = {"a": {"y": [3]}, "b": {"new": 1}, "c": None, "d": 2}
        assert merge(below, above) == {"a": {"x": 1, "y": [3]}, "b": {"new": 1}, "c": None, "d": 2}

    def test_another_target_replaces_the_whole_mapping(self) -> None:
        below = {"adapter": {"_target_": "m.A", "dim": 3, "strategy": {"_target_": "m.S", "p": 1}}}
        assert merge(below, {"adapter": {"_target_": "m.B"}}) == {"adapter": {"_target_": "m.B"}}
        assert merge(below, {"adapter": {"strategy": {"_target_": "m.T", "q": 2}}}) == {
            "adapter": {"_target_": "m.A", "dim": 3, "strategy": {"_target_": "m.T", "q": 2}}
        }

    def test_the_same_target_or_none_merges(self) -> None:
        below = {"adapter": {"_target_": "m.A", "dim": 3}}
        assert merge(below, {"adapter": {"_target_": "m.A", "bias": True}})["adapter"] == {
            "_target_": "m.A",
            "dim": 3,
            "bias": True,
        }
        assert merge({"adapter": {"dim": 3}}, below) == below

    def test_laws_on_random_trees(self) -> None:
        """Neutral element, idempotence, associativity (without targets), and the arguments stay as they were."""
        draw = random.Random(0)

        def tree(depth: int) -> dict[str, Any]:
            keys = draw.sample("abcd", draw.randint(0, 3))
            return {key: tree(depth - 1) if depth and draw.random() < 0.6 else draw.randint(0, 9) for key in keys}

        for _ in range(300):
            x, y, z = tree(3), tree(3), tree(3)
            before = copy.deepcopy((x, y, z))
            assert merge(x, {}) == x == merge({}, x) == merge(x, x)
            assert merge(merge(x, y), y) == merge(x, y)
            for key, value in y.items():
                merged = merge(x, y)[key]
                assert merged == value or (isinstance(value, dict) and merged == merge(x.get(key, {}), value))
            if not _a_value_is_between_mappings(x, y, z):
                assert merge(merge(x, y), z) == merge(x, merge(y, z))
            assert (x, y, z) == before

    def test_resolved_arms(self, path: Path) -> None:
        arms = by_arm(load_experiment(path))
        assert list(arms) == ["alone", "depth", "plain", "full", "frozen"]
        assert arms["frozen"]["adapter"] is None
        assert arms["full"]["optim"]["lr"] == 3e-4
        assert arms["full"]["optim"]["warmup"] == 0.2
        assert arms["plain"]["optim"]["lr"] == 1e-3
        assert arms["depth"]["adapter"]["adapter_strategy"]["stochastic_depth"] == 0.5
        assert arms["depth"]["adapter"]["dim"] == 32
        # the arguments of the other strategy are gone
        assert arms["alone"]["adapter"]["adapter_strategy"] == {
            "_target_": "harness.adapters.ReturnResultAdapterStrategy"
        }

    def test_trials_are_arms_in_file_order_with_the_seeds_inside(self, path: Path) -> None:
        trials = load_experiment(path).trials
        expected = itertools.product(("frozen", "full", "plain", "depth", "alone"), (0, 7))
        assert [(trial.arm, trial.seed) for trial in trials] == list(expected)
        assert all(trial.config.seed == (0 if trial.arm == "frozen" else trial.seed) for trial in trials)
        assert len({trial.config.trial_id for trial in trials}) == 9  # nothing trains in `frozen`


def _a_value_is_between_mappings(*trees: Any) -> bool:
    """Whether a plain value meets mappings somewhere: then the order of merging does matter."""
    mappings = [tree for tree in trees if isinstance(tree, Mapping)]
    if mappings and len(mappings) < len(trees):
        return True
    keys = {key for tree in mappings for key in tree}
    return any(_a_value_is_between_mappings(*[t[key] for t in mappings if key in t]) for key in keys)


class TestOverrides:
    def test_values_are_yaml(self) -> None:
        pairs = parse_overrides(["a.b=3e-4", "c=[0, 1]", "d=null", "e={from: 2}", "f=", "g=x=y", "h='1'"])
        assert pairs == [
            ("a.b", 3e-4),
            ("c", [0, 1]),
            ("d", None),
            ("e", {"from": 2}),
            ("f", None),
            ("g", "x=y"),
            ("h", "1"),
        ]

    @pytest.mark.parametrize("argument", ["optim.lr", "=3", ".a=1", "a.=1", "a..b=1", ""])
    def test_malformed(self, argument: str) -> None:
        with pytest.raises(UserError) as caught:
            parse_overrides([argument])
        assert str(caught.value).startswith(f"override {argument!r}: expected key=value")

    def test_set_dotted(self) -> None:
        tree: dict[str, Any] = {"a": {"b": 1}, "c": None}
        set_dotted(tree, "a.d.e", 2, "here")
        set_dotted(tree, "c.f", 3, "here")
        assert tree == {"a": {"b": 1, "d": {"e": 2}}, "c": {"f": 3}}
        with pytest.raises(UserError, match=r"^here: a\.b is 1, .*a\.b\.x"):
            set_dotted(tree, "a.b.x", 1, "here")

    def test_every_trial_gets_it_even_where_an_arm_sets_the_key(self, path: Path) -> None:
        arms = by_arm(load_experiment(path, ["optim.lr=0.5"]))
        assert {arm: settings["optim"]["lr"] for arm, settings in arms.items()} == dict.fromkeys(arms, 0.5)
        assert arms["full"]["optim"]["warmup"] == 0.2  # what the arm sets besides stays

    def test_an_adapter_that_an_arm_switches_off_stays_off(self, path: Path) -> None:
        arms = by_arm(load_experiment(path, ["adapter.dim=8"]))
        dims = {arm: settings["adapter"] and settings["adapter"]["dim"] for arm, settings in arms.items()}
        assert dims == {"frozen": None, "full": None, "plain": 8, "depth": 8, "alone": 8}

    def test_an_arm_with_a_target_of_its_own_gets_it_too(self, path: Path) -> None:
        arms = by_arm(load_experiment(path, ["adapter.adapter_strategy.stochastic_depth=0.9"]))
        strategies = [arms[arm]["adapter"]["adapter_strategy"] for arm in ("plain", "depth", "alone")]
        assert [strategy["stochastic_depth"] for strategy in strategies] == [0.9, 0.9, 0.9]

    def test_the_file_itself(self, path: Path) -> None:
        experiment = load_experiment(path, ["seeds=[3]", "arms.plain.optim.lr=0.25", "base.loop.epochs=2"])
        arms = by_arm(experiment)
        assert experiment.config.seeds == (3,)
        assert arms["plain"]["optim"]["lr"] == 0.25
        assert arms["depth"]["optim"]["lr"] == 1e-3
        assert {settings["loop"]["epochs"] for settings in arms.values()} == {2}

    def test_base_does_not_win_over_an_arm(self, path: Path) -> None:
        assert by_arm(load_experiment(path, ["base.optim.lr=0.5"]))["full"]["optim"]["lr"] == 3e-4

    def test_later_ones_win(self, path: Path) -> None:
        arms = by_arm(load_experiment(path, ["optim={lr: 0.5}", "optim.lr=0.25", "optim.warmup=0.3"]))
        assert {settings["optim"]["lr"] for settings in arms.values()} == {0.25}
        assert {settings["optim"]["warmup"] for settings in arms.values()} == {0.3}

    def test_without_a_base(self, path: Path) -> None:
        settings = yaml.safe_load(EXPERIMENT)["base"]
        bases: list[dict[str, Any] | None] = [{}, None]
        for base in bases:
            edited(path, base=base, arms={"plain": settings})
            changed = apply_overrides(yaml.safe_load(path.read_text(encoding="utf-8")), ["loop.epochs=2"])
            assert changed["base"] == {"loop": {"epochs": 2}}
        assert by_arm(load_experiment(path, ["loop.epochs=2"]))["plain"]["loop"]["epochs"] == 2

    def test_aliases_share_nothing(self, path: Path) -> None:
        """YAML's `*x` is the very mapping of `&x`: changing one arm must leave the others alone."""
        text = EXPERIMENT.replace("optim: {lr: 1e-3}", "optim: &optim {lr: 1e-3}").replace(
            "plain: {}", "plain: {optim: *optim}"
        )
        path.write_text(text, encoding="utf-8")
        arms = by_arm(load_experiment(path, ["arms.plain.optim.lr=0.5"]))
        assert arms["plain"]["optim"]["lr"] == 0.5
        assert arms["depth"]["optim"]["lr"] == 1e-3

    def test_a_changed_experiment_gets_a_name_of_its_own(self, path: Path) -> None:
        plain, changed = load_experiment(path).name, load_experiment(path, ["optim.lr=0.5"]).name
        assert plain == "small"
        assert changed.startswith("small-")
        assert len(changed) == len("small-") + 6
        assert load_experiment(path, ["optim.lr=0.5"]).name == changed
        assert load_experiment(path, ["optim.lr=0.25"]).name != changed
        assert load_experiment(path, ["name=mine", "optim.lr=0.5"]).name == "mine"

    def test_where_trials_run_changes_neither_ids_nor_names_nor_notes(self, path: Path) -> None:
        plain = load_experiment(path)
        path.write_text(f"{EXPERIMENT}\nlauncher: {{name: processes, pin: cores}}\n", encoding="utf-8")
        for overrides in ((), ("launcher=in_process",), ("launcher.pin=none",), ("launcher=null",)):
            other = load_experiment(path, overrides)
            assert (other.name, other.notes, other.trials) == (plain.name, plain.notes, plain.trials)
        changed = load_experiment(path, ("optim.lr=0.5", "launcher=in_process"))
        assert changed.name == load_experiment(path, ("optim.lr=0.5",)).name != plain.name
        with pytest.raises(UserError, match=r"launcher: expected a launcher's name, or a mapping .*, got 3$"):
            load_experiment(path, ("launcher=3",))
        with pytest.raises(UserError, match=r"launcher: name: expected a launcher's name, got 3$"):
            load_experiment(path, ("launcher={name: 3}",))

    def test_an_override_that_changes_nothing_keeps_the_name(self, path: Path) -> None:
        assert load_experiment(path, ["seeds=[0, 7]"]).name == "small"

    @pytest.mark.parametrize(
        ("overrides", "told"),
        [
            ((), None),
            (("seeds=[0, 7]", "name=small"), None),
            (("table.title=T",), None),
            (("data.train_limit=9", "seeds=[1]", "description=D"), "data.train_limit=9, seeds=[1]"),
        ],
    )
    def test_changes_are_noted_as_the_title_may_not_fit(
        self, path: Path, overrides: tuple[str, ...], told: str | None
    ) -> None:
        found = [note.text for note in load_experiment(path, overrides).notes]
        assert found == ([] if told is None else [f"changed settings, so the title may not fit: {told}"])

    def test_the_given_content_is_left_alone(self) -> None:
        content = yaml.safe_load(EXPERIMENT)
        before = copy.deepcopy(content)
        apply_overrides(content, ["optim.lr=0.5", "arms.plain.train=head", "seeds=[1]"])
        assert content == before

    @pytest.mark.parametrize(
        ("override", "message"),
        [
            ("optim.lr.x=1", "override optim.lr.x: base.optim.lr is 0.001, not a mapping, so base.optim.lr.x cannot"),
            ("seeds.0=1", "override seeds.0: seeds is [0, 7], not a mapping"),
            ("optim.lr=[1", "override 'optim.lr=[1':1: expected ',' or ']'"),
            ("optim.lr=.nan", "PATH: arms.frozen: optim.lr: Input should be a finite number, got nan"),
            (
                "data.options.day=2020-01-01",
                "override 'data.options.day=2020-01-01':1: a date is no setting; put it into",
            ),
            ("data.options.x=.nan", "PATH: arms.frozen: data.options: x: expected a finite number, a text"),
            (f"data{'.a' * 50}=1", f"override data{'.a' * 50}: 52 levels; a setting is nested at most 40 levels deep"),
            ("a\x1b=1", r"override 'a\x1b=1': the key 'a\x1b': the character U+001B steers the output"),
            ('description="\\ud800"', """override 'description="\\\\ud800"': the character U+D800 steers the output"""),
            (
                "opitm.lr=1",
                "override opitm.lr: unknown key 'opitm'; choices: name, description, base, arms, parts, design, seeds,",
            ),
            ("seed=3", "PATH: arms.frozen.seed: "),
            ("arms.frozen.seeds=[3]", "PATH: arms.frozen.seeds: "),
            (
                "arms.plane.optim.lr=1",
                "override arms.plane.optim.lr: no arm 'plane' (a new one is written arms.plane={...}); choices: froz",
            ),
            ("arms.plain.optm.lr=1", "PATH: arms.plain: optm: unknown key 'optm'; choices: data, backbone, train, "),
            ("arms.plain=3", "PATH: arms.plain: Input should be a valid dictionary, got 3"),
            ("arms=null", "PATH: arms: Input should be a valid dictionary, got None"),
            (
                "loop.l2_sp=0.1",
                "PATH: arms.frozen: loop.l2_sp: Input should be settings with the keys alpha, beta, got 0.1",
            ),
            ("loop.kl_to_base={temperature: 2}", "PATH: arms.frozen: loop.kl_to_base.weight: missing"),
        ],
    )
    def test_what_cannot_be_is_refused(self, path: Path, override: str, message: str) -> None:
        assert refusal(path, override).startswith(message.replace("PATH", str(path)))

    def test_a_setting_is_given_once(self, path: Path) -> None:
        with pytest.raises(UserError, match=r"^override optim\.lr: the setting is given twice$"):
            load_experiment(path, ["optim.lr=1", "optim.lr=2"])

    def test_an_override_that_no_arm_has_afterwards(self, path: Path) -> None:
        without = {"frozen": {"train": "none", "adapter": None}, "head": {"train": "head", "adapter": None}}
        message = "override adapter.dim: no arm has adapter, so it would change nothing"
        assert refusal(edited(path, arms=without), "adapter.dim=4") == message
        each = {"one": {"optim": {"lr": 0.1}}, "two": {"optim": {"lr": 0.2}}}
        message = "override base.optim.lr: every arm sets optim.lr itself, so it would change nothing"
        assert refusal(edited(path, arms=each), "base.optim.lr=0.3") == message
        assert len(load_experiment(path, ["base.optim.warmup=0.3", "loop.augment={}"]).trials) == 4

    def test_an_arm_may_be_added_whole_and_have_dots_in_its_name(self, path: Path) -> None:
        edited(path, arms={"v1": {}, "v1.5": {}})
        found = by_arm(
            load_experiment(path, ["arms.v1.5.optim.lr=0.5", "arms.v2={optim: {lr: 0.25}}", "arms.other.optim.lr=2"])
        )
        assert {arm: content["optim"]["lr"] for arm, content in found.items()} == {
            "v1": 1e-3,
            "v1.5": 0.5,
            "v2": 0.25,
            "other": 2,
        }

    def test_an_experiment_without_a_name_does_not_get_one(self, path: Path) -> None:
        path.write_text(EXPERIMENT.removeprefix("name: small\n"), encoding="utf-8")
        assert refusal(path, "optim.lr=0.5") == f"{path}: name: missing"

    def test_a_recipe_is_known_by_the_keys_of_its_class(self) -> None:
        assert tuple(Recipe.model_fields) == RECIPE_KEYS

    def test_no_arms_to_apply_it_to(self, path: Path) -> None:
        assert refusal(edited(path, arms=None), "optim.lr=1").startswith("override optim.lr: ")

    def test_a_base_that_is_no_mapping(self, path: Path) -> None:
        assert refusal(edited(path, base=[1]), "optim.lr=1").startswith("override optim.lr: base is [1]")


class TestErrors:
    """Every mistake is one line: the file, the place, the value, the choices."""

    def test_unknown_key_at_the_top(self, path: Path) -> None:
        choices = "name, description, base, arms, parts, design, seeds, table, launcher"
        message = f"tabel: unknown key 'tabel'; choices: {choices}. Did you mean table?"
        assert refusal(edited(path, tabel={})) == f"{path}: {message}"

    def test_unknown_key_in_an_arm_and_in_the_base(self, path: Path) -> None:
        choices = "name, lr, weight_decay, betas, eps, momentum, warmup, decay, clip_norm, groups"
        message = f"optim.warmpu: unknown key 'warmpu'; choices: {choices}. Did you mean warmup?"
        assert refusal(edited(path, arms={"a": {"optim": {"warmpu": 1}}})) == f"{path}: arms.a: {message}"
        assert refusal(edited_base(path, optim={"warmpu": 1})) == f"{path}: arms.frozen: {message}"

    def test_unknown_key_with_nothing_near(self, path: Path) -> None:
        message = refusal(edited(path, table={"xyz": 1}))
        assert message.startswith(f"{path}: table.xyz: unknown key 'xyz'; choices: metrics, baseline, title, ")

    def test_unknown_keys_deep_inside(self, path: Path) -> None:
        assert refusal(edited_base(path, loop={"augment": {"time": 1}})).endswith("Did you mean time_mask?")
        found = refusal(edited_base(path, backbone={"recipe": "r", "layers": {"form": 1, "from": 0}}))
        assert found.endswith(
            "arms.frozen: backbone.layers.form: unknown key 'form'; choices: from. Did you mean from?"
        )

    def test_several_mistakes_are_counted(self, path: Path) -> None:
        message = refusal(edited_base(path, optim={"lr": -1, "warmup": 2, "eps": 0}))
        assert message == f"{path}: arms.frozen: optim.lr: Input should be greater than 0, got -1 (and 2 more)"

    @pytest.mark.parametrize(  # pydantic's own place of these names the union's members; ours does not
        ("layers", "message"),
        [
            ([0, -1], "backbone.layers.1: Input should be greater than or equal to 0, got -1"),
            ({"from": -1}, "backbone.layers.from: Input should be greater than or equal to 0, got -1"),
            ({}, "backbone.layers.from: missing"),
        ],
    )
    def test_layers(self, path: Path, layers: Any, message: str) -> None:
        found = refusal(edited_base(path, backbone={"recipe": "r", "layers": layers}))
        assert found == f"{path}: arms.frozen: {message}"

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"base": {}}, "arms.frozen: data: missing (and 1 more)"),
            ({"arms": {"a": None}}, "arms.a: Input should be a valid dictionary, got None"),
            ({"arms": {1: {}}}, "arms: the key 1 is no text; put it into quotes to make it one"),
            ({"arms": {"a\n": {}}}, "arms: the key 'a\\n' is empty, begins or ends with a blank, or has a line break"),
            ({"arms": {"": {}}}, "arms: the key '' is empty, begins or ends with a blank, or has a line break"),
            ({"arms": {"\x1b[31mred": {}}}, "arms: the key '\\x1b[31mred': the character U+001B steers the output"),
            ({"arms": {"\u202eder": {}}}, "arms: the key '\\u202eder': the character U+202E steers the output"),
            ({"arms": {"a" * 201: {}}}, f"arms: the key '{'a' * 40}'... has 201 characters; a name has at most 200"),
            ({"name": "a" * 101}, "name: String should have at most 100 characters, got"),
            ({"description": "a" * 1001}, "description: it has 1,001 characters; give at most 1,000"),
            ({"description": "\ud800"}, "description: the character U+D800 steers the output"),
            ({"table": {"title": "\ufffe"}}, "table.title: the character U+FFFE steers the output"),
            ({"seeds": [10**30]}, "seeds.0: a whole number of more than 30 digits is no setting"),
            ({"arms": ["a"]}, "arms: Input should be a valid dictionary, got ['a']"),
            ({"seeds": 3}, "seeds: Input should be a valid tuple, got 3"),
            ({"seeds": [0, -1]}, "seeds.1: Input should be greater than or equal to 0, got -1"),
            ({"seeds": [0, 0]}, "seeds: [0, 0] names a seed twice"),
            ({"table": {"baseline": "x"}}, "table.baseline: no arm 'x'; choices: frozen, full, plain, depth, alone"),
            ({"table": {"metrics": "cer"}}, "table.metrics: Input should be a valid tuple, got 'cer'"),
            ({"arms": {"a": {"train": "head"}}}, "arms.a: train: head "),
        ],
    )
    def test_places(self, path: Path, changes: dict[str, Any], message: str) -> None:
        assert refusal(edited(path, **changes)).startswith(f"{path}: {message}")

    def test_unknown_metric_is_found_before_anything_is_trained(self, path: Path) -> None:
        message = refusal(edited(path, table={"metrics": ["target_accuracy", "forgeting"]}))
        assert message.startswith(
            f"{path}: table.metrics: unknown metric 'forgeting'; choices: target_X or source_X, where X is accuracy, "
        )
        assert message.endswith(". Did you mean forgetting?")

    @pytest.mark.parametrize(
        ("encoder", "message"),
        [
            ({"kind": "speech", "num_mel": 3}, "encoder.num_mel: unknown key 'num_mel'; choices: kind, sample_rate, "),
            ({"knid": "text"}, "encoder.knid: unknown key 'knid'; choices: kind, vocab_size, "),
            ({"kind": "txt"}, "encoder.kind: unknown kind 'txt'; choices: text, speech, transformers. Did you mean t"),
            ({"kind": "text", "num_mel": 3}, "encoder.num_mel: unknown key 'num_mel'; choices: kind, vocab_size, "),
            ({"kind": "text", "dim": 0}, "encoder.dim: Input should be greater than 0, got 0"),
            ({"kind": "vision"}, "encoder.kind: unknown kind 'vision'; choices: text, speech, transformers"),
        ],
    )
    def test_recipes_name_the_choices_of_their_kind(
        self, tmp_path: Path, encoder: dict[str, Any], message: str
    ) -> None:
        file = tmp_path / "r.yaml"
        recipe = {"name": "r", "data": {"corpus": "c", "domains": ["d"]}, "encoder": {"kind": "text"}}
        file.write_text(yaml.safe_dump(recipe), encoding="utf-8")
        assert isinstance(load_recipe(str(file)), Recipe)
        file.write_text(yaml.safe_dump(recipe | {"encoder": encoder}), encoding="utf-8")
        with pytest.raises(UserError) as caught:
            load_recipe(str(file))
        assert str(caught.value).startswith(f"r.yaml: {message}")


class TestSelection:
    def test_all_by_default(self, path: Path) -> None:
        experiment = load_experiment(path)
        assert select_trials(experiment) == experiment.trials

    def test_some(self, path: Path) -> None:
        experiment = load_experiment(path)
        chosen = select_trials(experiment, ["depth", "frozen"], [7])
        assert [(trial.arm, trial.seed) for trial in chosen] == [("frozen", 7), ("depth", 7)]

    def test_unknown(self, path: Path) -> None:
        experiment = load_experiment(path)
        with pytest.raises(UserError) as caught:
            select_trials(experiment, ["plain", "fulll"])
        assert str(caught.value) == f"no arm 'fulll' in {path}; choices: frozen, full, plain, depth, alone"
        with pytest.raises(UserError) as caught:
            select_trials(experiment, seeds=[1])
        assert str(caught.value) == f"no seed 1 in {path}; choices: 0, 7"


@pytest.mark.parametrize(
    "file", sorted((Path(__file__).parents[2] / "experiments").glob("*.yaml")), ids=lambda file: file.stem
)
def test_published_experiments_are_valid(file: Path) -> None:
    experiment = load_experiment(file)
    assert experiment.name == file.stem
    assert len(experiment.trials) == len(experiment.config.arms) * len(experiment.config.seeds)
    for trial in experiment.trials:
        recipe = load_recipe(trial.config.backbone.recipe)
        assert set(trial.config.data.source) <= set(recipe.data.domains)
        assert trial.config.data.target not in recipe.data.domains
