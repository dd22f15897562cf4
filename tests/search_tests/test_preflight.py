"""A sweep's arms are checked at the ends of their space before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_text import TinyText, corpus_rows, write_corpus

from harness.errors import UserError
from harness.search.declaration import Sweep
from harness.search.preflight import ends, preflight_sweep
from harness.search.sweep_files import load_sweep
from harness.training.trial import Trial

ROOT = Path(__file__).parents[2]
DIM = {"type": "int", "low": 2, "high": 6, "arms": ["residual_add"]}
LR = {"type": "log_float", "low": 1e-3, "high": 1e-1}


def write_sweep(files: TinyText, folder: Path, space: dict[str, Any], **changes: Any) -> Sweep:
    """A sweep of the tiny experiment."""
    content = {
        "name": "tiny",
        "experiment": str(files.experiment),
        "space": space,
        "objectives": [{"metric": "valid_target/macro_f1"}],
        "budget": {"trials": 4},
        "confirm": {"seeds": [0, 1]},
    }
    path = folder / "tiny_sweep.yaml"
    path.write_text(yaml.safe_dump(content | changes, sort_keys=False), encoding="utf-8")
    return load_sweep(path)


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[Trial]:
    """The trials that were checked."""
    seen: list[Trial] = []
    check = Trial.check

    def counted(trial: Trial, is_part: bool = False) -> None:
        seen.append(trial)
        check(trial, is_part)

    monkeypatch.setattr(Trial, "check", counted)
    return seen


def test_every_arm_is_checked_at_the_ends_of_its_space(
    tiny_text_files: TinyText, tmp_path: Path, checks: list[Trial]
) -> None:
    depth = {"type": "float", "low": 0, "high": 0.9, "arms": ["residual_add"]}
    space = {"optim.lr": LR, "adapter.dim": DIM, "adapter.adapter_strategy.stochastic_depth": depth}
    preflight_sweep(write_sweep(tiny_text_files, tmp_path, space))
    searched = [(c.optim.lr, c.adapter) for trial in checks if (c := trial.config).adapter is not None]
    seen = [
        (lr, adapter["dim"], adapter["adapter_strategy"]["stochastic_depth"]) for lr, adapter in searched if adapter
    ]
    together = [(1e-3, 2, 0), (1e-1, 6, 0.9)]
    alone = [(1e-1, 2, 0), (1e-3, 6, 0), (1e-3, 2, 0.9)]
    assert seen == together + alone
    assert [t.config.optim.lr for t in checks if t.config.train == "head"] == [1e-3, 1e-1]  # the same twice, once
    assert [t.config.train for t in checks].count("none") == 1
    assert {trial.config.seed for trial in checks if trial.config.train != "none"} == {1000}


def test_what_does_not_fit_is_one_line(tiny_text_files: TinyText, tmp_path: Path) -> None:
    choices = ["swish", "nonsense"]
    parameter = {"type": "categorical", "choices": choices, "arms": ["residual_add"]}
    sweep = write_sweep(tiny_text_files, tmp_path, {"adapter.activation": parameter})
    with pytest.raises(UserError) as caught:
        preflight_sweep(sweep)
    assert str(caught.value).startswith(f"{sweep.path}: arm residual_add: adapter: ")
    assert "nonsense" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_domain_that_is_not_there(tiny_text_files: TinyText, tmp_path: Path) -> None:
    sweep = write_sweep(tiny_text_files, tmp_path, {"optim.lr": LR}, settings={"data.target": "nowhere"})
    with pytest.raises(UserError, match=r"tiny_sweep.yaml: arm frozen: .*nowhere"):
        preflight_sweep(sweep)


def test_a_target_that_could_not_be_confirmed(tiny_text_files: TinyText, tmp_path: Path) -> None:
    """The search reads no test example, yet it is not begun where there is none to confirm a winner on."""
    rows = [{k: v for k, v in row.items() if k in ("domain", "text", "label")} for row in corpus_rows()]
    splits = {"home": ("train", "valid", "test"), "away": ("train", "train", "valid")}
    placed = [{**row, "split": splits[row["domain"]][number % 3]} for number, row in enumerate(rows)]
    write_corpus(tmp_path / "rows.jsonl", placed)
    sweep = write_sweep(tiny_text_files, tmp_path, {"optim.lr": LR}, settings={"data.corpus": "manifest:rows.jsonl"})
    with pytest.raises(UserError, match=r"domain 'away' has no examples in its test split, so no winner could be conf"):
        preflight_sweep(sweep)


@pytest.mark.parametrize("path", sorted((ROOT / "sweeps").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_sweeps_need_few_checks(path: Path) -> None:
    sweep = load_sweep(path)
    assert sum(len(list(ends(sweep, arm))) for arm in sweep.arms) <= 30
