"""`harness pretrain`, `data list`, `doctor`, `demo`, and help."""

from __future__ import annotations

import logging
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from tiny_speech import write_clip
from tiny_text import TinyText

from harness import __version__
from harness.backbones.fetched import MODELS
from harness.cli.doctor import package_version
from harness.config.shipped import load_tested_versions, shipped_files
from harness.data.corpora.registry import CORPORA
from harness.data.errors import DataError
from harness.errors import UserError
from harness.search.live_export import export_once

from .conftest import Cli


def test_pretrain_reports_epochs_and_does_nothing_the_second_time(
    cli: Cli, tiny_text_files: TinyText, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    first = cli("pretrain", tiny_text_files.recipe)
    assert (first.code, first.err) == (0, "")
    lines = first.out.splitlines()
    assert [line.split(":")[0] for line in lines[:3]] == ["data", "epoch 1/2", "epoch 2/2"]
    assert lines[3].startswith("tiny (")
    (folder,) = (tmp_path / "cache" / "backbones").iterdir()
    assert lines[4] == f"weights in {folder}"
    second = cli("pretrain", tiny_text_files.recipe, "--quiet")
    assert (second.code, second.out.splitlines()) == (0, lines[3:])


def test_pretrain_without_its_corpus(cli: Cli, tiny_text_files: TinyText, tmp_path: Path) -> None:
    recipe = yaml.safe_load(tiny_text_files.recipe.read_text(encoding="utf-8"))
    recipe["data"]["corpus"] = "manifest:gone.jsonl"
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    result = cli("pretrain", "r.yaml")
    assert result.code == 2
    missing = "gone.jsonl: cannot be read: No such file or directory"
    assert result.error == f"{missing}; looked in {tmp_path}, the current folder"


def test_data_list(cli: Cli) -> None:
    result = cli("data", "list")
    assert (result.code, result.err) == (0, "")
    words = [line.split() for line in result.out.splitlines()]
    assert [line[0] for line in words] == [*CORPORA, *(f"fetched:{name}" for name in MODELS)]
    states = {line[0]: line[1] for line in words}
    assert states["manifest"] == "local"
    assert states["vader"] == "not"  # fetched: HARNESS_DATA is an empty folder


def test_data_show(cli: Cli, tmp_path: Path) -> None:
    rows = "a,one text,0,train,7\na,one  text,0,train,7\nb,two,1,valid,8\nb,three,1,test,9\nc,\ufffd,1,test,9\n"
    (tmp_path / "m.csv").write_text("domain,text,label,split,id\n" + rows, encoding="utf-8")
    result = cli("data", "show", "manifest:m.csv", "labels=[1, 0]")
    assert (result.code, result.err) == (0, "")
    first, *lines = result.out.splitlines()
    assert first.startswith("manifest:m: text, fingerprint ")
    assert lines == [
        "domain  train  valid  test",
        "a       1      0      0",
        "b       0      1      1",
        "2 classes: '1', '0'",
        "data: texts with lost characters (U+FFFD, half an emoji): 1, first in m.csv, line 6",
        "data: columns that are not read: id",
        "data: left out of a: 1 (same text twice: 1, first in m.csv, line 3)",
        "data: left out of c: 1 (no text: 1, first in m.csv, line 6)",
    ]
    for wrong in (["manifest:gone.csv"], ["manifest:m.csv", "labels=[no, yes]"], ["manifest:m.csv", "x=1"], ["vadar"]):
        result = cli("data", "show", *wrong)
        assert result.code == 2 and result.error


def test_data_show_has_the_text_of_a_normaliser(cli: Cli, tmp_path: Path) -> None:
    write_clip(tmp_path / "a.wav", "aeou", "low")
    (tmp_path / "m.csv").write_text("domain,path,transcript,split\nru,a.wav,Ёж 3,train\n", encoding="utf-8")
    shown = cli("data", "show", "manifest:m.csv", "--normaliser", "basic")
    assert (shown.code, shown.err) == (0, "")
    assert "4 letters: ' ', '3', 'ж', 'ё'" in shown.out and "the text of the normaliser basic (" in shown.out
    assert "left out of ru: 1 (digits: 1, first in m.csv, line 2)" in cli("data", "show", "manifest:m.csv").error
    assert "there is none called 'latin'; choices: " in cli("data", "show", "vader", "--normaliser", "latin").error


def test_doctor(cli: Cli) -> None:
    result = cli("doctor")
    assert (result.code, result.err) == (0, "")
    found = dict(line.split(":", 1) for line in result.out.splitlines())
    assert found["harness"].strip().startswith(__version__)
    assert found["W&B mode"].strip() == "disabled"
    assert found["corpus vader"].strip() == "not here; run: harness data fetch vader"
    assert found["model e5_small_q4"].strip() == "not here; run: harness data fetch e5_small_q4"
    assert {"python", "torch", "GPU", "audio", "backbone text_small"} <= set(found)


def test_doctor_tells_where_a_version_is_not_the_tested_one() -> None:
    here = version("typer")
    assert package_version("typer", here) == package_version("typer", None) == here
    assert "1.2.3" in package_version("typer", "1.2.3")
    assert "1.2.3" in package_version("no-such-package", "1.2.3")
    assert load_tested_versions()["typer"]


@pytest.mark.parametrize("arguments", [(), ("data",)])
def test_help_is_shown_for_a_bare_command(cli: Cli, arguments: tuple[str, ...]) -> None:
    result = cli(*arguments)
    assert (result.code, result.err) == (2, "")
    assert result.out.startswith(" ".join(("Usage: harness", *arguments)))
    assert "Commands:" in result.out


@pytest.mark.parametrize("command", [(), ("run",), ("table",), ("pretrain",), ("doctor",), ("data", "fetch")])
def test_help(cli: Cli, command: tuple[str, ...]) -> None:
    result = cli(*command, "--help")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith(" ".join(("Usage: harness", *command)))
    assert "..." not in result.out.partition("Commands:")[2]  # each command's line says it whole


class TestDemo:
    """What it runs; that it trains is for the tests of `harness sweep` and `harness run`."""

    @pytest.fixture
    def told(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """What the demo fetches and runs, in order; nothing is fetched or trained."""
        told: list[str] = []

        def run(path: Path, **settings: object) -> None:
            told.append(f"run {path}")

        def sweep(path: Path, **settings: object) -> None:
            told.append(f"sweep {path}")

        def fetch(name: str, **settings: object) -> None:
            told.append(f"fetch {name}")

        monkeypatch.setattr("harness.cli.demo.run", run)
        monkeypatch.setattr("harness.cli.demo.sweep", sweep)
        monkeypatch.setattr("harness.cli.demo.report", lambda name, *settings: told.append(f"report {name}"))
        monkeypatch.setattr("harness.data.corpora.registry.fetch_corpus", fetch)
        monkeypatch.setattr(logging.getLogger("harness"), "level", logging.NOTSET)  # the demo raises it
        return told

    def test_real_speech(self, cli: Cli, told: list[str]) -> None:
        result = cli("demo")
        assert (result.code, result.err) == (0, "")
        assert told == [
            "fetch vader",
            "sweep quickstart",
            "fetch asterisk",
            "run demo_speech",
            "report quickstart",
            "report demo_speech",
        ]
        assert "SYNTHETIC" not in result.out

    def test_synthetic_speech_is_said_to_be(self, cli: Cli, told: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
        def fetch(name: str, **settings: object) -> None:
            if name == "asterisk":
                raise DataError("apt-get is not there")

        monkeypatch.setattr("harness.data.corpora.registry.fetch_corpus", fetch)
        result = cli("demo")
        ran = ["sweep quickstart", "run demo_speech_synthetic"]
        assert told == [*ran, "report quickstart", "report demo_speech_synthetic"]
        assert "apt-get is not there" in result.out
        assert "SYNTHETIC" in result.out


def test_the_files_of_the_demo_are_shipped() -> None:
    assert {"demo_text", "demo_speech", "demo_speech_synthetic"} <= set(shipped_files("experiment"))
    assert "quickstart" in shipped_files("sweep")


def test_an_export_of_no_sweep_makes_no_folder(cli: Cli, tmp_path: Path) -> None:
    """The choices are named, and the one that was meant."""
    assert cli("export", "mine").error == "results: no sweep has been run there"
    assert not Path("results").exists()
    (tmp_path / "results" / "mine").mkdir(parents=True)
    (tmp_path / "results" / "mine" / "sweep.json").write_text("{}", encoding="utf-8")
    result = cli("export", "mime")
    assert (result.code, result.error) == (2, "no sweep 'mime' in results; choices: mine. Did you mean mine?")
    with pytest.raises(UserError, match=r"mime/sweep.json: no such file"):
        export_once(tmp_path / "results" / "mime", tmp_path / "study.db")
    assert not (tmp_path / "results" / "mime").exists()
