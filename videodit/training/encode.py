"""The `encode` verb: clips to latents, beside the data set, in shards that a kill cannot half write."""

from collections.abc import Callable, Iterable, Iterator, Sequence
import concurrent.futures
import dataclasses
from dataclasses import dataclass
import functools
import json
import math
import os
import time
from typing import Any

from etils import epath
import jax
import numpy as np

from videodit.core.config import to_dict
from videodit.core.errors import UserError
from videodit.core.files import write_atomically
from videodit.data import latents, shards
from videodit.data.buckets import choose_buckets, distortion_within, nearest_buckets
from videodit.data.dataset import ClipDataset
from videodit.data.pipeline import Window, all_windows, read_window
from videodit.data.runners import Local
from videodit.data.sizes import tokens
from videodit.models.text.tokenizer import Tokenizer, train_tokenizer
from videodit.training.config import ExperimentConfig, LatentsConfig, dataset_path, latents_path, vae_path
from videodit.training.metrics import Log
from videodit.training.restore import TrainedVAE, load_vae

_UNCUT = 2**31 - 1  # tokens: more than any caption has


def encode(config: ExperimentConfig, workdir: epath.PathLike, host: tuple[int, int] | None = None) -> None:
    """Encodes every window of the train split with the VAE of `config.latents.vae`, and trains the tokenizer of its captions.

    Run again, it writes only the shards that are missing. Several processes, each with the same arguments, share the shards: `host` is
    (index, count), by default JAX's own. Raises UserError where the directory holds latents of another VAE, data set or size policy, or the
    VAE compresses by another stride than `config.vae` says.
    """
    host = host or (jax.process_index(), jax.process_count())
    settings, directory = config.latents, latents_path(config, workdir)
    dataset, vae = ClipDataset(dataset_path(config, workdir)), _vae(config, workdir)
    contents = {
        "vae_fingerprint": vae.fingerprint,
        "channels": vae.model.config.latent_channels,
        "dataset": dataset.fingerprint,
        "policy": to_dict(settings.policy),
        "max_sizes": settings.max_sizes,
        "batch": settings.batch,
        "shard": settings.shard,
        "vocabulary": settings.vocabulary,
        "tokenizer": settings.tokenizer,
        "stored": settings.stored,
    }
    grouped = groups(in_few_sizes(all_windows(dataset, settings.policy), settings), vae.model.config.stride[0])
    shard = functools.partial(_Shard, tokenizer_at=directory / latents.TOKENIZER, dataset=dataset, vae=vae)
    thunks = [
        shard(
            windows=group[start : start + settings.shard],
            frames=frames,
            batch=settings.batch,
            fps=settings.policy.fps,
            stored=settings.stored,
        )
        for frames, group in grouped
        for start in range(0, len(group), settings.shard)
    ]
    log = Log(workdir, quiet=host[0] > 0)
    if host[0] == 0:
        shards.begin(directory, contents, {"train": thunks})
        if not (directory / latents.TOKENIZER).exists():
            write_atomically(directory / latents.TOKENIZER, _tokenizer(dataset, settings))
        write_atomically(directory / latents.CONTENTS, json.dumps(contents, indent=2) + "\n")
    else:
        _wait_for(lambda: (directory / latents.CONTENTS).exists())
    written = shards.write_shards(
        directory,
        name=latents.NAME,
        features=latents.features(),
        splits={"train": thunks},
        metadata=contents,
        index=latents.INDEX,
        description="Latents of clips, normalised by channel.",
        runner=_Hosts(*host),
        progress=lambda done, total, records: log.progress(f"encode: {done}/{total} shards, {records:,} clips"),
    )
    log.line(f"encode: {written.records['train']:,} latents of {len(dataset):,} clips in {len(grouped)} shapes")
    log.close()


def _vae(config: ExperimentConfig, workdir: epath.PathLike) -> TrainedVAE:
    """The VAE to encode with. All of it but the stride, which sizes and rows are planned by, may be other than in `config.vae`."""
    place = vae_path(config, workdir)
    vae = load_vae(place)
    stride, wanted = vae.model.config.stride, config.vae.stride
    if stride != wanted:
        raise UserError(
            f"latents.vae={os.fspath(place)!r} compresses (time, height, width) by {stride}, expected {wanted}, the stride of config vae: "
            "name another VAE, or give config vae, latents.policy.grid and its token budget for this one"
        )
    return vae


def _tokenizer(dataset: ClipDataset, settings: LatentsConfig) -> bytes:
    if not settings.tokenizer:
        return train_tokenizer([text for i in range(len(dataset)) for text in dataset[i]["captions"].values()], settings.vocabulary)
    path = epath.Path(settings.tokenizer) / latents.TOKENIZER
    if not path.exists():
        raise UserError(f"latents.tokenizer={settings.tokenizer!r} holds no {latents.TOKENIZER}, expected the directory of an `encode`")
    return path.read_bytes()


@dataclass(frozen=True)
class _Hosts:
    """Of several processes that share a directory: writes every `count`-th shard. The first waits for those of the others before it
    completes the data set, the others wait for it."""

    index: int
    count: int

    def run(self, work: Callable, tasks: Sequence[Any], directory: epath.Path) -> Iterator[int]:
        mine = [place for place, task in enumerate(tasks) if task.number % self.count == self.index]
        for number in Local().run(work, [tasks[place] for place in mine], directory):
            yield mine[number]
        if self.index:
            _wait_for(lambda: shards.is_complete(directory))
        for place in sorted(set(range(len(tasks))) - set(mine)):
            _wait_for(lambda place=place: tasks[place].finished() is not None)
            yield place


def _wait_for(there: Callable[[], bool]) -> None:
    while not there():
        time.sleep(_POLL_S)


_POLL_S = 0.5


def in_few_sizes(windows: Sequence[Window], settings: LatentsConfig) -> list[Window]:
    """The windows at no more than `settings.max_sizes` heights and widths, each at the nearest that its token budget allows."""
    policy = settings.policy
    cost = distortion_within(policy.max_tokens, lambda size: tokens(size, policy.grid))
    pictures = {(window.height, window.width) for window in windows}
    if len(pictures) <= settings.max_sizes:
        return list(windows)
    sizes = [window.size for window in windows]
    buckets = choose_buckets(sizes, settings.max_sizes, cost)
    chosen = nearest_buckets(sizes, buckets, cost)
    return [dataclasses.replace(window, height=buckets[b][1], width=buckets[b][2]) for window, b in zip(windows, chosen)]


def groups(windows: Sequence[Window], stride: int) -> list[tuple[int, list[Window]]]:
    """Windows that are encoded together, with the frames that they are padded to.

    The VAE is causal: frames after a clip's end change nothing of its latents, so lengths are rounded up (latents to 1 + a power of
    two) and few shapes have to be compiled.
    """
    found: dict[tuple[int, int, int], list[Window]] = {}
    for window in windows:
        found.setdefault((padded(window.frames, stride), window.height, window.width), []).append(window)
    return [(key[0], found[key]) for key in sorted(found)]


def padded(frames: int, stride: int) -> int:
    """The length at which a window is encoded."""
    steps = math.ceil((frames - 1) / stride)
    return 1 + stride * (2 ** math.ceil(math.log2(steps)) if steps else 0)


@dataclass(frozen=True, kw_only=True)
class _Shard:
    """Yields the latents of one shard's windows. Batches are cut the same way each time, so that a redone shard is the same."""

    tokenizer_at: epath.Path
    dataset: ClipDataset
    vae: TrainedVAE
    windows: Sequence[Window]
    frames: int
    batch: int
    fps: float
    stored: bool

    def __call__(self) -> Iterator[dict]:
        if not self.stored:
            yield from self._records(self.windows, [None] * len(self.windows))
            return
        batches = [self.windows[start : start + self.batch] for start in range(0, len(self.windows), self.batch)]
        with concurrent.futures.ThreadPoolExecutor(1) as reader:  # reads the next batch while this one is encoded
            ahead = reader.submit(self._read, batches[0])
            for number, windows in enumerate(batches):
                pixels = ahead.result()
                if number + 1 < len(batches):
                    ahead = reader.submit(self._read, batches[number + 1])
                yield from self._records(windows, self.vae.encode(pixels))

    def _read(self, windows: Sequence[Window]) -> np.ndarray:
        pixels = [read_window(self.dataset, window, self.fps, self.frames) for window in windows]
        return np.stack(pixels + [pixels[-1]] * (self.batch - len(pixels)))  # one batch size, one compilation

    def _records(self, windows: Sequence[Window], encoded: Iterable[np.ndarray | None]) -> Iterator[dict]:
        stride, tokenizer = self.vae.model.config.stride, Tokenizer(self.tokenizer_at.read_bytes())
        for window, latent in zip(windows, encoded):
            record = self.dataset[window.record]
            frames = 1 + (window.frames - 1) // stride[0]
            captions = {kind: record["captions"].get(kind, "") for kind in latents.KINDS}
            yield {
                "key": f"{record['key']}@{window.start:.10g}",
                "latents": b"" if latent is None else np.ascontiguousarray(latent[:frames], "<f4").tobytes(),
                "captions": captions,
                **{f"{kind}_tokens": len(tokenizer.encode(text, _UNCUT)) if text else 0 for kind, text in captions.items()},
                "frames": frames,
                "height": window.height // stride[1],
                "width": window.width // stride[2],
            }
