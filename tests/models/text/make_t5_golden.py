"""Writes the small files of test_t5.py and test_t5_tokenizers.py with the original implementations: needs torch and transformers.

    python tests/models/text/make_t5_golden.py

Weights are random, and such as float16 holds exactly; texts are longer than the distance from which all is one bucket.
"""

import io
import itertools
import json
from pathlib import Path

import numpy as np
import sentencepiece
import torch
from transformers import ByT5Tokenizer, T5Config, T5EncoderModel, T5ForConditionalGeneration, T5Tokenizer, UMT5Config, UMT5EncoderModel

TO = Path(__file__).with_name("golden")
SHAPE = {"d_model": 12, "d_kv": 8, "d_ff": 20, "num_layers": 3, "num_heads": 2}
LENGTHS = (150, 37)  # tokens of the two texts
PROMPTS = (
    "",
    "   ",
    "a red ball rolls left",
    "Ein Würfel rollt über die Straße",
    "赤いボールが左に転がる",
    "🔴⚽➡️ café",
    "a  red ball   rolls  ",
)


def with_weights(model: torch.nn.Module, seed: int) -> torch.nn.Module:
    torch.manual_seed(seed)
    for name, parameter in model.named_parameters():
        with torch.no_grad():
            if parameter.ndim == 1:
                parameter.uniform_(0.5, 1.5)
            else:
                parameter.normal_(std=1.0 if "shared" in name or "bias" in name else parameter.shape[1] ** -0.5)
            parameter.copy_(parameter.half().float())
    return model.eval()


def tokens(vocabulary: int) -> tuple[np.ndarray, np.ndarray]:
    ids = np.random.default_rng(0).integers(2, vocabulary, (2, max(LENGTHS))).astype(np.int32)
    mask = np.arange(max(LENGTHS)) < np.asarray(LENGTHS)[:, None]
    return np.where(mask, ids, 0), mask


def write(name: str, model: torch.nn.Module, folder: Path, **save) -> None:
    ids, mask = tokens(model.config.vocab_size)
    encoder = model.get_encoder() if model.config.is_encoder_decoder else model
    with torch.no_grad():
        out = encoder(torch.from_numpy(ids).long(), torch.from_numpy(mask).long()).last_hidden_state.numpy()
    attention = encoder.encoder.block[0] if hasattr(encoder, "encoder") else encoder.block[0]
    distances = torch.arange(-300, 301)
    buckets = attention.layer[0].SelfAttention._relative_position_bucket(distances).numpy()
    np.savez_compressed(TO / f"{name}.npz", ids=ids, mask=mask, out=out, buckets=buckets.astype(np.int8))
    model.half().save_pretrained(folder, **save)


def tokenizer_model() -> bytes:
    """T5's ids and piece scores; no normalisation table, which alone would be 240 KB."""
    words = itertools.product("a", ("red", "green", "blue"), ("ball", "cube", "cone"), ("rolls", "slides"), ("left", "right", "away"))
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=map(" ".join, words),
        model_writer=model,
        model_type="unigram",
        vocab_size=60,
        hard_vocab_limit=False,
        normalization_rule_name="identity",
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    return model.getvalue()


def write_tokens(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "spiece.model").write_bytes(tokenizer_model())
    pieces = sentencepiece.SentencePieceProcessor(model_proto=tokenizer_model())
    vocabulary = [(pieces.id_to_piece(i), pieces.get_score(i)) for i in range(pieces.vocab_size())]
    t5, byt5 = T5Tokenizer(vocabulary, extra_ids=0), ByT5Tokenizer()
    found = [
        {"prompt": prompt, "most": most, "t5": cut(t5, prompt, most), "byt5": cut(byt5, prompt, most)}
        for prompt in PROMPTS
        for most in (512, 6)
    ]
    (TO / "tokens.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")


def cut(tokenizer, prompt: str, most: int) -> list[int]:
    return tokenizer(prompt, max_length=most, truncation=True).input_ids


if __name__ == "__main__":
    TO.mkdir(exist_ok=True)
    t5 = T5Config(**SHAPE, num_decoder_layers=1, vocab_size=64, feed_forward_proj="relu")
    write("t5", with_weights(T5ForConditionalGeneration(t5), 1), TO / "t5")
    gated = T5Config(**SHAPE, vocab_size=64, feed_forward_proj="gated-gelu")
    write("t5_v1_1", with_weights(T5EncoderModel(gated), 2), TO / "t5_v1_1")
    byt5 = T5Config(**SHAPE, vocab_size=384, feed_forward_proj="gated-gelu", tokenizer_class="ByT5Tokenizer")
    write("byt5", with_weights(T5EncoderModel(byt5), 3), TO / "byt5")
    umt5 = UMT5Config(**SHAPE, vocab_size=64, feed_forward_proj="gated-gelu")
    write("umt5", with_weights(UMT5EncoderModel(umt5), 4), TO / "umt5" / "text_encoder", max_shard_size="4KB")
    write_tokens(TO / "umt5" / "tokenizer")
