"""Examines a file: every frame is decoded once and looked at, then each stage decides on the numbers."""

from fractions import Fraction

import numpy as np

from videodit.data.curate import measures
from videodit.data.curate.bars import crop_box
from videodit.data.curate.clips import Candidate, Examination
from videodit.data.curate.config import CurateConfig
from videodit.data.curate.hashing import hex_digits
from videodit.data.curate.looking import Looker
from videodit.data.curate.shots import shots_between
from videodit.data.curate.trimming import trim
from videodit.data.media import MediaInfo, Source, Whole
from videodit.data.video import TOLERANCE_S

# A clip is sampled this part of a frame's time after frames change: timestamps that a container has rounded then do no harm.
SAMPLE_AT = 0.25
# A container's rounding moves the typical gap between two frames by so much of it at most.
_ROUNDING = 0.05


def examine(source: Source, config: CurateConfig) -> Examination:
    """Decodes every frame of a file once and finds the clips in it.

    Raises:
      MediaError: with the reason, where the file is broken or no media.
      UserError: where the config needs a package that is not installed.
    """
    whole = Whole(source)
    looker = Looker(shots=config.shots, letterbox=config.crop_letterbox)
    for shown in whole:
        looker.add(shown)
    columns = looker.track.columns()
    candidates = []
    for start, stop in shots_between(looker.cuts, columns["hash"]):
        shot = {name: column[start:stop] for name, column in columns.items()}
        candidates.append(_candidate(shot, whole.info, looker.stored, config))
    return Examination(info=whole.info, candidates=tuple(candidates))


def _candidate(shot: dict[str, np.ndarray], info: MediaInfo, stored: tuple[int, int], config: CurateConfig) -> Candidate:
    start, stop = 0, len(shot["time"])
    if config.trim_ends:
        start, stop = trim(shot["lit"], shot["changed"], shot["time"], config.still_end_s)
    black = start == stop
    if not black:
        shot = {name: column[start:stop] for name, column in shot.items()}
    crop = None
    if config.crop_letterbox and info.kind == "video" and len(shot["time"]) > 1:
        crop = crop_box(shot["bars"], shot["edges"].astype(bool), stored, (info.height, info.width))
    measured = _measure(shot)
    place = _place(shot["time"], shot["span"], info)
    reason = "black from start to end" if black else measures.reject(measured, place["frames"], config)
    return Candidate(**place, crop=crop, measures=measured, reason=reason)


def _measure(shot: dict[str, np.ndarray]) -> dict[str, float | str]:
    times = shot["time"]
    judged = shot["sharpness"][~np.isnan(shot["sharpness"])]
    found = {"brightness": float(shot["brightness"].mean())}
    if len(times) > 1:
        found["motion"] = measures.motion(shot["change"], times)
    if len(judged):
        found["sharpness"] = float(np.median(judged))
    middle = int(np.searchsorted(times, (times[0] + times[-1]) / 2))
    return {name: round(value, 4) for name, value in found.items()} | {"hash": hex_digits(int(shot["hash"][middle]))}


def _place(times: np.ndarray, spans: np.ndarray, info: MediaInfo) -> dict[str, float]:
    """Returns a clip's start, end, frames and fps. A part's rate is constant: its frames' usual one, so that none is lost."""
    if len(times) == info.frames:
        return {"start": 0.0, "end": info.duration, "frames": info.frames, "fps": info.fps}
    start, end = float(times[0]), float(times[-1] + spans[-1])
    usual = float(np.median(np.diff(times))) if len(times) > 1 else 0.0
    fps = info.fps
    if usual > 0 and abs(usual * fps - 1) > _ROUNDING:
        fps = float(Fraction(1 / usual).limit_denominator(1001))
    frames = int(np.ceil((end - TOLERANCE_S - start) * fps - SAMPLE_AT))
    return {"start": start, "end": end, "frames": max(1, frames), "fps": fps}
