"""What a world looks like in words. Nothing is said that the clip does not show."""

from videodit.data.worlds.scene import STILL, Scene, Solid

_CAMERA = {
    "pan left": "pans left", "pan right": "pans right", "orbit left": "orbits left", "orbit right": "orbits right",
    "zoom in": "zooms in", "zoom out": "zooms out",
}
_WHERE = {"left": "to the left", "right": "to the right", "closer": "closer to the camera", "away": "away from the camera"}


def named(solid: Solid, *, size: bool = False) -> str:
    """"a red cube", or "a big red cube"."""
    words = [solid.size] if size else []
    words += [solid.colour, solid.shape]
    return ("an " if words[0][0] in "aeiou" else "a ") + " ".join(words)


def shown_motion(solid: Solid, seconds: float) -> tuple[str, str, str]:
    """(motion, direction, then) that can be seen within `seconds`: a stop that has not come yet is a slide."""
    motion = solid.motion
    if seconds <= 0:
        return "stays still", STILL, STILL
    if motion.kind in ("turns", "stops") and seconds <= motion.event + 1e-6:
        return "slides", motion.direction, STILL
    return motion.kind, motion.direction, motion.then


def phrase(motion: str, direction: str, then: str = STILL) -> str:
    """The short words for a motion: "slides left", "slides left then turns away"."""
    if motion == "stays still":
        return motion
    if motion == "turns":
        return f"slides {direction} then turns {then}" if then != STILL else f"slides {direction} then turns"
    if motion == "stops":
        return f"slides {direction} then stops"
    return f"{motion} {direction}"


def _long(motion, direction, then):
    if motion == "stays still":
        return "It stays still."
    where = _WHERE[direction]
    if motion == "turns":
        return f"It slides {where}, then turns and slides {_WHERE[then]}."
    if motion == "stops":
        return f"It slides {where}, then stops and stays where it is."
    manner = {"slides": "It slides {} across the floor.", "rolls": "It rolls {} along the floor, turning as it goes.",
              "bounces": "It bounces {} in hops."}
    return manner[motion].format(where)


def camera_phrase(move: str) -> str:
    """"the camera pans left", or "the camera stays still"."""
    return f"the camera {_CAMERA[move]}" if move != STILL else "the camera stays still"


def original(things: list[tuple[str, str]], move: str) -> str:
    """The short caption from [(name, motion phrase or "")] and the camera's move."""
    text = " and ".join(f"{name} {does}".strip() for name, does in things)
    return text if move == STILL else f"{text} while {camera_phrase(move)}"


def describe(scene: Scene, *, frames: int = 9, fps: float = 8.0) -> dict[str, str]:
    """Captions of the scene as a clip of `frames` frames shows it: {"original": short, "descriptive": all that is true}."""
    seconds = (frames - 1) / fps
    image = frames == 1
    seen = [shown_motion(solid, seconds) for solid in scene.solids]
    things = [(named(solid), "" if image else phrase(*each)) for solid, each in zip(scene.solids, seen)]
    short = original(things, STILL if image else scene.camera.move)
    sentences = []
    for solid, each in zip(scene.solids, seen):
        name = named(solid, size=True)
        place = "above" if image and solid.motion.hop else "on"
        sentences.append(f"{name[0].upper()}{name[1:]} {place} a grey floor of soft squares." if len(scene.solids) == 1 or image
                         else f"{name[0].upper()}{name[1:]} is {place} a grey floor of soft squares.")
        if not image:
            sentences.append(_long(*each))
    sentences.append("Soft light falls from the upper left and casts a shadow under a pale sky.")
    if not image:
        text = camera_phrase(scene.camera.move)
        sentences.append(text[0].upper() + text[1:] + ".")
    return {"original": short, "descriptive": " ".join(sentences)}
