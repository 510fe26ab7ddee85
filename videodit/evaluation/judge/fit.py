"""Fits the judge's coefficients to rendered worlds: `python -m videodit.evaluation.judge.fit` (about four minutes).

Clips come from seeds that nothing else uses, at many sizes and lengths, each as it is and as blur, noise, codec rounding and
a change of brightness leave it. The same numpy gives the same file.
"""

import argparse

import numpy as np

from videodit.data.worlds import WorldsConfig, WorldsSource
from videodit.data.worlds.scene import CAMERA_MOVES
from videodit.data.worlds.shapes import SHAPES
from videodit.evaluation.judge import damage, network
from videodit.evaluation.judge.camera import camera_features, camera_rates
from videodit.evaluation.judge.motion import motion_features
from videodit.evaluation.judge.segment import segment
from videodit.evaluation.judge.shape import shape_features
from videodit.evaluation.judge.verdict import COEFFICIENTS, HEADINGS, prepared

FIT_SEED = 770_000  # tests and training use small seeds
SIZES = ((32, 48), (48, 32), (40, 40), (32, 32), (36, 64), (64, 64), (96, 72))


def examples(count: int, seed: int, solids=(1, 1)):
    """Features and labels by classifier, {"shape" | "motion" | "camera": (features [n, d], labels [n])}."""
    config = WorldsConfig(seed=seed, count=count, sizes=SIZES, frames=(1, 5, 9, 9, 17), camera_odds=0.6, held_out_share=0.0, solids=solids)
    source, rng = WorldsSource(config), np.random.default_rng(seed)
    found = {name: ([], []) for name in ("shape", "motion", "camera")}
    for index in range(count):
        clip = source[index]
        for damage_of in ({}, _random_damage(rng)):
            _add(found, damage.damaged(clip["frames"], **damage_of) if damage_of else clip["frames"], clip["fps"], clip["state"])
    return {name: (np.array(x, np.float32), np.array(y)) for name, (x, y) in found.items()}


def _random_damage(rng) -> dict:
    return {
        "sigma": float(rng.uniform(0, 1.4)),
        "noise": float(rng.uniform(0, 0.045)),
        "step": float(rng.choice([0.0, rng.uniform(0.02, 0.12)])),
        "gain": float(rng.uniform(0.93, 1.05)),
        "seed": int(rng.integers(1 << 31)),
    }


def _add(found, frames, fps, state):
    pixels = prepared(frames)
    rates, certainty = camera_rates(pixels, fps)
    if len(pixels) > 1:
        found["camera"][0].append(camera_features(rates, certainty, (len(pixels) - 1) / fps))
        found["camera"][1].append(CAMERA_MOVES.index(state["camera"]["move"]))
    truth = {solid["colour"]: solid for solid in state["solids"]}
    for region in segment(pixels):
        if region.colour not in truth:
            continue
        solid = truth[region.colour]
        cuts = shape_features(pixels, region.weight)
        found["shape"][0].extend(cuts)
        found["shape"][1].extend([SHAPES.index(solid["shape"])] * len(cuts))
        if len(pixels) > 1:
            found["motion"][0].append(motion_features(region.weight, fps, rates[-1]))
            found["motion"][1].append(HEADINGS.index(solid["direction"]))


def fitted(count: int, seed: int = FIT_SEED) -> dict[str, np.ndarray]:
    """Coefficients of all three classifiers, fitted to `count` clips, by "classifier.array" name."""
    one, several = examples(count, seed), examples(count // 6, seed + 1, solids=(2, 3))
    out = {}
    for name, classes, hidden, epochs, jitter in (("shape", len(SHAPES), 40, 14, 0.3), ("motion", len(HEADINGS), 40, 60, 0.05),
                                                  ("camera", len(CAMERA_MOVES), 24, 60, 0.03)):
        x, y = (np.concatenate([one[name][k], several[name][k]]) for k in (0, 1))
        weights = network.fit(x, y, classes, hidden=hidden, epochs=epochs, jitter=jitter)
        right = (network.log_odds(x, weights).argmax(1) == y).mean()
        print(f"{name}: {len(y)} examples, {100 * right:.2f} % right")
        out.update({f"{name}.{key}": value.astype(np.float16 if name == "shape" else np.float32) for key, value in weights.items()})
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=6000, help="rendered clips to fit to")
    parser.add_argument("--out", default=str(COEFFICIENTS), help="file for the coefficients")
    arguments = parser.parse_args()
    np.savez_compressed(arguments.out, **fitted(arguments.count))


if __name__ == "__main__":
    main()
