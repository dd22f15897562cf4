"""A full disk, a corrupt clip, a corrupt checkpoint: one line, what else can be trained is, and it can be mended."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from cli_tests.conftest import Cli
from tiny_speech import TinySpeech
from tiny_text import TinyText

from harness.config.experiment import load_experiment

from .conftest import Start, determined, finish

pytestmark = pytest.mark.slow

FROZEN = {"train": "none", "adapter": None}
LIMIT = 100_000  # bytes; the wide arm's checkpoint has three times as many, everything else far fewer


def test_a_full_disk(start: Start, tiny_text_files: TinyText, tmp_path: Path) -> None:
    arms = {"frozen": FROZEN, "narrow": {}, "wide": {"adapter": {"dim": 600}}}
    experiment = tiny_text_files.write_experiment(tmp_path / "e.yaml", name="full", arms=arms, seeds=[0], table={})
    command = ["run", experiment, "--wandb", "off"]
    code, out, err = finish(start(*command, largest_file=LIMIT))
    wide = load_experiment(experiment).trials[2].config.trial_id
    results = tmp_path / "results" / "full"
    folder = results / "records" / wide
    assert code == 1
    assert err.splitlines() == [
        f"harness: wide/seed0: {folder.relative_to(tmp_path)}/checkpoint.safetensors: cannot be written: File too large"
    ]
    assert {path.name for path in folder.iterdir()} == {"config.json", "log.jsonl", "starts.jsonl"}
    assert "Traceback" not in out + err
    before = {path: path.read_bytes() for path in results.glob("records/*/*") if path.parent != folder}
    summaries = [json.loads(content) for path, content in before.items() if path.name == "summary.json"]
    assert [summary["state"] for summary in summaries] == ["complete"] * 2

    code, out, err = finish(start(*command))
    assert (code, err) == (0, "")
    assert "3 trials, 2 finished, 1 to train" in out
    assert {path: path.read_bytes() for path in before} == before
    assert len(determined(results)) == 3


@pytest.mark.parametrize("how", ["garbage", "empty", "cut in its header", "missing"])
def test_a_clip_that_cannot_be_read(how: str, cli: Cli, tiny_speech_files: TinySpeech, tmp_path: Path) -> None:
    clip = tmp_path / "clip.wav"
    good = (tiny_speech_files.root / "clips" / "high0.wav").read_bytes()
    if how != "missing":
        clip.write_bytes({"garbage": b"\x00\x01" * 500, "empty": b"", "cut in its header": good[:20]}[how])
    lines = tiny_speech_files.manifest.read_text(encoding="utf-8").splitlines()
    rows = [line.replace(",clips/", f",{tiny_speech_files.root}/clips/") for line in lines]
    manifest = tmp_path / "mine.csv"
    manifest.write_text("\n".join([*rows, f"high,{clip},aeo,another,test"]) + "\n", encoding="utf-8")
    content = yaml.safe_load(tiny_speech_files.experiment.read_text(encoding="utf-8"))
    content["base"]["data"]["corpus"] = f"manifest:{manifest}"
    experiment = tmp_path / "e.yaml"
    experiment.write_text(yaml.safe_dump(content), encoding="utf-8")
    result = cli("run", experiment)
    assert result.code == 2
    assert str(clip) in result.error and result.error.startswith(f"{experiment}: arm frozen: ")
    assert not (tmp_path / "results").exists()


def test_a_damaged_checkpoint_in_the_middle(cli: Cli, tiny_text_files: TinyText, tmp_path: Path) -> None:
    """Its trial begins anew, with the same bits; that is told, and stays on record."""
    arms = {"frozen": FROZEN, "adapters": {}, "head_only": {"train": "head", "adapter": None}}
    experiment = tiny_text_files.write_experiment(tmp_path / "e.yaml", name="damaged", arms=arms, seeds=[0], table={})
    whole = cli("run", experiment, "--results", "whole")
    trial = load_experiment(experiment).trials[1].config.trial_id
    checkpoint = tmp_path / "results" / "damaged" / "records" / trial / "checkpoint.safetensors"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(b"not a checkpoint")
    result = cli("run", experiment)
    assert (whole.code, result.code) == (0, 0)
    where = checkpoint.relative_to(tmp_path)
    (told,) = (line for line in result.out.splitlines() if line.endswith(" and is tried again"))
    assert told.startswith(f"adapters/seed0 failed (damaged: {where}: damaged checkpoint (")
    assert result.err == "" and not checkpoint.exists()
    (failure,) = (checkpoint.parent / "failures.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(failure)["reason"] == "damaged"
    assert determined(tmp_path / "results" / "damaged") == determined(tmp_path / "whole" / "damaged")
