"""Samples reach their files: a png for one frame, an mp4 for several, of the size and length that was asked for."""

import dataclasses
import json

import numpy as np
import pytest

from videodit import cli
from videodit.core.errors import UserError
from videodit.data import media
from videodit.data.worlds import prompts
from videodit.generation.sample import held_out_prompts, load_generator, requests_for, sample_command
from videodit.generation.tasks import Task
from videodit.training.checkpoints import restore_weights


def test_a_video_reads_back_with_the_size_and_length_that_were_asked_for(tiny_job, tmp_path, capsys):
    task = Task(prompt="A red ball!", size=(22, 40), seconds=1.5, seed=7)
    (path,) = sample_command(workdir=str(tiny_job), task=task, output=str(tmp_path / "new"))
    assert path.name == "a-red-ball-40x22-7.mp4" and capsys.readouterr().out == f"{path}\n"
    info = media.check(path)
    assert (info.kind, info.frames, info.height, info.width, info.fps) == ("video", 12, 22, 40, 8.0)


@pytest.mark.parametrize("seconds", [0.0, 0.05, 0.125])
def test_one_frame_is_a_png(tiny_job, tmp_path, seconds):
    task = Task(prompt="赤いボール", size=(16, 16), seconds=seconds)
    (path,) = sample_command(workdir=str(tiny_job), task=task, output=str(tmp_path))
    assert path.name == "sample-16x16-0.png" and media.decode(path).shape == (1, 16, 16, 3)


def test_several_samples_count_up_from_the_seed_and_steps_and_guidance_may_be_chosen(tiny_job, tmp_path):
    task, chosen = Task(prompt="a ball", size=(16, 16), seconds=0, seed=3), dict(workdir=str(tiny_job), steps=3)
    paths = sample_command(task=task, count=2, guidance=4.0, output=str(tmp_path), **chosen)
    assert [path.name for path in paths] == ["a-ball-16x16-3.png", "a-ball-16x16-4.png"]
    first, second = map(media.decode, paths)
    assert (first != second).any()
    task = dataclasses.replace(task, seed=4)
    (alone,) = sample_command(task=task, guidance=4.0, output=str(tmp_path / "alone"), **chosen)
    assert np.abs(media.decode(alone).astype(int) - second).max() <= 1
    (other,) = sample_command(task=task, guidance=40.0, output=str(tmp_path / "other"), **chosen)
    assert (media.decode(other) != second).any()


def test_solver_rate_and_what_is_not_wanted_may_be_chosen(tiny_job, tmp_path):
    asked = dict(workdir=str(tiny_job), task=Task(prompt="a ball", size=(16, 16), seconds=1), steps=2)
    (usual,) = sample_command(**asked, output=str(tmp_path / "usual"))
    frames = len(media.decode(usual))
    (slow,) = sample_command(**asked, fps=4, output=str(tmp_path / "slow"))
    assert len(media.decode(slow)) == frames // 2
    for number, choice in enumerate(({"solver": "euler"}, {"negative": "a cube", "guidance": 3.0})):
        (other,) = sample_command(**asked, **choice, output=str(tmp_path / str(number)))
        assert (media.decode(other) != media.decode(usual)).any()
    with pytest.raises(UserError, match="--solver is 'ddim', expected one of euler, heun, dpm"):
        sample_command(**asked, solver="ddim")


def test_what_is_outside_of_training_is_told_and_made(tiny_job, tmp_path, capsys):
    arguments = ["sample", f"--workdir={tiny_job}", "--prompt=a ball", "--seconds=0", "--steps=1", f"--output={tmp_path}"]
    assert cli.main([*arguments, "--size=16x24"]) == 0 and "trained on" not in capsys.readouterr().err
    assert cli.main([*arguments, "--size=1000x9", "--fps=12"]) == 0
    said = capsys.readouterr().err
    assert "1000x9 has more than the" in said and "12 frames a second are not the 8 that were trained on" in said
    assert len(list(tmp_path.glob("*.png"))) == 2


def test_the_verb_writes_into_the_workdir_and_says_where(tiny_job, capsys):
    assert cli.main(["sample", f"--workdir={tiny_job}", "--prompt=a cube", "--size=24x16", "--seconds=0"]) == 0
    said = capsys.readouterr().out.strip()
    assert said == str(tiny_job / "outputs" / "a-cube-24x16-0.png") and media.probe(said).width == 24


def test_a_workdir_with_nothing_trained_says_what_to_run(tiny, tiny_latents, tmp_path, capsys):
    assert cli.main(["sample", f"--workdir={tmp_path}", "--prompt=x"]) == 2
    assert "is not a workdir" in capsys.readouterr().err
    config = tiny(
        data={"path": str(tiny_latents / "dataset")}, latents={"path": str(tiny_latents / "latents"), "vae": str(tiny_latents / "vae")}
    )
    with pytest.raises(UserError, match="run `videodit train`"):
        load_generator(config, tmp_path)


def test_the_average_of_the_weights_is_what_samples(tiny, tiny_job):
    generator = load_generator(tiny(data={"path": str(tiny_job / "dataset")}), tiny_job)
    weights, _ = restore_weights(tiny_job)
    np.testing.assert_array_equal(generator.params["head"]["kernel"], weights["ema"]["head"]["kernel"])


def test_training_draws_the_same_requests_at_every_step(tiny_job):
    listed = {step: json.loads((tiny_job / "samples" / step / "samples.json").read_text()) for step in ("0", "8", "16")}
    assert listed["0"] == listed["8"] == listed["16"] and len(listed["0"]) == 3
    for each in listed["16"]:
        info = media.check(tiny_job / "samples" / "16" / each["file"])
        assert ([info.height, info.width], info.frames) == (each["size"], each["frames"]) and each["prompt"]
    assert media.probe(tiny_job / "samples" / "16" / "grid.png").kind == "image"


def test_prompts_of_the_worlds_are_those_that_training_never_saw(tiny, tiny_job):
    config = tiny()
    assert held_out_prompts(config, tiny_job) == prompts(config.data.worlds)


def test_requests_take_prompts_sizes_lengths_and_seeds_in_turn(tiny):
    config = tiny(sample={"sizes": ((16, 24), (24, 16)), "frames": (1, 5, 9), "negative": "c"})
    found = requests_for(config, [{"prompt": "a"}, {"prompt": "b"}], 6, seed=10)
    assert [request.seed for request in found] == list(range(10, 16))
    assert [request.prompt for request in found] == ["a", "b"] * 3 and {request.negative for request in found} == {"c"}
    for prompt in "ab":  # each meets every length and both sizes
        met = [(request.height, request.frames) for request in found if request.prompt == prompt]
        assert {frames for _, frames in met} == {1, 5, 9} and {height for height, _ in met} == {16, 24}
