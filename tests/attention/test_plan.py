"""A plan leaves out the blocks that cannot meet, never one that can, and says what it does not know."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from videodit.attention import make_plan, row_multiple
from videodit.attention.plan import live_blocks
from videodit.core.errors import UserError


def row(*lengths, length):
    ids = np.repeat(np.arange(1, len(lengths) + 1), lengths)
    return np.pad(ids, (0, length - len(ids)))


def test_blocks_live_are_exactly_those_where_tokens_meet():
    random = np.random.default_rng(0)
    for _ in range(20):
        lengths = random.integers(1, 40, size=8)
        ids = row(*lengths, length=320)
        meet = (ids[:, None] == ids[None]) & (ids[:, None] > 0)
        wanted = meet.reshape(20, 16, 20, 16).any((1, 3))
        np.testing.assert_array_equal(live_blocks(jnp.array(ids[None]), 16)[0], wanted)


def test_no_block_where_tokens_meet_is_left_out_whatever_the_order():
    ids = np.random.default_rng(0).permutation(row(100, 60, 3, 70, length=256))
    meet = ((ids[:, None] == ids[None]) & (ids[:, None] > 0)).reshape(16, 16, 16, 16).any((1, 3))
    assert (np.asarray(live_blocks(jnp.array(ids[None]), 16)[0]) | ~meet).all()


def test_many_short_clips_leave_few_blocks():
    ids = jnp.array(np.repeat(np.arange(1, 65), 512)[None])
    assert live_blocks(ids, 128).mean() == pytest.approx(1 / 64)


def test_auto_is_by_platform_and_length():
    assert jax.default_backend() == "cpu"
    assert make_plan(jnp.ones((1, 256), jnp.int32)).backend == "reference"
    assert make_plan(jnp.ones((1, 8192), jnp.int32)).backend == "blocked"


def test_what_is_wrong_is_said_with_what_is_right():
    with pytest.raises(UserError, match="'flash': one of auto, reference, blocked, splash, triton"):
        make_plan(jnp.ones((1, 128), jnp.int32), "flash")
    with pytest.raises(UserError, match="rows of 200 tokens: attention 'splash' takes multiples of 128, the next is 256"):
        make_plan(jnp.ones((1, 200), jnp.int32), "splash")


@pytest.mark.parametrize("backend", ["reference", "blocked", "splash", "triton", "auto"])
def test_rows_of_the_multiple_that_is_told_are_taken(backend):
    length = 3 * row_multiple(backend)
    assert make_plan(jnp.ones((1, length), jnp.int32), backend).segment_ids.shape == (1, length)
