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
from videodit.data.latents import LatentDataset
from videodit.data.pipeline import Window, all_windows, read_window
from videodit.data.runners import Local
from videodit.data.sizes import tokens
from videodit.models.text.config import BYTES, TRAINED, TextConfig
from videodit.models.text.source import TOKENIZER, Text, TextSource, open_text, read_model, text_identity
from videodit.models.text.tokenizer import train_tokenizer
from videodit.training.config import ExperimentConfig, LatentsConfig, dataset_path, latents_path, vae_path
from videodit.training.metrics import Log
from videodit.training.restore import TrainedVAE, load_vae
from videodit.training.stopping import restart_when_told


def encode(config: ExperimentConfig, workdir: epath.PathLike, host: tuple[int, int] | None = None) -> None:
    """Encodes every window of the train split with the VAE of `config.latents.vae`, and its captions with the public encoders of
    `config.text`, or trains the tokenizer that this asks for.

    Run again, it writes only the shards that are missing. Several processes, each with the same arguments, share the shards: `host` is
    (index, count), by default JAX's own. Raises RestartAsked when it is told to stop (SIGTERM), UserError where the directory holds latents
    of another VAE, data set, text or size policy, or the VAE compresses by another stride than `config.vae` says.
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
        "text": text_identity(config.text),
        "stored": settings.stored,
    }
    if config.text.tokenizer == TRAINED and not config.text.encoders:
        contents |= {"vocabulary": config.text.vocabulary, "tokenizer": settings.tokenizer}
    encoders = len(config.text.encoders)
    text = functools.cache(lambda: open_text(config.text, directory))  # when its tokenizer is there
    grouped = groups(in_few_sizes(all_windows(dataset, settings.policy), settings), vae.model.config.stride[0])
    shard = functools.partial(_Shard, text=text, embeds=encoders > 0, dataset=dataset, vae=vae)
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
        _begin_text(config, directory, dataset, text)
        write_atomically(directory / latents.CONTENTS, json.dumps(contents, indent=2) + "\n")
    else:
        _wait_for(lambda: (directory / latents.CONTENTS).exists())
    with restart_when_told():
        written = shards.write_shards(
            directory,
            name=latents.NAME,
            features=latents.features(encoders, settings.stored),
            splits={"train": thunks},
            metadata=contents,
            index=latents.INDEX,
            description="Latents of clips, normalised by channel.",
            runner=_Hosts(*host),
            progress=lambda done, total, records: log.progress(f"encode: {done}/{total} shards, {records:,} clips"),
        )
    log.line(f"encode: {written.records['train']:,} latents of {len(dataset):,} clips in {len(grouped)} shapes")
    for line in _cut_lines(LatentDataset(directory), config.text):
        log.line(f"encode: {line}")
    log.close()


def _begin_text(config: ExperimentConfig, directory: epath.Path, dataset: ClipDataset, text: Callable[[], TextSource]) -> None:
    """Writes what belongs to all captions: a sentencepiece model, or the embeddings of the empty caption."""
    if config.text.encoders:
        if config.latents.stored and not (directory / latents.EMPTY_TEXT).exists():
            write_atomically(directory / latents.EMPTY_TEXT, latents.empty_bytes(text().encode([""])[0]))
    elif config.text.tokenizer != BYTES and not (directory / TOKENIZER).exists():
        write_atomically(directory / TOKENIZER, _tokenizer(dataset, config))


def _cut_lines(made: LatentDataset, config: TextConfig) -> Iterator[str]:
    """For each encoder, a line that says how many captions its limit has cut."""
    for number, encoder in enumerate(config.encoders):
        counts = np.concatenate([tokens[:, number] for tokens in made.text_tokens.values()])
        cut, there = int((counts > encoder.max_tokens).sum()), int((counts > 0).sum())
        yield f"{cut:,} of {there:,} captions are longer than the {encoder.max_tokens} tokens of {encoder.path!r}, and cut"


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


def _tokenizer(dataset: ClipDataset, config: ExperimentConfig) -> bytes:
    if config.text.tokenizer != TRAINED:
        return read_model(config.text)
    taken = config.latents.tokenizer
    if not taken:
        return train_tokenizer([text for i in range(len(dataset)) for text in dataset[i]["captions"].values()], config.text.vocabulary)
    path = epath.Path(taken) / TOKENIZER
    if not path.exists():
        raise UserError(f"latents.tokenizer={taken!r} holds no {TOKENIZER}, expected the directory of an `encode` of a trained tokenizer")
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

    text: Callable[[], TextSource]
    embeds: bool
    dataset: ClipDataset
    vae: TrainedVAE
    windows: Sequence[Window]
    frames: int
    batch: int
    fps: float
    stored: bool

    def __call__(self) -> Iterator[dict]:
        if not self.stored:
            yield from self._records(self.windows, [None] * len(self.windows), None)
            return
        texts = self._texts() if self.embeds else None
        batches = [self.windows[start : start + self.batch] for start in range(0, len(self.windows), self.batch)]
        with concurrent.futures.ThreadPoolExecutor(1) as reader:  # reads the next batch while this one is encoded
            ahead = reader.submit(self._read, batches[0])
            for number, windows in enumerate(batches):
                pixels = ahead.result()
                if number + 1 < len(batches):
                    ahead = reader.submit(self._read, batches[number + 1])
                yield from self._records(windows, self.vae.encode(pixels), texts)

    def _texts(self) -> dict[str, Text]:
        """The embeddings of all the shard's captions."""
        records = dict.fromkeys(window.record for window in self.windows)
        captions = [caption for record in records for caption in self.dataset[record]["captions"].values() if caption]
        return dict(zip(captions, self.text().encode(captions)))

    def _read(self, windows: Sequence[Window]) -> np.ndarray:
        pixels = [read_window(self.dataset, window, self.fps, self.frames) for window in windows]
        return np.stack(pixels + [pixels[-1]] * (self.batch - len(pixels)))  # one batch size, one compilation

    def _records(self, windows: Sequence[Window], encoded: Iterable[np.ndarray | None], texts: dict[str, Text] | None) -> Iterator[dict]:
        stride, source = self.vae.model.config.stride, self.text()
        lengths = lambda text: source.lengths(text) if text else [0] * len(source.limits)
        part = lambda text, number: texts[text][number].tobytes() if text else b""
        embeddings = lambda text: {str(number): part(text, number) for number in range(len(source.limits))}
        for window, latent in zip(windows, encoded):
            record = self.dataset[window.record]
            frames = 1 + (window.frames - 1) // stride[0]
            captions = {kind: record["captions"].get(kind, "") for kind in latents.KINDS}
            yield {
                "key": f"{record['key']}@{window.start:.10g}",
                "latents": b"" if latent is None else np.ascontiguousarray(latent[:frames], "<f4").tobytes(),
                "captions": captions,
                **{f"{kind}_tokens": list(lengths(text)) for kind, text in captions.items()},
                **({"text": {kind: embeddings(text) for kind, text in captions.items()}} if texts is not None else {}),
                "frames": frames,
                "height": window.height // stride[1],
                "width": window.width // stride[2],
            }
