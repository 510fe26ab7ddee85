"""The console command `videodit VERB`: flags in, one thin call into a room, an exit status out.

Exit status: 0 on success, 2 on a usage or config mistake (one line on stderr), 1 on a failure at run time, 75 where the run was told to
stop and the same command goes on from there.
Rooms are imported by the verb that needs them, so `--help` and mistakes answer at once.
"""

from collections.abc import Callable, Sequence
import dataclasses
import json
import os
import sys
import traceback
from typing import Any

from absl import flags
from etils import epath
import ml_collections

from videodit.core import config as config_lib
from videodit.core import flags as flags_lib
from videodit.core.errors import RESTART_STATUS, RestartAsked, UserError
from videodit.core.files import write_atomically
from videodit.core.progress import progress_line


@dataclasses.dataclass(frozen=True, kw_only=True)
class Call:
    """One use of the command: the verb's flags, the config with overrides if the verb takes one, the other arguments."""

    flags: flags.FlagValues
    config: ml_collections.ConfigDict | None
    positional: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verb:
    """A verb: what it does, the flags it takes, an example, and the call that runs it."""

    name: str
    summary: str
    example: str
    run: Callable[[Call], int | None]  # the exit status, 0 where None
    # "required", "workdir" (config.json of the workdir where --config is not given), "optional" or None.
    config: str | None = None
    define: Callable[[flags.FlagValues], None] = lambda values: None
    needs: tuple[str, ...] = ("workdir",)
    takes: str = ""


def _experiment(call: Call) -> Any:
    from videodit.training.config import read_experiment

    return read_experiment(call.config)


def _prepare(call: Call) -> None:
    import rich

    from videodit.data.prepare import prepare
    from videodit.data.runners import Beam

    output = call.flags.output or (call.flags.workdir and f"{call.flags.workdir.rstrip('/')}/dataset")
    if not output:
        raise UserError("prepare has nowhere to write: give --workdir=DIR (writes DIR/dataset) or --output=DIR")
    stray = next((each for each in call.positional if not each.startswith("--")), None)
    if stray:
        raise UserError(f"prepare takes no argument {stray!r}; after -- come Beam's options, e.g. -- --runner=DataflowRunner")
    runner = Beam(call.positional) if call.positional else None
    summary = prepare(_experiment(call).data, output, progress_line() if sys.stderr.isatty() else None, runner)
    rich.print(summary.table())
    if call.flags.json:
        print(json.dumps(dataclasses.asdict(summary)))


def _train(call: Call) -> None:
    experiment = _experiment(call)
    from videodit.core.processes import join_processes
    from videodit.training.loop import train

    join_processes()
    train(experiment, call.flags.workdir)


def _encode(call: Call) -> None:
    experiment = _experiment(call)
    from videodit.training.encode import encode

    encode(experiment, call.flags.workdir)


def _codec(call: Call) -> None:
    if len(call.positional) != 2:
        raise UserError(f"codec takes two files, IN and OUT, and got {len(call.positional)}, e.g. {VERBS['codec'].example.splitlines()[0]}")
    values = call.flags
    size = None if values.size is None else flags_lib.parse_size(values.size)
    budget = None if values.memory_gb is None else int(values.memory_gb * 1e9)
    from videodit.generation.codec import codec

    told = codec(values.workdir, *call.positional, size=size, budget=budget)
    print(
        f"{told['output']}: {told['frames']} frames of {told['width']}x{told['height']} in {told['seconds']:.1f} s, "
        f"{told['peak_memory_bytes'] / 1e9:.2f} GB at most"
    )
    if values.json:
        print(json.dumps(told))


def _export(call: Call) -> None:
    if len(call.positional) != 1:
        raise UserError(f"export takes one directory to write to, and got {len(call.positional)}, e.g. {VERBS['export'].example}")
    from videodit.training.export import export

    told = export(call.flags.workdir, call.positional[0])
    print(f"{told['output']}: {told['parameters']:,} parameters of step {told['step']}")
    if call.flags.json:
        print(json.dumps(told))


def _evaluate(call: Call) -> None:
    experiment = _experiment(call)
    if call.flags.tasks:
        from videodit.evaluation.tasks import evaluate_tasks as evaluate
    else:
        from videodit.evaluation.evaluate import evaluate

    result = evaluate(experiment, call.flags.workdir)
    if call.flags.json:
        print(json.dumps(result))


def _sample(call: Call) -> None:
    values = call.flags
    from videodit.generation.outputs import read_storyboard
    from videodit.generation.sample import sample_command
    from videodit.generation.tasks import read_task
    from videodit.sharding.mesh import MeshConfig

    said = {name: values[name].value for name in ("task", "prompt", "seconds", "seed", "direction", "mask", "strength")}
    said |= {"inputs": [*values.input, *call.positional], "at": values.at and flags_lib.parse_times(values.at)}
    said["missing"] = values.missing and flags_lib.parse_spans(values.missing)
    said["region"] = values.region and flags_lib.parse_region(values.region)
    said["size"] = values.size and flags_lib.parse_size(values.size)
    said["storyboard"] = read_storyboard(values.storyboard) if values.storyboard else ()
    task = read_task({name: value for name, value in said.items() if value not in (None, [], ())})
    if task.task in ("text", "image") and not (values.prompt is not None or values.prompts or task.storyboard):
        raise UserError(f"sample lacks --prompt, e.g. {VERBS['sample'].example.splitlines()[0]}")
    sample_command(
        workdir=values.workdir,
        task=task,
        count=values.count,
        prompts=values.prompts,
        output=values.output,
        preview=values.preview,
        mesh=config_lib.read(MeshConfig, flags_lib.parse_axes(values.mesh), "mesh") if values.mesh else None,
        show=progress_line() if sys.stderr.isatty() else None,
        steps=values.steps,
        guidance=values.guidance,
        solver=values.solver,
        negative=values.negative,
        fps=values.fps,
    )


def _preflight(call: Call) -> int:
    values, experiment = call.flags, _experiment(call)
    from videodit.preflight import report
    from videodit.preflight.chips import parse_target
    from videodit.preflight.search import search, search_lines

    target = parse_target(values.topology, values.slices)
    if values.search:
        if experiment.model != "dit":
            raise UserError(f"preflight --search is for transformers, and config model is {experiment.model!r}; expected 'dit'")
        found: Any = search(experiment, target)
        lines = search_lines(found)
    else:
        found = report.preflight(experiment, target, report.PROGRAMS if values.program == "all" else (values.program,))
        lines = report.preflight_lines(found)
    print("\n".join(lines))
    if values.json:
        write_atomically(values.json, json.dumps(found, indent=2) + "\n")
    return 0 if values.search or found["fits"] else 1


def _inspect(call: Call) -> None:
    places = len(call.positional) + bool(call.flags.workdir)
    if places > 1 or (not places and call.config is None):
        raise UserError(
            "inspect takes one place: --workdir=DIR, or the PATH of a dataset, a workdir or a checkpoint; or --config alone, for its model"
        )
    if call.config is not None and call.flags.record:
        raise UserError("inspect shows a record's frames (--record) or what becomes of all sizes (--config), one at a time")
    from videodit.training import inspect, inspect_model

    if not places:
        found = inspect_model.inspect_model(_experiment(call))
        print(json.dumps(found) if call.flags.json else inspect.to_text(found))
        return
    place, output = epath.Path(call.flags.workdir or call.positional[0]), call.flags.output
    if call.config is not None:
        found = inspect.inspect_sizes(_experiment(call), place, output)
    elif call.flags.record:
        found = inspect.inspect_record(place, call.flags.record, output)
    elif output:
        raise UserError("inspect --output is where a picture goes: give --record=KEY or --config=FILE.py[:variant] too")
    else:
        found = inspect.inspect(place)
    print(json.dumps(found) if call.flags.json else inspect.to_text(found))


def _define_output(meaning: str) -> Callable[[flags.FlagValues], None]:
    return lambda values: flags.DEFINE_string("output", None, meaning, flag_values=values)


def _define_json(values: flags.FlagValues) -> None:
    flags.DEFINE_boolean("json", False, "print JSON as the last line", flag_values=values)


def _define_evaluate(values: flags.FlagValues) -> None:
    _define_json(values)
    meaning = "hold every generation task against the truth of the worlds, beside an untrained model and copying"
    flags.DEFINE_boolean("tasks", False, meaning, flag_values=values)


def _define_prepare(values: flags.FlagValues) -> None:
    _define_output("dataset directory (default: WORKDIR/dataset)")(values)
    _define_json(values)


def _define_inspect(values: flags.FlagValues) -> None:
    _define_json(values)
    flags.DEFINE_string("record", None, "a record of a dataset, by key or number: its frames become a picture", flag_values=values)
    meaning = "the picture to write (default: sizes.png or record-NUMBER.png beside the dataset)"
    _define_output(meaning)(values)


def _define_sample(values: flags.FlagValues) -> None:
    text = lambda name, meaning: flags.DEFINE_string(name, None, meaning, flag_values=values)
    flags.DEFINE_string("task", "text", "text, image, extend, fill, loop, connect, blend, edit or vary", flag_values=values)
    text("prompt", "what the sample shows")
    text("prompts", "a file: .txt, a prompt a line; .jsonl, a task a line; .json, what lies beside an output")
    text("storyboard", "a file of scenes, SECONDS PROMPT a line, in place of --prompt and --seconds")
    meaning = "a video or image, of any size and rate; may be repeated, or follow the flags"
    flags.DEFINE_multi_string("input", [], meaning, flag_values=values)
    text("at", "image: where the images lie, in seconds, e.g. 0,1.5,end (default: evenly, the first at 0)")
    text("direction", "extend: forward or backward (default: forward)")
    text("missing", "fill: what times are made, in seconds, e.g. 0.5-1.0,2-3")
    text("region", "fill, edit, vary: what of the picture is made: left,top,right,bottom as shares, e.g. 0.25,0.25,0.75,0.75")
    text("mask", "fill, edit, vary: the same as a picture or video that is white where the clip is made")
    meaning = "how much of what a clip starts from is made anew, more than 0 to 1 (default: edit 0.7, vary 0.85, blend 0.6, fill 0.9, "
    meaning += "of a region 1, connect 0.8, loop 0.7)"
    flags.DEFINE_float("strength", None, meaning, flag_values=values)
    text("size", "WIDTHxHEIGHT in pixels, trained on or not (default: as the first input is trained, else the config's first)")
    meaning = "duration, or of extend and connect what is added; 0 asks for one frame, a png (default: as long as clips are trained)"
    flags.DEFINE_float("seconds", None, meaning, lower_bound=0, flag_values=values)
    flags.DEFINE_integer("seed", 0, "seed of the first sample; the next ones count up", flag_values=values)
    flags.DEFINE_integer("count", 1, "how many samples", lower_bound=1, flag_values=values)
    flags.DEFINE_integer("steps", None, "solver steps (default: the config's)", lower_bound=1, flag_values=values)
    flags.DEFINE_float("guidance", None, "guidance scale (default: the config's)", lower_bound=0, flag_values=values)
    text("solver", "euler, heun, dpm++, unipc or sde-dpm++ (default: the config's)")
    text("negative", "what guidance leads away from (default: the config's)")
    meaning = "frames a second; it need not be a rate that was trained on (default: the config's)"
    flags.DEFINE_float("fps", None, meaning, lower_bound=0.1, flag_values=values)
    meaning = "write a picture of some frames beside each sample, while long ones are made too"
    flags.DEFINE_boolean("preview", False, meaning, flag_values=values)
    text("mesh", "lay the transformer and rows out over all devices, e.g. fsdp=4,tensor=2 (default: one device)")
    _define_output("folder to write to (default: WORKDIR/outputs)")(values)


def _define_preflight(values: flags.FlagValues) -> None:
    flags.DEFINE_string("topology", None, "KIND:SHAPE of a slice by its chips, e.g. v5p:4x4x8, or GPUs, e.g. h100:64", flag_values=values)
    flags.DEFINE_integer("slices", 1, "slices of TPUs, joined by the data centre's network", flag_values=values)
    programs = ["all", "train", "encode", "sample"]
    flags.DEFINE_enum("program", "all", programs, "what to compile", flag_values=values)
    flags.DEFINE_boolean("search", False, "rank meshes, remat policies, rows and parts of a step for it", flag_values=values)
    flags.DEFINE_string("json", None, "the file to write the figures to", flag_values=values)


def _define_codec(values: flags.FlagValues) -> None:
    flags.DEFINE_string("size", None, "WIDTHxHEIGHT in pixels to encode at (default: the file's own)", flag_values=values)
    flags.DEFINE_float(
        "memory_gb", None, "device memory to stay in (default: three quarters of what is free)", lower_bound=0, flag_values=values
    )
    _define_json(values)


_PREPARE_EXAMPLES = """\
videodit prepare --config=experiments/local.py:vae --workdir=runs/local

media files: a folder, gs:// prefix, glob, list (.txt), table (.jsonl, .csv, .parquet) or WebDataset tars (.tar)
  videodit prepare --config=experiments/local.py:vae_files --output=runs/mine --config.data.inputs=clips

as an Apache Beam pipeline on many machines: after -- come Beam's own options (needs pip install 'videodit[prepare]')
  videodit prepare ... --output=gs://bucket/dataset --config.data.inputs=gs://bucket/clips -- --runner=DataflowRunner
      --project=PROJECT --region=REGION --temp_location=gs://bucket/tmp --sdk_container_image=IMAGE_WITH_VIDEODIT
  videodit prepare ... -- --runner=FlinkRunner --flink_master=HOST:8081 --environment_type=DOCKER --environment_config=IMAGE
  videodit prepare ... -- --runner=SparkRunner --spark_master_url=spark://HOST:7077 --environment_type=DOCKER --environment_config=IMAGE
  videodit prepare ... -- --runner=DirectRunner --direct_running_mode=multi_processing --direct_num_workers=8"""

_SAMPLE_EXAMPLES = """\
videodit sample --workdir=runs/local --prompt="a red ball rolls left" --size=64x36 --seconds=2
  videodit sample --workdir=runs/local --task=image ball.png --prompt="a red ball rolls left"
  videodit sample --workdir=runs/local --task=extend clip.mp4 --direction=backward --seconds=1
  videodit sample --workdir=runs/local --task=fill clip.mp4 --missing=0.5-1.0
  videodit sample --workdir=runs/local --task=loop clip.mp4
  videodit sample --workdir=runs/local --task=connect first.mp4 second.mp4
  videodit sample --workdir=runs/local --task=edit clip.mp4 --prompt="a blue ball rolls left" --strength=0.7
  videodit sample --workdir=runs/local --prompts=prompts.txt --output=samples      (run again, it makes what is not there)"""

VERBS = {
    verb.name: verb
    for verb in (
        Verb(
            name="prepare",
            summary="make a dataset from the built-in worlds or from media files; run again, it adds what is new",
            example=_PREPARE_EXAMPLES,
            run=_prepare,
            config="required",
            define=_define_prepare,
            needs=(),
            takes="[-- BEAM OPTIONS]",
        ),
        Verb(
            name="train",
            summary="train a VAE or a diffusion transformer; run again, it goes on from its newest checkpoint",
            example="videodit train --config=experiments/local.py:dit --workdir=runs/local --config.train.steps=2000",
            run=_train,
            config="required",
        ),
        Verb(
            name="encode",
            summary="encode a dataset's clips into latents with a trained VAE, and its captions with public encoders",
            example="videodit encode --config=experiments/local.py:dit --workdir=runs/local",
            run=_encode,
            config="workdir",
        ),
        Verb(
            name="codec",
            summary="turn one video or image into latents with a VAE, or latents back, at any length in constant memory",
            example="videodit codec clip.mp4 clip.npz --workdir=runs/local/vae\n"
            "  videodit codec clip.npz back.mp4 --workdir=runs/local/vae\n"
            "  videodit codec clip.mp4 clip.npz --workdir=Wan2.1_VAE.safetensors   (public weights, or a directory of diffusers)",
            run=_codec,
            define=_define_codec,
            takes="IN OUT",
        ),
        Verb(
            name="export",
            summary="write a trained transformer as safetensors with its config beside it",
            example="videodit export runs/local/exported --workdir=runs/local",
            run=_export,
            define=_define_json,
            takes="DIR",
        ),
        Verb(
            name="sample",
            summary="generate videos and images: from a prompt, of images, on and back, what is missing, loops, joins, edits",
            example=_SAMPLE_EXAMPLES,
            run=_sample,
            define=_define_sample,
            takes="[INPUT ...]",
        ),
        Verb(
            name="evaluate",
            summary="measure a VAE's reconstructions and latents, and judge samples of the transformer on them",
            example="videodit evaluate --workdir=runs/local --json\n  videodit evaluate --workdir=runs/local --tasks",
            run=_evaluate,
            config="workdir",
            define=_define_evaluate,
        ),
        Verb(
            name="preflight",
            summary="say whether a job fits a pod, how fast it should be and what it costs, with no TPU at hand",
            example="videodit preflight --config=experiments/pods.py:8b --topology=v5p:4x4x8\n"
            "  videodit preflight --config=experiments/pods.py:8b --topology=v5p:4x4x8 --search",
            run=_preflight,
            config="required",
            define=_define_preflight,
            needs=("topology",),
        ),
        Verb(
            name="inspect",
            summary="show what a dataset, a workdir or a checkpoint holds, a record's frames, or what a config makes of each size",
            example="videodit inspect --workdir=runs/local --json\n  videodit inspect runs/local/dataset --record=0\n"
            "  videodit inspect runs/local/dataset --config=experiments/local.py:dit\n"
            "  videodit inspect --config=experiments/sizes.py:8b",
            run=_inspect,
            config="optional",
            define=_define_inspect,
            needs=(),
            takes="[PATH]",
        ),
    )
}


def _flag_values(verb: Verb) -> flags.FlagValues:
    values = flags.FlagValues()
    flags.DEFINE_string("workdir", None, "the job's directory, local or gs://", flag_values=values)
    verb.define(values)
    return values


def usage() -> str:
    """Returns the text of `videodit --help`."""
    verbs = "\n".join(f"  {verb.name:<10}{verb.summary}" for verb in VERBS.values())
    return (
        "usage: videodit VERB [--flag=value ...]\n\n"
        "Train a video diffusion transformer, from raw video to a finished sample.\n\n"
        f"verbs:\n{verbs}\n\n'videodit VERB --help' says more, with an example."
    )


def verb_usage(verb: Verb) -> str:
    """Returns the text of `videodit VERB --help`."""
    rows = []
    if verb.config:
        default = " (default: the workdir's config.json)" if verb.config == "workdir" else ""
        rows.append(("--config=FILE.py[:variant]", f"the experiment{default}"))
        rows.append(("--config.a.b=value", "override any field of the config"))
    values = _flag_values(verb)
    for name in sorted(values, key=lambda each: (each not in verb.needs, each)):
        flag = values[name]
        left = f"--{name}" if flag.boolean else f"--{name}={'DIR' if name in ('workdir', 'output') else name.upper()}"
        default = "" if flag.default is None or flag.boolean else f" (default: {flag.default})"
        rows.append((left, f"{flag.help}{default}"))
    width = max(len(left) for left, _ in rows) + 2
    lines = "\n".join(f"  {left:<{width}}{right}" for left, right in rows)
    place = f" {verb.takes}" if verb.takes else ""
    return f"usage: videodit {verb.name} [--flag=value ...]{place}\n\n{verb.summary}\n\nflags:\n{lines}\n\nexample:\n  {verb.example}"


def parse(verb: Verb, arguments: Sequence[str]) -> Call:
    """Returns the call that `arguments` (without the verb) ask for.

    Raises:
      UserError: on an unknown flag (naming the nearest right one), a bad value or a missing flag.
    """
    values = _flag_values(verb)
    config_value, overrides, others = flags_lib.split_config(arguments)
    if not verb.config and (config_value or overrides):
        raise UserError(f"{verb.name} takes no --config: it reads the workdir's own")
    try:
        _, *positional = values(["videodit", *others])
    except flags.UnrecognizedFlagError as error:
        known = [*values, *(["config"] if verb.config else []), "help"]
        hint = config_lib.nearest(error.flagname, known)
        raise UserError(f"{verb.name} has no flag --{error.flagname}{hint}") from error
    except flags.Error as error:
        raise UserError(f"{verb.name}: {str(error).splitlines()[0]}") from error
    if positional and not verb.takes:
        raise UserError(f"{verb.name} takes no argument {positional[0]!r}; flags are written --name=value")
    for name in verb.needs:
        if not values[name].value:
            raise UserError(f"{verb.name} lacks --{name}, e.g. {verb.example.splitlines()[0]}")
    return Call(flags=values, config=_config(verb, config_value, overrides, values.workdir), positional=tuple(positional))


def _config(verb: Verb, value: str | None, overrides: Sequence[str], workdir: str | None) -> ml_collections.ConfigDict | None:
    if verb.config is None:
        return None
    if value is not None:
        return flags_lib.load(value, overrides)
    if verb.config == "optional" and not overrides:
        return None
    if verb.config == "workdir" and (epath.Path(workdir) / "config.json").exists():
        return flags_lib.apply_overrides(config_lib.read_config(workdir), overrides)
    raise UserError(f"{verb.name} lacks --config=FILE.py[:variant], e.g. {verb.example.splitlines()[0]}")


def run(arguments: Sequence[str]) -> int:
    """Runs `videodit ARGUMENTS`; returns the exit status.

    Raises:
      UserError: on a mistake in usage, config or input.
    """
    if not arguments or arguments[0] in ("--help", "-h", "help", "-help"):
        print(usage())
        return 0
    name, *rest = arguments
    if name not in VERBS:
        raise UserError(f"videodit has no verb {name!r}{config_lib.nearest(name, VERBS)}")
    verb = VERBS[name]
    if any(each in ("--help", "-h", "-help") for each in rest):
        print(verb_usage(verb))
        return 0
    return verb.run(parse(verb, rest)) or 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The console command. Returns the exit status."""
    try:
        status = run(sys.argv[1:] if arguments is None else arguments)
        sys.stdout.flush()
        return status
    except UserError as error:
        print(f"videodit: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except RestartAsked as error:
        print(f"videodit: {error}", file=sys.stderr)
        return RESTART_STATUS
    except KeyboardInterrupt:
        print("videodit: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader, e.g. `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception:
        traceback.print_exc()
        return 1


if __name__ == "__main__":
    sys.exit(main())
