#!/usr/bin/env bash
# The main job on one machine: prepare a dataset, train the VAE, encode latents, train the DiT, evaluate, write report.html.
# Run again, it skips what is finished and goes on where it was killed.
set -euo pipefail

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
source "$repository/launch/environment.sh"

usage() {
  cat <<'HELP'
usage: launch/local.sh [--workdir DIR] [--data PLACE] [--config FILE.py]

Installs into its own virtual environment, then runs: prepare, train the VAE, encode, train the DiT, evaluate.
Finished stages are not repeated; a killed run goes on where it was.

  --workdir DIR     where everything is written (default: runs/local in the repository)
  --data PLACE      train on media files instead of the built-in worlds: a folder (with its captions.jsonl), a gs:// prefix,
                    a glob in quotes, a list (.txt), a table (.jsonl, .csv, .parquet) or a WebDataset tar (.tar)
  --config FILE.py  the experiment, with variants vae and dit, and with --data vae_files and dit_files (default: experiments/local.py)

  PYTHON=python3.12 launch/local.sh    with a chosen interpreter (3.11 or newer)
HELP
}

fail() {
  echo "launch/local.sh: $*" >&2
  exit 2
}

workdir=$repository/runs/local data="" config=$repository/experiments/local.py
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage && exit 0 ;;
    --workdir=* | --data=* | --config=*) set -- "${1%%=*}" "${1#*=}" "${@:2}" ;;
    --workdir | --data | --config)
      [ $# -ge 2 ] && [ -n "$2" ] || fail "$1 has no value"
      case $1 in --workdir) workdir=$2 ;; --data) data=$2 ;; --config) config=$2 ;; esac
      shift 2
      ;;
    *) fail "unknown argument '$1'; known: --workdir DIR, --data PLACE, --config FILE.py, --help" ;;
  esac
done

python=$(pick_python) || exit 2
absolute() { case $1 in /*) printf '%s\n' "$1" ;; *) printf '%s\n' "$PWD/$1" ;; esac; }
workdir=$(absolute "$workdir") config=$(absolute "$config")
variant="" source_flags=() requirement=.
if [ -n "$data" ]; then
  case $data in
    *://*) ;;
    *[*?[]*) data=$(absolute "$data") ;; # a glob, which prepare opens
    *)
      data=$(absolute "$data")
      [ -e "$data" ] || fail "--data is '$data', which does not exist"
      ;;
  esac
  variant=_files source_flags=("--config.data.inputs=$data") requirement=".[prepare]"
fi
[ -f "$config" ] || fail "--config is '$config', which is not a file"
environment=$repository/.venv
mkdir -p "$workdir/.done"
# One run at a time in a workdir. The lock goes with the run, however it ends; a run that was just killed gets a moment.
if command -v flock >/dev/null 2>&1; then
  exec 9>"$workdir/.lock"
  flock -w 10 9 || fail "another run is at work in $workdir"
fi
# A workdir holds one job: the finished stages of another one must not pass for this one's.
job="config=$(basename "$config") data=$data"
if [ -f "$workdir/.job" ] && [ "$(cat "$workdir/.job")" != "$job" ]; then
  fail "$workdir holds another job ($(cat "$workdir/.job")); choose another --workdir or remove it"
fi
printf '%s\n' "$job" >"$workdir/.job"

# timed STAGE COMMAND...: runs the command and adds its seconds to stages.json.
timed() {
  local name=$1 status=0
  shift
  "$python" "$repository/launch/stages.py" "$workdir" "$name" -- "$@" || status=$?
  if [ "$status" -ne 0 ]; then
    echo "launch/local.sh: $name ended with status $status; the same command goes on from here" >&2
    exit "$status"
  fi
}

# stage NAME COMMAND...: runs the command unless it has finished in an earlier run.
stage() {
  local name=$1
  if [ -f "$workdir/.done/$name" ]; then
    echo "== $name: finished before"
    return 0
  fi
  echo "== $name"
  timed "$@"
  touch "$workdir/.done/$name"
}

echo "== install"
# shellcheck disable=SC2016 # the inner bash expands it
timed install bash -c 'source "$0/launch/environment.sh" && make_environment "$1" "$2" "$0"' "$repository" "$environment" "$requirement"

export JAX_COMPILATION_CACHE_DIR=$workdir/.jax_cache JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0.5
# A training step frees and takes hundreds of megabytes: kept by the allocator, in huge pages, that is a fifth faster (glibc; ignored elsewhere).
export GLIBC_TUNABLES=glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=8589934592:glibc.malloc.trim_threshold=8589934592
videodit=$environment/bin/videodit
vae=("--config=$config:vae$variant" "--config.data.path=$workdir/dataset" ${source_flags[@]+"${source_flags[@]}"})
dit=("--config=$config:dit$variant" "--config.data.path=$workdir/dataset" ${source_flags[@]+"${source_flags[@]}"})

stage prepare "$videodit" prepare "${vae[@]}" --output="$workdir/dataset"
stage vae "$videodit" train "${vae[@]}" --workdir="$workdir/vae"
stage encode "$videodit" encode "${dit[@]}" --workdir="$workdir"
stage dit "$videodit" train "${dit[@]}" --workdir="$workdir"
stage sample "$videodit" evaluate "${dit[@]}" --workdir="$workdir"
# Once more, now that every stage's seconds are known.
"$environment/bin/python" -c 'import sys; from videodit.evaluation.report import write_report; write_report(sys.argv[1])' "$workdir"

echo "== finished: $workdir/report.html"
