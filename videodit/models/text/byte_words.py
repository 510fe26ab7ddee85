"""Captions as words of bytes: a tokenizer that no data trains, for an encoder that is trained with the transformer.

Text is UTF-8, and a token is a word of it: bytes are grouped at spaces as in SpaceByte (Slagle, 2024), so that a caption has about as many
tokens as words, where MambaByte (Wang et al., 2024) has one a byte; the Byte Latent Transformer (Pagnoni et al., 2024) groups by entropy,
for which a network has to be trained first. Every Unicode string has tokens, nothing is unknown, and different texts have different tokens,
as in CANINE (Clark et al., 2021), which sums tables over parts of a character as the embedder here does over bytes of a word.
"""

import numpy as np

from videodit.models.text.tokenizer import normalised

WORD = 16  # bytes of a token
PAD, BEGIN = 0, 257  # ids; byte b is b + 1


class ByteWords:
    """Encodes captions. A token is `WORD` ids below `size`, padded at its end."""

    size = 258
    ids = WORD

    def encode(self, text: str, max_tokens: int) -> np.ndarray:
        """`int32 [n, WORD]`, 1 <= n <= max_tokens: a begin token, then the text's words, cut where they are too many.

        Text is normalised (`normalised`). Each word keeps the space before it, and the first is given one, so that a word is the same
        token wherever it stands. A word of more than `WORD` bytes, as scripts without spaces have, is cut between two characters.
        """
        pieces = [b""]
        for word in normalised(text).split():
            pieces += _cut(f" {word}")
        ids = np.full((min(len(pieces), max_tokens), WORD), PAD, np.int32)
        for row, piece in zip(ids, pieces):
            row[: len(piece)] = np.frombuffer(piece, np.uint8).astype(np.int32) + 1
        ids[0, 0] = BEGIN
        return ids


def _cut(word: str) -> list[bytes]:
    """The word's bytes in pieces of whole characters, each as long as it can be."""
    pieces = [b""]
    for character in word:
        encoded = character.encode()
        if len(pieces[-1]) + len(encoded) > WORD:
            pieces.append(b"")
        pieces[-1] += encoded
    return pieces
