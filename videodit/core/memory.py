"""How much memory this process has used, and how much there is."""

import os
import resource
import sys

import jax


def peak_rss_bytes() -> int:
    """Returns the most resident memory this process has held at once, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in KiB, macOS in bytes


def free_bytes() -> int:
    """Returns the memory that the first device has left: of an accelerator as it tells, else the machine's, in bytes."""
    told = jax.local_devices()[0].memory_stats()
    if told and "bytes_limit" in told:
        return told["bytes_limit"] - told["bytes_in_use"]
    pages = "SC_AVPHYS_PAGES" if "SC_AVPHYS_PAGES" in os.sysconf_names else "SC_PHYS_PAGES"  # macOS lacks the first
    return os.sysconf(pages) * os.sysconf("SC_PAGE_SIZE")
