"""What `harness init --data` writes: a recipe and an experiment for a corpus of the user's own, filled in from it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from harness.config.places import LOCAL_CORPUS
from harness.data.audio_files import read_audio
from harness.data.corpora.registry import CORPORA, load_corpus
from harness.data.corpus import Corpus, SpeechExample
from harness.data.describe import describe_domain
from harness.data.speech_text import LATIN28
from harness.data.symbol_table import VOCAB, read_symbol_table
from harness.disk import read_mapping
from harness.errors import UserError, must_be_in
from harness.tasks.fitting import fitting_tasks

# Model types that number positions from behind the padding token, beside RoBERTa and its kin.
OFFSET_POSITIONS = ("camembert", "data2vec-text", "longformer", "mpnet", "ibert", "xmod", "luke", "esm")
MOST_LACKING = 0.05  # of the characters of the transcripts; a vocabulary that lacks more is another language's
MAX_LENGTH = 128  # word pieces; more of a text costs time, so that is for the user to choose
LISTED, CHARACTERS = 12, 100  # so many domains or classes, and so many characters, are listed in a comment
PACKAGED = ("package:", "fetched:")

# Shown in the recipe: what the model is, and how it learns the source. The numbers are those of the shipped recipes.
ENCODERS = {
    ("text", False): """\
${task}encoder: {kind: text, max_length: $max_length, dim: 128, num_layers: 4, hidden: 256} # trained here from nothing
optim: {lr: 1e-3}
loop: {epochs: 8, batch_size: 32} # more epochs for less data; the best one by validation is kept
""",
    ("text", True): """\
${task}encoder: {kind: transformers, path: $model, max_length: $max_length} # longer texts are cut, and counted
train: head # the encoder stays as it is, and an output layer for these classes is trained; full trains it all
optim: {lr: 1e-3} # 2e-5 or so for train: full
loop: {epochs: 3, batch_size: 32}
""",
    ("speech", False): """\
${task}${text}encoder: {kind: speech, sample_rate: $rate, num_mels: $mels, num_layers: 4} # trained here from nothing
optim: {lr: 2e-3, weight_decay: 0.05, decay: cosine}
loop:
  epochs: 40 # an hour of speech wants 50 or more
  batch_size: 16
  augment: {num_time_masks: 3, time_mask: 25, num_mel_masks: 2, mel_mask: 10} # SpecAugment; null for none
""",
    ("speech", True): """\
${task}${text}encoder: {kind: transformers, family: speech, path: $model}
train: head # the encoder stays as it is, and an output layer for these letters is trained; full trains it all
optim: {lr: 2e-3} # 1e-4 or so for train: full
loop: {epochs: 10, batch_size: 8}
""",
}
RECIPE = """\
# A backbone: the model before it is adapted.     harness pretrain recipe.yaml     trains it once.
name: $name
data:
  corpus: $corpus
$options  domains: $source # the source, which the model learns first; the experiment asks how much of it is forgotten
$facts
$encoder"""
EXPERIMENT = """\
# An experiment is one table: every arm (a row) is trained with every seed.     harness run experiment.yaml
name: $name
description: From $from_text to $target_text
base: # what all arms share
  data:
    corpus: $corpus
$options    source: $source # of the recipe's domains: forgetting is measured on these
    target: $target # the domain that the model is adapted to: one that the recipe does not name
    train_limit: null # 100: each seed draws 100 of the target's training examples
  backbone: {recipe: recipe.yaml, layers: all}
  train: adapters
  adapter:
    _target_: harness.adapters.LinearAdapter
    dim: 32
    adapter_strategy: {_target_: harness.adapters.ResidualAddAdapterStrategy}
  optim: {lr: 3e-3}
  loop: {epochs: 10, batch_size: $batch_size}

arms: # what each row changes
  frozen: {train: none, adapter: null} # the backbone as it is
  head_only: {train: head, adapter: null}
  residual_add: {}
  residual_add_depth: {adapter: {adapter_strategy: {stochastic_depth: 0.5}}}
  residual_add_l2: {adapter: {adapter_strategy: {l2_lambda: 1e-3}}}

seeds: [0, 1, 2]
table: {baseline: frozen} # the arm that the others are compared with
"""


@dataclass(frozen=True)
class OwnProject:
    """What the files are filled in with: the corpus and its options, the pretrained model if any, and the target."""

    corpus: str
    options: Mapping[str, Any]
    model: str | None
    target: str | None


def write_own_project(folder: Path, project: OwnProject) -> list[Path]:
    """Write recipe.yaml and experiment.yaml for a corpus into a new or empty folder; returns their paths.

    Raises:
        UserError: the corpus or the model cannot be read, or the corpus has no two domains.
    """
    name = project.corpus
    if name not in CORPORA and not name.startswith(LOCAL_CORPUS):
        name = f"{LOCAL_CORPUS}{name}"
    model = None if project.model is None else _config_of(project.model)
    corpus, text = _read(name, project, folder, model or {})
    target = _target(corpus, project.target)
    source = [domain for domain in corpus.domains if domain != target]
    values = {
        "name": _name(folder),
        "corpus": _yaml(f"{LOCAL_CORPUS}{_seen_from(folder, name.removeprefix(LOCAL_CORPUS))}")
        if name.startswith(LOCAL_CORPUS)
        else name,
        "source": _yaml(source),
        "target": _yaml(target),
        "from_text": _one_line(", ".join(source)),
        "target_text": _one_line(target),
        "facts": "".join(f"# {line}\n" for line in _facts(corpus)),
        "batch_size": "16" if corpus.modality == "text" else "8",
        "model": _yaml(project.model and _seen_from_folder(folder, project.model)),
        "text": text,
        "task": _task(corpus),
        **_sizes(corpus, model),
    }
    values["encoder"] = _filled(ENCODERS[corpus.modality, model is not None], values)
    written = []
    folder.mkdir(parents=True, exist_ok=True)
    for file, template, indent in (("recipe.yaml", RECIPE, 2), ("experiment.yaml", EXPERIMENT, 4)):
        values["options"] = f"{' ' * indent}options: {_yaml(dict(project.options))}\n" if project.options else ""
        (folder / file).write_text(_filled(template, values), encoding="utf-8")
        written.append(folder / file)
    return written


def _read(name: str, project: OwnProject, folder: Path, model: Mapping[str, Any]) -> tuple[Corpus, str]:
    """The corpus, and the recipe's line about its text: how transcripts are written, which is asked of speech alone."""
    is_own = name.startswith(LOCAL_CORPUS)
    corpus = load_corpus(name, normaliser="basic" if is_own else LATIN28.name, **project.options)
    if corpus.modality == "text" or corpus.classes or not is_own:
        return corpus, ""
    transcripts = [example.shown for examples in corpus.domains.values() for example in examples]
    if _has_vocabulary(project.model, model):
        table = read_symbol_table(Path(str(project.model)).expanduser())
        lacking = sum(len(table.lacking(text)) for text in transcripts)
        if lacking <= MOST_LACKING * sum(map(len, transcripts)):
            path = _yaml(_seen_from(folder, str(project.model)))
            return (
                corpus,
                f"text: {{alphabet: {path}}} # the model's vocabulary; characters: that of the transcripts\n",
            )
    letters = {character for text in transcripts for character in text if character.isalpha()}
    if not letters <= set(LATIN28.symbols or ()):
        return corpus, "text: {alphabet: characters} # those of the transcripts; latin28 writes all with a-z\n"
    line = "text: {alphabet: latin28} # a-z; clips with digits or signs are left out, unless it is characters\n"
    return load_corpus(name, **project.options), line


def _has_vocabulary(folder: str | None, model: Mapping[str, Any]) -> bool:
    """Whether a model's folder is one of a CTC model with its vocabulary."""
    architectures = model.get("architectures")
    is_ctc = isinstance(architectures, list) and any(str(name).endswith("ForCTC") for name in architectures)
    return is_ctc and (Path(str(folder)).expanduser() / VOCAB).is_file()


def _filled(template: str, values: Mapping[str, str]) -> str:
    from string import Template

    return Template(template).substitute(values)


def _config_of(model: str) -> dict[str, Any]:
    """The config.json of a model's folder; empty for one in a package, which `harness pretrain` looks for."""
    if model.startswith(PACKAGED):
        return {}
    if _is_of_the_hub(model):
        from harness.backbones.hub import hub_folder

        return read_mapping(hub_folder(model) / "config.json")
    path = Path(model).expanduser() / "config.json"
    try:
        return read_mapping(path)
    except ValueError as error:
        raise UserError(f"{model}: expected a model's folder, as transformers saves it: {path}: {error}") from error


def _is_of_the_hub(model: str) -> bool:
    """Whether a name is the id of a model in the hub, since no such folder is here."""
    from harness.backbones.hub import is_hub_id

    return is_hub_id(model) and not Path(model).expanduser().exists()


def _target(corpus: Corpus, asked: str | None) -> str:
    """The domain to adapt to: the one that is asked for, or the one with the fewest examples."""
    if asked is not None:
        must_be_in(asked, corpus.domains, f"--target: corpus {corpus.name} has no domain {asked!r}")
    if len(corpus.domains) < 2:
        raise UserError(
            f"corpus {corpus.name} has one domain, {next(iter(corpus.domains))!r}, but a model that learnt one is "
            "adapted to another; say which column has the domains, as columns={domain: topic}, or put the data of "
            "several domains into one folder, each in a file or folder of its own"
        )
    return asked or min(corpus.domains, key=lambda domain: len(corpus.domains[domain]))


def _task(corpus: Corpus) -> str:
    """The recipe's line about its task, where that is not the usual one of what the corpus holds."""
    fitting = fitting_tasks(corpus)
    if not fitting:
        raise UserError(f"corpus {corpus.name}: its examples have no class, number, tags or transcript to learn")
    others = f" # or {', '.join(fitting[1:])}" if fitting[1:] else ""
    return "" if fitting[0] in ("text_classification", "ctc") else f"task: {fitting[0]}{others}\n"


def _sizes(corpus: Corpus, model: Mapping[str, Any] | None) -> dict[str, str]:
    """The settings that follow from the data or from the model."""
    positions, kind = (model or {}).get("max_position_embeddings"), str((model or {}).get("model_type"))
    taken = 2 if "roberta" in kind or kind in OFFSET_POSITIONS else 0
    longest = min(MAX_LENGTH, positions - taken) if isinstance(positions, int) and positions > taken else MAX_LENGTH
    example = next(iter(next(iter(corpus.domains.values()))))
    rate = read_audio(example.path, (0.0, 0.1))[1] if isinstance(example, SpeechExample) else 0
    rate = 16000 if rate >= 16000 else 8000
    return {"max_length": str(longest), "rate": str(rate), "mels": "80" if rate == 16000 else "40"}


def _facts(corpus: Corpus) -> list[str]:
    """What the corpus holds, for comments."""
    domains = list(corpus.domains)
    lines = [f"{_one_line(domain)}: {_one_line(describe_domain(corpus, domain))}" for domain in domains[:LISTED]]
    if len(domains) > LISTED:
        lines.append(f"and {len(domains) - LISTED} more domains: harness data show {corpus.name.partition(':')[0]}:...")
    if corpus.classes:
        what, most, names = "classes", LISTED, corpus.classes
    else:
        what, most, names = "characters" if corpus.modality == "speech" else "tags", CHARACTERS, corpus.symbols
    listed = f": {' '.join(map(_one_line, names)).strip()}" if len(names) <= most else ""
    return [*lines, f"{len(names)} {what}{listed}"] if names else lines


def _name(folder: Path) -> str:
    """The folder's name as a name of an experiment: letters, digits, `_`, `-` and `.`."""
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "_-.") else "_" for c in folder.resolve().name)
    return kept.strip("._-") or "mine"


def _seen_from_folder(folder: Path, model: str) -> str:
    """A model's path as it is seen from the project's folder; the id of one in the hub as it is."""
    return model if _is_of_the_hub(model) else _seen_from(folder, model)


def _seen_from(folder: Path, path: str) -> str:
    """A path as it is seen from the project's folder; one that begins with `/` or `~`, or in a package, as it is."""
    if path.startswith(PACKAGED) or path.startswith("~") or os.path.isabs(path):
        return path
    return Path(os.path.relpath(path, folder)).as_posix()


def _yaml(value: Any) -> str:
    """A value in one line of YAML."""
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10**9, sort_keys=False)
    return text.removesuffix("...\n").strip()


def _one_line(text: str) -> str:
    """A text that stands in a comment: names come from the user's data."""
    return "".join(c if c.isprintable() else " " for c in text)
