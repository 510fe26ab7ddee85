"""Captions to token ids, with a sentencepiece model that is trained on the data set's own captions, or a public one.

Kudo and Richardson, "SentencePiece" (2018). In a model that is trained here bytes stand in for what the vocabulary lacks, so every Unicode
string has a tokenization and nothing is unknown.
"""

from collections.abc import Iterable
import io
import unicodedata

import numpy as np
import sentencepiece

from videodit.core.errors import UserError

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


def normalised(text: str) -> str:
    """The text as one that differs in case, width, composition or spacing alone would be: compatibility composition and case folding
    (NFKC_Casefold of the Unicode Standard, section 3.13), with single spaces and none at the ends."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", encodable(text)).casefold())
    return " ".join(folded.split())


class Tokenizer:
    """Encodes captions with a sentencepiece model. `size` is the number of ids, one of which a token has.

    Raises UserError where the bytes are no such model.
    """

    ids = 1

    def __init__(self, model: bytes):
        self.model = model
        self._processor = sentencepiece.SentencePieceProcessor()
        try:
            self._processor.LoadFromSerializedProto(model)
        except RuntimeError as error:
            raise UserError(f"a tokenizer of {len(model)} bytes is no sentencepiece model, or cut off") from error
        pieces, begin = self._processor.vocab_size(), self._processor.bos_id()
        # A public model without a begin token is given one, as T5's.
        self.size, self._begin = (pieces, begin) if begin >= 0 else (pieces + 1, pieces)

    def encode(self, text: str, max_tokens: int) -> np.ndarray:
        """`int32 [n, 1]`, 1 <= n <= max_tokens: a begin token, then the text, cut where it is too long. "" gives the begin token alone."""
        return np.asarray([self._begin, *self._processor.encode(encodable(text))][:max_tokens], np.int32)[:, None]

    def __reduce__(self):
        return Tokenizer, (self.model,)
