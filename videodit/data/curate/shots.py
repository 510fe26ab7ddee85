"""Shots: where a video cuts from one to the next."""

from collections.abc import Iterable, Sequence

import numpy as np

from videodit.core.errors import UserError
from videodit.data.curate.hashing import bits_between

# Chosen on real clips (tests/data/curate/test_shots.py): a change of picture is a cut where it is this much larger than those of the two
# frames on either side, and this large (mean change of hue, saturation and value, 0 to 255). Fast motion is large but not alone.
_TIMES_ITS_NEIGHBOURS = 2.4
_LEAST_CHANGE = 25.0
# A flash or a broken frame: so few frames, after which the picture is as it was.
_FLASH_FRAMES = 4
_SAME_PICTURE_BITS = 12


class CutDetector:
    """PySceneDetect's adaptive detector over small frames `uint8 [H, W, 3]` BGR, one at a time.

    Raises:
      UserError: at the second frame, where PySceneDetect is not installed.
    """

    def __init__(self):
        self._detector = None
        self._first: np.ndarray | None = None
        self._frames = 0
        self.cuts: list[int] = []

    def add(self, bgr: np.ndarray) -> None:
        """Takes the next frame; the numbers of frames that begin a new shot are added to `cuts`, two frames late."""
        if self._first is None:
            self._first = bgr  # a still needs no detector, nor the package
            return
        if self._detector is None:
            self._detector, self._timecode = _detector()
            self._process(self._first)
        self._process(bgr)

    def _process(self, bgr: np.ndarray) -> None:
        # Scores are of neighbouring frames, whatever the time between them: the rate plays no part.
        found = self._detector.process_frame(self._timecode(self._frames, 25.0), bgr)
        self.cuts += [each.frame_num for each in found]
        self._frames += 1


def _detector():
    try:
        from scenedetect import FrameTimecode
        from scenedetect.detectors import AdaptiveDetector
    except ImportError as error:
        raise UserError(
            f"data.curate.shots is True but {error.name} is not installed: pip install 'videodit[prepare]', or set it False"
        ) from error
    detector = AdaptiveDetector(adaptive_threshold=_TIMES_ITS_NEIGHBOURS, min_content_val=_LEAST_CHANGE, window_width=2, min_scene_len=1)
    return detector, FrameTimecode


def find_cuts(frames: Iterable[np.ndarray]) -> list[int]:
    """Returns the numbers of the frames `uint8 [H, W, 3]` BGR that begin a new shot."""
    detector = CutDetector()
    for frame in frames:
        detector.add(frame)
    return detector.cuts


def shots_between(cuts: Sequence[int], hashes: np.ndarray) -> list[tuple[int, int]]:
    """Returns (start, stop) of each shot among frames whose perceptual hashes are `hashes` (uint64 [T]).

    A few frames between two cuts after which the picture is what it was before are a flash within one shot.
    """
    count, edges = len(hashes), list(cuts)
    place = 0
    while place + 1 < len(edges):
        before, after = edges[place] - 1, edges[place + 1]
        flash = after - before - 1 <= _FLASH_FRAMES and bits_between(int(hashes[before]), int(hashes[after])) <= _SAME_PICTURE_BITS
        if flash:
            del edges[place : place + 2]
        else:
            place += 1
    edges = [0, *edges, count]
    return list(zip(edges, edges[1:]))
