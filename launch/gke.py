"""TPUs of a GKE cluster: a JobSet with one Job a slice and one pod a host. Works beside Kueue (`--queue`) and in clusters that xpk made.

JobSet 0.6 or newer. A pod that is evicted or preempted, or ends with RESTART_STATUS, fails its Job by the pod failure policy, and JobSet
starts all slices again without counting; any other failure counts against `--restarts`, over the whole run, for a cluster knows nothing
of checkpoints.
"""

import argparse
import json
import subprocess
from typing import Any

from launch.job import GRACE_SECONDS, Job
from launch.machines import TPUS
from videodit.core.errors import RESTART_STATUS, UserError

ABOUT = "a GKE cluster with TPUs: a JobSet, by kubectl"

_CONTAINER = "videodit"
# Of libtpu: between the hosts of a slice, between slices, and for metrics.
_PORTS = (8471, 8080, 8431)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--image", required=True, help="the container, of launch/Containerfile with EXTRA=tpu")
    parser.add_argument("--namespace", default="default")
    parser.add_argument("--queue", help="Kueue's local queue; multislice-queue in clusters that xpk made")
    parser.add_argument("--service-account", help="of Kubernetes, with access to the workdir")
    parser.add_argument("--spot", action="store_true", help="on spot nodes")


def manifest(job: Job, options: argparse.Namespace) -> dict[str, Any]:
    """The JobSet (jobset.x-k8s.io/v1alpha2). Raises UserError where the job cannot run on GKE's TPUs."""
    if not job.machine.is_tpu:
        raise UserError(f"--topology is {job.machine.topology}, expected a TPU; GPU hosts are started by slurm")
    labels = {"xpk.google.com/workload": job.name}  # by which `xpk workload list` finds it
    queue = {"kueue.x-k8s.io/queue-name": options.queue} if options.queue else {}
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": {
            "name": job.name,
            "namespace": options.namespace,
            "labels": labels | queue,
            # a slice is a node pool, and belongs to one Job alone
            "annotations": {"alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"},
        },
        "spec": {
            "failurePolicy": {
                "maxRestarts": job.limit,
                "rules": [
                    {"name": "preempted", "action": "RestartJobSetAndIgnoreMaxRestarts", "onJobFailureReasons": ["PodFailurePolicy"]}
                ],
            },
            "replicatedJobs": [{"name": "slice", "replicas": job.slices, "template": _slice(job, options, labels)}],
        },
    }


def _slice(job: Job, options: argparse.Namespace, labels: dict[str, str]) -> dict[str, Any]:
    """The Job of one slice: all of its hosts or none."""
    return {
        "metadata": {"labels": labels},
        "spec": {
            "parallelism": job.machine.hosts,
            "completions": job.machine.hosts,
            "completionMode": "Indexed",
            "backoffLimit": 0,  # a pod alone is never started again: the others wait for it in vain
            "podFailurePolicy": {
                "rules": [
                    {"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                    {
                        "action": "FailJob",
                        "onExitCodes": {"containerName": _CONTAINER, "operator": "In", "values": [RESTART_STATUS]},
                    },
                ]
            },
            "template": {"metadata": {"labels": labels}, "spec": _pod(job, options)},
        },
    }


def _pod(job: Job, options: argparse.Namespace) -> dict[str, Any]:
    """One host."""
    spot = {"cloud.google.com/gke-spot": "true"} if options.spot else {}
    tolerations = [{"key": "google.com/tpu", "operator": "Exists", "effect": "NoSchedule"}]
    if options.spot:
        tolerations.append({"key": "cloud.google.com/gke-spot", "operator": "Equal", "value": "true", "effect": "NoSchedule"})
    account = {"serviceAccountName": options.service_account} if options.service_account else {}
    container = {
        "name": _CONTAINER,
        "image": options.image,
        "command": job.train(["videodit"], job.config_in_image(), job.workdir_in_cloud()),
        "env": [{"name": name, "value": value} for name, value in job.environment().items()],
        "ports": [{"containerPort": port} for port in _PORTS],
        "resources": {"limits": {"google.com/tpu": job.machine.chips_per_host}},
        "securityContext": {"privileged": True},  # libtpu locks memory and opens the chips' devices
    }
    return {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "hostNetwork": True,  # slices speak to each other at the network card's own rate
        "dnsPolicy": "ClusterFirstWithHostNet",
        "nodeSelector": {
            "cloud.google.com/gke-tpu-accelerator": TPUS[job.machine.kind].gke,
            "cloud.google.com/gke-tpu-topology": job.machine.shape_name,
        }
        | spot,
        "tolerations": tolerations,
        "containers": [container],
        **account,
    }


def plan(job: Job, options: argparse.Namespace) -> str:
    """What `run` does, as a script."""
    return f"kubectl create --filename=- <<'MANIFEST'\n{json.dumps(manifest(job, options), indent=2)}\nMANIFEST"


def run(job: Job, options: argparse.Namespace) -> int:
    """Creates the JobSet; the cluster does the rest. Returns kubectl's exit status."""
    return subprocess.run(["kubectl", "create", "--filename=-"], input=json.dumps(manifest(job, options)), text=True).returncode
