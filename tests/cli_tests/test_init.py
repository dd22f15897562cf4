"""`harness init`: the project runs as its README says, offline, and nothing of the user's is overwritten."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from harness.cli.init import TEMPLATE
from harness.data.corpora.registry import load_corpus

from .conftest import Cli


@pytest.fixture
def short(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """The command line in a new project, whose trainings are short."""
    assert cli("init", "mine").code == 0
    monkeypatch.chdir(tmp_path / "mine")
    for name, long, brief in (
        ("experiment.yaml", "epochs: 10", "epochs: 3"),
        ("experiment.yaml", "seeds: [0, 1, 2]", "seeds: [0]"),
        ("sweep.yaml", "trials: 4", "trials: 2"),
        ("sweep.yaml", "seeds: [0, 1, 2]", "seeds: [0]"),
    ):
        text = Path(name).read_text(encoding="utf-8")
        assert long in text
        Path(name).write_text(text.replace(long, brief), encoding="utf-8")
    return cli


@pytest.mark.slow
def test_the_commands_of_its_readme(short: Cli) -> None:
    commands = re.findall(r"^    harness (.*?)(?: {2,}#.*)?$", Path("README.md").read_text(encoding="utf-8"), re.M)
    assert [command.split()[0] for command in commands] == ["run", "plan", "sweep", "table", "report", "run"]
    for command in commands:
        result = short(*shlex.split(command))
        assert (result.code, result.err) == (0, ""), command
        assert "gated" in result.out or command.startswith("report")
    assert Path("results/diary_sweep/report.html").is_file()


def test_every_file_is_written_and_none_is_overwritten(cli: Cli, tmp_path: Path) -> None:
    assert cli("init").code == 0  # the name is optional
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    written = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert written == {path.name: path.read_bytes() for path in TEMPLATE.glob("*.*")}
    (folder / "my_strategy.py").write_text("mine", encoding="utf-8")
    for name in (folder.name, f"{folder.name}/my_strategy.py"):
        result = cli("init", name)
        assert (result.code, result.out) == (2, "")
        assert result.error.startswith(f"{name}: ")
    assert (folder / "my_strategy.py").read_text(encoding="utf-8") == "mine"


def test_an_empty_folder_will_do(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    assert cli("init", "new").code == 0
    assert (tmp_path / "new" / "sentences.csv").is_file()


def test_its_sentences_are_counted_as_its_readme_says() -> None:
    corpus = load_corpus(f"manifest:{TEMPLATE / 'sentences.csv'}", labels=["negative", "neutral", "positive"])
    assert corpus.left_out == {}
    (number,) = re.findall(r"(\d+) test sentences", (TEMPLATE / "README.md").read_text(encoding="utf-8"))
    for domain in ("diary", "movie"):
        test = corpus.text(domain, "test")
        assert {example.label for example in test} == {0, 1, 2}
        assert domain == "movie" or len(test) == int(number)
