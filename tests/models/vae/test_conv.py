"""Every form of the convolution computes the same: values, gradients, chunks of frames, and on a mesh."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from videodit.core.errors import UserError
from videodit.models.vae.conv import convolve

SAME = ((1, 1), (1, 1))
LAYERS = {  # x, kernel, stride, padding
    "odd size, one frame": ((1, 3, 5, 7, 3), (3, 3, 3, 3, 4), (1, 1, 1), SAME),
    "several blocks of tiles": ((2, 6, 33, 61, 9), (3, 3, 3, 9, 10), (1, 1, 1), SAME),
    "wide": ((1, 9, 6, 300, 8), (3, 3, 3, 8, 8), (1, 1, 1), SAME),
    "one tap in time, uneven padding": ((1, 2, 32, 40, 8), (1, 3, 3, 8, 16), (1, 1, 1), ((0, 1), (2, 0))),
    "no padding": ((2, 4, 9, 34, 8), (2, 3, 3, 8, 9), (1, 1, 1), ((0, 0), (0, 0))),
    "few outputs": ((2, 5, 9, 34, 16), (3, 3, 3, 16, 3), (1, 1, 1), SAME),
    "few inputs": ((1, 4, 33, 34, 3), (3, 3, 3, 3, 16), (1, 1, 1), SAME),
    "down in space": ((1, 3, 9, 12, 5), (1, 3, 3, 5, 6), (1, 2, 2), ((0, 1), (0, 1))),
    "down in time": ((1, 7, 4, 5, 6), (3, 1, 1, 6, 4), (2, 1, 1), ((0, 0), (0, 0))),
    "down in all": ((2, 6, 9, 8, 3), (3, 3, 3, 3, 4), (2, 2, 2), SAME),
    "over channels": ((2, 3, 4, 5, 6), (1, 1, 1, 6, 7), (1, 1, 1), ((0, 0), (0, 0))),
    "even kernel": ((1, 4, 12, 10, 3), (3, 4, 4, 3, 5), (2, 2, 2), ((1, 1), (1, 1))),
}
CASES = [
    (layer, form)
    for layer, (_, kernel, stride, _) in LAYERS.items()
    for form in ("auto", "winograd", "planes", "stacked", "volume")
    if form in ("auto", "stacked", "volume") or stride == (1, 1, 1) and (form == "planes" or kernel[1:3] == (3, 3))
]


def draw(*shapes):
    random = np.random.default_rng(0)
    return [random.normal(size=shape) for shape in shapes]


def reference(x, kernel, gradient, stride, padding):
    """Value and gradients in float64, by the definition: one tap after another."""
    x = np.pad(x, ((0, 0), (0, 0), *padding, (0, 0)))
    (kt, kh, kw), size = kernel.shape[:3], gradient.shape[1:4]
    out, dx, dkernel = 0.0, np.zeros_like(x), np.zeros_like(kernel)
    for t, i, j in np.ndindex(kt, kh, kw):
        seen = (slice(None), *(slice(at, at + (n - 1) * s + 1, s) for at, n, s in zip((t, i, j), size, stride)))
        out = out + x[seen] @ kernel[t, i, j]
        dx[seen] += gradient @ kernel[t, i, j].T
        dkernel[t, i, j] = np.einsum("bthwi,bthwo->io", x[seen], gradient)
    (top, bottom), (left, right) = padding
    return out, dx[:, :, top : x.shape[2] - bottom, left : x.shape[3] - right], dkernel


def assert_close(found, wanted, tolerance):
    assert found.shape == wanted.shape
    assert np.abs(np.asarray(found, np.float64) - wanted).max() < tolerance * np.sqrt(np.mean(wanted**2))


@pytest.mark.parametrize("layer, form", CASES)
def test_every_form_has_the_values_and_gradients_of_the_definition(layer, form):
    x_shape, kernel_shape, stride, padding = LAYERS[layer]
    x, kernel = draw(x_shape, kernel_shape)
    run = jax.jit(lambda x, kernel: convolve(x, kernel, stride=stride, padding=padding, form=form))
    x32, kernel32 = x.astype(np.float32), kernel.astype(np.float32)
    (gradient,) = draw(jax.eval_shape(run, x32, kernel32).shape)
    wanted = reference(x32.astype(np.float64), kernel32.astype(np.float64), gradient, stride, padding)
    found, back = jax.vjp(run, x32, kernel32)
    for a, b in zip((found, *back(gradient.astype(np.float32))), wanted):
        assert a.dtype == jnp.float32
        assert_close(a, b, 3e-5)


@pytest.mark.parametrize("shape, outputs", [((2, 11, 36, 40, 16), 16), ((1, 11, 36, 40, 16), 3), ((1, 11, 8, 8, 16), 16)])
def test_frames_in_chunks_or_alone_are_those_of_all_at_once(shape, outputs):
    """Rounding is all that may differ: XLA's matrix products of few rows may add in another order than those of many."""
    x, kernel = (a.astype(np.float32) for a in draw(shape, (3, 3, 3, shape[-1], outputs)))
    run = jax.jit(lambda x: convolve(x, kernel, padding=SAME))
    whole = np.asarray(run(x))
    chunks = [run(x[:, start : start + frames + 2]) for start, frames in ((0, 1), (1, 4), (5, 4))]
    assert_close(np.concatenate(chunks, axis=1), whole, 1e-5)
    assert_close(run(x[-1:]), whole[-1:], 1e-5)


def test_half_precision_is_computed_in_single():
    x, kernel = (jnp.asarray(a, jnp.bfloat16) for a in draw((1, 4, 36, 36, 16), (3, 3, 3, 16, 16)))
    found, back = jax.vjp(lambda x, kernel: convolve(x, kernel, padding=SAME, form="winograd"), x, kernel)
    wanted = reference(*(np.asarray(a, np.float64) for a in (x, kernel, found)), (1, 1, 1), SAME)
    for a, b in zip((found, *back(found)), wanted):
        assert a.dtype == jnp.bfloat16
        assert_close(a, b, 0.05)


@pytest.mark.parametrize("layer", ["several blocks of tiles", "few outputs", "few inputs", "down in space", "down in all"])
def test_other_backends_get_one_convolution_and_no_loop(layer):
    """A pod's program, compiled on a laptop, must not hold what was chosen for the laptop's CPU."""
    x, kernel, stride, padding = LAYERS[layer]
    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in (x, kernel)]
    run = jax.jit(lambda x, kernel: convolve(x, kernel, stride=stride, padding=padding))
    for platform in ("tpu", "cuda"):
        text = run.trace(*shapes).lower(lowering_platforms=(platform,)).as_text()
        assert text.count("stablehlo.convolution") == 1 and "while" not in text


def test_no_branch_is_left_in_the_cpu_program():
    """XLA runs what is inside a branch on one core."""
    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((1, 6, 36, 40, 16), (3, 3, 3, 16, 16))]
    step = jax.jit(jax.grad(lambda x, kernel: convolve(x, kernel, padding=SAME).sum(), (0, 1)))
    text = step.lower(*shapes).compile().as_text()
    assert "while" in text and "conditional" not in text


def test_memory_stays_near_that_of_input_and_output():
    x, kernel = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((1, 6, 256, 256, 32), (3, 3, 3, 32, 32)))
    memory = jax.jit(lambda x, kernel: convolve(x, kernel, padding=SAME)).lower(x, kernel).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 2.5 * np.prod(x.shape) * 4


def test_an_unknown_form_is_named_with_the_known_ones():
    with pytest.raises(UserError, match="'fourier': one of auto, winograd"):
        convolve(jnp.ones((1, 1, 4, 4, 1)), jnp.ones((1, 1, 1, 1, 1)), form="fourier")
