"""The console command: help is quick, a mistake is one line and status 2, a verb is one call with what the flags say."""

import subprocess
import sys

import pytest

from videodit import cli
from videodit.core import flags
from videodit.core.errors import UserError
from videodit.generation import sample
from videodit.generation.tasks import Task
from videodit.sharding.mesh import MeshConfig


def fail_with(monkeypatch, error):
    def run(arguments):
        raise error

    monkeypatch.setattr(cli, "run", run)


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_help_lists_every_verb(arguments, capsys):
    assert cli.main(arguments) == 0
    out = capsys.readouterr().out
    assert all(f"  {verb} " in out for verb in ("prepare", "train", "encode", "sample", "evaluate", "inspect"))


@pytest.mark.parametrize("verb", list(cli.VERBS))
def test_each_verb_has_help_with_an_example(verb, capsys):
    assert cli.main([verb, "--help"]) == 0
    assert f"example:\n  videodit {verb} " in capsys.readouterr().out


def test_help_and_mistakes_import_no_jax():
    code = (
        "import sys\nfrom videodit import cli\n"
        "assert cli.main(['train', '--help']) == 0 and cli.main(['trian']) == 2\n"
        "assert not {'jax', 'tensorflow_datasets', 'orbax'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["trian"], "no verb 'trian'; did you mean 'train'?"),
        (["sample", "--workdir=w", "--promt=x"], "no flag --promt; did you mean 'prompt'?"),
        (["train", "--confg=x"], "did you mean 'config'?"),
        (["train", "--workdir=w"], "lacks --config"),
        (["encode", "--workdir=w"], "lacks --config"),
        (["train", "--config=nowhere.py"], "train lacks --workdir"),
        (["train", "--workdir=w", "--config=nowhere.py"], "'nowhere.py' does not exist"),
        (["train", "--workdir=w", "stray"], "takes no argument 'stray'"),
        (["sample", "--workdir=w"], "lacks --prompt"),
        (["sample", "--workdir=w", "--prompt=x", "--size=64"], "--size is '64', expected WIDTHxHEIGHT"),
        (["sample", "--workdir=w", "--prompt=x", "--size=0x36"], "expected WIDTHxHEIGHT"),
        (["sample", "--workdir=w", "--prompt=x", "--count=none"], "--count=none"),
        (["sample", "--workdir=w", "--task=loop", "--prompt=x", "--region=0,0,1,1"], "loop takes no region; it takes seconds, strength"),
        (["sample", "--workdir=w", "--task=movie", "--prompt=x"], "task is 'movie'"),
        (["sample", "--workdir=w", "--task=image", "--at=now", "a.png"], "--at is 'now', expected seconds"),
        (["sample", "--workdir=w", "--task=fill", "--missing=1", "a.mp4"], "--missing is '1', expected seconds FROM-TO"),
        (["sample", "--workdir=w", "--task=fill", "--region=1,2", "a.mp4"], "--region is '1,2', expected left,top,right,bottom"),
        (["sample", "--workdir=w", "--prompt=x", "--mesh=8"], "--mesh is '8', expected devices along axes"),
        (["sample", "--workdir=w", "--prompt=x", "--storyboard=none.txt"], "storyboard 'none.txt' is not there"),
        (["sample", "--workdir=w", "--prompt=x", "--config=a.py"], "sample takes no --config"),
        (["inspect"], "inspect takes one place"),
        (["inspect", "/nowhere/at/all"], "'/nowhere/at/all' does not exist"),
    ],
)
def test_a_mistake_is_one_line_on_stderr_and_status_2(arguments, said, capsys):
    assert cli.main(arguments) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.err.count("\n") == 1 and captured.out == ""


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (UserError("two\nlines"), 2, "videodit: two lines\n"),
        (RuntimeError("disk on fire"), 1, "RuntimeError: disk on fire"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_exit_status_says_what_kind_of_failure_it_was(monkeypatch, capsys, error, status, said):
    fail_with(monkeypatch, error)
    assert cli.main(["train"]) == status
    assert said in capsys.readouterr().err


def test_size_is_width_times_height_outside_and_height_first_inside():
    assert flags.parse_size("64x36") == (36, 64)


@pytest.mark.parametrize("workdir", [["--workdir=w"], ["--workdir", "w"]])
def test_sample_calls_its_room_with_the_flags(monkeypatch, workdir):
    calls = []
    monkeypatch.setattr(sample, "sample_command", lambda **arguments: calls.append(arguments))
    flags = ["--prompt=a red ball", "--size=64x36", "--seconds=0", "--seed=-3", "--steps=4", "--solver=unipc", "--mesh=fsdp=2"]
    assert cli.main(["sample", *workdir, *flags]) == 0
    expected = dict(workdir="w", task=Task(prompt="a red ball", size=(36, 64), seconds=0.0, seed=-3), count=1, steps=4, guidance=None)
    expected |= dict(solver="unipc", negative=None, fps=None, output=None, prompts=None, preview=False, mesh=MeshConfig(fsdp=2), show=None)
    assert calls == [expected]


def test_every_flag_of_a_task_reaches_it(monkeypatch):
    calls = []
    monkeypatch.setattr(sample, "sample_command", lambda **arguments: calls.append(arguments["task"]))
    images = ["--task=image", "--input=a.png", "--at=0,1.5,end", "--prompt=x", "b.png", "c.png"]
    assert cli.main(["sample", "--workdir=w", *images]) == 0
    assert cli.main(["sample", "--workdir=w", "--task=extend", "--direction=backward", "a.mp4"]) == 0
    assert cli.main(["sample", "--workdir=w", "--task=fill", "--missing=0.5-1,2-3", "--region=0,0.25,1,0.5", "a.mp4"]) == 0
    assert cli.main(["sample", "--workdir=w", "--task=edit", "--prompt=y", "--strength=0.5", "--mask=b.png", "a.mp4"]) == 0
    assert calls == [
        Task(task="image", prompt="x", inputs=("a.png", "b.png", "c.png"), at=(0.0, 1.5, "end")),
        Task(task="extend", inputs=("a.mp4",), direction="backward"),
        Task(task="fill", inputs=("a.mp4",), missing=((0.5, 1.0), (2.0, 3.0)), region=(0.0, 0.25, 1.0, 0.5)),
        Task(task="edit", prompt="y", inputs=("a.mp4",), mask="b.png", strength=0.5),
    ]


def test_overrides_reach_the_config_after_a_space_too(tmp_path):
    path = tmp_path / "experiment.py"
    path.write_text("import ml_collections\n\ndef get_config(variant):\n    return ml_collections.ConfigDict({'kind': variant, 'n': 1})\n")
    arguments = ["--workdir", "w", "--config", f"{path}:vae", "--config.n", "5"]
    call = cli.parse(cli.VERBS["train"], arguments)
    assert (call.config.kind, call.config.n, call.flags.workdir) == ("vae", 5, "w")


def test_a_verb_that_reads_a_finished_workdir_takes_its_config(tmp_path):
    (tmp_path / "config.json").write_text('{"n": 1, "m": {"k": null}}')
    call = cli.parse(cli.VERBS["evaluate"], [f"--workdir={tmp_path}", "--config.n=2"])
    assert call.config.to_dict() == {"n": 2, "m": {"k": None}}
