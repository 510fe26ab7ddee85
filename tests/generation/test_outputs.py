"""Clips reach their files with all that makes them again, once, over kills too."""

import dataclasses
import json
import os

import av
import numpy as np
import pytest

from videodit import cli
from videodit.core.errors import UserError
from videodit.data import media
from videodit.generation import Task, load
from videodit.generation.outputs import name_of, read_prompts, read_storyboard, write_clips

SIZE = (16, 16)


@pytest.fixture(scope="module")
def generator(tiny_job):
    return load(tiny_job)


@pytest.fixture
def write(generator, tmp_path):
    def made(*tasks, **kwargs):
        names = [f"{number}-{name_of(task, SIZE)}" for number, task in enumerate(tasks)]
        return list(write_clips(generator, tasks, generator.settings, tmp_path / "out", names, **kwargs))

    return made


class Killed(Exception):
    """As a kill is."""


def test_beside_each_lies_what_makes_it_again(write, generator, tmp_path):
    (path,) = write(Task(prompt="a red ball", size=SIZE, seconds=1, seed=3))
    told = json.loads(path.with_suffix(".json").read_text())
    assert told["task"] == {"task": "text", "prompt": "a red ball", "size": "16x16", "seconds": 1, "seed": 3}
    assert told["settings"]["steps"] == generator.settings.steps and told["model"]["step"] == 16
    assert (told["output"], told["frames"], told["fps"]) == (path.name, 8, 8.0)
    (task,) = read_prompts(path.with_suffix(".json"), Task())
    (again,) = write_clips(generator, [task], generator.settings, tmp_path / "again", ["x"])
    assert again.read_bytes() == path.read_bytes()


def test_what_is_there_is_not_made_again_and_what_is_another_clip_lies_beside_it(write):
    still, clip = Task(prompt="a", size=SIZE, seconds=0), Task(prompt="b", size=SIZE, seconds=1)
    first = write(still, clip)
    before = [os.stat(path).st_mtime_ns for path in first]
    told: list[tuple] = []
    assert write(still, clip, show=lambda *each: told.append(each)) == first and not told
    assert [os.stat(path).st_mtime_ns for path in first] == before
    other = write(still, dataclasses.replace(clip, negative="c"))
    assert other[0] == first[0] and other[1].stem == f"{first[1].stem}-2"
    assert write(still, dataclasses.replace(clip, negative="c")) == other
    assert [os.stat(path).st_mtime_ns for path in first] == before
    first[0].unlink()
    assert write(still)[0].exists()


def test_a_killed_clip_goes_on_from_its_windows_and_ends_as_an_unbroken_one(write, generator, tmp_path):
    task = Task(prompt="a red ball", size=SIZE, seconds=3, seed=1)
    asked: list[tuple] = []
    (whole,) = write_clips(generator, [task], generator.settings, tmp_path / "whole", ["0"], show=lambda *each: asked.append(each))

    def kill(stage, done, total):
        if done == 3:
            raise Killed

    with pytest.raises(Killed):
        write(task, show=kill)
    again: list[tuple] = []
    (path,) = write(task, show=lambda *each: again.append(each))
    assert len(again) < len(asked) and path.read_bytes() == whole.read_bytes()
    assert not list(path.parent.glob("*.parts"))


def test_what_is_finished_of_a_clip_plays_while_the_rest_is_made(write, tmp_path):
    seen: list[np.ndarray] = []

    def look(stage, done, total):
        if done == total - 1:
            (growing,) = tmp_path.glob("out/*.parts/clip.mp4")
            with av.open(str(growing)) as container:
                seen.extend(frame.to_ndarray(format="rgb24") for frame in container.decode(video=0))

    (path,) = write(Task(prompt="a red ball", size=SIZE, seconds=8, seed=1), show=look)
    whole = media.decode(path)
    assert len(whole) == 64 and 16 < len(seen) < 64
    assert np.abs(np.stack(seen).astype(int) - whole[: len(seen)]).max() < 8  # another way from YCbCr


def test_equal_tasks_are_one_clip(write, generator, tmp_path):
    task = Task(prompt="a red ball", size=SIZE, seconds=3)
    (path,) = write_clips(generator, [task, task], generator.settings, tmp_path, ["0", "1"])
    assert path.exists() and len(list(tmp_path.iterdir())) == 2


def test_parts_of_another_task_are_not_taken(write, generator, tmp_path):
    def kill(stage, done, total):
        if done == 2:
            raise Killed

    task = Task(prompt="a", size=SIZE, seconds=3)
    with pytest.raises(Killed):
        list(write_clips(generator, [task], generator.settings, tmp_path, ["x"], show=kill))
    other = dataclasses.replace(task, prompt="b")
    (path,) = write_clips(generator, [other], generator.settings, tmp_path, ["x"])
    (fresh,) = write_clips(generator, [other], generator.settings, tmp_path / "fresh", ["x"])
    assert path.read_bytes() == fresh.read_bytes()


def test_a_preview_is_a_picture_beside_the_clip(write):
    (path,) = write(Task(prompt="a", size=SIZE, seconds=1), preview=True)
    assert media.decode(path.with_name(f"{path.stem}.preview.png")).shape == (1, 16, 8 * 18 - 2, 3)


def test_a_folder_that_cannot_be_written_to_is_named_before_anything_is_made(generator, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written to"):
        list(write_clips(generator, [Task(prompt="a", size=SIZE)], generator.settings, tmp_path / "file" / "out", ["x"]))


def test_of_several_tasks_the_one_that_cannot_be_done_is_named_before_anything_is_made(write, tmp_path):
    short = media.encode_video(np.zeros((3, *SIZE, 3), np.uint8), 8.0)
    with pytest.raises(UserError, match="task 2 of 2, blend: the shorter video has 3 frames"):
        write(Task(prompt="a", size=SIZE), Task(task="blend", inputs=(short, short), size=SIZE))
    assert not list(tmp_path.glob("out/*.*"))


def test_prompts_are_lines_or_tasks(tmp_path):
    (tmp_path / "a.txt").write_text("a red ball\n\n  a blue cube \n")
    default = Task(size=SIZE, seed=5)
    assert [(task.prompt, task.seed, task.size) for task in read_prompts(tmp_path / "a.txt", default)] == [
        ("a red ball", 5, SIZE),
        ("a blue cube", 6, SIZE),
    ]
    (tmp_path / "b.jsonl").write_text('{"prompt": "x", "size": "24x16", "seed": 9}\n{"task": "vary", "inputs": ["a.png"]}\n')
    first, second = read_prompts(tmp_path / "b.jsonl", default)
    assert (first.size, first.seed) == ((16, 24), 9) and (second.task, second.seed, second.inputs) == ("vary", 6, ("a.png",))


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.jsonl", '{"prompt": "x"}\n{"promt": "y"}\n', "line 2: config has no key 'promt'; did you mean 'prompt'"),
        ("a.jsonl", "{\n", "line 1 is no JSON"),
        ("a.jsonl", "3\n", "line 1 is no object"),
        ("a.txt", "\n", "is empty"),
    ],
)
def test_a_line_that_is_no_task_is_named(tmp_path, name, text, said):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=said):
        read_prompts(tmp_path / name, Task())
    with pytest.raises(UserError, match="none.txt' is not there"):
        read_prompts(tmp_path / "none.txt", Task())


def test_a_storyboard_is_seconds_and_prompts(tmp_path):
    (tmp_path / "a.txt").write_text("2 a red ball rolls left\n\n1.5 a blue cube\n")
    assert read_storyboard(tmp_path / "a.txt") == ((2.0, "a red ball rolls left"), (1.5, "a blue cube"))
    for text, said in (("soon a ball\n", "line 1 is 'soon a ball', expected SECONDS PROMPT"), ("", "is empty")):
        (tmp_path / "a.txt").write_text(text)
        with pytest.raises(UserError, match=said):
            read_storyboard(tmp_path / "a.txt")


def test_a_file_of_prompts_becomes_a_folder(tiny_job, tmp_path, capsys):
    (tmp_path / "prompts.txt").write_text("a red ball\na red ball\na blue cube\n")
    arguments = ["sample", f"--workdir={tiny_job}", f"--prompts={tmp_path / 'prompts.txt'}", "--seconds=0", "--size=16x16", "--steps=2"]
    assert cli.main([*arguments, f"--output={tmp_path / 'out'}"]) == 0
    said = capsys.readouterr().out.split()
    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == sorted(os.path.basename(each) for each in said)
    assert [os.path.basename(each)[:5] for each in sorted(said)] == ["00000", "00001", "00002"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--task=image", "STILL", "--prompt=a boat", "--seconds=1"],
        ["--task=extend", "CLIP", "--seconds=0.5"],
        ["--task=extend", "CLIP", "--seconds=0.5", "--direction=backward"],
        ["--task=fill", "CLIP", "--missing=0.5-1"],
        ["--task=edit", "CLIP", "--prompt=a boat", "--region=0.25,0.25,0.75,0.75"],
        ["--task=connect", "CLIP", "OTHER", "--seconds=0.5"],
    ],
    ids=lambda arguments: " ".join(arguments[:1] + arguments[2:]),
)
def test_real_clips_of_any_size_and_rate_serve(clips, tiny_job, tmp_path, arguments):
    videos, stills = sorted((clips / "clips").glob("*.mp4"))[:2], sorted((clips / "images").glob("*.*"))[:1]
    places = {"STILL": stills[0], "CLIP": videos[0], "OTHER": videos[1]}
    given = [str(places.get(each, each)) for each in arguments]
    assert cli.main(["sample", f"--workdir={tiny_job}", *given, "--steps=2", f"--output={tmp_path}"]) == 0
    (path,) = tmp_path.glob("*.mp4")
    frames = media.decode(path)
    assert len(frames) > 1 and np.ptp(frames) > 20
