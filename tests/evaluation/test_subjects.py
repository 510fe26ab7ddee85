"""Baselines are what they say: shuffled prompts differ, and every prompt meets several sizes and lengths."""

from collections import Counter

import numpy as np
import pytest

from experiments.local import get_config
from videodit.data.worlds import prompts
from videodit.evaluation import judge_table, subjects
from videodit.evaluation.judge import judge
from videodit.evaluation.judge.fooling import FOOLS
from videodit.generation.sample import requests_for
from videodit.training.config import read_experiment


@pytest.mark.parametrize("labels", [[*range(110)] * 3 + [*range(70)], ["a", "b"] * 3, ["a", "a", "b", "c"], ["c", "a", "b", "a", "c"]])
def test_a_derangement_is_a_permutation_that_keeps_no_prompt(labels):
    for seed in range(20):
        taken = subjects.derangement(labels, seed)
        assert sorted(taken) == list(range(len(labels)))
        assert all(labels[i] != labels[k] for i, k in enumerate(taken))
    assert subjects.derangement(labels, 1) == subjects.derangement(labels, 1)


def test_one_prompt_has_no_derangement():
    with pytest.raises(ValueError, match="at most half"):
        subjects.derangement(["a", "a", "b"], 0)


def test_every_prompt_meets_several_sizes_and_lengths():
    config = read_experiment(get_config())
    asked = prompts(config.data.worlds)
    requests = requests_for(config, asked, config.evaluate.prompts, 1)
    by_prompt = {}
    for each in requests:
        by_prompt.setdefault(each.prompt, []).append(((each.height, each.width), each.frames))
    assert len(requests) == 400 and len(by_prompt) == len(asked) >= 100
    for met in by_prompt.values():
        assert len(met) >= 3 and len({size for size, _ in met}) == len(met)
    most = Counter((each.height, each.width, each.frames) for each in requests)
    for size in config.sample.sizes:
        assert most[*size, 17] == pytest.approx(20, abs=3) and most[*size, 9] == pytest.approx(60, abs=5)
    assert sum(17 in {frames for _, frames in met} for met in by_prompt.values()) > 60


def test_estimates_have_every_fact_and_print_as_one_table():
    config = read_experiment(get_config())
    asked = prompts(config.data.worlds)[:6]
    requests = requests_for(config, asked, 6, 1)
    scenes = [subjects.asked_of(config, request, truth, 9 + i) for i, (request, truth) in enumerate(zip(requests, asked))]
    shown = {"truth": [subjects.Judgement(verdict=judge(s.render(), s.fps), frames=s.frames, truth=t) for s, t in zip(scenes, asked)]}
    shown["shuffled prompts"] = subjects.shuffled(shown["truth"], 1)
    shown |= subjects.fooled(scenes, asked)
    found = subjects.estimates(shown, 1)
    assert set(found["truth"]) == set(judge_table.FACTS)
    assert found["truth"]["whole"]["share"] == 1 and found["shuffled prompts"]["whole"]["share"] == 0
    none = {"share": 0.0, "low": 0.0, "high": pytest.approx(0.39, abs=0.01), "n": 6}
    assert all(found[f"fool: {name}"]["whole"] == none for name in FOOLS)
    lines = judge_table.to_text(found).splitlines()
    assert len(lines) == 1 + len(found) and lines[0].split()[:3] == ["right,", "%", "clips"]
    assert np.ptp([len(line) for line in lines]) == 0
    assert set(subjects.confusions(shown["truth"])) == {"colour", "shape", "motion", "camera"}
