"""Public weights of the Wan VAEs, versions 2.1 and 2.2, in the layout of their authors or of diffusers."""

from collections.abc import Mapping
import json
from typing import Any

from etils import epath
import numpy as np
from safetensors.numpy import load

from videodit.core.errors import UserError
from videodit.models.vae.config import Stage, VAEConfig

_STRIDES = ((1, 2, 2), (2, 2, 2), (2, 2, 2), (1, 1, 1))


def wan_config(
    version: str = "2.1", *, width: int = 0, decoder_width: int = 0, latent_channels: int = 0, blocks: int = 2, dtype: str = "float32"
) -> VAEConfig:
    """The network of Wan 2.1 (4x8x8, 16 channels, 127 M parameters) or 2.2 (4x16x16, 48, 705 M), or one of that form and other size.

    Zeros stand for the public sizes.
    """
    if version not in ("2.1", "2.2"):
        raise UserError(f"Wan VAE version is {version!r}, expected '2.1' or '2.2'")
    newer = version == "2.2"
    width = width or (160 if newer else 96)
    decoder_width = decoder_width or (256 if newer and width == 160 else width)
    return VAEConfig(
        latent_channels=latent_channels or (48 if newer else 16),
        fold=(1, 2, 2) if newer else (1, 1, 1),
        stages=tuple(Stage(width=width * times, blocks=blocks, stride=stride) for times, stride in zip((1, 2, 4, 4), _STRIDES)),
        decoder_widths=tuple(decoder_width * times for times in (1, 2, 4, 4)),
        blocks="full",
        shortcuts=newer,
        codec=False,
        lapped=False,
        dtype=dtype,
    )


# Mean and standard deviation of the latents of Wan 2.1 (16 channels) and 2.2 (48) as published; files in the authors' layout lack them.
_MEAN = {
    16: np.float32(
        """
        -0.7571 -0.7089 -0.9113 0.1075 -0.1745 0.9653 -0.1517 1.5508 0.4134 -0.0715 0.5517 -0.3632 -0.1922 -0.9497 0.2503 -0.2921
        """.split()
    ),
    48: np.float32(
        """
        -0.2289 -0.0052 -0.1323 -0.2339 -0.2799 0.0174 0.1838 0.1557 -0.1382 0.0542 0.2813 0.0891 0.1570 -0.0098 0.0375 -0.1825
        -0.2246 -0.1207 -0.0698 0.5109 0.2665 -0.2108 -0.2158 0.2502 -0.2055 -0.0322 0.1109 0.1567 -0.0729 0.0899 -0.2799 -0.1230
        -0.0313 -0.1649 0.0117 0.0723 -0.2839 -0.2083 -0.0520 0.3748 0.0152 0.1957 0.1433 -0.2944 0.3573 -0.0548 -0.1681 -0.0667
        """.split()
    ),
}
_STD = {
    16: np.float32(
        """
        2.8184 1.4541 2.3275 2.6558 1.2196 1.7708 2.6052 2.0743 3.2687 2.1526 2.8652 1.5579 1.6382 1.1253 2.8251 1.9160
        """.split()
    ),
    48: np.float32(
        """
        0.4765 1.0364 0.4514 1.1677 0.5313 0.4990 0.4818 0.5013 0.8158 1.0344 0.5894 1.0901 0.6885 0.6165 0.8454 0.4978 0.5759
        0.3523 0.7135 0.6804 0.5833 1.4146 0.8986 0.5659 0.7069 0.5338 0.4889 0.4917 0.4069 0.4999 0.6866 0.4093 0.5709 0.6065
        0.6415 0.4944 0.5726 1.2042 0.5458 1.6887 0.3971 1.0600 0.3943 0.5537 0.5444 0.4089 0.7468 0.7744
        """.split()
    ),
}

_WEIGHTS = "diffusion_pytorch_model.safetensors"


def is_wan(path: epath.PathLike) -> bool:
    """Whether `path` is a safetensors file, or a directory that diffusers wrote."""
    path = epath.Path(path)
    return path.suffix == ".safetensors" or (path / _WEIGHTS).exists()


def load_wan(path: epath.PathLike, dtype: str = "float32") -> tuple[VAEConfig, dict[str, Any], np.ndarray, np.ndarray]:
    """Reads a Wan VAE: its config, its parameters as VAE's `params` in float32, mean and standard deviation of each latent channel.

    Args:
      path: a safetensors file in the layout of the authors (`encoder.conv1.weight`, ...) or of diffusers (`encoder.conv_in.weight`, ...),
        or the directory of a diffusers `AutoencoderKLWan`. The statistics are those of the config.json in the directory or beside the
        file, else those published for as many channels.

    Raises UserError where it is neither, or tensors are missing or left over.
    """
    path = epath.Path(path)
    file = path if path.suffix == ".safetensors" else path / _WEIGHTS
    tensors = {name: np.asarray(tensor, np.float32) for name, tensor in load(file.read_bytes()).items()}
    config = _config_of(tensors, dtype, file)
    beside = file.parent / "config.json"
    told = json.loads(beside.read_text()) if beside.exists() else {}
    mean, std = told.get("latents_mean"), told.get("latents_std")
    if mean is None or std is None:
        if config.latent_channels not in _MEAN:
            raise UserError(f"{file!s} has {config.latent_channels} latent channels, and no config.json beside it tells their mean and std")
        mean, std = _MEAN[config.latent_channels], _STD[config.latent_channels]
    return config, params_from_wan(tensors, config), np.asarray(mean, np.float32), np.asarray(std, np.float32)


def params_from_wan(tensors: Mapping[str, np.ndarray], config: VAEConfig) -> dict[str, Any]:
    """VAE's `params` from tensors in either layout. Raises UserError that names what is missing or left over."""
    params: dict[str, Any] = {}
    left = set(tensors)
    theirs_first = "conv1.weight" in tensors
    for ours, names, kind in _modules(config):
        prefix = names[theirs_first]
        for path, name in _parameters(kind, theirs_first):
            if kind == "block" and path == "shortcut" and f"{prefix}{name}.weight" not in tensors:
                continue
            for suffix in ("gamma",) if "norm" in (path or kind) else ("weight", "bias"):
                key = f"{prefix}{name}.{suffix}"
                if key not in tensors:
                    raise UserError(f"the Wan VAE has no tensor {key!r}: not of version {'2.2' if config.shortcuts else '2.1'}, or cut off")
                left.discard(key)
                *parents, leaf = [*ours.split("/"), *(path.split("/") if path else [])]
                if suffix != "gamma":
                    parents, leaf = [*parents, leaf], {"weight": "kernel", "bias": "bias"}[suffix]
                node = params
                for parent in parents:
                    node = node.setdefault(parent, {})
                node[leaf] = _converted(tensors[key])
    if left:
        raise UserError(f"the Wan VAE has {len(left)} tensors that its form has no place for, {min(left)!r} among them")
    return _unfolded(params, config)


def _converted(tensor: np.ndarray) -> np.ndarray:
    """A convolution's weight `[O, I, (t,) h, w]` as a kernel `[t, h, w, I, O]`; anything else as a vector."""
    if tensor.ndim == 4 and tensor.shape[1:] != (1, 1, 1):
        tensor = tensor[:, :, None]
    return tensor.transpose(2, 3, 4, 1, 0) if tensor.ndim == 5 else tensor.reshape(-1)


def _unfolded(params: dict[str, Any], config: VAEConfig) -> dict[str, Any]:
    """Their folded pixels are ordered (channel, column, row), ours (row, column, channel)."""
    _, h, w = config.fold
    order = np.arange(3 * h * w).reshape(3, w, h).transpose(2, 1, 0).reshape(-1)
    first, last = params["encoder"]["conv_in"], params["decoder"]["conv_out"]
    first["kernel"] = first["kernel"][..., order, :]
    last["kernel"], last["bias"] = last["kernel"][..., order], last["bias"][order]
    return params


def _parameters(kind: str, theirs: bool) -> list[tuple[str, str]]:
    """(ours, theirs) of a module's layers: diffusers' names, or the authors' where `theirs`."""
    named = {
        "plain": [("", "")],
        "block": [("norm1", ".norm1"), ("conv1", ".conv1"), ("norm2", ".norm2"), ("conv2", ".conv2"), ("shortcut", ".conv_shortcut")],
        "attention": [("norm", ".norm"), ("qkv", ".to_qkv"), ("out", ".proj")],
        "space": [("space", ".resample.1")],
        "space and time": [("space", ".resample.1"), ("time", ".time_conv")],
    }
    if theirs and kind == "block":
        names = ("residual.0", "residual.2", "residual.3", "residual.6", "shortcut")
        return [(ours, f".{name}") for (ours, _), name in zip(named["block"], names)]
    return named["plain" if kind == "norm" else kind]


def _modules(config: VAEConfig) -> list[tuple[str, tuple[str, str], str]]:
    """(our module, (diffusers' module, the authors' module), kind) of the whole network."""
    newer, last = config.shortcuts, len(config.stages) - 1
    found = [("encoder/conv_moments", ("quant_conv", "conv1"), "plain"), ("decoder/conv_latents", ("post_quant_conv", "conv2"), "plain")]
    for side in ("encoder", "decoder"):
        found += [
            (f"{side}/conv_in", (f"{side}.conv_in", f"{side}.conv1"), "plain"),
            (f"{side}/norm_out", (f"{side}.norm_out", f"{side}.head.0"), "norm"),
            (f"{side}/conv_out", (f"{side}.conv_out", f"{side}.head.2"), "plain"),
            (f"{side}/middle/block0", (f"{side}.mid_block.resnets.0", f"{side}.middle.0"), "block"),
            (f"{side}/middle/attention", (f"{side}.mid_block.attentions.0", f"{side}.middle.1"), "attention"),
            (f"{side}/middle/block1", (f"{side}.mid_block.resnets.1", f"{side}.middle.2"), "block"),
        ]
    flat = 0
    for i, stage in enumerate(config.stages):
        kind = "space and time" if stage.stride[0] > 1 else "space"
        for j in range(stage.blocks + (i < last)):
            ours = f"encoder/stage{i}_block{j}" if j < stage.blocks else f"encoder/stage{i}_down"
            if newer:
                name = f"encoder.down_blocks.{i}.{f'resnets.{j}' if j < stage.blocks else 'downsampler'}"
                names = (name, f"encoder.downsamples.{i}.downsamples.{j}")
            else:
                names = (f"encoder.down_blocks.{flat}", f"encoder.downsamples.{flat}")
            found.append((ours, names, "block" if j < stage.blocks else kind))
            flat += 1
    flat = 0
    for up, i in enumerate(reversed(range(last + 1))):
        blocks = config.stages[i].blocks + config.decoder_blocks
        kind = "space and time" if i and config.stages[i - 1].stride[0] > 1 else "space"
        for j in range(blocks + (i > 0)):
            ours = f"decoder/stage{i}_block{j}" if j < blocks else f"decoder/stage{i}_up"
            sampler = "upsampler" if newer else "upsamplers.0"
            name = f"decoder.up_blocks.{up}.{f'resnets.{j}' if j < blocks else sampler}"
            names = (name, f"decoder.upsamples.{up}.upsamples.{j}" if newer else f"decoder.upsamples.{flat}")
            found.append((ours, names, "block" if j < blocks else kind))
            flat += 1
    return found


def _config_of(tensors: Mapping[str, np.ndarray], dtype: str, file: epath.Path) -> VAEConfig:
    """The network that tensors are of, read off their names and shapes."""
    theirs = "conv1.weight" in tensors
    newer = any(name.startswith(("encoder.downsamples.0.downsamples.", "encoder.down_blocks.0.resnets.")) for name in tensors)
    first, last, latents = (
        ("encoder.conv1", "decoder.head.2", "conv2") if theirs else ("encoder.conv_in", "decoder.conv_out", "post_quant_conv")
    )
    block = "encoder.downsamples." if theirs else "encoder.down_blocks."
    block += ("0.downsamples." if theirs else "0.resnets.") if newer else ""
    block += "{}.residual.2.weight" if theirs else "{}.conv1.weight"
    try:
        return wan_config(
            "2.2" if newer else "2.1",
            width=tensors[f"{first}.weight"].shape[0],
            decoder_width=tensors[f"{last}.weight"].shape[1],
            latent_channels=tensors[f"{latents}.weight"].shape[0],
            blocks=next(i for i in range(len(tensors)) if block.format(i) not in tensors),
            dtype=dtype,
        )
    except KeyError as missing:
        raise UserError(f"{file!s} is no Wan VAE: it has no tensor {missing}") from missing
