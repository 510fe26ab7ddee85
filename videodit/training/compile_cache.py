"""Compiled programs that outlive the process: a restart reads them and does not compile again."""

import os

from etils import epath
import jax
from jax.experimental.compilation_cache import compilation_cache

# Programs that compile faster than this, in seconds, are not worth a file.
_LEAST_SECONDS = 0.1


def use_compile_cache(directory: epath.PathLike) -> None:
    """Keeps compiled programs in `directory`, local or gs://; where JAX_COMPILATION_CACHE_DIR or an earlier call names another, in that."""
    if jax.config.jax_compilation_cache_dir:
        return
    jax.config.update("jax_compilation_cache_dir", os.fspath(directory))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", _LEAST_SECONDS)
    compilation_cache.reset_cache()  # what was compiled before has settled that there is none
