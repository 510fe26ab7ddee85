"""Compiler flags for each kind of chip: few, each with its reason and where it is documented.

TPU flags go into LIBTPU_INIT_ARGS, GPU flags into XLA_FLAGS. tests/preflight/test_xla_flags.py compiles a program with every set; a flag
that the compiler does not know is an error there. None has been timed by us: we had no TPU. Sources: JAX is "List of XLA compiler flags"
(docs.jax.dev, xla_flags), MaxText its benchmarks/xla_flags_library.py, MaxDiffusion its Wan training scripts, GPU is "GPU performance tips"
(docs.jax.dev, gpu_performance_tips).
"""

from dataclasses import dataclass

from videodit.preflight.chips import CHIPS


@dataclass(frozen=True, kw_only=True)
class Flag:
    name: str
    value: str
    reason: str
    source: str

    def __str__(self) -> str:
        return f"--{self.name}={self.value}"


# FSDP gathers each layer's weights just before they are used: these let the gather of one layer run beside the arithmetic of another.
_OVERLAP = (
    Flag(
        name="xla_enable_async_all_gather",
        value="true",
        reason="gathers start before they are needed, which is what the others can overlap",
        source="JAX, MaxText CF_FOR_ALL_GATHER",
    ),
    Flag(
        name="xla_tpu_enable_async_collective_fusion",
        value="true",
        reason="a collective proceeds inside the matrix products that are scheduled while it is under way",
        source="JAX, MaxText CF_FOR_ALL_GATHER",
    ),
    Flag(
        name="xla_tpu_enable_async_collective_fusion_multiple_steps",
        value="true",
        reason="one collective may go on through several products: a layer's gather is longer than one of them",
        source="JAX, MaxText CF_FOR_ALL_GATHER",
    ),
    Flag(
        name="xla_tpu_overlap_compute_collective_tc",
        value="true",
        reason="the same where a device is a single TensorCore, as on v5e, v6e and tpu7x",
        source="JAX, MaxText CF_FOR_ALL_GATHER",
    ),
)

_WHOLE_PRODUCTS = Flag(
    name="xla_jf_spmd_threshold_for_windowed_einsum_mib",
    value="1000000",
    reason="weights are gathered once, then multiplied: taken apart into a product for each device's share, a step of four layers of the "
    "30 B model on 32 v5p chips takes 1.8 times the cycles, by XLA's own count",
    source="MaxText DISABLE_COLLECTIVE_MATMUL; experiments/benchmarks/results/pods.md",
)

_FUSED_GATHER = Flag(
    name="xla_tpu_enable_async_collective_fusion_fuse_all_gather",
    value="true",
    reason="takes all-gathers, FSDP's own collective, into these fusions",
    source="JAX, MaxText CF_FOR_ALL_GATHER",
)

# SparseCores carry the collectives, so that TensorCores go on computing; the gather is then not fused into products as well.
_SPARSE_CORES = (
    Flag(
        name="xla_tpu_enable_async_collective_fusion_fuse_all_gather",
        value="false",
        reason="gathers run on the SparseCores instead",
        source="MaxText ENABLE_SPARSECORE_OFFLOADING_FOR_1D_ALL_GATHER",
    ),
    *(
        Flag(
            name=f"xla_tpu_enable_sparse_core_collective_offload_{kind}",
            value="true",
            reason=f"{what} by the SparseCores, beside the TensorCores' arithmetic",
            source="MaxDiffusion, Wan 2.1 on tpu7x",
        )
        for kind, what in (
            ("all_gather", "gathers of weights"),
            ("reduce_scatter", "sums of gradients over fsdp"),
            ("all_reduce", "sums of gradients over data"),
        )
    ),
)

_VMEM = Flag(
    name="xla_tpu_scoped_vmem_limit_kib",
    value="98304",
    reason="one operation may hold 96 MiB of the 128 MiB of VMEM: larger tiles for wide matrix products",
    source="MaxText DENSE_VMEM_LIMIT_FLAG, of its v6e configs",
)

# Between slices only gradients go, summed over `data` by the data centre's network.
_SLICES = (
    Flag(
        name="xla_tpu_enable_data_parallel_all_reduce_opt",
        value="true",
        reason="sums over the slow network begin while the backward pass goes on",
        source="JAX, MaxText DATA_PARALLEL_OVERLAP",
    ),
    Flag(
        name="xla_tpu_data_parallel_opt_different_sized_ops",
        value="true",
        reason="the same for a layer's gradients of different sizes, across the scan over layers",
        source="JAX, MaxText DATA_PARALLEL_OVERLAP",
    ),
)

_GPU = (
    Flag(
        name="xla_gpu_enable_latency_hiding_scheduler",
        value="true",
        reason="collectives are moved away from where they are waited for",
        source="JAX, GPU",
    ),
    *(
        Flag(
            name=f"xla_gpu_enable_pipelined_{kind}",
            value="true",
            reason=f"{what} of one layer run beside the arithmetic of the next one in the scan",
            source="JAX, GPU",
        )
        for kind, what in (("all_gather", "gathers"), ("reduce_scatter", "sums over fsdp"), ("all_reduce", "sums over data"))
    ),
)

_TPU = {
    "v4": (*_OVERLAP, _WHOLE_PRODUCTS, _FUSED_GATHER),
    "v5e": (*_OVERLAP, _WHOLE_PRODUCTS, _FUSED_GATHER),
    "v5p": (*_OVERLAP, _WHOLE_PRODUCTS, _FUSED_GATHER),
    "v6e": (*_OVERLAP, _WHOLE_PRODUCTS, _FUSED_GATHER, _VMEM),
    "tpu7x": (*_OVERLAP, _WHOLE_PRODUCTS, *_SPARSE_CORES),
}


def flags_for(kind: str, slices: int = 1) -> tuple[Flag, ...]:
    """The flags of a job on `slices` slices of chips of a kind such as "v5p"; none for processors."""
    if kind in _TPU:
        return _TPU[kind] + (_SLICES if slices > 1 else ())
    return _GPU if kind in CHIPS else ()


def environment(kind: str, slices: int = 1) -> dict[str, str]:
    """The variable that hands these flags to the compiler."""
    flags = flags_for(kind, slices)
    return {"LIBTPU_INIT_ARGS" if kind in _TPU else "XLA_FLAGS": " ".join(map(str, flags))} if flags else {}
