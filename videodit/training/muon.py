"""Muon: matrices learn by momentum whose singular values are made equal (Jordan et al., "Muon: an optimizer for hidden layers in neural
networks", 2024; Liu et al., "Muon is scalable for LLM training", 2025), at a fraction of the usual cost for wide kernels.

The quintic Newton-Schulz iteration is a polynomial of `X X^T` times X. optax.contrib.muon multiplies the wide X in each of its steps; here
the polynomial is computed on the small square matrix and X is multiplied twice in all, which for a kernel of 3x3x3 over 256 channels is a
quarter of the work.
"""

from collections.abc import Callable
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from videodit.sharding.rules import path_name

# Jordan's coefficients: slope at 0 as steep as can be while singular values end between 0.7 and 1.2.
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_STEPS = 5
_RMS = 0.2  # of an update at a learning rate of 1: AdamW's own (Liu et al., 2025, section 2.2), so that one rate serves both


class MuonState(NamedTuple):
    momentum: Any


def orthogonalised(matrix: jax.Array) -> jax.Array:
    """`[..., m, n]` -> the nearest matrices with equal singular values, about 1 each, in float32; zeros stay zeros."""
    x = matrix.astype(jnp.float32)
    turned = x.shape[-2] > x.shape[-1]
    x = x.swapaxes(-1, -2) if turned else x
    x = x / (jnp.linalg.norm(x, axis=(-2, -1), keepdims=True) + 1e-7)
    a, b, c = _COEFFICIENTS
    gram, eye = x @ x.swapaxes(-1, -2), jnp.eye(x.shape[-2])
    product = eye
    for _ in range(_STEPS):
        step = a * eye + b * gram + c * gram @ gram
        product, gram = step @ product, step @ gram @ step  # all are polynomials of one matrix, and so commute
    x = product @ x
    return x.swapaxes(-1, -2) if turned else x


def scale_by_muon(axes: Callable[[str], tuple[int, int]], decay: float = 0.95) -> optax.GradientTransformation:
    """Nesterov momentum, each matrix orthogonalised, with the root mean square that updates of AdamW have.

    `axes` says of a parameter's path, `a/b/c`, how many leading axes number its matrices and how many after these are its inputs;
    -1 leaves the last axis alone as outputs.
    """

    def init(params):
        return MuonState(jax.tree.map(jnp.zeros_like, params))

    def direction(path, update):
        numbered, inputs = axes(path_name(path))
        split = update.shape[numbered:]
        matrix = update.reshape(*update.shape[:numbered], math.prod(split[:inputs]), math.prod(split[inputs:]))
        return (_RMS * max(matrix.shape[-2:]) ** 0.5 * orthogonalised(matrix)).reshape(update.shape)

    def update(updates, state, params=None):
        del params
        momentum = jax.tree.map(lambda old, new: decay * old + new, state.momentum, updates)
        ahead = jax.tree.map(lambda moved, new: decay * moved + new, momentum, updates)
        return jax.tree_util.tree_map_with_path(direction, ahead), MuonState(momentum)

    return optax.GradientTransformation(init, update)
