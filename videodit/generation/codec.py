"""The `codec` verb: one media file to latents, or latents to a media file, of any length, in memory that does not grow with it."""

from collections.abc import Iterator
import json
import time
from typing import Any
import zipfile

from etils import epath
import numpy as np

from videodit.core.errors import UserError
from videodit.core.files import write_atomically
from videodit.core.memory import peak_rss_bytes
from videodit.data import media
from videodit.training.restore import TrainedVAE, load_vae

_TOLD = "video.json"  # beside the arrays latents/000000.npy, ... of a file of latents


def codec(
    vae: epath.PathLike, source: epath.PathLike, output: epath.PathLike, *, size: tuple[int, int] | None = None, budget: int | None = None
) -> dict[str, Any]:
    """Encodes `source` to latents where `output` ends in .npz, decodes it where `source` does; returns what was done.

    A file of latents is a zip of arrays, float32 `[n, H', W', C]` each, of about unit variance a channel, and `video.json`: frames, fps,
    and the fingerprint of the VAE. Videos keep their frames and rate.

    Args:
      vae: a workdir, or public weights, as `load_vae` takes.
      size: (height, width) to encode at; by default the file's own, cut to the VAE's grid.
      budget: bytes of device memory to stay in, by default three quarters of what is free.

    Raises UserError where neither or both are latents, these are of another VAE, or memory is too small; MediaError where a file is broken.
    """
    source, output = epath.Path(source), epath.Path(output)
    if (source.suffix == ".npz") == (output.suffix == ".npz"):
        raise UserError(f"codec has {source.name!r} to {output.name!r}, expected one of them to be latents, named .npz")
    trained, began = load_vae(vae), time.perf_counter()
    told = (_decode if source.suffix == ".npz" else _encode)(trained, source, output, size, budget)
    return {"output": str(output), **told, "seconds": time.perf_counter() - began, "peak_memory_bytes": peak_rss_bytes()}


def _encode(vae: TrainedVAE, source: epath.Path, output: epath.Path, size: tuple[int, int] | None, budget: int | None) -> dict[str, Any]:
    info = media.probe(source)
    wanted = size or (info.height, info.width)
    size = tuple(side // step * step for side, step in zip(wanted, vae.model.config.stride[1:]))
    if 0 in size:
        raise UserError(f"{source.name} at {wanted[1]}x{wanted[0]} is smaller than a latent, {vae.model.config.stride[1:]} (height, width)")
    count, numbers = 0, 0

    def frames() -> Iterator[np.ndarray]:
        nonlocal count
        for frame in media.stream_frames(source, size=size):
            count += 1
            yield frame

    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.parent / f".{output.name}.partial"
    with partial.open("wb") as file, zipfile.ZipFile(file, "w") as archive:
        for number, latents in enumerate(vae.encode_stream(frames(), size, budget)):
            numbers += latents.size
            with archive.open(f"latents/{number:06d}.npy", "w") as entry:
                np.lib.format.write_array(entry, np.ascontiguousarray(latents, np.float32))
        told = {"frames": count, "fps": info.fps, "height": size[0], "width": size[1]}
        archive.writestr(_TOLD, json.dumps(told | {"vae": vae.fingerprint}))
    partial.rename(output)
    return told | {"compression": 3 * count * size[0] * size[1] / numbers}


def _decode(vae: TrainedVAE, source: epath.Path, output: epath.Path, size: tuple[int, int] | None, budget: int | None) -> dict[str, Any]:
    if size is not None:
        raise UserError("codec decodes at the size that was encoded: leave --size out")
    with source.open("rb") as file, zipfile.ZipFile(file) as archive:
        told = json.loads(archive.read(_TOLD))
        if told.pop("vae") != vae.fingerprint:
            raise UserError(f"{source!s} was encoded by another VAE than the one given, whose fingerprint is {vae.fingerprint[:12]}")
        names = sorted(name for name in archive.namelist() if name != _TOLD)

        def latents() -> Iterator[np.ndarray]:
            for name in names:
                with archive.open(name) as entry:
                    yield from np.lib.format.read_array(entry)

        shape = tuple(side // step for side, step in zip((told["height"], told["width"]), vae.model.config.stride[1:]))
        left = told["frames"]

        def frames() -> Iterator[np.ndarray]:
            nonlocal left
            for chunk in vae.decode_stream(latents(), shape, budget):
                yield from chunk[:left]
                left -= len(chunk[:left])

        still = told["frames"] == 1
        write_atomically(output, media.encode_image(next(frames())) if still else media.encode_stream(frames(), told["fps"]))
    return told
