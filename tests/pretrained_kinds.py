"""Tiny random encoders of many kinds of transformers, made from their configs and written to folders."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from tiny_text import TinyText, corpus_rows
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

POSITIONS = 40  # rows of the tables of learnt positions
BERT: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": POSITIONS,
}
GPT: dict[str, Any] = {"n_embd": 16, "n_layer": 3, "n_head": 2, "n_positions": POSITIONS}
SEQ2SEQ: dict[str, Any] = {
    **{f"{part}_{what}": size for part in ("encoder", "decoder") for what, size in
       (("layers", 2), ("attention_heads", 2), ("ffn_dim", 32))},
    "d_model": 16,
    "max_position_embeddings": POSITIONS,
}  # fmt: skip
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "albert": ("albert", {**BERT, "embedding_size": 8}),
    "bart": ("bart", SEQ2SEQ),
    "bert": ("bert", BERT),
    "big_bird": ("big_bird", {**BERT, "attention_type": "original_full"}),
    "blenderbot": ("blenderbot", SEQ2SEQ),
    "camembert": ("camembert", BERT),
    "convbert": ("convbert", {**BERT, "embedding_size": 16, "conv_kernel_size": 3}),
    "data2vec-text": ("data2vec-text", BERT),
    "deberta": ("deberta", BERT),
    "deberta-v2": ("deberta-v2", {**BERT, "relative_attention": True, "pos_att_type": ["c2p", "p2c"]}),
    "distilbert": (
        "distilbert",
        {"dim": 16, "n_layers": 3, "n_heads": 2, "hidden_dim": 32, "max_position_embeddings": POSITIONS},
    ),
    "electra": ("electra", {**BERT, "embedding_size": 8}),
    "funnel": (
        "funnel",
        {"d_model": 16, "block_sizes": [1, 1, 1], "n_head": 2, "d_head": 8, "d_inner": 32, "num_decoder_layers": 2},
    ),
    "gpt2": ("gpt2", GPT),
    "llama": ("llama", {**BERT, "num_key_value_heads": 2}),
    "longformer": ("longformer", {**BERT, "attention_window": 8}),
    "mistral": ("mistral", {**BERT, "num_key_value_heads": 1, "head_dim": 8, "sliding_window": 5}),
    "modernbert": ("modernbert", {**BERT, "local_attention": 8, "pad_token_id": 0}),
    "mpnet": ("mpnet", BERT),
    "openai-gpt": ("openai-gpt", GPT),
    "opt": ("opt", {**BERT, "ffn_dim": 32, "word_embed_proj_dim": 16}),
    "opt_narrow": ("opt", {**BERT, "ffn_dim": 32, "word_embed_proj_dim": 8}),
    "roberta": ("roberta", BERT),
    "squeezebert": ("squeezebert", {**BERT, "embedding_size": 16}),
    "t5": ("t5", {"d_model": 16, "num_layers": 3, "num_heads": 2, "d_kv": 8, "d_ff": 32}),
    "wav2vec2": ("wav2vec2", {**BERT, "conv_dim": [8], "conv_stride": [5], "conv_kernel": [10],
                              "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2}),
    "xlm-roberta": ("xlm-roberta", BERT),
    "xlnet": ("xlnet", {"d_model": 16, "n_layer": 3, "n_head": 2, "d_inner": 32}),
}  # fmt: skip


def write_tokenizer(folder: Path) -> Tokenizer:
    """Write the folder's tokenizer, which puts [CLS] and [SEP] around a sentence, and return it."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=150, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]"], show_progress=False
    )
    tokenizer.train_from_iterator([row["text"] for row in corpus_rows()], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokenizer.enable_padding(length=12)  # as many tokenizers come; the task pads by itself
    tokenizer.enable_truncation(max_length=5)
    tokenizer.save(str(folder / "tokenizer.json"))
    return tokenizer


def write_encoder(kind: str, folder: Path, kinds: Mapping[str, tuple[str, dict[str, Any]]] = CONFIGS) -> Path:
    """Write a random encoder of a kind, with a tokenizer; returns its folder."""
    from transformers import AutoConfig, AutoModel
    from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

    model_type, options = kinds[kind]
    folder = folder / kind
    folder.mkdir(parents=True)
    size = write_tokenizer(folder).get_vocab_size()
    named: Any = MODEL_MAPPING_NAMES[model_type]
    name = named if isinstance(named, str) else named[0]
    config = AutoConfig.for_model(model_type, vocab_size=size, architectures=[name], **options)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        make: Any = AutoModel.from_config
        model = make(config)
        for weight in model.parameters():  # the default spread of 0.02 would leave all layers nearly linear
            weight.add_(torch.randn(weight.shape) * 0.1)
        model.save_pretrained(folder)
    return folder


def write_recipe(encoder: Path, corpus: TinyText, path: Path) -> Path:
    """Write the recipe of a head on an encoder; returns its file."""
    content = {
        "name": f"tiny_{encoder.name}",
        "data": {"corpus": f"manifest:{corpus.corpus}", "domains": ["home"]},
        "encoder": {"kind": "transformers", "path": str(encoder), "max_length": 16},
        "train": "head",
        "optim": {"lr": 0.01},
        "loop": {"epochs": 1, "batch_size": 16},
    }
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


WAV2VEC2: dict[str, Any] = {
    **BERT, "vocab_size": 32, "conv_dim": [8, 8], "conv_stride": [10, 16], "conv_kernel": [20, 24],
    "num_feat_extract_layers": 2, "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2,
}  # fmt: skip
STABLE: dict[str, Any] = {"feat_extract_norm": "layer", "do_stable_layer_norm": True}
CONFORMER: dict[str, Any] = {"conv_depthwise_kernel_size": 5}
SUBSAMPLED: dict[str, Any] = {
    "vocab_size": 32,
    "encoder_config": {
        **BERT, "num_mel_bins": 16, "subsampling_conv_channels": 4, "conv_kernel_size": 5, "subsampling_factor": 4,
        "subsampling_conv_kernel_size": 3, "max_position_embeddings": 400,
    },
}  # fmt: skip
MOONSHINE: dict[str, Any] = {
    **{f"{part}_num_{what}": size for part in ("encoder", "decoder") for what, size in
       (("hidden_layers", 2), ("attention_heads", 2))},
    "hidden_size": 16, "intermediate_size": 32, "vocab_size": 32,
}  # fmt: skip
SPEECH: dict[str, tuple[str, str, dict[str, Any]]] = {  # kind -> (class, feature extractor, settings)
    "data2vec-audio": ("Data2VecAudioModel", "Wav2Vec2", {**WAV2VEC2, "conv_pos_kernel_size": 5}),
    "hubert": ("HubertModel", "Wav2Vec2", WAV2VEC2),
    "hubert_layer": ("HubertForCTC", "Wav2Vec2", WAV2VEC2 | STABLE),
    "lasr": ("LasrForCTC", "Lasr", SUBSAMPLED),
    "moonshine": ("MoonshineModel", "Wav2Vec2", MOONSHINE),
    "parakeet": ("ParakeetForCTC", "Parakeet", SUBSAMPLED),
    "sew": ("SEWModel", "Wav2Vec2", WAV2VEC2),
    "sew-d": ("SEWDModel", "Wav2Vec2", WAV2VEC2),
    "unispeech": ("UniSpeechModel", "Wav2Vec2", WAV2VEC2),
    "unispeech-sat": ("UniSpeechSatModel", "Wav2Vec2", WAV2VEC2),
    "wav2vec2": ("Wav2Vec2ForCTC", "Wav2Vec2", WAV2VEC2),
    "wav2vec2_layer": ("Wav2Vec2ForCTC", "Wav2Vec2", WAV2VEC2 | STABLE | {"adapter_attn_dim": 4}),
    "wav2vec2-bert": ("Wav2Vec2BertModel", "SeamlessM4T", {**BERT, **CONFORMER, "feature_projection_input_dim": 20}),
    "wav2vec2-conformer": ("Wav2Vec2ConformerModel", "Wav2Vec2", WAV2VEC2 | CONFORMER),
    "wavlm": ("WavLMModel", "Wav2Vec2", WAV2VEC2),
    "wavlm_layer": ("WavLMModel", "Wav2Vec2", WAV2VEC2 | STABLE),
    "whisper": ("WhisperForConditionalGeneration", "Whisper",
                {**SEQ2SEQ, "vocab_size": 60, "num_mel_bins": 16, "pad_token_id": 50, "bos_token_id": 50,
                 "eos_token_id": 50, "decoder_start_token_id": 51}),
}  # fmt: skip
EXTRACTORS: dict[str, dict[str, Any]] = {
    "Lasr": {"feature_size": 16},
    "Parakeet": {"feature_size": 16},
    "SeamlessM4T": {"feature_size": 10, "num_mel_bins": 10},
    "Wav2Vec2": {"do_normalize": True},
    "Whisper": {"feature_size": 16},
}


def write_speech_encoder(kind: str, folder: Path) -> Path:
    """Write a random speech model of a kind, with its feature extractor; returns its folder."""
    import transformers

    name, extractor, options = SPEECH[kind]
    library: Any = transformers
    folder = folder / kind
    cls = getattr(library, name)
    settings = {
        key: value for key, value in options.items() if key != "max_position_embeddings" or "Whisper" not in name
    }
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model = cls(cls.config_class(**settings, **({"pad_token_id": 5} if name.endswith("ForCTC") else {})))
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape) * 0.1)
        model.save_pretrained(folder)
    if name.endswith("ForCTC"):  # the blank is not the first, and letters are in upper case
        tokens = [*"AEOU", "|", "<pad>", "<s>", "</s>", "<unk>", *(f"<more {n}>" for n in range(23))]
        (folder / "vocab.json").write_text(json.dumps({token: n for n, token in enumerate(tokens)}), encoding="utf-8")
    getattr(library, f"{extractor}FeatureExtractor")(**EXTRACTORS[extractor]).save_pretrained(folder)
    return folder
