"""`harness init`: the project runs as its README says, offline, and nothing of the user's is overwritten."""

from __future__ import annotations

import csv
import json
import re
import shlex
from pathlib import Path

import pytest
from pretrained_kinds import write_encoder, write_speech_encoder
from tiny_speech import write_clip, write_corpus
from tiny_text import corpus_rows

from harness.backbones.recipe import load_recipe
from harness.cli.init import TEMPLATE
from harness.config.experiment import load_experiment
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
@pytest.mark.long
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


def test_the_command_that_is_told_can_be_pasted(cli: Cli) -> None:
    assert "Next: cd 'my project', then harness run" in cli("init", "my project").out


@pytest.mark.parametrize("more", [(), ("--data", "data.csv")])
def test_an_option_is_no_folder(cli: Cli, tmp_path: Path, more: tuple[str, ...]) -> None:
    """The folder was forgotten."""
    result = cli("init", "model=3", *more)
    assert result.code == 2
    assert (
        result.error == "model=3: expected the project's folder before KEY=VALUE, as in harness init my_project model=3"
    )
    assert not list(tmp_path.iterdir())
    (tmp_path / "a=b").mkdir()
    assert cli("init", "a=b").code == 0


def test_its_sentences_are_counted_as_its_readme_says() -> None:
    corpus = load_corpus(f"manifest:{TEMPLATE / 'sentences.csv'}", labels=["negative", "neutral", "positive"])
    assert corpus.left_out == {}
    (number,) = re.findall(r"(\d+) test sentences", (TEMPLATE / "README.md").read_text(encoding="utf-8"))
    for domain in ("diary", "movie"):
        test = corpus.text(domain, "test")
        assert {example.label for example in test} == {0, 1, 2}
        assert domain == "movie" or len(test) == int(number)


def write_sentences(path: Path, rename: dict[str, str] | None = None) -> Path:
    rows = [{(rename or {}).get(name, name): value for name, value in row.items()} for row in corpus_rows()]
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    return path


def write_cyrillic(root: Path) -> Path:
    """Tones with transcripts in Cyrillic letters."""
    manifest = write_corpus(root)
    rows = list(csv.DictReader(manifest.read_text(encoding="utf-8").splitlines()))
    for row in rows:
        row["transcript"] = row["transcript"].translate(str.maketrans("aeou", "аеоу")).title()
    with manifest.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    return manifest


def write_ctc_model(root: Path, letters: str) -> Path:
    """A wav2vec2 folder with a vocabulary of these letters."""
    folder = write_speech_encoder("wav2vec2", root)
    vocabulary = {token: number for number, token in enumerate(["<pad>", "<s>", "</s>", "<unk>", "|", *letters])}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(
        json.dumps(config | {"vocab_size": len(vocabulary), "pad_token_id": 0}), encoding="utf-8"
    )
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    "what", ["sentences", "sentences and a model", "a saved data set", "recordings", "Cyrillic and a model"]
)
def test_data_of_ones_own_need_no_code(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """From the data alone: init, pretrain and run, as init prints them, end with a table."""
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    arguments = ["--data", "sentences.csv"]
    if what == "recordings":
        arguments[1] = str(write_corpus(tmp_path / "tones").relative_to(tmp_path))
    elif what == "Cyrillic and a model":
        arguments[1] = str(write_cyrillic(tmp_path / "tones").relative_to(tmp_path))
        arguments += ["--model", str(write_ctc_model(tmp_path, "аеоуъ").relative_to(tmp_path))]
    elif what == "a saved data set":
        datasets = pytest.importorskip("datasets")
        for domain in ("home", "away"):
            rows = [row for row in corpus_rows() if row["domain"] == domain]
            columns = {"sentence": [row["text"] for row in rows], "label": [row["label"] for row in rows]}
            data = datasets.Dataset.from_dict(columns)
            data.class_encode_column("label").save_to_disk(tmp_path / "places" / domain)
        arguments[1] = "places"
    else:
        write_sentences(tmp_path / "sentences.csv")
    if what == "sentences and a model":
        arguments += ["--model", str(write_encoder("bert", tmp_path).relative_to(tmp_path))]
    made = cli("init", "mine", *arguments)
    assert (made.code, made.err) == (0, "")
    assert "harness pretrain recipe.yaml && harness run experiment.yaml" in made.out
    monkeypatch.chdir(tmp_path / "mine")
    recipe = Path("recipe.yaml").read_text(encoding="utf-8")
    Path("recipe.yaml").write_text(re.sub(r"epochs: \d+", "epochs: 1", recipe), encoding="utf-8")
    pretrained = cli("pretrain", "recipe.yaml")
    assert (pretrained.code, pretrained.err) == (0, "")
    ran = cli("run", "experiment.yaml", "loop.epochs=1", "seeds=[0]")
    assert (ran.code, ran.err) == (0, "")
    assert "residual_add_l2" in ran.out and "forgetting" in ran.out


def test_what_is_filled_in_from_the_data(cli: Cli, tmp_path: Path) -> None:
    write_sentences(tmp_path / "a file.csv", {"domain": "place: #1", "text": "body"})
    arguments = ("--data", "a file.csv", "--target", "home", "columns={domain: 'place: #1', text: body}")
    assert cli("init", "some/mine!", *arguments).code == 0
    options = {"columns": {"domain": "place: #1", "text": "body"}}
    recipe = load_recipe("some/mine!/recipe.yaml")
    assert recipe.name == "mine"  # a name of letters, digits, `_`, `-` and `.`
    assert (recipe.data.corpus, recipe.data.options) == ("manifest:../../a file.csv", options)
    assert (recipe.data.domains, recipe.encoder.kind) == (("away",), "text")
    experiment = load_experiment(Path("some/mine!/experiment.yaml"), [])
    assert len(experiment.trials) == 15
    data = experiment.trials[0].config.data
    assert (data.source, data.target, data.options) == (("away",), "home", options)
    text = Path("some/mine!/recipe.yaml").read_text(encoding="utf-8")
    corpus = load_corpus("manifest", tmp_path / "a file.csv", columns=options["columns"])
    counts = [len(corpus.split("away", split)) for split in ("train", "valid", "test")]
    assert "# away: {} training, {} validation, {} test examples; in training bad ".format(*counts) in text
    assert "# 3 classes: bad fair good" in text


@pytest.mark.slow
def test_the_text_of_speech_follows_from_transcripts_and_model(cli: Cli, tmp_path: Path) -> None:
    latin, cyrillic = write_corpus(tmp_path / "latin"), write_cyrillic(tmp_path / "cyrillic")
    model, foreign = write_ctc_model(tmp_path / "own", "аеоуъ"), write_ctc_model(tmp_path / "foreign", "xyz")
    for number, (data, folder, alphabet) in enumerate(
        [
            (latin, None, "latin28"),
            (latin, model, "latin28"),
            (cyrillic, None, "characters"),
            (cyrillic, model, "../own/wav2vec2"),
            (cyrillic, foreign, "characters"),
        ]
    ):
        chosen = () if folder is None else ("--model", folder.relative_to(tmp_path))
        assert cli("init", f"p{number}", "--data", data.relative_to(tmp_path), *chosen).code == 0
        recipe = load_recipe(f"p{number}/recipe.yaml")
        assert (recipe.text.alphabet, recipe.encoder.reads) == (alphabet, "speech")
    assert "# 4 characters: а е о у\n" in Path("p2/recipe.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("header", "answer", "task"),
    [
        ("domain,text,label", "x", "text_classification"),
        ("domain,premise,hypothesis,label", "another,x", "text_pair_classification"),
        ("domain,text,value", "0.5", "regression"),
    ],
)
def test_the_task_follows_from_the_columns(cli: Cli, tmp_path: Path, header: str, answer: str, task: str) -> None:
    rows = [f"{domain},text {number},{answer}" for domain in "ab" for number in range(3)]
    (tmp_path / "x.csv").write_text("\n".join([header, *rows]), encoding="utf-8")
    assert cli("init", "mine", "--data", "x.csv").code == 0
    assert load_recipe("mine/recipe.yaml").task_name == task


def test_the_task_of_recordings_with_classes(cli: Cli, tmp_path: Path) -> None:
    for domain in ("low", "high"):
        for label in ("yes", "no"):
            (tmp_path / domain / label).mkdir(parents=True)
            for number in range(2):
                write_clip(tmp_path / domain / label / f"{number}.wav", "aeo", domain)
    assert cli("init", "mine", "--data", ".").code == 0
    recipe = load_recipe("mine/recipe.yaml")
    assert (recipe.task_name, recipe.text.alphabet) == ("speech_classification", "latin28")
    assert "2 classes: no yes" in Path("mine/recipe.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("labels=[a]",), "KEY=VALUE, --model and --target are about data of your own: give them with --data"),
        (("--data", "gone.csv"), "gone.csv: cannot be read: No such file or directory; looked in "),
        (
            ("--data", "one.csv"),
            "corpus manifest:one has one domain, 'a', but a model that learnt one is adapted to ",
        ),
        (("--data", "two.csv", "--target", "c"), "--target: corpus manifest:two has no domain 'c'; choices: a, b"),
        (("--data", "two.csv", "--model", "gone"), "gone: expected a model's folder, as transformers saves it: "),
        (("--data", "two.csv", "label=[x]"), "corpus manifest has no option 'label' to load it; choices: labels, "),
    ],
)
def test_mistakes_about_ones_own_data(cli: Cli, tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    (tmp_path / "one.csv").write_text("domain,text,label\na,one,x\na,two,y\n", encoding="utf-8")
    (tmp_path / "two.csv").write_text("domain,text,label\na,one,x\nb,two,y\n", encoding="utf-8")
    result = cli("init", "mine", *arguments)
    assert (result.code, result.out) == (2, "")
    assert result.error.startswith(message)
    assert not (tmp_path / "mine").exists()


def test_a_model_of_the_hub(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its id stays as it is, and its sizes are those of the folder in the hub's cache."""
    revision = "0123456789abcdef0123456789abcdef01234567"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    repository = tmp_path / "hub" / "models--some-org--tiny_bert"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(revision, encoding="utf-8")
    (repository / "snapshots").mkdir()
    write_encoder("bert", tmp_path).rename(repository / "snapshots" / revision)
    write_sentences(tmp_path / "rows.csv")
    assert cli("init", "mine", "--data", "rows.csv", "--model", "some-org/tiny_bert").code == 0
    assert "path: some-org/tiny_bert," in Path("mine/recipe.yaml").read_text(encoding="utf-8")
    unknown = cli("init", "other", "--data", "rows.csv", "--model", "some-org/tiny_brt")
    assert unknown.code == 2 and "some-org/tiny_brt" in unknown.error and unknown.err.count("\n") == 1
    assert not Path("other").exists()
