"""Tiny pretrained backbones as a Hub would give them: tokenizer and model in a directory, of every family."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    LlamaTokenizer,
    T5Tokenizer,
    TokenizersBackend,
)

TEXTS = [
    "A red lamp for the desk",
    "Which item comes next?",
    "List the items that a customer chose, one after the other.",
    "blue chair, green table: user and assistant",
]
CHAT = (
    "{% for message in messages %}<|start|>{{ message['role'] }}\n{{ message['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.2,
}
CAUSAL = {"llama": SHAPE, "qwen2": SHAPE, "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.2}}


def byte_bpe(*, has_chat: bool = True, pad_token: str | None = None) -> TokenizersBackend:
    """A byte-level BPE as GPT-2, Qwen and SmolLM have, with a chat template."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<|start|>", "<|end|>"]
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(TEXTS * 3, trainer)
    template = {"chat_template": CHAT} if has_chat else {}
    names = {"bos_token": "<|start|>", "eos_token": "<|end|>", "pad_token": pad_token}
    return TokenizersBackend(tokenizer_object=tokenizer, **names, **template)


def sentencepiece() -> LlamaTokenizer:
    """The sentencepiece kind of Llama 2: pieces begin with ▁, other characters are bytes; no chat template."""
    pieces = ["<unk>", "<s>", "</s>", "▁", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces += sorted(set("".join(TEXTS)) - {" "} - set(pieces))
    return LlamaTokenizer(vocab={piece: number for number, piece in enumerate(pieces)}, merges=[])


def t5_pieces() -> T5Tokenizer:
    """T5's own class on a few pieces."""
    words = {piece for text in TEXTS for piece in f"▁{text.replace(' ', ' ▁')}".split()}
    letters = sorted(set("".join(TEXTS)) - {" "})
    scored = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -3.0)]
    return T5Tokenizer(vocab=[*scored, *((piece, -5.0) for piece in sorted(words | set(letters)))], extra_ids=2)


TOKENIZERS = {"byte_bpe": byte_bpe, "sentencepiece": sentencepiece, "t5": t5_pieces}


def causal_backbone(directory: Path, family: str = "llama", tokenizer=None, *, seed: int = 0, **options) -> Path:
    """Save a tiny decoder-only model with its tokenizer."""
    tokenizer = byte_bpe() if tokenizer is None else tokenizer
    tokenizer.save_pretrained(directory)
    torch.manual_seed(seed)
    settings = CAUSAL[family] | {"vocab_size": len(tokenizer), "tie_word_embeddings": True} | options
    AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **settings)).save_pretrained(directory)
    return directory


def seq2seq_backbone(directory: Path, *, seed: int = 0, **options) -> Path:
    """Save a tiny T5 with spare rows behind its tokenizer's, as published ones have."""
    tokenizer = t5_pieces()
    tokenizer.save_pretrained(directory)
    torch.manual_seed(seed)
    settings = {"d_model": 32, "d_ff": 48, "d_kv": 8, "num_heads": 4, "num_layers": 2, "num_decoder_layers": 2}
    settings |= {"vocab_size": len(tokenizer) + 6, "decoder_start_token_id": 0} | options
    AutoModelForSeq2SeqLM.from_config(AutoConfig.for_model("t5", **settings)).save_pretrained(directory)
    return directory
