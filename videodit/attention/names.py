"""What remat policies may keep of attention."""

from typing import Any

import jax
from jax.ad_checkpoint import checkpoint_name

ATTENDED = "attended"


def kept(out: Any, sums: Any) -> tuple[Any, Any]:
    """What a backward pass needs of a forward one beside its arguments, under the name `ATTENDED`: kept, it is not done again."""
    return jax.tree.map(lambda each: checkpoint_name(each, ATTENDED), (out, sums))
