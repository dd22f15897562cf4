"""Made-up files and overrides: whatever they hold, a command ends with one line, in time, and writes nowhere else.

Each example changes a shipped file (a key dropped or misspelt, a type swapped, an odd value, a deep one, an odd text),
or gives it odd overrides, and runs a command on it that trains nothing. CI tries 2,000, always the same; `make fuzz`
tries 20,000, other ones each time.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import io
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tables_tests.golden_experiments import write_all
from tiny_text import TinyText, experiment_settings

from harness.cli import main
from harness.errors import is_harmful

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.long

NUM_EXAMPLES = int(os.environ.get("HARNESS_FUZZ", "500"))
MOST_ALIKE = 2000  # what .ci/run asks for
LIMIT_S = 10  # of a processor
EXPERIMENTS = sorted((ROOT / "experiments").glob("*.yaml"))
SWEEPS = sorted((ROOT / "sweeps").glob("*.yaml"))
TABLES = sorted((ROOT / "tables").glob("*.yaml"))
RECIPES = sorted((ROOT / "harness" / "backbones" / "shipped").glob("*.yaml"))

ODD_TEXTS = ["", " ", "\0", "a\nb", "\x1b[31mred", "\ud800", "\u202eder", "\ufffe", "$\\frac{1}{2$", "a" * 5000, "=1+1"]
ODD_TEXTS += [
    "{from: 2}",
    "???",
    "${x}",
    "../../../x",
    "/dev/null",
    "/",
    "~",
    "env:NOPE",
    "manifest:/",
    "best",
    "null",
    "%s",
]
ODD_NUMBERS = [
    0,
    -1,
    1,
    2,
    3,
    10**9,
    10**20,
    10**40,
    -(2**63),
    0.5,
    1e-320,
    1e308,
    float("inf"),
    float("nan"),
    True,
    False,
]
ODD_TARGETS = ["os.system", "builtins.eval", "harness.adapters.LinearAdapter", "torch.nn.Linear", "no.such.Thing", "x"]
ODD_TREES: list[Any] = [
    None,
    [],
    {},
    [[]],
    {"": 1},
    {"a": {"b": {"c": 1}}},
    [1, "a", None],
    {"type": "float"},
    {"from": -1},
]
ODD_TREES += [{"_target_": target} for target in ODD_TARGETS]
SNIPPETS = [
    "&a",
    "*a",
    "<<: *a",
    "!!python/name:os.system",
    "!!binary x",
    "2001-01-01",
    "- ",
    "? ",
    ": ",
    "|",
    ">-",
    "\t",
    "'",
]
SNIPPETS += [
    '"',
    "{",
    "}",
    "[",
    "]",
    "#",
    "---\n",
    "...\n",
    "%YAML 9\n",
    "\0",
    "\r",
    "\u2028",
    "\ufeff",
    "é",
    "1e-3",
    "0x1F",
    "1:30",
]


# Numbers that fit into memory wherever they stand: the tiny experiment has its data, so its model is built.
SMALL_VALUES = st.one_of(
    st.sampled_from(ODD_TEXTS), st.sampled_from(ODD_TREES), st.sampled_from([-1, 0, 1, 3, 0.5, True, float("nan")])
)
TINY = yaml.safe_dump(experiment_settings(Path("ROOT/sentences.jsonl"), Path("ROOT/tiny.yaml")), sort_keys=False)


def texts(files: list[Path]) -> list[str]:
    return [file.read_text(encoding="utf-8") for file in files]


def deep(depth: int) -> Any:
    """A list within a list within a list ..."""
    tree: Any = 1
    for _ in range(depth):
        tree = [tree]
    return tree


ODD_VALUES = st.one_of(
    st.sampled_from(ODD_TEXTS),
    st.sampled_from(ODD_NUMBERS),
    st.sampled_from(ODD_TREES),
    st.text(max_size=20),
    st.integers(),
    st.floats(),
    st.sampled_from([5, 50, 200]).map(deep),
)


def places(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place of a tree of settings, as the keys that lead to it."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


def change(draw: st.DrawFn, tree: Any, values: st.SearchStrategy[Any]) -> None:
    """Change one place of a tree."""
    path = draw(st.sampled_from(sorted(places(tree), key=str)))
    holder = tree
    for key in path[:-1]:
        holder = holder[key]
    key, how = path[-1], draw(st.sampled_from(["value", "drop", "misspell", "wrap", "other", "add"]))
    if how == "value":
        holder[key] = copy.deepcopy(draw(values))  # the next change may be within it
    elif how == "drop":
        del holder[key]
    elif how == "misspell" and isinstance(holder, dict):
        odd = draw(st.sampled_from([f"{key}s", str(key)[:-1], str(key).upper(), *ODD_TEXTS]))
        holder[odd] = holder.pop(key)
    elif how == "wrap":
        holder[key] = draw(st.sampled_from([[holder[key]], {"x": holder[key]}, str(holder[key])]))
    elif how == "other":  # what stands elsewhere in the file
        found = tree
        for step in draw(st.sampled_from(sorted(places(tree), key=str))):
            found = found[step]
        holder[key] = copy.deepcopy(found)
    elif isinstance(holder, dict):
        holder[draw(st.sampled_from(["seed", "name", "x", "a.b", *ODD_TEXTS]))] = copy.deepcopy(draw(values))
    else:
        holder.append(copy.deepcopy(draw(values)))


@st.composite
def contents(draw: st.DrawFn, files: list[str], values: st.SearchStrategy[Any] = ODD_VALUES) -> bytes:
    """A changed file: its settings, or its text."""
    text = draw(st.sampled_from(files))
    if draw(st.integers(0, 3)):
        tree = yaml.safe_load(text)
        for _ in range(draw(st.integers(1, 3))):
            if isinstance(tree, dict) and tree:
                change(draw, tree, values)
        return json.dumps(tree).encode()  # which is YAML, too
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(text)))
        end = place + draw(st.sampled_from([0, 0, 1, 5, 200]))
        text = text[:place] + draw(st.one_of(st.sampled_from(SNIPPETS), st.text(max_size=3))) + text[end:]
    return text.encode(draw(st.sampled_from(["utf-8"] * 6 + ["utf-16", "latin-1"])), errors="replace")


@st.composite
def overrides(draw: st.DrawFn, files: list[str]) -> list[str]:
    """Up to two overrides of settings that some file has, or that none has."""
    tree = yaml.safe_load(draw(st.sampled_from(files)))
    keys = [".".join(map(str, path)).removeprefix("base.") for path in places(tree)]
    given = []
    for _ in range(draw(st.integers(0, 2))):
        key = draw(
            st.one_of(st.sampled_from(keys), st.sampled_from([*ODD_TEXTS, "a.b.c", "a." * 100 + "a", "optim.lr"]))
        )
        value = draw(st.one_of(ODD_VALUES.map(json.dumps), st.sampled_from(SNIPPETS), st.text(max_size=10)))
        given.append(f"{key}={value}".replace("\0", ""))  # the system takes none on a command line
    return [override for override in given if not override.startswith("-")]  # that would be an option


class Commands:
    """Runs commands in this process, in a folder of their own, and judges how they end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.results = folder / "results"
        write_all(self.results)
        self.file = folder / "given.yaml"
        for path in EXPERIMENTS:  # which sweeps name, as they lie in their own folder
            (folder / "experiments").mkdir(exist_ok=True)
            (folder / "experiments" / path.name).write_bytes(path.read_bytes())
        (folder / "sweeps").mkdir()

    def run(self, content: bytes, *arguments: str, where: str = "given.yaml") -> None:
        """Write the file, run `harness ARGUMENTS` (FILE is its path), and judge."""
        path = self.folder / where
        path.write_bytes(content)
        before = self.listing()
        out, err = io.StringIO(), io.StringIO()
        sys.argv = ["harness", *(str(path) if argument == "FILE" else argument for argument in arguments)]
        began = time.process_time()  # on a busy machine, the clock says nothing; the limit of pytest finds who sleeps
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as ended:
            main()
        seconds, told = time.process_time() - began, err.getvalue()
        shown = f"harness {arguments} on {content!r}: exit code {ended.value.code}: {told}"
        assert seconds < LIMIT_S, f"{seconds:.0f} s: {shown}"
        assert ended.value.code in (0, None, 1, 2), shown
        assert "internal error" not in told and "Traceback" not in told + out.getvalue(), shown
        assert told.count("\n") == (1 if ended.value.code else 0), shown
        assert ended.value.code != 1 or arguments[0] != "plan", shown  # nothing is trained: what is wrong is the input
        assert not any(is_harmful(sign) for sign in told[:-1]), shown
        assert self.listing() == before, shown

    def listing(self) -> set[str]:
        """All files outside of the results, whose many folders are not gone through."""
        found: set[str] = set()
        for folder, folders, files in os.walk(self.folder):
            found |= {os.path.join(folder, name) for name in (*folders, *files)}
            folders[:] = [name for name in folders if os.path.join(folder, name) != str(self.results)]
        return found


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    folder = tmp_path_factory.mktemp("generated")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "path", list(sys.path))
        patch.setattr(sys, "argv", list(sys.argv))
        patch.setenv("HARNESS_DEBUG", "")
        patch.setenv("HARNESS_DATA", str(folder / "data"))  # nothing is fetched there: valid files end at their data
        patch.setenv("HARNESS_CACHE", str(folder / "results" / "cache"))
        patch.setenv("WANDB_MODE", "disabled")
        # A process makes its commands once; here, where thousands are run in one, that would be a quarter of the time.
        patch.setattr(typer.main, "get_command", functools.cache(typer.main.get_command))
        yield Commands(folder)


def generated(share: float) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """So many examples of all; the same ones each time, unless there are more than in CI."""
    return settings(
        max_examples=max(1, round(share * NUM_EXAMPLES)),
        derandomize=NUM_EXAMPLES <= MOST_ALIKE,
        database=None,
        deadline=None,
        phases=[Phase.generate],  # what fails is shown as it was drawn: to find a smaller one would take minutes
        suppress_health_check=list(HealthCheck),
    )


@pytest.mark.slow
@generated(0.28)
@given(content=contents(texts(EXPERIMENTS)), given_overrides=overrides(texts(EXPERIMENTS)))
def test_generated_experiments(content: bytes, given_overrides: list[str], commands: Commands) -> None:
    commands.run(content, "plan", "FILE", *given_overrides)


@pytest.mark.slow
@generated(0.28)
@given(content=contents(texts(SWEEPS)), given_overrides=overrides(texts(SWEEPS)))
def test_generated_sweeps(content: bytes, given_overrides: list[str], commands: Commands) -> None:
    commands.run(content, "plan", "FILE", *given_overrides, where="sweeps/given.yaml")


@pytest.mark.slow
@generated(0.15)
@given(content=contents(texts(TABLES)), names=st.sampled_from([("FILE",), ("speech_ar", "--spec", "FILE")]))
def test_generated_tables(content: bytes, names: tuple[str, ...], commands: Commands) -> None:
    commands.run(content, "table", *names)


@pytest.mark.slow
@generated(0.09)
@given(content=contents(texts(RECIPES)))
def test_generated_recipes(content: bytes, commands: Commands) -> None:
    commands.run(content, "pretrain", "FILE")


@pytest.mark.slow
@generated(0.15)
@given(name=st.sampled_from([*EXPERIMENTS, *SWEEPS]), given_overrides=overrides(texts([*EXPERIMENTS, *SWEEPS])))
def test_generated_overrides(name: Path, given_overrides: list[str], commands: Commands) -> None:
    commands.run(name.read_bytes(), "plan", "FILE", *given_overrides, where=f"{name.parent.name}/{name.name}")


@pytest.mark.slow
@generated(0.05)
@given(
    content=contents([TINY], SMALL_VALUES),
    command=st.sampled_from([*[("plan",)] * 7, ("run", "--arm", "residual_add", "--seed", "0")]),
)
def test_generated_experiments_with_data(
    content: bytes, command: tuple[str, ...], commands: Commands, tiny_text_files: TinyText
) -> None:
    """Files of which many are right: they meet their data and their model, and a few of them are trained."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in tiny_text_files.env.items():
            patch.setenv(name, value)
        commands.run(content.replace(b"ROOT", str(tiny_text_files.root).encode()), *command, "FILE")
