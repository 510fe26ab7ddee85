"""The JobSet: held against the published schemas, and what becomes of a pod that ends."""

import json

import pytest

from launch import gke
from videodit.core.errors import RESTART_STATUS


@pytest.fixture
def made(asked):
    return lambda *more: gke.manifest(*asked("gke", *more))


def slice_of(manifest):
    return manifest["spec"]["replicatedJobs"][0]["template"]


def pod_of(manifest):
    return slice_of(manifest)["spec"]["template"]["spec"]


def holds(whole, part):
    """Whether all of `part` is in `whole`: what a schema does not know is lost when it is read, and defaults are added."""
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(key in whole and holds(whole[key], value) for key, value in part.items())
    if isinstance(part, list):
        return isinstance(whole, list) and len(whole) == len(part) and all(map(holds, whole, part))
    return whole == part


EVERYTHING = ("--spot", "--queue=multislice-queue", "--service-account=trainer", "--namespace=video")


@pytest.mark.parametrize("more", [(), EVERYTHING, ("--topology=tpu7x:4x4x4",), ("--topology=v5e:1x1", "--slices=1")])
def test_it_is_a_jobset_by_the_published_schema(made, more):
    models = pytest.importorskip("kubeflow_trainer_api.models", reason="kubeflow-trainer-api, of the dev extra, is not installed")
    read = lambda manifest: json.loads(models.JobsetV1alpha2JobSet.from_dict(manifest).to_json())
    manifest = made(*more)
    assert manifest["apiVersion"] == "jobset.x-k8s.io/v1alpha2"
    assert holds(read(manifest), manifest)
    manifest["spec"]["replicatedJobs"][0]["template"]["spec"]["paralelism"] = 4
    assert not holds(read(manifest), manifest)


@pytest.mark.parametrize("version", ["1.33", "1.34"])
@pytest.mark.parametrize("more", [(), EVERYTHING])
def test_each_slice_is_a_job_by_the_published_schema(made, more, version):
    schemas = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate, of the dev extra, is not installed")
    job = {"apiVersion": "batch/v1", "kind": "Job", **slice_of(made(*more))}
    schemas.validate(job, version, strict=True)
    job["spec"]["paralelism"] = 4
    with pytest.raises(schemas.ValidationError):
        schemas.validate(job, version, strict=True)


def test_a_slice_is_a_job_and_a_host_a_pod(made):
    manifest = made("--topology=v5p:8x16x16", "--slices=2")
    (slices,) = manifest["spec"]["replicatedJobs"]
    job, pod = slice_of(manifest)["spec"], pod_of(manifest)
    assert slices["replicas"] == 2 and job["parallelism"] == job["completions"] == 512
    assert pod["containers"][0]["resources"]["limits"] == {"google.com/tpu": 4}
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": "tpu-v5p-slice",
        "cloud.google.com/gke-tpu-topology": "8x16x16",
    }


def test_a_preemption_starts_all_again_and_a_crash_counts(made):
    manifest = made("--restarts=5")
    job, policy = slice_of(manifest)["spec"], manifest["spec"]["failurePolicy"]
    assert policy["maxRestarts"] == 5 and job["backoffLimit"] == 0
    assert [(rule["action"], rule["onJobFailureReasons"]) for rule in policy["rules"]] == [
        ("RestartJobSetAndIgnoreMaxRestarts", ["PodFailurePolicy"])
    ]
    evicted, asked = job["podFailurePolicy"]["rules"]
    assert evicted["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
    container = pod_of(manifest)["containers"][0]["name"]
    assert asked["onExitCodes"] == {"containerName": container, "operator": "In", "values": [RESTART_STATUS]}
    assert {evicted["action"], asked["action"]} == {"FailJob"}


def test_kueue_and_xpk_find_it(made):
    assert "kueue.x-k8s.io/queue-name" not in made()["metadata"]["labels"]
    metadata = made(*EVERYTHING)["metadata"]
    assert metadata["labels"] == {"xpk.google.com/workload": "sizes-8b", "kueue.x-k8s.io/queue-name": "multislice-queue"}
    assert metadata["annotations"]["alpha.jobset.sigs.k8s.io/exclusive-topology"] == "cloud.google.com/gke-nodepool"
    assert metadata["namespace"] == "video"


def test_the_run_hears_a_sigterm_and_has_time_to_save(made):
    pod = pod_of(made("--config.train.steps=7"))
    (container,) = pod["containers"]
    # no shell stands before it
    assert container["command"] == [
        "videodit", "train", "--config=experiments/sizes.py:8b", "--workdir=gs://bucket/run", "--config.train.steps=7",
    ]  # fmt: skip
    assert pod["terminationGracePeriodSeconds"] >= 300 and pod["restartPolicy"] == "Never"
    told = {each["name"]: each["value"] for each in container["env"]}
    assert told["VIDEODIT_PROCESSES"] == "auto" and "--xla_tpu_enable_data_parallel_all_reduce_opt=true" in told["LIBTPU_INIT_ARGS"]
