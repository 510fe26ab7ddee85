"""What curation looks for, and what it leaves out."""

import dataclasses

from videodit.core.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class CurateConfig:
    """How clips are found in files and which are kept; None leaves a limit off.

    Attributes:
      shots: split a video at its hard cuts (needs PySceneDetect).
      trim_ends: leave off black frames at either end of a shot, and ends that stand still for `still_end_s`. A shot that stands still
        from start to end is kept whole: `min_motion` is there to reject it.
      still_end_s: seconds without any change from which an end counts as standing still.
      crop_letterbox: crop black bars that hold through the whole shot.
      min_frames: clips of fewer frames are left out; a still has one.
      min_motion: lowest motion of a video clip, mean change of luma (0 to 255) a second.
      max_motion: highest.
      min_sharpness: lowest variance of the Laplacian of luma (0 to 255) at a longest side of 512 pixels.
      min_brightness: lowest mean luma, from 0 (black) to 255 (white).
      max_brightness: highest.
      near_duplicate_bits: clips whose hashes differ in no more than so many of 64 bits are near-duplicates, of which the first stays.
    """

    shots: bool = True
    trim_ends: bool = True
    still_end_s: float = 1.0
    crop_letterbox: bool = True
    min_frames: int = 1
    min_motion: float | None = None
    max_motion: float | None = None
    min_sharpness: float | None = None
    min_brightness: float | None = None
    max_brightness: float | None = None
    near_duplicate_bits: int | None = None

    def __post_init__(self):
        if self.min_frames < 1:
            raise UserError(f"data.curate.min_frames is {self.min_frames}, expected 1 or more")
        if self.still_end_s <= 0:
            raise UserError(f"data.curate.still_end_s is {self.still_end_s}, expected seconds above 0, e.g. 1.0")
        bits = self.near_duplicate_bits
        if bits is not None and not 0 <= bits < 32:
            raise UserError(f"data.curate.near_duplicate_bits is {bits}, expected 0 to 31 of 64 bits, e.g. 6")
        for measure in ("motion", "brightness"):
            low, high = getattr(self, f"min_{measure}"), getattr(self, f"max_{measure}")
            if low is not None and high is not None and low > high:
                raise UserError(f"data.curate.min_{measure} is {low}, expected at most max_{measure}, {high}")
