#!/usr/bin/env python3
"""How fast training data come: decoding against a bare PyAV loop, and how long a training step on cached latents waits.

    python experiments/benchmarks/loading.py --dataset DIR [--workdir DIR] [--threads 2] [--json]

1. DIR is a prepared dataset. Its VAE batches, windows of --frames frames at 8 a second and their bucket's size, are read with --threads
   threads through the pipeline, and the very same windows by a bare loop: open, seek, decode, convert each wanted frame, with as many
   threads and nothing else. Both are timed --repeats times in turn, and the fastest counts. HDR clips are left out: a bare loop shows
   them in wrong colours.
2. --workdir is a workdir with latents, e.g. of experiments/local.py: its transformer is trained for --steps steps, and the share of the
   time that the loop spent on getting batches is read from its metrics. The device computes the step before meanwhile, so it waits for
   less.
"""

import argparse
import concurrent.futures
import dataclasses
import io
import json
from pathlib import Path
import tempfile
import time

import av
from av.video.reformatter import Interpolation, VideoReformatter
from etils import epath
import numpy as np
from PIL import Image

from videodit.data import media
from videodit.data.dataset import ClipDataset
from videodit.data.pipeline import VAEBatches, VAEStage, vae_batches
from videodit.data.sizes import SizePolicy

FINE = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP


class WithoutHDR:
    """A data set's clips of ordinary range. HDR is tone-mapped, which a bare loop does not do: its frames would not be the same."""

    def __init__(self, dataset: ClipDataset):
        self._dataset = dataset
        self._kept = [i for i in range(len(dataset)) if not media.probe(dataset[i]["media"]).hdr]
        self.sizes, self.fps = dataset.sizes[self._kept], dataset.fps[self._kept]
        self.keys = [dataset.keys[i] for i in self._kept]

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, i: int) -> dict:
        return self._dataset[self._kept[int(i)]]


def bare_window(record: dict, start: float, frames: int, fps: float, size: tuple[int, int]) -> list[np.ndarray]:
    """The frames of a window by PyAV or PIL alone: by timestamps, scaled as finely, without minding aspect ratio, rotation or damage."""
    height, width = size
    source = io.BytesIO(record["media"])
    if record["frames"] == 1:
        return [np.asarray(Image.open(source).convert("RGB").resize((width, height)))]
    with av.open(source) as container:
        stream = container.streams.video[0]
        stream.thread_type, stream.codec_context.thread_count = "SLICE", 1
        first, found, scale = stream.start_time or 0, [], VideoReformatter()
        if start > 0:
            container.seek(first + int(start / stream.time_base), stream=stream)
        for frame in container.decode(stream):
            at = float((frame.pts - first) * stream.time_base)
            while len(found) < frames and at + 1e-3 >= start + len(found) / fps:
                found.append(scale.reformat(frame, width, height, "rgb24", interpolation=FINE, threads=1).to_ndarray())
            if len(found) == frames:
                break
    return found


def decoding(dataset: WithoutHDR, frames: int, batches: int, threads: int, repeats: int) -> dict:
    """Frames a second, of the clock and of processor time, that come out of the pipeline and of the bare loop."""
    policy = SizePolicy(fps=8.0, max_tokens=4096, max_frames=frames, grid=(4, 8, 8))
    stage = VAEStage(policy=policy, batch=4, max_buckets=8, images=0.0)
    source = VAEBatches(dataset, stage, seed=0)
    # The clock starts when the pipeline has given its first batches: as much is half read then as when the last one comes.
    early = 2 * threads
    chosen = [[source.windows[i] for i in source.chosen(n).tolist()] for n in range(early, early + batches)]

    def bare(window) -> int:
        found = bare_window(dataset[window.record], window.start, window.frames, policy.fps, (window.height, window.width))
        return len(found)

    def pipeline_seconds() -> tuple[float, float, int]:
        iterator = vae_batches(VAEBatches(dataset, stage, seed=0), threads)
        for _ in range(early):
            next(iterator)
        begun, worked = time.perf_counter(), time.process_time()
        for _ in range(batches):
            next(iterator)
        taken = time.perf_counter() - begun, time.process_time() - worked
        iterator.close()
        return *taken, sum(window.frames for batch in chosen for window in batch)

    def bare_seconds() -> tuple[float, float, int]:
        begun, worked = time.perf_counter(), time.process_time()
        with concurrent.futures.ThreadPoolExecutor(threads) as pool:
            count = sum(pool.map(bare, [window for batch in chosen for window in batch]))
        return time.perf_counter() - begun, time.process_time() - worked, count

    times = [(pipeline_seconds(), bare_seconds()) for _ in range(repeats)]
    rates = lambda runs: {
        "frames": runs[0][2],
        "frames_per_second": runs[0][2] / min(run[0] for run in runs),
        "frames_per_cpu_second": runs[0][2] / min(run[1] for run in runs),
    }
    ours, plain = rates([pair[0] for pair in times]), rates([pair[1] for pair in times])
    return {"windows": sum(map(len, chosen)), "pipeline": ours, "bare": plain}


def waiting(workdir: Path, steps: int) -> dict[str, float]:
    """The share of a transformer's training that its loop spends on getting batches, after the first steps."""
    from videodit.core.config import read, read_config, to_dict
    from videodit.training import loop
    from videodit.training.config import ExperimentConfig, latents_path, read_experiment, vae_path

    config = to_dict(read_experiment(read_config(workdir)))
    whole = read(ExperimentConfig, config)
    config["latents"] |= {"path": str(latents_path(whole, workdir)), "vae": str(vae_path(whole, workdir))}
    config["data"]["path"] = config["data"]["path"] or str(workdir / "dataset")
    config["train"] |= {"steps": steps, "log_every": 10, "save_every": steps, "sample_every": steps}
    make_job = loop.make_job
    loop.make_job = lambda *args: dataclasses.replace(make_job(*args), pictures=lambda state, to: None)  # no sampling is measured
    with tempfile.TemporaryDirectory() as scratch:
        loop.train(read_experiment(config), epath.Path(scratch))
        lines = [json.loads(line) for line in (Path(scratch) / "metrics" / "metrics.jsonl").read_text().splitlines()][1:]
    return {
        "steps": steps,
        "step_seconds": float(np.mean([line["step_seconds"] for line in lines])),
        "data_wait_share": float(np.mean([line["data_wait_share"] for line in lines])),
        "worst_data_wait_share": float(max(line["data_wait_share"] for line in lines)),
        "real_token_share": float(np.mean([line["real_token_share"] for line in lines])),
    }


def table(found: dict) -> str:
    """The measurement for a person, in Markdown."""
    lines = []
    if "decoding" in found:
        row = found["decoding"]
        lines += [
            "| reader | frames | frames a second | frames a second of processor time |",
            "| --- | --- | --- | --- |",
        ]
        lines += [
            f"| {name} | {row[key]['frames']:,} | {row[key]['frames_per_second']:,.0f} | {row[key]['frames_per_cpu_second']:,.0f} |"
            for name, key in (("bare PyAV loop", "bare"), ("pipeline", "pipeline"))
        ]
        clock, worked = (row["pipeline"][name] / row["bare"][name] for name in ("frames_per_second", "frames_per_cpu_second"))
        lines += [
            "",
            f"The pipeline gives {clock:.0%} of the bare loop's frames a second by the clock, {worked:.0%} by processor time "
            f"({row['windows']} windows, {found['threads']} threads).",
        ]
    if "waiting" in found:
        row = found["waiting"]
        lines += [
            "",
            f"From cached latents, {row['steps']} steps of {row['step_seconds']:.3f} s: the loop spends {row['data_wait_share']:.2%} of "
            f"its time on getting batches, {row['worst_data_wait_share']:.2%} in the worst ten steps; "
            f"{row['real_token_share']:.1%} of row tokens are real.",
        ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, help="a prepared dataset")
    parser.add_argument("--workdir", type=Path, help="a workdir with latents and a config.json")
    parser.add_argument("--frames", type=int, default=17, help="frames of a window")
    parser.add_argument("--batches", type=int, default=24)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    chosen = parser.parse_args()
    if not (chosen.dataset or chosen.workdir):
        parser.error("give --dataset, --workdir or both")
    found: dict = {"threads": chosen.threads}
    if chosen.dataset:
        found["decoding"] = decoding(WithoutHDR(ClipDataset(chosen.dataset)), chosen.frames, chosen.batches, chosen.threads, chosen.repeats)
    if chosen.workdir:
        found["waiting"] = waiting(chosen.workdir, chosen.steps)
    print(json.dumps(found) if chosen.json else table(found))


if __name__ == "__main__":
    main()
