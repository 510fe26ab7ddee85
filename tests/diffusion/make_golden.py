"""Makes golden/*.npz with diffusers' schedulers and guiders: `python tests/diffusion/make_golden.py` (needs diffusers 0.42 and torch)."""

import pathlib

from diffusers import (
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    UniPCMultistepScheduler,
)
from diffusers.guiders.adaptive_projected_guidance import MomentumBuffer, normalized_guidance
from diffusers.guiders.guider_utils import rescale_noise_cfg
import numpy as np
import torch

GOLDEN = pathlib.Path(__file__).with_name("golden")
SHIFT = 5.0
FLOW = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": SHIFT}


def model(x, t):
    """The velocity that both sides are given."""
    return torch.sin(2.0 * x + 3.0 * t) + 0.3 * x - 0.5


def scheduler_of(solver, steps):
    """A scheduler that is ready for `steps` steps."""
    if solver == "euler":
        scheduler = FlowMatchEulerDiscreteScheduler(shift=SHIFT)
        scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps))
    elif solver == "heun":
        scheduler = FlowMatchHeunDiscreteScheduler(shift=SHIFT)
        scheduler.set_timesteps(steps)
    elif solver == "unipc":
        scheduler = UniPCMultistepScheduler(**FLOW)
        scheduler.set_timesteps(steps)
    else:
        scheduler = DPMSolverMultistepScheduler(**FLOW, algorithm_type={"dpm++": "dpmsolver++", "sde-dpm++": "sde-dpmsolver++"}[solver])
        scheduler.set_timesteps(steps)
    scheduler.set_begin_index(0)
    return scheduler


def solved(solver, steps, start, noise):
    """The levels of a scheduler's steps, and where it ends."""
    scheduler, x = scheduler_of(solver, steps), torch.from_numpy(start)
    for number, timestep in enumerate(scheduler.timesteps):
        # Heun's levels are listed once for each evaluation: of a step's second one, the level stands at the next place.
        drawn = {"variance_noise": torch.from_numpy(noise[number])} if solver == "sde-dpm++" else {}
        x = scheduler.step(model(x, scheduler.sigmas[number]), timestep, x, return_dict=False, **drawn)[0]
    levels = scheduler.sigmas.numpy()
    return (np.concatenate([levels[:1], levels[1::2]]) if solver == "heun" else levels), x.numpy()


def guided(random, momentum, limit, parallel, rescale, scale=6.0, calls=3):
    """Clean predictions of two samples, [calls, 2, n, P], and what projected and rescaled guidance make of each call."""
    conditional, unconditional = random.normal(size=(2, calls, 2, 5, 4)).astype(np.float32)
    buffer, found = MomentumBuffer(momentum) if momentum else None, []
    for pair in zip(torch.from_numpy(conditional), torch.from_numpy(unconditional)):
        update = normalized_guidance(*pair, scale - 1, buffer, parallel, limit * 20**0.5, use_original_formulation=True)
        found.append(rescale_noise_cfg(update, pair[0], rescale).numpy())
    return {"conditional": conditional, "unconditional": unconditional, "guided": np.stack(found)}


if __name__ == "__main__":
    random = np.random.default_rng(0)
    GOLDEN.mkdir(exist_ok=True)
    arrays = {"start": random.normal(size=(4, 6)).astype(np.float32), "noise": random.normal(size=(30, 4, 6)).astype(np.float32)}
    for solver in ("euler", "heun", "dpm++", "unipc", "sde-dpm++"):
        for steps in (2, 7, 30):
            arrays[f"{solver}/{steps}/levels"], arrays[f"{solver}/{steps}/end"] = solved(solver, steps, arrays["start"], arrays["noise"])
    np.savez(GOLDEN / "solvers.npz", **arrays)
    cases = {"projected": (0.0, 0.0, 0.0, 0.0), "apg": (-0.5, 0.6, 0.2, 0.0), "rescaled": (0.0, 0.0, 1.0, 0.7)}
    arrays = {f"{name}/{key}": value for name, case in cases.items() for key, value in guided(random, *case).items()}
    np.savez(GOLDEN / "guidance.npz", **arrays)
