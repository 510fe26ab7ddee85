"""A plan leaves out the blocks that cannot meet, never one that can, and says what it does not know."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from videodit.attention import make_plan, packed_attention, row_multiple
from videodit.attention.blocked import key_spans
from videodit.attention.plan import live_blocks
from videodit.core.errors import UserError
from videodit.sharding.mesh import AXES


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


@pytest.mark.parametrize("shuffled", [False, True])
def test_a_span_goes_from_the_first_to_the_last_token_of_the_segment(shuffled):
    ids = np.stack([row(100, 60, 3, 70, length=256), row(256, length=256), row(1, 1, length=256), row(5, length=256)])
    if shuffled:
        ids = np.random.default_rng(0).permuted(ids, axis=1)
    found = np.asarray(key_spans(jnp.array(ids)))
    for r, t in np.ndindex(ids.shape):
        seen = np.flatnonzero(ids[r] == ids[r, t]) if ids[r, t] else []
        assert tuple(found[r, t]) == ((seen[0], seen[-1] + 1) if len(seen) else (256, 0))


def test_many_short_clips_leave_few_blocks():
    ids = jnp.array(np.repeat(np.arange(1, 65), 512)[None])
    assert live_blocks(ids, 128).mean() == pytest.approx(1 / 64)


def test_auto_is_by_platform_and_length():
    assert jax.default_backend() == "cpu"
    assert make_plan(jnp.ones((1, 128), jnp.int32)).backend == "reference"
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


def test_an_unknown_way_for_devices_to_meet_is_named():
    with pytest.raises(UserError, match="context attention 'spiral': one of gather, all_to_all, ring"):
        make_plan(jnp.ones((1, 8), jnp.int32), "blocked", context="spiral")


def test_heads_that_devices_cannot_share_are_named():
    plan, x = make_plan(jnp.ones((1, 256), jnp.int32), "blocked", context="all_to_all"), jnp.ones((1, 256, 3, 8))
    with jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((1, 1, 1, 2), AXES)):
        with pytest.raises(UserError, match="splits the 3 heads of a device over context=2"):
            jax.eval_shape(lambda: packed_attention(x, x, x, plan))


@pytest.mark.parametrize("ways, blocks", [(1, 5), (5, 5), (2, 10), (4, 20)])
def test_devices_that_share_a_row_have_whole_blocks_of_it(ways, blocks):
    with jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((1, 1, 1, ways), AXES)):
        live = jax.eval_shape(lambda: make_plan(jnp.ones((1, 2560), jnp.int32), "splash")).live
    assert live.shape == (1, blocks, blocks)
