"""The report shows every sample beside what is true, with what the judge says, enlarged by one whole number."""

import re

from videodit.evaluation.report_shown import section

CLIPS = [
    {"prompt": "a <red> ball", "frames": 9, "size": [40, 64], "seen": "red <ball>", "facts": ["colour", "shape"], "wrong": ["shape"],
     "sample": "shown/000.webp", "true": "shown/000-true.webp"},
    {"prompt": "a cube", "frames": 1, "size": [48, 32], "seen": None, "facts": [], "wrong": [], "sample": "shown/001.webp"},
]  # fmt: skip
SHOWN = {
    "how": "Sorted by <facts>.",
    "true": "true render",
    "groups": [{"name": "best", "clips": CLIPS[:1]}, {"name": "worst", "clips": CLIPS[1:]}],
    "bytes": {name: name.encode() for each in CLIPS for kind in ("sample", "true") if (name := each.get(kind))},
}


def test_every_part_is_there_and_escaped():
    text = section(SHOWN)
    for part in ("Sorted by &lt;facts&gt;.", "a &lt;red&gt; ball", "red &lt;ball&gt;", "wrong, 1 of 2 facts: shape", "true render",
                 "<h3>Best<", "<h3>Worst<", "enlarged 4 times"):
        assert part in text
    assert "<red>" not in text and text.count("<img") == text.count('src="data:image/webp;base64,') == 3 and text.count("judge:") == 1


def test_all_clips_are_enlarged_by_one_whole_number():
    assert re.findall(r'width="(\d+)" height="(\d+)"', section(SHOWN)) == [("256", "160")] * 2 + [("128", "192")]


def test_what_is_too_large_to_enlarge_keeps_its_size():
    large = SHOWN | {"groups": [{"name": "", "clips": [CLIPS[0] | {"size": [360, 640]}]}]}
    assert 'width="640" height="360"' in section(large) and "<h3>" not in section(large)


def test_files_that_are_missing_are_left_out():
    assert section(SHOWN | {"bytes": {}}).count("<img") == 0
    assert section(None) == ""
