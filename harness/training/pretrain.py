"""`harness pretrain`: train a backbone on its source domains by its recipe, and save it under the recipe's hash."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from harness.adapters import freeze_backbone
from harness.backbones.encoder_settings import PretrainedEncoderSettings, TextEncoderSettings
from harness.backbones.model_files import preparation_of
from harness.backbones.recipe import Recipe, backbone_directory
from harness.backbones.store import (
    Backbone,
    build_model,
    decoder_tokenizer,
    fingerprint_of,
    load_backbone,
    pretrained_tokenizer,
    save_backbone,
)
from harness.config.trial import CONFIG_VERSION
from harness.data.corpora.registry import load_corpus
from harness.data.corpus import Corpus
from harness.data.describe import ToldOfData, describe_domains
from harness.errors import UserError
from harness.records.provenance import package_versions
from harness.seeding import derive_seed
from harness.tasks.inputs import has_pairs
from harness.tasks.making import head_maker
from harness.tasks.registry import task_of_recipe
from harness.training.device import check_device
from harness.training.fit_plan import FitPlan, FitState
from harness.training.loop import fit
from harness.training.optim import check_optim
from harness.training.precision import dtype_of
from harness.training.resources import Domains

UNKNOWN = "[UNK]"
SEPARATOR = "[SEP]"  # between the two texts of a pair


def pretrain(
    recipe: Recipe,
    report: Callable[[dict[str, Any]], None],
    overwrite: bool = False,
    tell: Callable[[ToldOfData], None] = lambda told: None,
    asked: str | None = None,
) -> Path:
    """Train and save the recipe's backbone; returns its folder. Does nothing when it is there already.

    Training goes on from its checkpoint after a kill. Validation scores (mean over the source domains) choose the
    epoch; the test split is never read. `asked` is the name or path of the recipe, for the command in error messages.

    Raises:
        UserError: the corpus, the device or the pretrained encoder is missing, or the optimizer refuses its settings;
            or what is there was trained on another encoder.
        TrialError: the training failed.
    """
    if recipe.train == "none":
        raise UserError(
            f"recipe {recipe.name}: train: none takes a pretrained model as it is, so there is nothing to pretrain"
        )
    directory = backbone_directory(recipe)
    if (directory / "backbone.json").is_file() and not overwrite:
        if recipe.train == "head":  # the encoder lies elsewhere, and may be another one by now
            load_backbone(recipe, head_maker(recipe), asked)
        return directory
    check_device(recipe.loop.device)
    check_optim(recipe.optim, dtype_of(recipe.loop))
    torch.set_num_threads(recipe.loop.threads)
    corpus = load_corpus(recipe.data.corpus, normaliser=recipe.text.normaliser_name, **recipe.data.options)
    told = ToldOfData()
    told.add(describe_domains(corpus, recipe.data.domains), corpus.remarks(recipe.data.domains))
    tell(told)
    tokenizer = make_tokenizer(recipe, corpus)
    vocab_size = tokenizer.get_vocab_size() if tokenizer is not None else 0
    task = task_of_recipe(recipe)
    symbols = task.symbols_of(recipe, corpus)
    model = build_model(recipe, head_maker(recipe), symbols, vocab_size, derive_seed(recipe.seed, "init"))
    backbone = Backbone(recipe, model, symbols, "", tokenizer, None, preparation_of(recipe, symbols))
    domains = Domains(backbone, corpus)
    if recipe.train == "head":
        freeze_backbone(model.encoder)
    notes = []
    for domain in recipe.data.domains:
        domains.plain_task.check_domain(corpus, domain)
        domains.plain_task.inputs.check_readable(corpus, domain)
        notes += domains.plain_task.notes_on(domain, {"training": corpus.split(domain, "train")})
    checkpoint = directory.with_name(f"{directory.name}.checkpoint.safetensors")
    state = fit_backbone(recipe, domains, checkpoint, report)
    scores = state.history[state.best_epoch - 1]["metrics"]
    if recipe.weights == "float16":
        model.load_state_dict({name: tensor.half() for name, tensor in model.state_dict().items()})
        scores = scores | score_sources(recipe, domains)
    facts = {
        "corpus_fingerprint": corpus.fingerprint,
        "best_epoch": state.best_epoch,
        "scores": scores,
        "num_parameters": sum(weight.numel() for weight in model.parameters()),
        "packages": package_versions(),
        "config_version": CONFIG_VERSION,  # what the loop's settings meant: how validation sets were drawn, say
        "seconds": round(state.elapsed_s),
        **({"notes": notes} if notes else {}),
    }
    model.to("cpu", torch.float32).eval()
    saved = save_backbone(recipe, model, symbols, tokenizer, facts)
    checkpoint.unlink(missing_ok=True)
    return saved


def fit_backbone(
    recipe: Recipe, domains: Domains, checkpoint: Path, report: Callable[[dict[str, Any]], None]
) -> FitState:
    """Fit the model on all source domains together; each epoch is scored on their validation splits."""
    model, loop = domains.backbone.model, recipe.loop
    model.to(torch.device(loop.device), dtype_of(loop))
    items = [item for domain in recipe.data.domains for item in domains.items(domain, "train")]
    task = domains.task(loop.augment).for_training(loop, items)

    plan = FitPlan(
        optim=recipe.optim,
        loop=loop,
        seed=recipe.seed,
        score_epoch=lambda model: score_sources(recipe, domains),
        select=f"valid/{task.primary}",
        metric=task.primary,
        checkpoint=checkpoint,
        report=report,
        made_with=" ".join(map(str, domains.made_with._replace(backbone=fingerprint_of(model)))),  # as it begins
    )
    return fit(model, task, items, plan)


def score_sources(recipe: Recipe, domains: Domains) -> dict[str, float]:
    """The backbone's validation scores: of each source domain, and their means."""
    scores: dict[str, list[float]] = {}
    for domain in recipe.data.domains:
        items = domains.valid_items(domain, recipe.loop.valid_limit)
        evaluation = domains.score(domains.backbone.model, items, recipe.loop)
        for name, value in evaluation.scores.items():
            scores.setdefault(f"valid/{name}", []).append(value)
            scores[f"valid_{domain}/{name}"] = [value]
    return {name: sum(values) / len(values) for name, values in scores.items()}


def make_tokenizer(recipe: Recipe, corpus: Corpus) -> Tokenizer | None:
    """The recipe's tokenizer: word pieces learnt from the source's training sentences, or the pretrained encoder's."""
    if recipe.task_name == "seq2seq":
        return decoder_tokenizer(recipe)
    if isinstance(recipe.encoder, PretrainedEncoderSettings):
        return pretrained_tokenizer(recipe.encoder)
    if not isinstance(recipe.encoder, TextEncoderSettings):
        return None
    examples = [example for domain in recipe.data.domains for example in corpus.text(domain, "train")]
    sentences = [text for example in examples for text in (example.text, example.second) if text is not None]
    special = [UNKNOWN, SEPARATOR] if has_pairs(corpus) else [UNKNOWN]
    learner = Tokenizer(models.WordPiece(unk_token=UNKNOWN))
    _prepare(learner)
    trainer = trainers.WordPieceTrainer(
        vocab_size=recipe.encoder.vocab_size,
        special_tokens=[*special, *_letters(learner, sentences)],
        min_frequency=2,
        show_progress=False,
    )
    learner.train_from_iterator(sentences, trainer)
    pieces = [*special, *sorted(set(learner.get_vocab()) - set(special))]
    tokenizer = Tokenizer(models.WordPiece({piece: number for number, piece in enumerate(pieces)}, unk_token=UNKNOWN))
    _prepare(tokenizer)
    if has_pairs(corpus):
        place = (SEPARATOR, pieces.index(SEPARATOR))
        tokenizer.post_processor = processors.TemplateProcessing(
            single="$A", pair=f"$A {SEPARATOR} $B:1", special_tokens=[place]
        )
    return tokenizer


def _letters(learner: Tokenizer, sentences: Sequence[str]) -> list[str]:
    """The single letters that words begin with or hold, then (`##x`) those behind a word's first, each sorted.

    The trainer would number them in the order of a hash table, which differs from run to run, and settles which of
    two equally frequent pairs is merged by their numbers: the pieces themselves would differ. Given in advance they
    have fixed numbers, and the same sentences give the same tokenizer.
    """
    words = {
        word
        for sentence in sentences
        for word, _ in learner.pre_tokenizer.pre_tokenize_str(learner.normalizer.normalize_str(sentence))
    }
    anywhere = {letter for word in words for letter in word}
    behind = {letter for word in words for letter in word[1:]}
    return [*sorted(anywhere), *(f"##{letter}" for letter in sorted(behind))]


def _prepare(tokenizer: Tokenizer) -> None:
    """Lower case, accents stripped, split at spaces and punctuation (as BERT does)."""
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
