"""An experiment: every section of a config, read strictly."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from etils import epath

from videodit.core.config import read
from videodit.core.errors import UserError
from videodit.data.curriculum import MixtureConfig
from videodit.data.order import PackingConfig
from videodit.data.pipeline import VAEStage
from videodit.data.prepare import DataConfig
from videodit.data.sizes import SizePolicy
from videodit.diffusion.guidance import GuidanceConfig
from videodit.diffusion.process import ProcessConfig
from videodit.diffusion.shift import ShiftConfig, check_shift
from videodit.diffusion.solvers import SolverName
from videodit.models.dit.model import DiTConfig
from videodit.models.text.config import TRAINED, TextConfig
from videodit.models.vae.config import VAEConfig
from videodit.models.vae.losses import VAELossConfig
from videodit.sharding.mesh import MeshConfig


@dataclass(frozen=True, kw_only=True)
class VAETrainingConfig:
    """What the VAE is trained on: the batches of `stages`, the first from step 0 on and the last to `train.steps`, and its `loss`.

    `datasets`: directories of other data sets whose clips are trained on beside those of the experiment's own.
    `start`: a VAE of the form of `config.vae` whose weights a run begins with, "" for new ones: a workdir, or a Wan VAE's safetensors file
    or diffusers directory. Its latent statistics are measured anew, and its discriminator, where it has one, is not taken over.
    `cache_mb`: decoded windows, whole clips where a stage augments them, are kept in memory up to so many megabytes (10^6 bytes) a stage,
    so that a small data set is decoded once.
    """

    stages: tuple[VAEStage, ...] = (VAEStage(),)
    datasets: tuple[str, ...] = ()
    start: str = ""
    cache_mb: int = 256
    loss: VAELossConfig = field(default_factory=VAELossConfig)

    def __post_init__(self):
        steps = [stage.step for stage in self.stages]
        if not steps or steps[0] != 0 or steps != sorted(set(steps)):
            raise UserError(f"config vae_training.stages begin at steps {steps}, expected 0 and then more from stage to stage")


@dataclass(frozen=True, kw_only=True)
class LatentsConfig:
    """What `encode` makes. `path` "" is WORKDIR/latents; `vae`, a VAE's workdir or public weights (`restore.load_vae`), "" is WORKDIR/vae.

    `policy` says at what size and length clips are encoded, `max_sizes` at how many sizes (height, width) at most: each is compiled for
    every power of two of lengths. `batch`: clips encoded at once; `shard`: clips a file; `tokenizer`: other latents, whose "trained"
    tokenizer is taken where it is not "". `stored` False writes neither latents nor embeddings of captions, only what training is planned
    from: it encodes clips and captions as it comes to them, each time anew.
    """

    path: str = ""
    vae: str = ""
    policy: SizePolicy = field(default_factory=SizePolicy)
    max_sizes: int = 32
    batch: int = 32
    shard: int = 256
    tokenizer: str = ""
    stored: bool = True


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """AdamW (Loshchilov and Hutter, 2019) or Muon (`training/muon.py`) with linear warm-up and cosine decay to `end_factor` times the peak.

    Weight decay is on matrices alone. Gradients are clipped to a global norm of `clip`. `ema_decay` is of the average of weights that
    sampling uses, reached gradually over the first steps. Where `base_width` is not 0, `learning_rate` is for a transformer of that width:
    matrices whose inputs are as many as the width learn at `base_width / width` times it, so that one rate serves every size (maximal
    update parametrisation for Adam; Yang et al., "Tensor Programs V", 2022, table 3).

    `name` "muon": the matrices between a model's first and last layers learn by Muon, everything else by AdamW at `adam_factor` times the
    learning rate. It takes no `base_width`.

    `param_dtype` is of the parameters; "bfloat16" ones are updated in float32 and rounded stochastically (Gupta et al., 2015), so that
    updates smaller than their last digit are not lost. `mu_dtype` is of Adam's first moment. The second moment and the average of weights
    are float32.
    """

    name: Literal["adamw", "muon"] = "adamw"
    learning_rate: float = 2e-3
    adam_factor: float = 0.2
    base_width: int = 0
    warmup: int = 40
    end_factor: float = 0.02
    b1: float = 0.9
    b2: float = 0.99
    eps: float = 1e-8
    weight_decay: float = 0.01
    clip: float = 1.0
    ema_decay: float = 0.99
    param_dtype: Literal["float32", "bfloat16"] = "float32"
    mu_dtype: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self):
        if self.name == "muon" and self.base_width:
            raise UserError(
                f"optimizer.base_width is {self.base_width} with optimizer.name='muon', expected 0: its rate is for AdamW's updates"
            )


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The loop: `steps` in all, and how often to log, save and sample. `threads` read data ahead.

    Of the checkpoints stay the `keep` newest, those at multiples of `keep_every` steps (0 for none beside), and the `keep_best` whose mean
    of `best`, a metric of the step such as "loss", over the steps since the one before was the lowest.
    `bad_share`: records that cannot be read are skipped; beyond this share of them the run stops. `accumulate`: a step of the transformer
    takes its rows in so many parts, one after another, and so needs the memory of one part; what it gives is the same.
    `profile`: (step, steps) of a trace in WORKDIR/profile that XProf and TensorBoard open; no steps, no trace.
    `compile_cache`: the directory of compiled programs, local or gs://, that a restart reads them from; "" is WORKDIR/.jax_cache.
    JAX_COMPILATION_CACHE_DIR goes before it.
    """

    steps: int = 1000
    seed: int = 0
    accumulate: int = 1
    log_every: int = 20
    save_every: int = 200
    sample_every: int = 200
    keep: int = 2
    keep_every: int = 0
    keep_best: int = 0
    best: str = "loss"
    threads: int = 2
    bad_share: float = 0.01
    profile: tuple[int, int] = (0, 0)
    compile_cache: str = ""

    def __post_init__(self):
        for name in ("steps", "log_every", "save_every", "sample_every", "keep", "accumulate"):
            if getattr(self, name) < 1:
                raise UserError(f"train.{name} is {getattr(self, name)}, expected 1 or more")
        for name in ("keep_every", "keep_best"):
            if getattr(self, name) < 0:
                raise UserError(f"train.{name} is {getattr(self, name)}, expected 0 or more")


@dataclass(frozen=True, kw_only=True)
class StartConfig:
    """What a new run takes over from `checkpoint`, of a run with the same model: a workdir (its newest), one checkpoint's directory, or a
    transformer that `videodit export` wrote, which holds weights alone; "" for nothing. A run that has a checkpoint of its own goes on
    from that.

    `take`: "weights" or "average" begin with those as weights and average; "model" with both, their statistics and the discriminator's
    weights; the optimizer, the step and the data's order begin anew in all three. "all" takes these over too.
    """

    checkpoint: str = ""
    take: Literal["weights", "average", "model", "all"] = "weights"


@dataclass(frozen=True, kw_only=True)
class SurvivalConfig:
    """What a run does about steps that go wrong and hosts that hang.

    A step is skipped, its update not applied, where the loss or a gradient is not finite, or the gradient's norm is over `spike` times its
    running average over `window` steps (0: never), once `window` steps have been averaged. Such a spike doubles the average: a change that
    lasts is soon no spike any more. `patience` steps skipped in a row roll back to the newest checkpoint, with another order of the data
    from there on; after `rollbacks` of them the run stops.
    `hang_seconds` without a finished step (compiling, sampling and saving count for themselves) end the process with the status that asks
    for a restart, after a dump of all stacks; 0 for never.
    """

    spike: float = 20.0
    window: int = 100
    patience: int = 5
    rollbacks: int = 10
    hang_seconds: float = 3600.0

    def __post_init__(self):
        if self.spike != 0 and self.spike <= 1:
            raise UserError(f"survival.spike is {self.spike}, expected more than 1, or 0 for never")
        for name, least in (("window", 1), ("patience", 1), ("rollbacks", 0), ("hang_seconds", 0)):
            if getattr(self, name) < least:
                raise UserError(f"survival.{name} is {getattr(self, name)}, expected {least} or more")


@dataclass(frozen=True, kw_only=True)
class SampleConfig:
    """How samples are drawn: by `steps` steps of `solver`, levels shifted towards noise by `shift`, led by `guidance`; a number for it
    is its scale.

    Heun's method costs 2 evaluations a step and one in the last, all others 1; "sde-dpm++" draws new noise in each step. `negative`: what
    samples are led away from, by default the empty caption. `fps`: frames a second. `history_noise`: the noise level from which a clip of
    several windows makes again what it goes on from, so that faults do not add up (stabilisation; Chen et al., "Diffusion Forcing", 2024);
    None: the most that training gave to what is known, `process.known.noise`.
    `prompts`, `sizes` (height, width) and `frames` are of the samples drawn while training; no prompts draws captions of held-out clips.
    """

    solver: SolverName = "heun"
    steps: int = 20
    guidance: GuidanceConfig | float = field(default_factory=GuidanceConfig)
    negative: str = ""
    shift: ShiftConfig | float = 1.0
    fps: float = 8.0
    history_noise: float | None = None
    prompts: tuple[str, ...] = ()
    count: int = 8
    sizes: tuple[tuple[int, int], ...] = ((40, 40),)
    frames: tuple[int, ...] = (9,)
    seed: int = 0

    def __post_init__(self):
        if self.steps < 1:
            raise UserError(f"sample.steps is {self.steps}, expected 1 or more")
        if self.history_noise is not None and not 0 <= self.history_noise < 1:
            raise UserError(
                f"sample.history_noise is {self.history_noise:g}, expected 0, which takes what was made as it is, to less than 1"
            )
        check_shift(self.shift, "sample.shift")
        if not isinstance(self.guidance, GuidanceConfig):
            object.__setattr__(self, "guidance", GuidanceConfig(scale=self.guidance))


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """How much is measured: held-out clips reconstructed by the VAE, `prompts` samples of held-out prompts (of all of them in turn) to
    judge, scenes to try `tasks` on. `fvd_clips`: at most so many samples are measured by FVD, which takes the extra `fvd`; 0 is none."""

    reconstructions: int = 64
    prompts: int = 96
    tasks: int = 20
    fvd_clips: int = 0
    seed: int = 1


@dataclass(frozen=True, kw_only=True)
class ExperimentConfig:
    """All of it. `model` says which model `train` trains."""

    model: Literal["vae", "dit"]
    data: DataConfig = field(default_factory=DataConfig)
    vae: VAEConfig = field(default_factory=VAEConfig)
    vae_training: VAETrainingConfig = field(default_factory=VAETrainingConfig)
    latents: LatentsConfig = field(default_factory=LatentsConfig)
    text: TextConfig = field(default_factory=TextConfig)
    dit: DiTConfig = field(default_factory=DiTConfig)
    mixture: MixtureConfig = field(default_factory=MixtureConfig)
    packing: PackingConfig = field(default_factory=PackingConfig)
    process: ProcessConfig = field(default_factory=ProcessConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    start: StartConfig = field(default_factory=StartConfig)
    survival: SurvivalConfig = field(default_factory=SurvivalConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)
    sample: SampleConfig = field(default_factory=SampleConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)


def read_experiment(config: Mapping[str, Any]) -> ExperimentConfig:
    """Reads a config (ConfigDict or dict). Raises UserError that names the key, its value and what is right.

    One that says of its VAE everything but whether its blocks are lapped was saved before they could be.
    """
    if "fold" in config.get("vae", {}) and "lapped" not in config["vae"]:
        config = {**config, "vae": {**config["vae"], "lapped": False}}
    experiment = read(ExperimentConfig, config)
    grid = tuple(s * p for s, p in zip(experiment.vae.stride, experiment.dit.patch))
    if experiment.latents.policy.grid != grid:
        raise UserError(
            f"config latents.policy.grid is {experiment.latents.policy.grid}, expected the VAE's stride times the patch, {grid}"
        )
    _check_text(experiment)
    stride = experiment.vae.stride
    for number, stage in enumerate(experiment.vae_training.stages):
        if stage.policy.grid != stride:
            raise UserError(f"config vae_training.stages[{number}].policy.grid is {stage.policy.grid}, expected the VAE's stride, {stride}")
    if experiment.model == "vae" and experiment.start.checkpoint and experiment.vae_training.start:
        raise UserError(
            f"config start.checkpoint is {experiment.start.checkpoint!r} and vae_training.start {experiment.vae_training.start!r}: "
            "a run begins with one of them, expected the other to be empty"
        )
    accumulate, rows = experiment.train.accumulate, experiment.packing.rows
    if rows % accumulate:
        raise UserError(f"config train.accumulate is {accumulate}, expected a divisor of packing.rows={rows}")
    if experiment.model == "vae":
        if accumulate > 1:
            raise UserError(
                f"config train.accumulate is {accumulate}, expected 1: a VAE takes its clips at once, vae_training.stages' batch"
            )
        _check_steps(experiment.vae_training, experiment.train.steps)
    return experiment


def _check_text(experiment: ExperimentConfig) -> None:
    text, taken = experiment.text, experiment.latents.tokenizer
    if taken and (text.tokenizer != TRAINED or text.encoders):
        raise UserError(
            f"config latents.tokenizer is {taken!r}, other latents whose tokenizer is taken, but text is not from a trained one: expected "
            f"text.tokenizer={TRAINED!r} and no text.encoders"
        )
    if text.refiner.depth > 0 and experiment.dit.width % (2 * text.refiner.heads):
        raise UserError(
            f"config text.refiner.heads is {text.refiner.heads}, expected a divisor of {experiment.dit.width // 2}, half of dit.width"
        )


def _check_steps(settings: VAETrainingConfig, steps: int) -> None:
    adversarial = settings.loss.adversarial
    if adversarial.weight > 0 and adversarial.start >= steps:
        raise UserError(
            f"config vae_training.loss.adversarial.start is {adversarial.start}, expected a step before the last, train.steps={steps}, "
            "or no discriminator: weight=0"
        )
    if settings.stages[-1].step >= steps:
        raise UserError(
            f"config vae_training.stages[{len(settings.stages) - 1}].step is {settings.stages[-1].step}, expected a step before the last, "
            f"train.steps={steps}"
        )


def dataset_path(config: ExperimentConfig, workdir: epath.PathLike) -> epath.Path:
    """Where the prepared data set of a workdir is."""
    return epath.Path(config.data.path) if config.data.path else epath.Path(workdir) / "dataset"


def latents_path(config: ExperimentConfig, workdir: epath.PathLike) -> epath.Path:
    """Where the latents of a workdir are."""
    return epath.Path(config.latents.path) if config.latents.path else epath.Path(workdir) / "latents"


def vae_path(config: ExperimentConfig, workdir: epath.PathLike) -> epath.Path:
    """Where the VAE is that a workdir's latents are made with."""
    return epath.Path(config.latents.vae) if config.latents.vae else epath.Path(workdir) / "vae"
