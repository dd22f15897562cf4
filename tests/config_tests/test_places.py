"""Paths in settings files start from the folder of the file that names them, then from the current folder."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.backbones.recipe import load_recipe
from harness.config.experiment import load_experiment
from harness.config.places import (
    PlacedText,
    find_path,
    folder_of,
    place_paths,
    place_recorded,
    recorded_places,
)
from harness.config.trial import TrialConfig
from harness.data.corpora.registry import load_corpus
from harness.data.errors import DataError
from harness.errors import UserError
from harness.search.sweep_files import load_sweep

ROWS = "text,label,domain,split\n" + "".join(
    f"{domain} {split} {number} words,{'good' if number % 2 else 'bad'},{domain},{split}\n"
    for domain in ("home", "away")
    for split in ("train", "valid", "test")
    for number in range(4)
)
RECIPE = {"name": "mine", "data": {"corpus": "manifest:rows.csv", "domains": ["home"]}, "encoder": {"kind": "text"}}
EXPERIMENT: dict[str, Any] = {
    "name": "mine",
    "base": {
        "data": {"corpus": "manifest:data/rows.csv", "source": ["home"], "target": "away"},
        "backbone": {"recipe": "recipes/mine.yaml"},
    },
    "arms": {"frozen": {"train": "none"}, "head": {"train": "head"}},
    "seeds": [0],
}
SWEEP: dict[str, Any] = {
    "name": "search",
    "experiment": "../mine.yaml",
    "space": {"optim.lr": {"type": "log_float", "low": 1e-3, "high": 1e-1}},
    "objectives": [{"metric": "valid_target/macro_f1"}],
    "budget": {"trials": 2},
    "confirm": {"seeds": [0]},
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with folders of its own; the current folder is another one."""
    folder = tmp_path / "project"
    for name, content in (("mine.yaml", EXPERIMENT), ("recipes/mine.yaml", RECIPE), ("sweeps/search.yaml", SWEEP)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(yaml.safe_dump(content), encoding="utf-8")
    for name in ("data/rows.csv", "recipes/rows.csv"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(ROWS, encoding="utf-8")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return folder


def paths_of(config: TrialConfig) -> tuple[Path, Path]:
    """The files that a trial's corpus and recipe mean."""
    corpus, recipe = config.data.corpus, config.backbone.recipe
    written = corpus.removeprefix("manifest:")
    return find_path(written, folder_of(corpus)).resolve(), find_path(recipe, folder_of(recipe)).resolve()


def test_an_experiment_is_the_same_from_every_folder(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from_elsewhere = load_experiment(project / "mine.yaml").trials[0].config
    relative = load_experiment(Path("../project/mine.yaml")).trials[0].config
    monkeypatch.chdir(project)
    inside = load_experiment(Path("mine.yaml")).trials[0].config
    assert paths_of(inside) == (project / "data/rows.csv", project / "recipes/mine.yaml")
    assert from_elsewhere.trial_id == relative.trial_id == inside.trial_id
    content = inside.model_dump(mode="json", by_alias=True)
    assert content["data"]["corpus"] == "manifest:data/rows.csv"  # no folder of this machine in the record
    assert TrialConfig.model_validate(content).trial_id == inside.trial_id
    monkeypatch.chdir(project.parent / "elsewhere")
    for config in (from_elsewhere, pickle.loads(pickle.dumps(relative)), copy.deepcopy(from_elsewhere)):
        assert paths_of(config) == (project / "data/rows.csv", project / "recipes/mine.yaml")
        recipe = load_recipe(config.backbone.recipe)
        assert load_corpus(config.data.corpus).domains == load_corpus(recipe.data.corpus).domains


def test_the_current_folder_comes_second(project: Path) -> None:
    (project / "data/rows.csv").rename(Path("rows.csv"))
    (project / "recipes/rows.csv").unlink()
    trial = load_experiment(project / "mine.yaml", ["base.data.corpus=manifest:rows.csv"]).trials[0]
    assert paths_of(trial.config)[0] == Path("rows.csv").resolve()
    assert load_corpus(load_recipe(str(project / "recipes/mine.yaml")).data.corpus).domains  # the recipe's own


def test_a_path_on_the_command_line_starts_from_the_current_folder(project: Path) -> None:
    Path("data").mkdir()
    Path("data/rows.csv").write_text(ROWS, encoding="utf-8")
    for key in ("data.corpus", "base.data.corpus", "arms.frozen.data.corpus"):
        trial = load_experiment(project / "mine.yaml", [f"{key}=manifest:data/rows.csv"]).trials[0]
        assert paths_of(trial.config)[0] == Path("data/rows.csv").resolve()
    sweep = load_sweep(project / "sweeps/search.yaml", ["data.corpus=manifest:data/rows.csv"])
    assert paths_of(sweep.trial(sweep.arms[0], {}, 0))[0] == Path("data/rows.csv").resolve()


def test_a_sweep_and_its_experiment_have_folders_of_their_own(project: Path) -> None:
    sweep = load_sweep(project / "sweeps/search.yaml")
    assert paths_of(sweep.trial(sweep.arms[1], {"optim.lr": 0.01}, 0))[0] == project / "data/rows.csv"
    (project / "sweeps/rows.csv").write_text(ROWS, encoding="utf-8")
    content = SWEEP | {"settings": {"data.corpus": "manifest:rows.csv"}}
    choices = {"type": "categorical", "choices": ["../recipes/mine.yaml", "text_small"]}
    content["space"] = {**SWEEP["space"], "backbone.recipe": choices}
    (project / "sweeps/search.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    sweep = load_sweep(project / "sweeps/search.yaml")
    config = sweep.trial(sweep.arms[1], {"backbone.recipe": "../recipes/mine.yaml"}, 0)
    assert paths_of(config) == (project / "sweeps/rows.csv", project / "recipes/mine.yaml")


def test_a_sweep_may_name_an_experiment_that_comes_with_harness(project: Path) -> None:
    path = project / "sweeps/search.yaml"
    path.write_text(yaml.safe_dump(SWEEP | {"experiment": "demo_text", "arms": ["residual_add"]}), encoding="utf-8")
    assert load_sweep(path).experiment.config.name == "demo_text"
    (project / "sweeps/demo_text").write_text("own: 1", encoding="utf-8")  # a file of this name is meant first
    with pytest.raises(UserError, match="own: unknown key"):
        load_sweep(path)


def test_a_design_places_its_levels(project: Path) -> None:
    (project / "other.csv").write_text(ROWS, encoding="utf-8")
    factors = {
        "rows": {"key": "data.corpus", "levels": ["manifest:data/rows.csv", "manifest:other.csv"]},
        "seen": {"key": "data.train_limit", "levels": [1, 2]},
    }
    content = EXPERIMENT | {"arms": {}, "design": {"type": "factorial", "factors": factors}}
    content["base"] = EXPERIMENT["base"] | {"train": "head"}
    (project / "mine.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    found = {paths_of(trial.config)[0] for trial in load_experiment(project / "mine.yaml").trials}
    assert found == {project / "data/rows.csv", project / "other.csv"}


def test_a_miss_says_where_it_looked(project: Path) -> None:
    here = Path.cwd()
    looked = f"No such file or directory; looked in {project}, the folder of the file that names it, and in {here}, the"
    (project / "data/rows.csv").unlink()
    corpus = load_experiment(project / "mine.yaml").trials[0].config.data.corpus
    with pytest.raises(DataError, match=rf"^data/rows\.csv: cannot be read: {looked}"):
        load_corpus(corpus)
    (project / "recipes/mine.yaml").unlink()
    with pytest.raises(UserError, match=rf"^no backbone recipe 'recipes/mine.yaml'; choices: .*{looked}"):
        load_recipe(load_experiment(project / "mine.yaml").trials[0].config.backbone.recipe)
    (project / "mine.yaml").unlink()
    with pytest.raises(UserError, match=rf"search.yaml: experiment: \.\./mine.yaml: .*looked in {project}/sweeps, the"):
        load_sweep(project / "sweeps/search.yaml")
    with pytest.raises(UserError, match=rf"^x\.csv: cannot be read: .*; looked in {here}, the current folder$"):
        find_path("x.csv", Path())
    with pytest.raises(UserError, match=r"^/x\.csv: cannot be read: No such file or directory$"):
        find_path("/x.csv", project)
    with pytest.raises(UserError, match="No such file or directory"):
        find_path("x" * 5000 + "\0", project)


def test_what_has_a_folder_keeps_it() -> None:
    placed = place_paths({"base": {"data.corpus": "a", "data": {"corpus": "b", "target": "c"}}}, Path("first"))
    again = place_paths(placed, Path("second"))
    assert folder_of(again["base"]["data.corpus"]) == folder_of(again["base"]["data"]["corpus"]) == Path("first")
    assert not isinstance(again["base"]["data"]["target"], PlacedText)


def test_a_record_knows_where_its_paths_start(project: Path) -> None:
    """Verification and comparisons find the data of an experiment that was run from another folder."""
    config = load_experiment(project / "mine.yaml", ["data.train_limit=1"]).trials[0].config
    record = project.parent / "results/mine/records/0123"
    texts = {"data.corpus": config.data.corpus, "backbone.recipe": config.backbone.recipe}
    places = recorded_places(texts, record)
    assert places == dict.fromkeys(texts, "../../../../project")  # as seen from the record, so that both may move
    content = config.model_dump(mode="json", by_alias=True)
    assert paths_of(TrialConfig.model_validate(place_recorded(content, places, record))) == paths_of(config)
    assert place_recorded(content, {}, record) == content
    named = {"data.corpus": PlacedText("vader", project), "backbone.recipe": PlacedText(str(project), project)}
    assert recorded_places(named, record) == {}
