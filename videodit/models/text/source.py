"""How prompts become text tokens, for training and generation alike: one interface over tokenizers and over public encoders."""

from collections.abc import Sequence
import functools
import hashlib
import json
import os
import threading
from typing import Any, Protocol

from etils import epath
import ml_dtypes
import numpy as np

from videodit.core.errors import UserError
from videodit.models.text.byte_words import ByteWords
from videodit.models.text.config import BYTES, TRAINED, EncoderConfig, TextConfig
from videodit.models.text.embedder import TextEmbedderConfig
from videodit.models.text.encoders import TextEncoders, load_text_encoder
from videodit.models.text.refiner import TextRefinerConfig
from videodit.models.text.t5 import t5_config
from videodit.models.text.t5_tokenizers import load_tokenizer
from videodit.models.text.t5_weights import encoder_directory, encoder_files
from videodit.models.text.tokenizer import Tokenizer

TOKENIZER = "tokenizer.model"  # of a sentencepiece model, beside what was made with it
UNCUT = 2**31 - 1  # tokens: more than any text has

# The tokens of a text: of each part `[tokens, ...]`, as `TextEmbedderConfig.parts` says.
Text = tuple[np.ndarray, ...]


class TextSource(Protocol):
    """What makes text tokens. `limits`: tokens at which a text is cut, by part."""

    embedder: TextEmbedderConfig
    limits: tuple[int, ...]

    def lengths(self, prompt: str) -> tuple[int, ...]:
        """Tokens of each part, uncut."""

    def encode(self, prompts: Sequence[str]) -> list[Text]:
        """The tokens of each prompt, each part cut at its limit."""


def open_text(config: TextConfig, directory: epath.PathLike, max_tokens: int = UNCUT, batch: int = 8) -> TextSource:
    """The source that a config names. A sentencepiece model is read from `directory`, where `encode` wrote it.

    `max_tokens` cuts each part, beside an encoder's own limit; an encoder reads `batch` texts at once. Raises UserError where files are
    missing or do not fit together.
    """
    if config.encoders:
        return EncodedText(config.encoders, config.refiner, max_tokens, batch)
    if config.tokenizer == BYTES:
        return TokenText(ByteWords(), config.refiner, max_tokens)
    return TokenText(Tokenizer((epath.Path(directory) / TOKENIZER).read_bytes()), config.refiner, max_tokens)


class TokenText:
    """One part, the ids of a tokenizer whose embeddings are trained with the transformer."""

    def __init__(self, tokenizer: ByteWords | Tokenizer, refiner: TextRefinerConfig, max_tokens: int = UNCUT):
        self.tokenizer, self.limits = tokenizer, (max_tokens,)
        self.embedder = TextEmbedderConfig(ids=tokenizer.ids, vocabulary=tokenizer.size, refiner=refiner)

    def lengths(self, prompt: str) -> tuple[int, ...]:
        return (len(self.tokenizer.encode(prompt, UNCUT)),)

    def encode(self, prompts: Sequence[str]) -> list[Text]:
        return [(self.tokenizer.encode(prompt, self.limits[0]),) for prompt in prompts]


class EncodedText:
    """A part for each public encoder, its embeddings in bfloat16: half of float32's bytes, and what comes next is a norm, to which eight
    bits are enough; float16's range is not, since T5's outputs pass it.

    Networks are loaded when a text is first encoded, not for lengths.
    """

    def __init__(self, encoders: Sequence[EncoderConfig], refiner: TextRefinerConfig, max_tokens: int, batch: int):
        self._encoders, self._batch, self._opening = tuple(encoders), batch, threading.Lock()
        self._tokenizers = [load_tokenizer(encoder_directory(each.path)) for each in encoders]
        self.limits = tuple(min(each.max_tokens, max_tokens) for each in encoders)
        self.embedder = TextEmbedderConfig(widths=encoder_widths(encoders), refiner=refiner)

    @functools.cached_property
    def _networks(self) -> TextEncoders:
        return TextEncoders([load_text_encoder(each.path, each.max_tokens, each.dtype) for each in self._encoders], self._batch)

    def lengths(self, prompt: str) -> tuple[int, ...]:
        return tuple(len(tokenizer.encode(prompt, UNCUT)) for tokenizer in self._tokenizers)

    def encode(self, prompts: Sequence[str]) -> list[Text]:
        with self._opening:  # readers of several threads may come at once
            networks = self._networks
        cut = lambda each: tuple(part[:most].astype(ml_dtypes.bfloat16) for part, most in zip(each.embeddings, self.limits))
        return [cut(each) for each in networks.encode(prompts)]


class RememberedText:
    """The texts of prompts that come again and again, made by `open` once: its networks are let go between."""

    def __init__(self, open: Any):
        self._open, self._known = open, {}

    def encode(self, prompts: Sequence[str]) -> list[Text]:
        new = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._known]
        if new:
            self._known |= dict(zip(new, self._open().encode(new)))
        return [self._known[prompt] for prompt in prompts]


def encoder_widths(encoders: Sequence[EncoderConfig]) -> tuple[int, ...]:
    """Channels of each encoder's embeddings, as its config.json has them."""
    return tuple(t5_config(json.loads((encoder_directory(each.path) / "config.json").read_text())).width for each in encoders)


def planned_embedder(config: TextConfig) -> TextEmbedderConfig:
    """The embedder of a config before its tokenizer is trained, which has about `vocabulary` ids."""
    if config.tokenizer == TRAINED and not config.encoders:
        return TextEmbedderConfig(vocabulary=config.vocabulary, refiner=config.refiner)
    if config.tokenizer != BYTES and not config.encoders:
        return TokenText(Tokenizer(read_model(config)), config.refiner).embedder
    return open_text(config, "").embedder


def read_model(config: TextConfig) -> bytes:
    """The sentencepiece model whose path `text.tokenizer` is. Raises UserError where there is none."""
    path = epath.Path(config.tokenizer)
    if not path.is_file():
        raise UserError(f"config text.tokenizer is {config.tokenizer!r}, expected 'bytes', 'trained' or the file of a sentencepiece model")
    return path.read_bytes()


@functools.lru_cache(maxsize=8)
def text_identity(config: TextConfig) -> dict[str, Any]:
    """What text tokens are made with, as JSON values: two configs that agree here make the same of a prompt, but for a "trained" tokenizer.

    Encoders are told by the SHA-256 of their files, wherever these lie.
    """
    if config.encoders:
        said = [
            {"fingerprint": encoder_fingerprint(each.path), "max_tokens": each.max_tokens, "dtype": each.dtype} for each in config.encoders
        ]
        return {"encoders": [each | {"width": width} for each, width in zip(said, encoder_widths(config.encoders))]}
    if config.tokenizer in (BYTES, TRAINED):
        return {"tokenizer": config.tokenizer}
    return {"tokenizer": hashlib.sha256(read_model(config)).hexdigest()}


def check_identity(made: dict[str, Any], config: TextConfig, place: epath.PathLike) -> None:
    """Raises UserError where what was made at `place` has other text tokens than the config asks for."""
    wanted = text_identity(config)
    if made != wanted:
        raise UserError(
            f"{os.fspath(place)!r} was encoded with text from {_told(made)}, and config text asks for {_told(wanted)}: bring that back, or "
            "run `videodit encode` into another latents.path"
        )


def _told(identity: dict[str, Any]) -> str:
    if "encoders" in identity:
        return " and ".join(
            f"encoder {each['fingerprint'][:12]} ({each['dtype']}, {each['max_tokens']} tokens)" for each in identity["encoders"]
        )
    return f"tokenizer {identity['tokenizer'][:12]!r}"


def encoder_fingerprint(path: epath.PathLike) -> str:
    """SHA-256 over an encoder's tokenizer, config and weights; 64 hex digits."""
    digest, directory = hashlib.sha256(), encoder_directory(path)
    tokenizer = load_tokenizer(directory)
    digest.update(type(tokenizer).__name__.encode() + getattr(tokenizer, "model", b""))
    for file in (directory / "config.json", *encoder_files(path)):
        with file.open("rb") as opened:
            while block := opened.read(1 << 24):
                digest.update(block)
    return digest.hexdigest()
