"""Guidance is what the papers say, and a clip's own: what lies beside it in a row changes nothing."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from videodit.core.errors import UserError
from videodit.diffusion.guidance import GuidanceConfig, guide, start_memory

APG = GuidanceConfig(scale=6.0, parallel=0.2, limit=0.6, momentum=-0.5)
CASES = {
    "plain": GuidanceConfig(scale=6.0),
    "interval": GuidanceConfig(scale=6.0, interval=(0.3, 0.6)),
    "projected": GuidanceConfig(scale=6.0, parallel=0.0),
    "apg": APG,
    "rescaled": GuidanceConfig(scale=6.0, rescale=0.7),
    "all": GuidanceConfig(scale=6.0, parallel=0.2, limit=0.6, momentum=-0.5, rescale=0.7, interval=(0.3, 0.6)),
}
# Text, a clip of 5 patches the first of which is known, text, a clip of 4 at another level, padding.
IDS = jnp.array([[1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 0]])
LEVEL = jnp.array([[0, 0, 0.5, 0.5, 0.5, 0.5, 0, 0.8, 0.8, 0.8, 0.8, 0]])


@pytest.fixture(scope="module")
def row():
    """Velocities with a prompt and without, and noised tokens."""
    return jax.random.normal(jax.random.key(0), (3, 1, 12, 4))


@pytest.fixture(scope="module")
def golden():
    with np.load(pathlib.Path(__file__).with_name("golden") / "guidance.npz") as arrays:
        return dict(arrays)


def guided(config, conditional, unconditional, noised, level=LEVEL, ids=IDS):
    return guide(conditional, unconditional, noised, level, ids, config, start_memory(noised, config))[0]


def test_scale_one_is_the_prompt_and_zero_no_prompt(row):
    np.testing.assert_allclose(guided(GuidanceConfig(scale=1.0), *row), row[0], atol=1e-6)
    np.testing.assert_allclose(guided(GuidanceConfig(scale=0.0), *row), row[1], atol=1e-6)
    np.testing.assert_allclose(guided(GuidanceConfig(scale=3.0), *row) - row[0], 2 * (row[0] - row[1]), atol=1e-5)
    assert GuidanceConfig(scale=0.0).acts and not GuidanceConfig(scale=1.0).acts


def test_outside_the_interval_of_levels_the_prompt_alone_counts(row):
    found = guided(CASES["interval"], *row)
    np.testing.assert_array_equal(found[LEVEL == 0.8], row[0][LEVEL == 0.8])
    np.testing.assert_array_equal(found[LEVEL == 0.5], guided(CASES["plain"], *row)[LEVEL == 0.5])


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("sample", [1, 2])
def test_a_sample_alone_equals_the_sample_packed(case, sample, row):
    own = (IDS == sample)[0]
    alone = guided(CASES[case], *row[:, :, own], LEVEL[:, own], jnp.ones((1, own.sum()), jnp.int32))
    noised = (LEVEL > 0)[0] & own
    np.testing.assert_allclose(guided(CASES[case], *row)[:, noised], alone[:, noised[own]], atol=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_known_tokens_text_and_the_neighbours_enter_no_statistic(case, row):
    other = (LEVEL == 0.5)[..., None]
    changed = jnp.where(other, row, 100 * row)
    np.testing.assert_allclose(guided(CASES[case], *changed)[LEVEL == 0.5], guided(CASES[case], *row)[LEVEL == 0.5], atol=1e-6)


@pytest.mark.parametrize("case", ["projected", "apg", "rescaled"])
def test_guidance_is_that_of_the_published_code(case, golden):
    """Three calls in turn. At level 1 and x = 0 a velocity is the clean prediction with its sign turned."""
    conditional, unconditional, wanted = (
        -jnp.asarray(golden[f"{case}/{name}"]).reshape(3, 1, 10, 4) for name in ("conditional", "unconditional", "guided")
    )
    config = GuidanceConfig(**{"projected": {"parallel": 0.0}, "apg": {"parallel": 0.2, "limit": 0.6, "momentum": -0.5}}.get(case, {}))
    config = GuidanceConfig(**(vars(config) | {"scale": 6.0, "rescale": 0.7 if case == "rescaled" else 0.0}))
    ids, memory = jnp.array([[1] * 5 + [2] * 5]), start_memory(conditional[0], config)
    for call in range(3):
        found, memory = guide(conditional[call], unconditional[call], jnp.zeros((1, 10, 4)), jnp.ones((1, 10)), ids, config, memory)
        np.testing.assert_allclose(found, wanted[call], atol=1e-5)


def test_projection_is_of_clean_predictions_whatever_the_level(row):
    """What is added to the clean prediction of the prompt stands at right angles to it."""
    found, level = guided(CASES["projected"], *row), LEVEL[..., None]
    clean, led = row[2] - level * row[0], row[2] - level * found
    for sample in (0.5, 0.8):
        own = LEVEL == sample
        np.testing.assert_allclose(((led - clean)[own] * clean[own]).sum(), 0.0, atol=1e-4)
        assert jnp.abs((led - clean)[own]).max() > 0.1


def test_rescaling_all_the_way_gives_the_deviation_of_the_prompt(row):
    found = guided(GuidanceConfig(scale=6.0, rescale=1.0), *row)
    for sample in (0.5, 0.8):
        np.testing.assert_allclose(found[LEVEL == sample].std(), row[0][LEVEL == sample].std(), rtol=1e-5)


def test_momentum_stays_as_it_is_where_guidance_does_not_act(row):
    config = GuidanceConfig(scale=6.0, momentum=-0.5, interval=(0.3, 0.6))
    _, memory = guide(*row, LEVEL, IDS, config, start_memory(row[0], config))
    assert (memory[LEVEL == 0.8] == 0).all() and (memory[LEVEL == 0.5] != 0).all()
    with pytest.raises(ValueError, match="start_memory"):
        guide(*row, LEVEL, IDS, config)


@pytest.mark.parametrize(
    "wrong",
    [
        {"scale": -1.0},
        {"interval": (0.8, 0.2)},
        {"interval": (0.0, 2.0)},
        {"rescale": 1.5},
        {"parallel": -0.1},
        {"limit": -1.0},
        {"momentum": 1.0},
    ],
)
def test_a_wrong_config_is_named(wrong):
    (name,) = wrong
    with pytest.raises(UserError, match=f"guidance.{name}"):
        GuidanceConfig(**wrong)
