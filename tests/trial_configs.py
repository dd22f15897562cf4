"""Fixtures of the tests that train: configs of the tiny experiments, and what their trials share."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import pytest
from made_once import made_once
from tiny_speech import TinySpeech, files_in, write_files
from tiny_text import TinyText

from harness.backbones.recipe import load_recipe
from harness.config.experiment import load_experiment
from harness.config.trees import merge
from harness.config.trial import TrialConfig
from harness.training.pretrain import pretrain
from harness.training.resources import Resources


class MakeConfig(Protocol):
    """The fixtures `make_config` and `make_speech_config`."""

    def __call__(self, arm: str = "residual_add", seed: int = 0, **changes: Any) -> TrialConfig:
        """The config of a trial; `changes` are merged over it."""


def config_of(experiment: Path, arm: str, seed: int, changes: Mapping[str, Any]) -> TrialConfig:
    config = load_experiment(experiment).config
    return TrialConfig.model_validate({**merge(merge(config.base, config.arms[arm]), changes), "seed": seed})


SIZES = {"data": {"train_limit": 48}, "loop": {"epochs": 3, "batch_size": 16}}  # three steps an epoch


@pytest.fixture(scope="session")
def make_config(tiny_text_files: TinyText) -> MakeConfig:
    """Configs of the tiny text experiment's arms."""

    def make(arm: str = "residual_add", seed: int = 0, **changes: Any) -> TrialConfig:
        return config_of(tiny_text_files.experiment, arm, seed, merge(SIZES, changes))

    return make


@pytest.fixture(scope="session")
def resources() -> Resources:
    """Corpora and backbones, shared by all training tests (a trial copies the model before it changes it)."""
    return Resources()


@pytest.fixture(scope="session")
def data_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where features of clips go."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def tiny_speech_files(own_caches: Path, data_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> TinySpeech:
    """The tiny speech experiment on disk, its backbone trained. Read it, never change it."""

    def make(root: Path) -> None:
        files = write_files(root)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("HARNESS_DATA", str(data_cache))
            patch.setenv("HARNESS_CACHE", str(root / "cache"))
            pretrain(load_recipe(str(files.recipe)), lambda entry: None)

    root = made_once(tmp_path_factory, "tiny_speech", make)
    shutil.copytree(root / "cache", own_caches / "harness", dirs_exist_ok=True)
    return files_in(root)


@pytest.fixture(scope="session")
def make_speech_config(tiny_speech_files: TinySpeech) -> MakeConfig:
    """Configs of the tiny speech experiment's arms."""

    def make(arm: str = "residual_add", seed: int = 0, **changes: Any) -> TrialConfig:
        return config_of(tiny_speech_files.experiment, arm, seed, changes)

    return make
