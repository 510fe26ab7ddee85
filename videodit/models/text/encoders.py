"""Several text encoders side by side: prompts to embeddings, made once and cached."""

from collections.abc import Sequence
from dataclasses import dataclass
import functools
from typing import Any, Protocol

from etils import epath
import jax
import numpy as np

from videodit.core.errors import UserError
from videodit.models.text.t5 import T5Encoder
from videodit.models.text.t5_tokenizers import load_tokenizer
from videodit.models.text.t5_weights import encoder_directory, load_t5

_SHORTEST = 16  # tokens that the shortest texts are padded to
_UNCUT = 2**31 - 1  # tokens: more than any text has


class TextTokenizer(Protocol):
    """Text to ids. Padding is id 0."""

    size: int

    def encode(self, text: str, max_tokens: int) -> np.ndarray:
        """`int32 [n]`, 1 <= n <= max_tokens."""


@dataclass(frozen=True, kw_only=True)
class TextEncoder:
    """A tokenizer, the network that reads its ids, the network's parameters, and the tokens at which a text is cut."""

    tokenizer: TextTokenizer
    module: T5Encoder
    params: Any
    max_tokens: int

    def __post_init__(self):
        if self.max_tokens < 1:
            raise UserError(f"a text encoder's max_tokens is {self.max_tokens}, expected 1 or more")
        if self.tokenizer.size > self.module.config.vocabulary:
            raise UserError(f"the tokenizer has {self.tokenizer.size} ids, its encoder {self.module.config.vocabulary}: not made together")

    @property
    def width(self) -> int:
        """Channels of an embedding."""
        return self.module.config.width


@dataclass(frozen=True, kw_only=True)
class EncodedText:
    """One prompt: of each encoder, float32 `[tokens, width]` with 1 token or more, and how many tokens its limit has `cut`."""

    embeddings: tuple[np.ndarray, ...]
    cut: tuple[int, ...]


def load_text_encoder(path: epath.PathLike, max_tokens: int, dtype: str = "float32") -> TextEncoder:
    """A public T5, mT5, ByT5 or UMT5 encoder with its tokenizer, from a directory or diffusers pipeline; see `load_t5`."""
    config, params = load_t5(path, dtype)
    tokenizer = load_tokenizer(encoder_directory(path))
    return TextEncoder(tokenizer=tokenizer, module=T5Encoder(config), params=params, max_tokens=max_tokens)


class TextEncoders:
    """Encoders that each read every prompt.

    Texts are batched by lengths that are powers of two, `batch` of them at once, so that an encoder is compiled for few shapes. Parameters
    that lie on no device yet are put on the default one.
    """

    def __init__(self, encoders: Sequence[TextEncoder], batch: int = 8):
        if not encoders or batch < 1:
            raise UserError(f"{len(encoders)} text encoders and a batch of {batch} texts, expected 1 or more of each")
        self.encoders, self.batch = tuple(encoders), batch
        self._params = [jax.device_put(encoder.params) for encoder in self.encoders]

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each encoder's embeddings."""
        return tuple(encoder.width for encoder in self.encoders)

    def encode(self, prompts: Sequence[str]) -> list[EncodedText]:
        """The embeddings of each prompt, in their order; equal prompts are encoded once."""
        unique = list(dict.fromkeys(prompts))
        found = [self._encode(encoder, params, unique) for encoder, params in zip(self.encoders, self._params)]
        texts = {
            prompt: EncodedText(embeddings=tuple(each[0] for each in one), cut=tuple(each[1] for each in one))
            for prompt, *one in zip(unique, *found)
        }
        return [texts[prompt] for prompt in prompts]

    def _encode(self, encoder: TextEncoder, params: Any, prompts: Sequence[str]) -> list[tuple[np.ndarray, int]]:
        """(embedding, tokens cut) of each prompt by one encoder."""
        uncut = [encoder.tokenizer.encode(prompt, _UNCUT) for prompt in prompts]
        most = encoder.max_tokens
        ids = [each if len(each) <= most else encoder.tokenizer.encode(prompt, most) for each, prompt in zip(uncut, prompts)]
        by_length: dict[int, list[int]] = {}
        for place, each in enumerate(ids):
            by_length.setdefault(padded(len(each)), []).append(place)
        embeddings = [np.empty(0)] * len(ids)
        for length in sorted(by_length):
            places = by_length[length]
            for start in range(0, len(places), self.batch):
                some = places[start : start + self.batch]
                ids_BxL, mask_BxL = _batch([ids[place] for place in some], self.batch, length)
                out = np.asarray(_embed(encoder.module, params, ids_BxL, mask_BxL))
                for place, row in zip(some, out):
                    embeddings[place] = row[: len(ids[place])].copy()
        return [(embedding, len(whole) - len(embedding)) for embedding, whole in zip(embeddings, uncut)]


def padded(tokens: int) -> int:
    """The length at which a text is encoded: the power of two from `tokens` up."""
    return max(_SHORTEST, 1 << (tokens - 1).bit_length())


def _batch(ids: Sequence[np.ndarray], rows: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """int32 ids and bool mask, `[rows, length]`; rows beyond the texts are padding."""
    ids_BxL, mask_BxL = np.zeros((rows, length), np.int32), np.zeros((rows, length), bool)
    for row, each in enumerate(ids):
        ids_BxL[row, : len(each)], mask_BxL[row, : len(each)] = each, True
    return ids_BxL, mask_BxL


@functools.partial(jax.jit, static_argnums=0)
def _embed(module: T5Encoder, params: Any, ids_BxL: jax.Array, mask_BxL: jax.Array) -> jax.Array:
    return module.apply({"params": params}, ids_BxL, mask_BxL)
