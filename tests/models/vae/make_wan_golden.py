"""Writes the small files of test_wan.py with the original implementations: needs torch, diffusers, einops, safetensors.

    python tests/models/vae/make_wan_golden.py WAN_2_2_CHECKOUT

WAN_2_2_CHECKOUT is a checkout of the authors' repository, whose `wan/modules/vae2_1.py` and `vae2_2.py` are the two originals. Weights are
random, and such as float16 holds exactly. Four channels at least: normalised over two, rounding grows without bound.
"""

import importlib.util
from pathlib import Path
import sys

from diffusers import AutoencoderKLWan
import numpy as np
from safetensors.torch import save_file
import torch

TO = Path(__file__).with_name("golden")


def original(checkout: str, version: str) -> torch.nn.Module:
    path = Path(checkout) / "wan" / "modules" / f"vae2_{version[-1]}.py"
    spec = importlib.util.spec_from_file_location(f"wan{version[-1]}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if version == "2.1":
        return module.WanVAE_(dim=4, z_dim=16, num_res_blocks=1, temperal_downsample=[False, True, True])
    return module.WanVAE_(dim=4, dec_dim=4, z_dim=4, num_res_blocks=1, temperal_downsample=[False, True, True])


def with_weights(module: torch.nn.Module, seed: int) -> torch.nn.Module:
    torch.manual_seed(seed)
    for name, parameter in module.named_parameters():
        with torch.no_grad():
            if "gamma" in name:
                parameter.uniform_(0.5, 1.5)
            elif parameter.ndim == 1:
                parameter.normal_(std=0.1)
            else:
                parameter.normal_(std=float(np.prod(parameter.shape[1:])) ** -0.5)
            parameter.copy_(parameter.half().float())
    return module.eval()


def pixels(version: str) -> torch.Tensor:
    height, width = (16, 24) if version == "2.1" else (32, 48)
    return torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (1, 3, 9, height, width)).astype(np.float32))


def write(name: str, video: torch.Tensor, mean: torch.Tensor, decoded: torch.Tensor) -> None:
    last = lambda x: x.numpy().transpose(0, 2, 3, 4, 1)
    np.savez_compressed(TO / f"{name}.npz", shape=last(video).shape, mean=last(mean), decoded=last(decoded))


def diffusers_form(version: str) -> None:
    common = {"base_dim": 4, "z_dim": 4, "num_res_blocks": 1, "latents_mean": [0.1, -0.2, 0.3, 0.4], "latents_std": [1.5, 0.5, 2.0, 1.0]}
    newer = {"decoder_base_dim": 4, "is_residual": True, "in_channels": 12, "out_channels": 12, "patch_size": 2, "scale_factor_spatial": 16}
    module = with_weights(AutoencoderKLWan(**common, **(newer if version == "2.2" else {})), 1)
    folder = TO / f"diffusers_{version}"
    module.half().save_pretrained(folder)
    with torch.no_grad():
        mean = module.float().encode(pixels(version)).latent_dist.mode()
        write(f"diffusers_{version}", pixels(version), mean, module.decode(mean).sample)


def authors_form(checkout: str, version: str) -> None:
    module = with_weights(original(checkout, version), 2)
    save_file({name: tensor.half() for name, tensor in module.state_dict().items()}, TO / f"authors_{version}.safetensors")
    with torch.no_grad():
        mean = module.encode(pixels(version), [0.0, 1.0])
        write(f"authors_{version}", pixels(version), mean, module.decode(mean, [0.0, 1.0]).clamp(-1, 1))


if __name__ == "__main__":
    TO.mkdir(exist_ok=True)
    for each in ("2.1", "2.2"):
        diffusers_form(each)
        authors_form(sys.argv[1], each)
