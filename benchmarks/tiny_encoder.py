"""A pretrained text encoder of 0.2 M weights for the race at the grid's smallest size: BERT-like, random, seeded.

It is a transformers model folder, so that contestants that need transformers have the same weights as ours. Its head is
trained on the source domains as every backbone's; nothing here asks it to be good at the task. It lies in the user's
cache, and a folder made once is used again.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch

from harness.backbones.recipe import Recipe, load_recipe
from harness.data.cache import cache_root
from harness.data.registry import load_corpus
from harness.records.files import write_atomically
from harness.settings import content_hash
from harness.training.pretrain import make_tokenizer, pretrain

VOCABULARY = 1000
MAX_LENGTH = 4  # tokens: with batches of 16, 64 a step
# No dropout: the encoder is frozen, our engines run it without, and Trainer would run it with.
SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "max_position_embeddings": 8,
    "type_vocab_size": 1,
    "pad_token_id": 0,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
SEED = 0


def tiny_recipe() -> str:
    """The path of the encoder's recipe, by which a trial names it; makes the encoder and its head if need be (seconds).

    Raises:
        UserError: the corpus has not been fetched.
    """
    like = load_recipe("text_small")
    folder = cache_root() / "benchmarks" / f"tiny_bert-{content_hash({'shape': SHAPE, 'seed': SEED})}"
    path = folder / "recipe.json"
    if not path.is_file():
        save_encoder(folder, like)
        encoder = {"kind": "transformers", "path": str(folder), "max_length": MAX_LENGTH}
        recipe = Recipe.model_validate(
            {**like.model_dump(by_alias=True), "name": "text_tiny_bert", "description": "", "encoder": encoder}
            | {"train": "head", "loop": {"epochs": 2, "batch_size": 32, "valid_limit": 300}}
        )
        write_atomically(path, recipe.model_dump_json(by_alias=True).encode())
    pretrain(load_recipe(str(path)), lambda entry: None)
    return str(path)


def save_encoder(folder: Path, like: Recipe) -> None:
    """Weights drawn from the seed, and word pieces learnt from the source's training sentences of another recipe."""
    from transformers import BertConfig, BertModel
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    shutil.rmtree(folder, ignore_errors=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        model = BertModel(BertConfig(**SHAPE), add_pooling_layer=False)
    model.save_pretrained(folder)
    words = like.encoder.model_copy(update={"vocab_size": VOCABULARY})
    corpus = load_corpus(like.data.corpus, **like.data.options)
    tokenizer = make_tokenizer(like.model_copy(update={"encoder": words}), corpus)
    assert tokenizer is not None and tokenizer.get_vocab_size() <= VOCABULARY
    tokenizer.save(str(folder / "tokenizer.json"))
