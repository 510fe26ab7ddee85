"""The VAE against its discriminator, as the train step sees them."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax

from videodit.models.vae.discriminator import Discriminator, adaptive_weight, hinge_losses
from videodit.models.vae.losses import kl_of_channels, reconstruction_loss
from videodit.training.models import VAEModel, latent_statistics, to_float_pixels
from videodit.training.state import Batch, State

LAST_KERNEL = ("decoder", "conv_out", "kernel")  # where the VAE's last layer lies in its parameters


@dataclass(frozen=True, kw_only=True)
class AdversarialVAE(VAEModel):
    """A VAE with a discriminator: both learn in one step, the discriminator from the very reconstructions that the VAE is judged by.

    `state["discriminator"]` holds its `params` and `opt_state`.
    """

    @property
    def start(self) -> int:
        return self.loss_config.adversarial.start

    @property
    def discriminator(self) -> Discriminator:
        return Discriminator(self.loss_config.adversarial)

    @property
    def _optimizer(self) -> optax.GradientTransformation:
        return optax.adam(self.loss_config.adversarial.learning_rate, b1=0.5, b2=0.9)  # as VQGAN

    def init_discriminator(self, key: jax.Array) -> State:
        """The discriminator's part of the state at step 0."""
        params = self.discriminator.init(key, jnp.zeros((1, 1, 8, 8, 3)))["params"]
        return {"params": params, "opt_state": self._optimizer.init(params)}

    def gradients(self, state: State, batch: Batch, key: jax.Array):
        """((loss, (metrics, statistics)), gradients of the VAE's parameters, the discriminator's part of the next state)."""
        config, pixels = self.loss_config, to_float_pixels(batch["pixels"])
        # The loss is a sum of functions of the network's outputs: their gradients meet there, and go back through the network together.
        (made, mean, log_variance), backward = jax.vjp(lambda p: self.module.apply({"params": p}, pixels, key), state["params"])
        (likelihood, metrics), of_likelihood = jax.value_and_grad(
            lambda made: reconstruction_loss(config, pixels, made, batch.get("perceptual")), has_aux=True
        )(made)
        kl, (of_mean, of_log_variance) = jax.value_and_grad(lambda *latent: kl_of_channels(*latent).mean(), argnums=(0, 1))(
            mean, log_variance
        )

        def last_kernel(of_made):  # what is not asked for is not computed: one convolution is
            (found,) = backward((of_made, jnp.zeros_like(mean), jnp.zeros_like(log_variance)))
            for name in LAST_KERNEL:
                found = found[name]
            return found

        judged, of_judged, told, discriminator = self._play(state["discriminator"], pixels, made)
        adaptive = adaptive_weight(last_kernel(of_likelihood), last_kernel(of_judged)) if config.adversarial.adaptive else 1.0
        weight = jnp.asarray(config.adversarial.weight * adaptive, jnp.float32)
        (gradients,) = backward((of_likelihood + weight * of_judged, config.kl * of_mean, config.kl * of_log_variance))
        loss = likelihood + config.kl * kl + weight * judged
        metrics |= {"kl": kl, "adversarial_weight": weight} | told
        return (loss, (metrics, latent_statistics(mean, log_variance))), gradients, discriminator

    def _play(self, state: State, pixels, made):
        """(the VAE's loss, its gradient by what it made, metrics, the discriminator's next part of the state)."""
        judge = lambda params, video: self.discriminator.apply({"params": params}, video)
        of_real, backward_real = jax.vjp(lambda params: judge(params, pixels), state["params"])
        of_made, backward_made = jax.vjp(judge, state["params"], made)
        (own, judged), backward = jax.vjp(hinge_losses, of_real, of_made)
        by_real, by_made = backward((1.0, 0.0))
        gradients = jax.tree.map(jnp.add, *backward_real(by_real), backward_made(by_made)[0])
        _, of_pixels = backward_made(backward((0.0, 1.0))[1])
        updates, opt_state = self._optimizer.update(gradients, state["opt_state"], state["params"])
        told = {
            "adversarial": judged,
            "discriminator_loss": own,
            "discriminator_grad_norm": optax.global_norm(gradients),
            "judged_real": of_real.mean(),
        }
        return judged, of_pixels, told, {"params": optax.apply_updates(state["params"], updates), "opt_state": opt_state}
