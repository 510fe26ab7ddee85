#!/usr/bin/env bash
# Makes its own environment and runs the whole test suite. Arguments go to pytest.
set -euo pipefail

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
source "$repository/launch/environment.sh"

if [ "${1:-}" = "--help" ]; then
  cat <<'HELP'
usage: launch/test.sh [PYTEST ARGUMENT ...]

Makes a virtual environment and runs the tests in it, the slow ones too.

  launch/test.sh                       everything
  launch/test.sh -m "not slow" -x      what is fast, stopping at the first failure
  PYTHON=python3.12 launch/test.sh     with a chosen interpreter (3.11 or newer)
  VENV=/tmp/fresh launch/test.sh       with the environment in a chosen place (default: .venv-test)
HELP
  exit 0
fi

environment=${VENV:-$repository/.venv-test}
case $environment in /*) ;; *) environment=$PWD/$environment ;; esac
make_environment "$environment" ".[dev]" "$repository"
cd "$repository"
# two files at a time: many tests wait for processes that they start
exec "$environment/bin/python" -m pytest --numprocesses=2 --dist=loadfile "$@"
