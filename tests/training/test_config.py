"""Settings of sampling and the process read from a config's sections, and as the numbers that stand for them."""

import pytest

from videodit.core.config import read, to_dict
from videodit.core.errors import UserError
from videodit.diffusion.guidance import GuidanceConfig
from videodit.diffusion.process import ProcessConfig
from videodit.diffusion.shift import ShiftConfig
from videodit.training.config import SampleConfig, read_experiment


def test_a_number_for_guidance_is_its_scale():
    assert read(SampleConfig, {"guidance": 3.0}).guidance == GuidanceConfig(scale=3.0)
    assert read(SampleConfig, {"guidance": {"rescale": 0.7}}).guidance == GuidanceConfig(rescale=0.7)


@pytest.mark.parametrize("shift", [3.0, ShiftConfig(high=4.0)])
def test_a_shift_is_a_number_or_a_section_and_reads_back_as_it_was_written(shift):
    for config in (SampleConfig(shift=shift), ProcessConfig(shift=shift)):
        assert read(type(config), to_dict(config)) == config


@pytest.mark.parametrize("wrong", [{"solver": "ddim"}, {"steps": 0}, {"shift": 0.5}, {"guidance": {"scale": -1.0}}])
def test_wrong_settings_of_sampling_are_named(wrong):
    (name,) = wrong
    with pytest.raises(UserError, match=name):
        read(SampleConfig, wrong, "sample")


@pytest.mark.parametrize(
    "variant, accumulate, said",
    [("dit", 3, "expected a divisor of packing.rows=4"), ("vae", 2, "expected 1: a VAE"), ("dit", 0, "1 or more")],
)
def test_parts_that_a_step_cannot_be_taken_in_are_named(tiny, variant, accumulate, said):
    with pytest.raises(UserError, match=f"train.accumulate is {accumulate}.*{said}"):
        tiny(variant, train={"accumulate": accumulate})


def test_a_vae_that_was_saved_before_blocks_could_be_lapped_has_plain_ones(tiny):
    saved = to_dict(tiny("vae"))
    assert read_experiment(saved).vae.lapped
    del saved["vae"]["lapped"]
    assert not read_experiment(saved).vae.lapped
