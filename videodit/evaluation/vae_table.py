"""What `evaluate_vae` measured as text: the table of sizes and codecs, and the health of the latents."""

from collections.abc import Sequence
from typing import Any

_MOST_SIZES = 12
_CHANNELS_A_LINE = 16
_FORMS = {"psnr_db": "{:.2f}", "ssim": "{:.4f}", "lpips": "{:.4f}", "flicker": "{:.2f}"}
_SEAMS = {"space": "in space", "space_smooth": "where smooth", "time": "in time", "time_smooth": "where still"}
_TITLES = {"psnr_db": "PSNR, dB", "ssim": "SSIM", "lpips": "LPIPS", "flicker": "flicker"}

LEGEND = (
    "a: bicubic down to as many numbers as the latents have and up, split between time and space as gives each clip the highest PSNR",
    "b: bicubic down by the VAE's stride and up",
    "flicker: grey levels a frame changes more than the source where the source stands still",
)


def cells(vae: dict[str, Any]) -> list[list[str]]:
    """The table, row by row, the head first: each measure of the VAE and of the codecs `a` and `b` of `LEGEND`, sizes before totals.

    Takes the figures of `evaluate_vae`. A measure that does not apply is "-"; LPIPS has columns only where it was measured. At most 12
    sizes have rows, the most frequent ones.
    """
    shown = [name for name in _FORMS if name != "lpips" or vae["lpips"]]
    head = ["frames x height x width", "clips"]
    for name in shown:
        head += [_TITLES[name], "a", "b"] + (["above a", "above b"] if name == "psnr_db" else [])
    listed = vae["sizes"][:_MOST_SIZES] + [vae[name] for name in ("stills", "videos", "all") if vae[name]]
    return [head, *([each["size"], f"{each['clips']:,}", *_of_row(each, shown)] for each in listed)]


def _of_row(row: dict[str, Any], shown: Sequence[str]) -> list[str]:
    found = []
    for name in shown:
        values = [row[codec][name] for codec in ("vae", "same_numbers", "same_stride")]
        found += ["-" if value is None else _FORMS[name].format(value) for value in values]
        if name == "psnr_db":
            found += [f"{row['above_db'][codec]:+.2f}" for codec in ("same_numbers", "same_stride")]
    return found


def notes(vae: dict[str, Any]) -> list[str]:
    """What a reader of the table has to know: its codecs, sizes that were left out, and by what LPIPS was measured."""
    left_out = len(vae["sizes"]) - _MOST_SIZES
    lpips = f"LPIPS by {vae['lpips']}" if vae["lpips"] else "LPIPS is off: vae_training.loss.perceptual.network and heads name no weights"
    cut = [f"{left_out} more sizes are in the totals alone"] if left_out > 0 else []
    return [*cut, *LEGEND, *picture(vae), lpips]


def picture(vae: dict[str, Any]) -> list[str]:
    """Edges and seams of all clips against the source's; no line where a file of older figures has none."""
    lines = []
    edges = vae["all"].get("edges", {})
    if edges.get("vae") is not None:
        told = "{vae:.2f}, a {same_numbers:.2f}, b {same_stride:.2f}".format(**edges)
        lines.append(f"edges: gradient over the source's at its strong edges {told}; 1 is as sharp")
    seams = {name: each["over_truth"] for name, each in vae["all"].get("seams", {}).items() if each["over_truth"] is not None}
    if seams:
        told = ", ".join(f"{seams[name]:.2f} {title}" for name, title in _SEAMS.items() if name in seams)
        lines.append(f"seams: steps across the latent grid over those inside, to the source's: {told}")
    return lines


def health(latents: dict[str, Any]) -> list[str]:
    """The health of latents in two lines, then by channel: mean, deviation, noise (see `LatentHealth.figures`) and KL."""
    channels, dead, shared = len(latents["mean"]), latents["dead"], latents["correlation"]
    named = f" ({', '.join(map(str, dead))})" if dead else ""
    pair = f", {shared['most']:.2f} at most ({shared['pair'][0]} with {shared['pair'][1]})" if shared["pair"] else ""
    low, high = min(latents["normalised_std"]), max(latents["normalised_std"])
    lines = [
        f"latents: KL {sum(latents['kl_nats']):.1f} nats each, {latents['kl_bits_per_pixel']:.3f} bits a pixel; "
        f"{len(dead)} of {channels} channels dead{named}",
        f"correlation of channels {shared['mean']:.2f} on average{pair}; deviation {low:.2f} to {high:.2f} once normalised",
    ]
    for start in range(0, channels, _CHANNELS_A_LINE):
        part = range(start, min(start + _CHANNELS_A_LINE, channels))
        lines.append(f"{'channel':<10}" + "".join(f"{i:>8}" for i in part))
        for name, title in (("mean", "mean"), ("std", "deviation"), ("noise", "noise"), ("kl_nats", "KL, nats")):
            lines.append(f"{title:<10}" + "".join(f"{latents[name][i]:>8.3f}" for i in part))
    return lines


def to_text(vae: dict[str, Any]) -> str:
    """The table, its notes and the health of the latents, for a terminal."""
    table = cells(vae)
    widths = [max(len(row[i]) for row in table) + 2 for i in range(len(table[0]))]
    lines = ["".join(f"{cell:<{w}}" if i == 0 else f"{cell:>{w}}" for i, (cell, w) in enumerate(zip(row, widths))) for row in table]
    return "\n".join([*lines, *notes(vae), "", *health(vae["latents"])])
