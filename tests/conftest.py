"""Fixtures of all tests: caches of the session's own, the tiny text experiment, and the command line as a process."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import yaml
from made_once import made_once
from tiny_text import RunCli, TinyText, corpus_rows, experiment_settings, recipe_settings, write_corpus

from harness.garbage import look_for_garbage_rarely

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded: many threads are slower on tiny tensors
look_for_garbage_rarely()  # among thousands of tests and all of torch

pytest_plugins = [
    "needs",
    "nfs",
    "postgres",
    "ray_nodes",
    "slurm",
    "small_experiments",
    "trial_configs",
]  # their fixtures

ROOT = Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with the long tests: with one of them as the last, the other processors would wait for it.

    Each worker of pytest-xdist is first given a contiguous share of the list (`--dist worksteal`), so each share is
    led by its part of them.
    """
    workers = getattr(config, "workerinput", {"workercount": 1})["workercount"]
    long: list[pytest.Item] = []
    others: list[pytest.Item] = []
    for item in items:
        (long if item.get_closest_marker("long") or item.get_closest_marker("docs") else others).append(item)
    bounds = [len(others) * number // workers for number in range(workers + 1)]
    items[:] = [
        item
        for number, (start, end) in enumerate(itertools.pairwise(bounds))
        for item in (*long[number::workers], *others[start:end])
    ]


@pytest.fixture(scope="session", autouse=True)
def own_caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Trained backbones (HARNESS_CACHE) and wandb's files go to a folder of this session, never to the developer's.

    HARNESS_DATA stays: the data tests read the corpora that were fetched. What a test writes there goes to
    `tiny_text_files.env` or a folder that the test sets.
    """
    folder = tmp_path_factory.mktemp("caches")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_CACHE", str(folder / "harness"))
        for name in ("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
            patch.setenv(name, str(folder / "wandb"))
        for name in ("HARNESS_DEBUG", "WANDB_API_KEY", "WANDB_MODE", "WANDB_PROJECT", "WANDB_BASE_URL"):
            patch.delenv(name, raising=False)
        yield folder


@pytest.fixture(scope="session")
def tiny_text_files(own_caches: Path, tmp_path_factory: pytest.TempPathFactory) -> TinyText:
    """The tiny text experiment on disk, its backbone trained (see tests/tiny_text.py). Read it, never change it."""

    def make(root: Path) -> None:
        from harness.backbones.recipe import load_recipe
        from harness.training.pretrain import pretrain

        corpus, recipe = root / "sentences.jsonl", root / "tiny.yaml"
        write_corpus(corpus, corpus_rows())
        recipe.write_text(yaml.safe_dump(recipe_settings(corpus), sort_keys=False), encoding="utf-8")
        experiment = yaml.safe_dump(experiment_settings(corpus, recipe), sort_keys=False)
        (root / "tiny_strategies.yaml").write_text(experiment, encoding="utf-8")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("HARNESS_CACHE", str(root / "cache"))
            pretrain(load_recipe(str(recipe)), lambda entry: None)

    root = made_once(tmp_path_factory, "tiny_text", make)
    # Not $HARNESS_CACHE as it is now: whoever asks first may have set another one for a while.
    shutil.copytree(root / "cache", own_caches / "harness", dirs_exist_ok=True)
    env = {"HARNESS_CACHE": str(own_caches / "harness"), "HARNESS_DATA": str(own_caches / "data")}
    return TinyText(root, root / "sentences.jsonl", root / "tiny.yaml", root / "tiny_strategies.yaml", env)


@pytest.fixture(scope="session")
def tiny_results(tiny_text_files: TinyText, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with the tiny experiment, trained, and a tiny sweep of it, confirmed. Copy it to change it."""

    def make(results: Path) -> None:
        from trained_results import train_experiment, train_sweep

        train_experiment(tiny_text_files.experiment, results)
        train_sweep(tiny_text_files.experiment, tmp_path_factory.mktemp("tiny_sweep"), results)

    return made_once(tmp_path_factory, "tiny_results", make)


@pytest.fixture
def run_cli(own_caches: Path, tmp_path: Path) -> RunCli:
    """A function that runs `python -m harness ARGS` in a process of its own, without W&B unless `env` asks for it."""

    def run(
        *args: str | Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        timeout_s: float = 120,
    ) -> subprocess.CompletedProcess[str]:
        surroundings = os.environ | {
            "PYTHONPATH": str(ROOT),
            "HOME": str(own_caches / "home"),
            "HARNESS_DATA": str(own_caches / "data"),
            "WANDB_MODE": "disabled",
        }
        return subprocess.run(
            [sys.executable, "-m", "harness", *map(str, args)],
            env=surroundings | dict(env or {}),
            cwd=cwd or tmp_path,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )

    return run
