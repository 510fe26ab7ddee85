"""Captions to token ids, with a sentencepiece model that is trained on the data set's own captions.

Kudo and Richardson, "SentencePiece" (2018). Bytes stand in for what the vocabulary lacks, so every Unicode string has a
tokenization and nothing is unknown.
"""

from collections.abc import Iterable
import io

import numpy as np
import sentencepiece

PAD, UNKNOWN, BEGIN = 0, 1, 2  # ids
_RESERVED = 3 + 256  # pad, unknown, begin, and one piece a byte


def train_tokenizer(captions: Iterable[str], vocabulary: int) -> bytes:
    """Trains a byte-pair model of about `vocabulary` pieces and 259 reserved ones; the same captions give the same bytes."""
    unique = sorted({encodable(caption) for caption in captions if caption.strip()}) or ["a"]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(unique),
        model_writer=model,
        model_type="bpe",
        vocab_size=vocabulary + _RESERVED,
        hard_vocab_limit=False,
        byte_fallback=True,
        character_coverage=1.0,
        normalization_rule_name="nmt_nfkc_cf",
        max_sentence_length=16_384,
        pad_id=PAD,
        unk_id=UNKNOWN,
        bos_id=BEGIN,
        eos_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    return model.getvalue()


def encodable(text: str) -> str:
    """The text with a question mark for each lone surrogate, such as file names that are no UTF-8 leave behind: they have no bytes."""
    return text.encode("utf-8", "replace").decode()


class Tokenizer:
    """Encodes captions. `size` is the number of ids."""

    def __init__(self, model: bytes):
        self.model = model
        self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)

    @property
    def size(self) -> int:
        return self._processor.vocab_size()

    def encode(self, text: str, max_tokens: int) -> np.ndarray:
        """`int32 [n]`, 1 <= n <= max_tokens: a begin token, then the text, cut where it is too long. "" gives the begin token alone."""
        return np.asarray([BEGIN, *self._processor.encode(encodable(text))][:max_tokens], np.int32)

    def __reduce__(self):
        return Tokenizer, (self.model,)
