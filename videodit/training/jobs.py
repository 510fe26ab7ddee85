"""What the loop needs to know of a job: its model, its data, the work in a batch, and the pictures it shows while it trains."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
import functools
from typing import Any

from etils import epath
import grain
import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
import numpy as np

from videodit.core.errors import UserError
from videodit.data.bad_records import BadRecords
from videodit.data.curriculum import MAIN
from videodit.data.dataset import ClipDataset, JoinedClips
from videodit.data.latents import LatentDataset
from videodit.data.order import TextSizes
from videodit.data.packing import text_length
from videodit.data.pipeline import StagedBatches, VAEBatches, VAEStage, packed_batches, vae_batches
from videodit.models.dit.model import row_shapes
from videodit.models.text.config import TRAINED
from videodit.models.text.embedder import TextEmbedderConfig
from videodit.models.text.source import TOKENIZER, RememberedText, TextSource, check_identity, open_text
from videodit.models.vae.losses import PerceptualConfig
from videodit.sharding.mesh import make_mesh
from videodit.sharding.rules import batch_shardings, global_batch, process_rows
from videodit.training.adversarial import AdversarialVAE
from videodit.training.config import ExperimentConfig, dataset_path, latents_path
from videodit.training.models import DiTModel, VAEModel


@dataclass(frozen=True, kw_only=True)
class Job:
    """A training job. `work` gives what a host batch asks for: `tokens` (or clips), `slots` and `flops` of the step.

    `pictures(state, directory)` writes what the model makes now. `device_features`: what of a batch the step reads; `constants`: arrays on
    the devices that it reads with every batch. `bad`: records that could not be read. `notes`: lines for the log. `start`: gives the
    parameters that a run begins with, where these are not drawn from its seed.
    """

    model: Any
    batches: grain.DatasetIterator
    unit: str
    work: Callable[[Mapping[str, np.ndarray]], dict[str, float]]
    device_features: tuple[str, ...]
    pictures: Callable[[Any, epath.Path], None]
    bad: BadRecords = field(default_factory=BadRecords)
    constants: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    start: Callable[[], Any] | None = None

    def worth(self, batch: Mapping[str, np.ndarray]) -> dict[str, float]:
        """The work of the whole step, as far as the rows that this process holds tell."""
        share = len(batch["row"]) / int(batch["rows"]) if "row" in batch else 1.0
        return {name: value / share for name, value in self.work(batch).items()}

    def to_device(self, batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, Any]:
        """What the step reads of a host batch, laid out on the mesh, and the constants. `row` and `rows` say which rows of how many the
        batch holds; all where it lacks them."""
        wanted = {name: batch[name] for name in self.device_features}
        if "row" not in batch:
            return jax.device_put(wanted, batch_shardings(wanted, mesh)) | self.constants
        return global_batch(wanted, batch["row"].tolist(), int(batch["rows"]), mesh) | self.constants


def make_job(config: ExperimentConfig, workdir: epath.Path) -> Job:
    """The job that `config.model` names."""
    return {"vae": _vae_job, "dit": _dit_job}[config.model](config, workdir)


def vae_model(config: ExperimentConfig) -> VAEModel:
    """The VAE of a config, with a discriminator where its loss asks for one."""
    loss = config.vae_training.loss
    return (AdversarialVAE if loss.adversarial.weight > 0 else VAEModel)(config=config.vae, loss_config=loss)


def _vae_job(config: ExperimentConfig, workdir: epath.Path) -> Job:
    from videodit.evaluation.reconstruction import write_reconstructions
    from videodit.training.restore import load_start

    settings, model, directory = config.vae_training, vae_model(config), dataset_path(config, workdir)
    bad, mesh = BadRecords(config.train.bad_share), make_mesh(config.mesh)
    check_batches(settings.stages, mesh)
    dataset = JoinedClips([ClipDataset(each) for each in (directory, *settings.datasets)])
    options = {"bad": bad, "mine": lambda rows: process_rows(rows, mesh)}
    sources = [
        VAEBatches(dataset, stage, config.train.seed + number, cache_bytes=settings.cache_mb * 10**6, **options)
        for number, stage in enumerate(settings.stages)
    ]
    params = jax.eval_shape(model.init, jax.random.key(0))
    flops: dict[tuple[int, ...], float] = {}

    def work(batch):
        shape = batch["pixels"].shape
        if shape not in flops:  # as XLA counts the forward pass, times three for training
            forward = jax.jit(lambda p, x: model.module.apply({"params": p}, x, jax.random.key(0)))
            flops[shape] = 3 * forward.lower(params, jax.ShapeDtypeStruct(shape, jnp.float32)).cost_analysis()["flops"]
        return {"tokens": float(shape[0]), "slots": float(shape[0]), "flops": flops[shape]}

    constants, notes = _perceptual(settings.loss.perceptual, mesh)
    return Job(
        model=model,
        batches=vae_batches(StagedBatches(settings.stages, sources), config.train.threads),
        unit="clips",
        work=work,
        device_features=("pixels",),
        pictures=lambda state, to: write_reconstructions(config, directory, model, state["ema"], to),
        bad=bad,
        constants=constants,
        notes=(*notes, f"it began with the weights of {settings.start}") if settings.start else notes,
        start=(lambda: load_start(settings.start, config.vae)) if settings.start else None,
    )


def check_batches(stages: Sequence[VAEStage], mesh: Mesh) -> None:
    """Raises UserError where a stage's batch does not fit the mesh."""
    # Clips fill data x fsdp where frames are split too: XLA's partitioner gives wrong numbers where the weights are split over an axis that
    # the activations beside a split height are whole on (seen with jax 0.10.2 at data=2, fsdp=2, context=2 and two clips).
    ways = mesh.shape["data"] * mesh.shape["fsdp"]
    for stage in stages:
        if mesh.shape["context"] * mesh.shape["tensor"] > 1 and stage.batch % ways:
            raise UserError(f"vae_training batch is {stage.batch}, expected a multiple of mesh data x fsdp, {ways}, where frames are split")


def _perceptual(config: PerceptualConfig, mesh: Mesh) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The constants that LPIPS adds to a job, its weights, whole on every device, and a line that says whether it is on."""
    weights = config.load()
    if weights is None:
        why = "its weight is 0" if config.network else "vae_training.loss.perceptual.network and heads name no weights"
        return {}, (f"LPIPS is off: {why}",)
    return {"perceptual": jax.device_put(weights, NamedSharding(mesh, PartitionSpec()))}, (f"LPIPS is on, by {config.network}",)


def dit_model(config: ExperimentConfig, latent_channels: int, text: TextEmbedderConfig) -> DiTModel:
    """The transformer of a config, for latents and text tokens."""
    return DiTModel(config=config.dit, process=config.process, latent_channels=latent_channels, text=text)


def planned_slots(config: ExperimentConfig) -> tuple[int, ...]:
    """Slots of each encoder's text in a row, before an index says how long captions are: as for rows of the largest clips with the longest
    captions that there may be."""
    most = config.packing.max_text_tokens
    limits = [min(most, each.max_tokens) for each in config.text.encoders] or [most]
    sample = sum(limits) + config.latents.policy.max_tokens
    return tuple(text_length(-(-config.packing.length * each // sample)) for each in limits)


def _dit_job(config: ExperimentConfig, workdir: epath.Path) -> Job:
    from videodit.generation.sample import write_training_samples

    sources = _sources(config, workdir)
    directory, most = sources[MAIN].directory, config.packing.max_text_tokens
    text = open_text(config.text, directory, most, batch=1)
    sizes = TextSizes(empty=text.lengths(""), limits=text.limits)
    remembered = RememberedText(lambda: open_text(config.text, directory, most))
    model = dit_model(config, sources[MAIN].channels, text.embedder)
    bad, mine = BadRecords(config.train.bad_share), process_rows(config.packing.rows, make_mesh(config.mesh))
    batches = packed_batches(
        sources,
        config.mixture,
        config.packing,
        config.dit.patch,
        sizes,
        functools.partial(_read_text, text),
        seed=config.train.seed,
        threads=config.train.threads,
        bad=bad,
        mine=mine,
    )
    return Job(
        model=model,
        batches=batches,
        unit="tokens",
        work=model.work,
        device_features=("patches", *row_shapes(text.embedder, 1, 1, [1] * len(text.limits))),
        pictures=lambda state, to: write_training_samples(config, workdir, state["ema"], to, remembered),
        bad=bad,
        notes=tuple(note for name, source in sources.items() for note in _cut_notes(name, source, config, text)),
    )


def _read_text(text: TextSource, record: Mapping[str, Any], kind: str) -> Sequence[np.ndarray]:
    """The text tokens of a record: those that `encode` stored, else made now."""
    if "text" in record:
        return [part[:most] for part, most in zip(record["text"][kind], text.limits, strict=True)]
    return text.encode([record["captions"][kind] if kind else ""])[0]


def _cut_notes(name: str, source: LatentDataset, config: ExperimentConfig, text: TextSource) -> Iterator[str]:
    """A line that says how many captions are cut, where any is."""
    counts = [counts for kind, counts in source.text_tokens.items() if config.packing.caption_odds.get(kind, 0) > 0]
    cut, there = (sum(int(each.any(axis=1).sum()) for each in found) for found in ([c > text.limits for c in counts], counts))
    if cut:
        yield f"{cut:,} of the {there:,} captions of {name!r} are longer than {' and '.join(map(str, text.limits))} tokens, and cut"


def _sources(config: ExperimentConfig, workdir: epath.Path) -> dict[str, LatentDataset]:
    """The mixture's sources by name. Raises UserError where one was made with another VAE or text than the first, or the first with other
    text than the config asks for."""
    from videodit.training.live import LiveLatents

    def opened(directory):
        latents = LatentDataset(directory)
        return latents if latents.stored else LiveLatents(latents, config, workdir)

    first = latents_path(config, workdir)
    found = {MAIN: opened(first)}
    check_identity(found[MAIN].text_identity, config.text, first)
    for source in config.mixture.sources:
        found[source.name] = latents = opened(source.path)
        same_vae = latents.vae_fingerprint == found[MAIN].vae_fingerprint
        if not same_vae or not _same_text(latents, found[MAIN]):
            raise UserError(
                f"source {source.name!r}, {source.path!r}, was encoded with another {'text' if same_vae else 'VAE'} than {first!s}: encode "
                f"it again with the same latents.vae and text, and for a trained tokenizer latents.tokenizer={first!s}"
            )
    return found


def _same_text(one: LatentDataset, other: LatentDataset) -> bool:
    if one.text_identity != other.text_identity:
        return False
    trained = one.text_identity.get("tokenizer") == TRAINED
    return not trained or (one.directory / TOKENIZER).read_bytes() == (other.directory / TOKENIZER).read_bytes()
