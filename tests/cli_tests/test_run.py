"""`harness run` and `harness table` on the tiny experiment: what is trained, printed and returned."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from tiny_text import TinyText, corpus_rows, write_corpus
from tracking_tests.transaction_log import read_finished_run

from .conftest import Cli, Result

ARMS = ("frozen", "head_only", "residual_add")


def summaries(results: Path) -> dict[Path, int]:
    """Every summary and when it was written."""
    return {path: path.stat().st_mtime_ns for path in results.rglob("summary.json")}


def rows(result: Result) -> list[str]:
    """The rows of the printed table, without borders and padding."""
    lines = [line for line in result.out.splitlines() if line.startswith("│")]
    return [re.sub(r"\s*│\s*", "|", line).strip("|") for line in lines]


@pytest.fixture
def short(tiny_text_files: TinyText, tmp_path: Path) -> Path:
    """The tiny experiment with one epoch."""
    base = yaml.safe_load(tiny_text_files.experiment.read_text(encoding="utf-8"))["base"]
    return tiny_text_files.write_experiment(tmp_path / "short.yaml", base=base | {"loop": {"epochs": 1}})


def test_run_prints_progress_and_the_table(cli: Cli, short: Path, tmp_path: Path) -> None:
    result = cli("run", short)
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    assert lines[0] == "tiny_strategies: 6 trials (5 distinct), 0 finished, 5 to train"
    assert [line.partition(")")[0] for line in lines[1:3]] == ["data: away (target", "data: home (source"]
    titles = [f"{arm}/seed{seed}" for arm in ARMS for seed in (0, 1) if (arm, seed) != ("frozen", 1)]
    for number, (line, title) in enumerate(zip(lines[3:8], titles, strict=True), start=1):
        assert line.startswith(f"[{number}/5] {title}: target_macro_f1 ")
        assert re.search(r"about \d+ s left$", line)
    assert [row.split("|")[0] for row in rows(result)] == list(ARMS)
    assert len(summaries(tmp_path / "results" / "tiny_strategies")) == 5
    # the same table, from the records alone, and kept beside them
    assert cli("table", "tiny_strategies").out == "\n".join(lines[8:]) + "\n"
    kept = tmp_path / "results" / "tiny_strategies" / "table.md"
    assert kept.read_text(encoding="utf-8") == cli("table", "tiny_strategies", "--format", "md").out


def test_the_second_run_trains_nothing(cli: Cli, short: Path, tmp_path: Path) -> None:
    first = cli("run", short, "--arm", "residual_add")
    before = summaries(tmp_path)
    assert len(before) == 2
    second = cli("run", short, "--arm", "residual_add")
    assert second.code == 0
    assert second.out.splitlines()[0] == "tiny_strategies: 2 trials, 2 finished, 0 to train"
    assert rows(second) == rows(first)
    assert summaries(tmp_path) == before


def test_what_is_left_out_of_the_data_is_said_everywhere(cli: Cli, tiny_text_files: TinyText, tmp_path: Path) -> None:
    rows = corpus_rows()
    again = rows[-1] | {"text": rows[-1]["text"].upper()}
    write_corpus(tmp_path / "mine.jsonl", [*rows, again, rows[-1] | {"text": "\ufffd", "comment": "unreadable"}])
    content = yaml.safe_load(tiny_text_files.experiment.read_text(encoding="utf-8"))
    content["base"]["data"]["corpus"] = "manifest:mine.jsonl"
    path = tiny_text_files.write_experiment(tmp_path / "x.yaml", base=content["base"])
    remarks = [
        "texts with lost characters (U+FFFD, half an emoji): 1, first in mine.jsonl, line 242",
        "columns that are not read: comment",
        "left out of away: 2 (same text twice: 1, first in mine.jsonl, line 241; no text: 1, first in mine.jsonl, "
        "line 242)",
    ]
    planned = " ".join(cli("plan", path).out.split())
    assert all(f"data: {remark}" in planned for remark in remarks)
    result = cli("run", path, "--arm", "frozen", "--seed", "0")
    said = [line.removeprefix("data: ") for line in result.out.splitlines()[1:6]]  # before anything is trained
    assert said[0].startswith("away (target): ") and said[1].startswith("home (source): ")
    assert said[2:] == remarks
    quiet = cli("run", path, "--arm", "head_only", "--seed", "0", "loop.epochs=1", "--quiet").out.splitlines()
    assert [line.removeprefix("data: ") for line in quiet[1:4]] == remarks, "what must be known is said all the same"
    assert cli("verify", "tiny_strategies").code == 0
    assert cli("report", "tiny_strategies").code == 0
    folder = tmp_path / "results" / "tiny_strategies"
    shown = [cli("table", "tiny_strategies").out, (folder / "report.html").read_text(encoding="utf-8")]
    assert all(remark in " ".join(text.split()) for remark in remarks for text in shown)


def test_some_arms_and_seeds(cli: Cli, short: Path, tmp_path: Path) -> None:
    result = cli("run", short, "--arm", "residual_add", "--arm", "frozen", "--seed", "1", "--quiet")
    assert result.code == 0
    assert [row.split("|")[:2] for row in rows(result)] == [
        ["frozen", "1"],  # one trial, which is that of every seed
        ["head_onlyᵃ", "0/2"],
        ["residual_addᵇ", "1/2"],
    ]
    notes = [line for line in result.out.splitlines() if line.endswith("missing")]
    assert notes == [
        "  ᵃ head_only: n = 0 of 2: seeds 0, 1 missing",
        "  ᵇ residual_add: n = 1 of 2: seed 0 missing",
    ]
    manifest = json.loads((tmp_path / "results" / "tiny_strategies" / "experiment.json").read_text(encoding="utf-8"))
    assert list(manifest["arms"]) == list(ARMS)


def test_overrides_go_to_an_experiment_of_their_own(cli: Cli, short: Path, tmp_path: Path) -> None:
    result = cli("run", short, "adapter.dim=2", "seeds=[5]", "--arm", "residual_add", "--results", tmp_path / "mine")
    assert result.code == 0
    (folder,) = (tmp_path / "mine").iterdir()
    assert re.fullmatch(r"tiny_strategies-\w{6}", folder.name)
    assert result.out.startswith(f"{folder.name}: 1 trials, 0 finished, 1 to train\n")
    (config,) = folder.glob("records/*/config.json")
    content = json.loads(config.read_text(encoding="utf-8"))
    assert (content["adapter"]["dim"], content["seed"]) == (2, 5)
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("command", ["run", "plan"])
def test_a_table_that_cannot_be_made_is_told_before_anything_is_trained(
    command: str, cli: Cli, short: Path, tmp_path: Path
) -> None:
    result = cli(command, short, "table.rows=[nonsense.key]")
    assert (result.code, result.out) == (2, "")
    assert "table.rows: no trial of tiny_strategies-" in result.err and result.err.count("\n") == 1
    assert not summaries(tmp_path)


def test_a_failed_trial(cli: Cli, short: Path, tmp_path: Path) -> None:
    """The others are trained, the table says what is missing, the exit code is 1, and it stays so."""
    arguments = ("run", short, "optim.lr=1e30", "optim.clip_norm=null", "name=bad", "seeds=[0]")
    result = cli(*arguments)
    assert result.code == 1
    failures = result.err.splitlines()
    assert len(failures) == 2
    for line, arm in zip(failures, ("head_only", "residual_add"), strict=True):
        assert re.match(rf"harness: {arm}/seed0: failed: nan: .+ is (nan|inf) .*epoch 1", line)
    assert [row.split("|")[:2] for row in rows(result)] == [
        ["frozen", "1"],
        ["head_onlyᵃ", "0/1"],
        ["residual_addᵇ", "0/1"],
    ]
    assert "head_only: n = 0 of 1: seed 0 failed (nan)" in result.out

    before = summaries(tmp_path)
    again = cli(*arguments)
    assert (again.code, again.err) == (1, result.err)
    assert again.out.startswith("bad: 3 trials, 3 finished, 0 to train\n")
    assert summaries(tmp_path) == before
    assert cli(*arguments, "--retry-failed").out.startswith("bad: 3 trials, 1 finished, 2 to train\n")


def test_a_launch_whose_trials_give_no_table_tells_its_failures_all_the_same(cli: Cli, short: Path) -> None:
    """The table shows the one arm that was not trained; of the others, one fails."""
    changes = ("table.where={adapter.dim: 4}", "table.arms=[head_only, frozen, residual_add]")
    learning = "arms.head_only.optim.lr=1e30"
    result = cli("run", short, *changes, learning, "--arm", "frozen", "--arm", "head_only")
    lines = result.err.splitlines()
    assert result.code == 1
    assert [line for line in lines if "head_only/seed0: failed" in line] and "no table: " in lines[-1]


def test_an_interrupted_run_says_how_to_go_on(cli: Cli, short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("harness.training.run_trial.save_weights", interrupt)
        result = cli("run", short, "--arm", "residual_add", "--seed", "0")
    assert result.code == 130
    assert result.err.startswith("harness: interrupted; ") and result.err.count("\n") == 1
    after = cli("run", short, "--arm", "residual_add", "--seed", "0")
    assert after.code == 0
    assert after.out.startswith("tiny_strategies: 1 trials, 0 finished, 1 to train\n")


def test_a_strategy_beside_the_experiment_file(cli: Cli, tiny_text_files: TinyText, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "halving_strategy.py").write_text(
        "from harness.adapters import AbstractAdapterStrategy\n"
        "class Halving(AbstractAdapterStrategy):\n"
        "    def forward(self, input, adapter, *, module):\n"
        "        return input + 0.5 * adapter(input)\n",
        encoding="utf-8",
    )
    arms = {"halving": {"adapter": {"adapter_strategy": {"_target_": "halving_strategy.Halving"}}}}
    path = tiny_text_files.write_experiment(folder / "e.yaml", name="halving", arms=arms, table={}, seeds=[0])
    result = cli("run", path, "loop.epochs=1")
    assert (result.code, result.err) == (0, "")
    assert rows(result)[0].startswith("halving|")


@pytest.mark.slow
def test_wandb_offline(cli: Cli, short: Path, tmp_path: Path) -> None:
    result = cli("run", short, "--seed", "0", "--wandb", "offline")
    assert (result.code, result.err) == (0, "")
    folder = tmp_path / "results" / "tiny_strategies"
    runs = [read_finished_run(path) for path in folder.glob("wandb/offline-run-*/run-*.wandb")]
    assert {run.run_id for run in runs} == {path.name for path in (folder / "records").iterdir()}
    by_arm = {run.tags[0]: run for run in runs}
    assert set(by_arm) == set(ARMS)
    assert {arm: run.job_type for arm, run in by_arm.items()} == {
        "frozen": "baseline",
        "head_only": "confirm",
        "residual_add": "confirm",
    }
    assert {arm: len(run.history) for arm, run in by_arm.items()} == {"frozen": 0, "head_only": 1, "residual_add": 1}
    run = by_arm["residual_add"]
    record = json.loads((folder / "records" / run.run_id / "summary.json").read_text(encoding="utf-8"))
    assert run.summary["final/target_accuracy"] == record["metrics"]["target_accuracy"]
    assert run.config["optim"]["lr"] == 0.02
    assert (run.group, run.summary["state"]) == ("tiny_strategies", "complete")


@pytest.mark.slow
def test_arms_with_long_names_reach_wandb(cli: Cli, short: Path, tmp_path: Path) -> None:
    """As a design with factors writes them: longer than W&B's tags may be."""
    key = "adapter.adapter_strategy."
    factors = {
        "probability of stochastic depth": {"key": f"{key}stochastic_depth", "levels": [0, 0.5]},
        "weight of the l2 penalty on the output": {"key": f"{key}l2_lambda", "levels": [0.0001, 0.001]},
    }
    settings = yaml.safe_load(short.read_text(encoding="utf-8"))
    design = {"design": {"type": "factorial", "factors": factors}, "arms": {}, "table": {}, "seeds": [0]}
    short.write_text(yaml.safe_dump(settings | design, sort_keys=False), encoding="utf-8")
    result = cli("run", short, "--wandb", "offline")
    assert (result.code, result.err) == (0, "")
    folder = tmp_path / "results" / "tiny_strategies"
    runs = [read_finished_run(path) for path in folder.glob("wandb/offline-run-*/run-*.wandb")]
    arms = {run.config["arm"] for run in runs}
    assert len(runs) == len(arms) == len({run.tags[0] for run in runs}) == 4 and min(map(len, arms)) > 64
    assert {run.run_id for run in runs} == {path.name for path in (folder / "records").iterdir()}


def test_no_wandb_when_it_is_off(cli: Cli, short: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert cli("run", short, "--arm", "frozen", "--wandb", "off").code == 0
    assert not list(tmp_path.rglob("wandb"))


class TestTable:
    @pytest.fixture
    def trained(self, cli: Cli, short: Path) -> Cli:
        assert cli("run", short, "--arm", "frozen", "--arm", "head_only").code == 0
        return cli

    def test_markdown(self, trained: Cli) -> None:
        result = trained("table", "tiny_strategies", "--format", "md")
        assert (result.code, result.err) == (0, "")
        lines = [line for line in result.out.splitlines() if line.startswith("|")]
        assert [line.split(" | ")[0].partition("<sup>")[0] for line in lines[2:]] == [f"| {arm}" for arm in ARMS]
        numbers = [re.findall(r"\d+\.\d+|–", line) for line in lines[2:]]
        assert numbers == [re.findall(r"\d+\.\d+|–", row) for row in rows(trained("table", "tiny_strategies"))]
        assert all(len(found) > 5 for found in numbers)

    def test_chosen_columns(self, trained: Cli) -> None:
        result = trained("table", "tiny_strategies", "--metrics", "seconds, forgetting", "--format", "md")
        assert "| arm | n | seconds (s) | forgetting (points) ↓ |" in result.out.splitlines()

    def test_unknown_column(self, trained: Cli) -> None:
        result = trained("table", "tiny_strategies", "--metrics", "forgeting")
        assert result.code == 2
        assert result.error.startswith("table: no metric 'forgeting' in the records of tiny_strategies; choices: tar")

    def test_unknown_experiment_names_the_known(self, trained: Cli) -> None:
        result = trained("table", "tiny")
        assert (result.code, result.error) == (2, "no results of 'tiny' in results; choices: tiny_strategies")

    def test_a_corrupt_record_is_one_line(self, trained: Cli, tmp_path: Path) -> None:
        path = next((tmp_path / "results").rglob("summary.json"))
        path.write_text(path.read_text(encoding="utf-8")[:100], encoding="utf-8")
        result = trained("table", "tiny_strategies")
        assert (result.code, result.out) == (2, "")
        relative = path.relative_to(tmp_path)
        assert result.error.startswith(f"{relative}: not valid JSON; delete it")

    def test_nothing_finished(self, cli: Cli, tmp_path: Path, short: Path) -> None:
        assert cli("run", short, "--arm", "frozen", "--seed", "0").code == 0
        for path in (tmp_path / "results").rglob("summary.json"):
            path.unlink()
        result = cli("table", "tiny_strategies")
        assert result.code == 2
        assert result.error == (
            "results/tiny_strategies: no trial of tiny_strategies is finished, so there is nothing to tabulate"
        )
