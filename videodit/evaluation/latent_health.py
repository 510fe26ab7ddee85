"""Whether a VAE's latents are fit to be modelled: what each channel holds, what it costs, and how much two channels share."""

from dataclasses import dataclass, field
import math
from typing import Any

import numpy as np

DEAD_NATS = 0.01  # a latent; a channel whose mean KL is below holds nothing: its posterior is the prior


@dataclass
class LatentHealth:
    """Sums over latents, in float64, and what follows from them."""

    channels: int
    pixels: int = 0
    latents: int = 0
    sums: dict[str, Any] = field(init=False)

    def __post_init__(self):
        self.sums = {name: np.zeros(self.channels) for name in ("mean", "variance", "kl")}
        self.sums["product"] = np.zeros((self.channels, self.channels))

    def add(self, mean: np.ndarray, log_variance: np.ndarray, pixels: int) -> None:
        """Counts the Gaussians `[..., C]` that `pixels` pixels (frames x height x width) became."""
        mean, log_variance = (x.reshape(-1, self.channels).astype(np.float64) for x in (mean, log_variance))
        self.pixels, self.latents = self.pixels + pixels, self.latents + len(mean)
        self.sums["mean"] += mean.sum(0)
        self.sums["product"] += mean.T @ mean
        self.sums["variance"] += np.exp(log_variance).sum(0)
        self.sums["kl"] += 0.5 * (np.square(mean) + np.exp(log_variance) - 1 - log_variance).sum(0)

    def figures(self) -> dict[str, Any]:
        """By channel: `mean` and `std` of the posterior's mean, `noise` (root mean square of its deviation), `kl_nats` to N(0, 1) a latent
        (Kingma and Welling, 2014, appendix B).

        In all: `dead` channels (`kl_nats` below 0.01), `kl_bits_per_pixel`, and the Pearson `correlation` between channels, in absolute
        value on average and of the most correlated pair; channels that never change have none.
        """
        mean, kl = self.sums["mean"] / self.latents, self.sums["kl"] / self.latents
        covariance = self.sums["product"] / self.latents - np.outer(mean, mean)
        std = np.sqrt(np.maximum(covariance.diagonal(), 0))
        return {
            "mean": mean.tolist(),
            "std": std.tolist(),
            "noise": np.sqrt(self.sums["variance"] / self.latents).tolist(),
            "kl_nats": kl.tolist(),
            "dead": np.flatnonzero(kl < DEAD_NATS).tolist(),
            "kl_bits_per_pixel": float(self.sums["kl"].sum() / math.log(2) / self.pixels),
            "correlation": _correlation(covariance, std),
        }


def _correlation(covariance: np.ndarray, std: np.ndarray) -> dict[str, Any]:
    alive = np.flatnonzero(std > 1e-6)
    if len(alive) < 2:
        return {"mean": 0.0, "most": 0.0, "pair": None}
    shared = np.abs(covariance[np.ix_(alive, alive)] / np.outer(std[alive], std[alive]))
    rows, columns = np.triu_indices(len(alive), 1)
    most = int(shared[rows, columns].argmax())
    return {
        "mean": float(shared[rows, columns].mean()),
        "most": float(shared[rows[most], columns[most]]),
        "pair": [int(alive[rows[most]]), int(alive[columns[most]])],
    }
