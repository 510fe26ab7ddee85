"""Finds the coloured solids: everything in a world that is not a solid is nearly grey."""

import dataclasses

import numpy as np

from videodit.data.worlds.scene import COLOURS

REACH = 40.0  # degrees of hue around a colour that still count as it, when no other colour is nearer
LEAST_SHARE = 0.004  # of the frame's area that a solid covers on average
MOST_SHARE = 0.7  # more is a coloured picture, not a solid in one
LEAST_FILL = 0.2  # of the box around a solid; scattered pixels are no solid, and a ring fills 0.45
LEAST_OF_LARGEST = 0.12  # of the largest solid's area; less is the fringe of another colour


def hue_chroma_saturation(pixels: np.ndarray):
    """Hue in degrees, chroma and saturation in [0, 1], each [...], of float pixels [..., 3] in [0, 1]."""
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    top = np.maximum(np.maximum(red, green), blue)
    chroma = top - np.minimum(np.minimum(red, green), blue)
    safe = np.maximum(chroma, 1e-6)
    hue = np.where(top == red, (green - blue) / safe % 6, np.where(top == green, (blue - red) / safe + 2, (red - green) / safe + 4))
    return hue * 60, chroma, chroma / np.maximum(top, 1e-6)


NAMES = tuple(COLOURS)
HUES = hue_chroma_saturation(np.array([COLOURS[name] for name in NAMES]))[0]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Region:
    """One solid in T frames: colour by name and `weight` float32 [T, H, W] in [0, 1], the share of a pixel that is it."""

    colour: str
    weight: np.ndarray


def solid_weight(chroma, saturation):
    """How surely a pixel belongs to some solid, in [0, 1]: soft, so that an edge pixel counts in part."""
    return np.clip((chroma - 0.10) * 10, 0, 1) * np.clip((saturation - 0.28) / 0.15, 0, 1)


def segment(pixels: np.ndarray) -> list[Region]:
    """The solids in float pixels [T, H, W, 3] in [0, 1], the largest first; an empty list when there is none."""
    hue, chroma, saturation = hue_chroma_saturation(pixels)
    weight = solid_weight(chroma, saturation).astype(np.float32)
    here = weight > 0
    apart = np.abs((hue[here][:, None] - HUES + 180) % 360 - 180)
    mass = np.bincount(np.argmin(apart, axis=1), weights=weight[here] * chroma[here], minlength=len(NAMES))
    covered = np.bincount(np.argmin(apart, axis=1), weights=weight[here], minlength=len(NAMES))
    if not mass.max(initial=0) > 0:
        return []
    found = [k for k in np.argsort(-mass) if covered[k] >= LEAST_SHARE * weight.size and mass[k] >= LEAST_OF_LARGEST * mass.max()]
    if not found:
        return []
    nearest, distance = np.argmin(apart[:, found], axis=1), np.min(apart[:, found], axis=1)
    regions = []
    for place, k in enumerate(found):
        own = np.zeros_like(weight)
        own[here] = weight[here] * ((nearest == place) & (distance <= REACH))
        if own.mean() <= MOST_SHARE and _fill(own) >= LEAST_FILL:
            regions.append(Region(colour=NAMES[k], weight=own))
    return regions


def _fill(weight: np.ndarray) -> float:
    """Share of the boxes around a region, frame by frame, that it fills."""
    boxes = [box(each) for each in weight]
    area = sum((b[2] - b[0]) * (b[3] - b[1]) for b in boxes if b)
    return float(sum(each.sum() for each, b in zip(weight, boxes) if b)) / area if area else 0.0


def box(weight: np.ndarray):
    """(left, top, right, bottom) in pixels that holds all but a 1.5 % fringe of the mass of `weight` [H, W]; None if empty."""
    total = float(weight.sum())
    if total < 1.0:
        return None
    out = []
    for axis in (0, 1):
        run = np.concatenate([[0], np.cumsum(weight.sum(axis))]) / total
        out.append(np.interp((0.015, 0.985), run, np.arange(len(run))))
    return out[0][0], out[1][0], out[0][1], out[1][1]
