"""What text is for the transformer: the `text` section of an experiment."""

from dataclasses import dataclass, field
from typing import Literal

from videodit.core.errors import UserError
from videodit.models.text.refiner import TextRefinerConfig

BYTES, TRAINED = "bytes", "trained"


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """A public encoder that is held fixed: its `path` (`t5_weights.load_t5`), the `max_tokens` at which it cuts a text, and the `dtype` of
    its weights and products."""

    path: str
    max_tokens: int = 256
    dtype: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self):
        if self.max_tokens < 1:
            raise UserError(f"config text.encoders has max_tokens={self.max_tokens}, expected 1 or more")


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """How captions become tokens of the transformer.

    `tokenizer`: "bytes" needs no data, a token is a word of bytes (`byte_words.py`); "trained" is a sentencepiece model that `encode`
    trains on the data set's captions, with `vocabulary` pieces; everything else is the path of a sentencepiece model. The embeddings of
    their tokens are trained with the transformer.
    `encoders`: public encoders (T5, UMT5, ByT5), whose tokens follow one another; where there is one they take the tokenizer's place, and
    `encode` runs them once over all captions.
    `refiner`: blocks over each text by itself, at the transformer's width; depth 0 is none.
    """

    tokenizer: str = BYTES
    vocabulary: int = 256
    encoders: tuple[EncoderConfig, ...] = ()
    refiner: TextRefinerConfig = field(default_factory=TextRefinerConfig)

    def __post_init__(self):
        if not self.tokenizer or self.vocabulary < 1:
            raise UserError(
                f"config text.tokenizer is {self.tokenizer!r} with vocabulary={self.vocabulary}, expected 'bytes', 'trained' or a path, "
                "and 1 or more"
            )
