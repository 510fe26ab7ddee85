"""The judge is right on true renders that it was not fitted to, whole and damaged, and says nothing about empty pictures."""

import io

import numpy as np
import pytest

from videodit.data.worlds import WorldsConfig, WorldsSource, prompts
from videodit.evaluation.judge import Judged, confusion, confusion_text, judge, judge_source, score
from videodit.evaluation.judge.damage import damaged
from videodit.evaluation.judge.fit import FIT_SEED

SEED = 41  # far from the seeds of the fit
assert abs(SEED - FIT_SEED) > 1000


def _blurred(frames):
    return damaged(frames, sigma=1.0, noise=0.03, seed=int(frames[0, 0, 0, 0]))


def _h264(frames):
    """Through a real encoder: constant rate factor 26, colour at half size."""
    av = pytest.importorskip("av")
    store = io.BytesIO()
    with av.open(store, "w", format="mp4") as out:
        stream = out.add_stream("libx264", rate=8, options={"crf": "26"})
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "yuv420p"
        for frame in frames:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        out.mux(stream.encode(None))
    store.seek(0)
    with av.open(store) as back:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in back.decode(video=0)])


@pytest.mark.parametrize("damage, count, least", [(None, 250, 0.98), (_blurred, 150, 0.97), (_h264, 100, 0.95)])
def test_right_on_clips_of_every_size_and_length(damage, count, least):
    config = WorldsConfig(seed=SEED, count=count, camera_odds=0.5)
    found = judge_source(config, count, damage=damage)["shares"]
    assert set(found) == {"colour", "shape", "motion", "camera"}
    assert min(found.values()) >= least, found


@pytest.mark.parametrize("size", [(32, 32), (64, 48), (256, 256)])
def test_right_at_every_resolution(size):
    count = 60 if max(size) < 100 else 12
    found = judge_source(WorldsConfig(seed=SEED + 1, count=count, sizes=(size,), frames=(9,), camera_odds=0.5), count)["shares"]
    assert min(found.values()) >= 0.95 if count > 20 else min(found.values()) >= 0.9, found


def test_two_solids_are_matched_by_colour():
    found = judge_source(WorldsConfig(seed=SEED + 2, count=80, frames=(9,), solids=(2, 2)), 80)["shares"]
    assert found["colour"] >= 0.96 and found["shape"] >= 0.93 and found["motion"] >= 0.93, found


def test_a_finer_frame_rate_changes_nothing():
    config = WorldsConfig(seed=SEED + 3, count=40, frames=(25,), sizes=((40, 40),), fps=24.0, camera_odds=0.5)
    assert min(judge_source(config, 40)["shares"].values()) >= 0.95


def test_nothing_is_seen_where_nothing_is():
    rng = np.random.default_rng(0)
    for empty in (np.full((9, 40, 40, 3), 128, np.uint8), rng.integers(0, 256, (9, 40, 40, 3), dtype=np.uint8),
                  np.broadcast_to(np.uint8([220, 30, 30]), (9, 40, 40, 3)).copy()):
        assert judge(empty, 8.0).solids == ()
    truth = prompts(WorldsConfig())[0]
    assert score([(np.full((9, 40, 40, 3), 128, np.uint8), 8.0, truth)]) == {"colour": 0.0, "shape": 0.0, "motion": 0.0, "camera": 0.0}


def test_an_image_has_no_motion_and_no_camera_move():
    clip = WorldsSource(WorldsConfig(seed=SEED, count=1, frames=(1,)))[0]
    verdict = judge(clip["frames"], 8.0)
    assert verdict.camera is None and len(verdict.solids) == 1
    solid, truth = verdict.solids[0], clip["state"]["solids"][0]
    assert isinstance(solid, Judged) and solid.direction is None
    assert (solid.shape, solid.colour) == (truth["shape"], truth["colour"])
    left, top, right, bottom = truth["box"][0]
    assert solid.size == pytest.approx(max(right - left, bottom - top) / min(clip["frames"].shape[1:3]), abs=0.08)
    assert set(score([(clip["frames"], 8.0, clip["state"])])) == {"colour", "shape"}


def test_a_wrong_clip_is_judged_wrong():
    source = WorldsSource(WorldsConfig(seed=SEED, count=40, frames=(9,), colours=("red", "blue"), camera_odds=0.0))
    clips = [source[index] for index in range(12)]
    flipped = [(clip["frames"][:, :, ::-1], clip["fps"], clip["state"]) for clip in clips]
    sideways = [k for k, clip in enumerate(clips) if clip["state"]["solids"][0]["direction"] in ("left", "right")]
    assert sideways and score([flipped[k] for k in sideways])["motion"] == 0.0
    swapped = [(clip["frames"][..., ::-1], clip["fps"], clip["state"]) for clip in clips]
    assert score(swapped)["colour"] == 0.0


def test_confusion_counts_and_prints():
    table = confusion([("red", "red"), ("red", "pink"), ("blue", "nothing")])
    assert table == {"red": {"red": 1, "pink": 1}, "blue": {"nothing": 1}}
    lines = confusion_text(table).splitlines()
    assert lines[0].split() == ["wanted", "red", "blue", "pink", "nothing"]
    assert lines[1].split() == ["red", "1", "·", "1", "·"]


def test_other_arrays_are_refused():
    with pytest.raises(ValueError, match="uint8"):
        judge(np.zeros((1, 40, 40, 3), np.float32), 8.0)
