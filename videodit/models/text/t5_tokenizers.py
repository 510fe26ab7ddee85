"""The tokenizers of public encoders: sentencepiece models in T5's form, and ByT5's bytes."""

import json
import os
from typing import Any

from etils import epath
import numpy as np
import sentencepiece

from videodit.core.errors import UserError
from videodit.models.text.tokenizer import encodable

_MODEL = "spiece.model"
_FIRST_BYTE = 3  # ByT5: after pad, end and unknown


def load_tokenizer(encoder: epath.PathLike) -> "T5Tokenizer | ByT5Tokenizer":
    """The tokenizer of an encoder's directory: in it, or in the `tokenizer` (`tokenizer_2`, ...) of its diffusers pipeline.

    ByT5's where a tokenizer_config.json or config.json names it, else that of `spiece.model`. Raises UserError where there is neither.
    """
    encoder = epath.Path(encoder)
    tried = [encoder, encoder.parent / encoder.name.replace("text_encoder", "tokenizer")]
    for directory in tried:
        if (directory / _MODEL).exists():
            return T5Tokenizer((directory / _MODEL).read_bytes())
        if "ByT5Tokenizer" in (_class_of(directory / "tokenizer_config.json"), _class_of(directory / "config.json")):
            return ByT5Tokenizer()
    raise UserError(f"text encoder {os.fspath(encoder)!r} has no tokenizer: expected {_MODEL} in it or in {os.fspath(tried[1])!r}")


def _class_of(file: epath.Path) -> Any:
    return json.loads(file.read_text()).get("tokenizer_class") if file.exists() else None


class T5Tokenizer:
    """Encodes with a public sentencepiece model, its end token last. `size` is the number of ids that it may give.

    Raises UserError where the bytes are no such model, or it has no end token.
    """

    def __init__(self, model: bytes):
        self.model = model
        self._processor = sentencepiece.SentencePieceProcessor()
        try:
            self._processor.LoadFromSerializedProto(model)
        except RuntimeError as error:
            raise UserError(f"{_MODEL} of {len(model)} bytes is no sentencepiece model, or cut off") from error
        self._end = self._processor.eos_id()
        if self._end < 0:
            raise UserError(f"{_MODEL} has no end token, expected T5's ids: padding 0, end 1")

    @property
    def size(self) -> int:
        return self._processor.vocab_size()

    def encode(self, text: str, max_tokens: int) -> np.ndarray:
        """`int32 [n]`, 1 <= n <= max_tokens: the text, cut where it is too long, then the end token. "" gives the end token alone."""
        return _with_end(self._processor.encode(encodable(text)), self._end, max_tokens)

    def __reduce__(self):
        return T5Tokenizer, (self.model,)


class ByT5Tokenizer:
    """A token a byte of UTF-8: 0 is padding, 1 the end, 2 unknown (never given), and byte b is b + 3. `size` is the number of ids.

    "ByT5: Towards a Token-Free Future with Pre-trained Byte-to-Byte Models" (Xue et al., 2022), section 3.2. It needs no data and no file.
    """

    size = _FIRST_BYTE + 256

    def encode(self, text: str, max_tokens: int) -> np.ndarray:
        """`int32 [n]`, 1 <= n <= max_tokens: the text's bytes, cut where they are too many, then the end. "" gives the end alone."""
        return _with_end([byte + _FIRST_BYTE for byte in encodable(text).encode()], 1, max_tokens)


def _with_end(ids: list[int], end: int, max_tokens: int) -> np.ndarray:
    return np.asarray([*ids[: max_tokens - 1], end], np.int32)
