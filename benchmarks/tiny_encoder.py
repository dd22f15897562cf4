"""A pretrained text encoder of 0.2 M weights for the races at the grid's smallest size: BERT-like, seeded.

It is a transformers model folder, so that contestants that need transformers have the same weights as ours. Its head is
trained on the source domains as every backbone's, the encoder only where that is asked for. It lies in the user's
cache, and a folder made once is used again.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch

from harness.backbones.model import ClassifierHead
from harness.backbones.recipe import Recipe, load_recipe
from harness.backbones.store import load_backbone
from harness.config.base import content_hash
from harness.data.cache import data_cache
from harness.data.corpora.registry import load_corpus
from harness.disk import write_atomically
from harness.training.pretrain import make_tokenizer, pretrain

VOCABULARY = 1000
# No dropout: the encoder is frozen, our engines run it without, and Trainer would run it with.
SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "type_vocab_size": 1,
    "pad_token_id": 0,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
SEED = 0


def tiny_recipe(max_length: int, epochs: int = 0) -> str:
    """The path of the encoder's recipe, by which a trial names it; makes the encoder and its head if need be.

    Args:
        max_length: tokens that are read of a text.
        epochs: of training on the source domains, encoder and head together (seconds each); with 0 the encoder stays
            random, which is enough to time its steps, but leaves a search little to find.

    Raises:
        UserError: the corpus has not been fetched.
    """
    like = load_recipe("text_small")
    shape = {**SHAPE, "max_position_embeddings": 2 * max_length}
    facts = {"shape": shape, "seed": SEED} | ({"epochs": epochs} if epochs else {})
    folder = data_cache() / "benchmarks" / f"tiny_bert-{content_hash(facts)}"
    path = folder / "recipe.json"
    if not path.is_file():
        save_encoder(folder, shape, like)
        if epochs:
            train_encoder(folder, recipe_of(folder, like, max_length, "full", epochs))
        recipe = recipe_of(folder, like, max_length, "head", 2)
        write_atomically(path, recipe.model_dump_json(by_alias=True).encode())
    pretrain(load_recipe(str(path)), lambda entry: None)
    return str(path)


def recipe_of(folder: Path, like: Recipe, max_length: int, train: str, epochs: int) -> Recipe:
    """A recipe for the folder's encoder, with another one's domains and optimizer."""
    changes = {
        "name": "text_tiny_bert",
        "description": "",
        "encoder": {"kind": "transformers", "path": str(folder), "max_length": max_length},
        "train": train,
        "loop": {"epochs": epochs, "batch_size": 32, "valid_limit": 300},
    }
    return Recipe.model_validate({**like.model_dump(by_alias=True), **changes})


def train_encoder(folder: Path, recipe: Recipe) -> None:
    """Train the folder's encoder with a head, and put its weights back where they came from."""
    pretrain(recipe, lambda entry: None)
    trained: Any = load_backbone(recipe, ClassifierHead).model.encoder
    trained.model.save_pretrained(folder)


def save_encoder(folder: Path, shape: dict[str, Any], like: Recipe) -> None:
    """Weights drawn from the seed, and word pieces learnt from the source's training sentences of another recipe."""
    from transformers import BertConfig, BertModel
    from transformers.utils import logging as transformers_logging

    logging: Any = transformers_logging
    logging.disable_progress_bar()
    shutil.rmtree(folder, ignore_errors=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        model = BertModel(BertConfig(**shape), add_pooling_layer=False)
    model.save_pretrained(folder)
    words = like.encoder.model_copy(update={"vocab_size": VOCABULARY})
    corpus = load_corpus(like.data.corpus, **like.data.options)
    tokenizer = make_tokenizer(like.model_copy(update={"encoder": words}), corpus)
    assert tokenizer is not None and tokenizer.get_vocab_size() <= VOCABULARY
    tokenizer.save(str(folder / "tokenizer.json"))
