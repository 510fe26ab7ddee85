# shellcheck shell=bash
# Sourced by the scripts of this folder: picks a Python and makes a virtual environment that can be made again at any time.

# Prints the interpreter to use: $PYTHON, else the first of python3.12, python3.11, python3 that is 3.11 or newer.
# Returns 2 after one line on stderr where there is none.
pick_python() {
  local candidate
  local check='import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))'
  if [ -n "${PYTHON:-}" ]; then
    if ! "$PYTHON" -c "$check" >/dev/null 2>&1; then
      echo "PYTHON is '$PYTHON', expected a Python 3.11 or newer that can make virtual environments" >&2
      return 2
    fi
    echo "$PYTHON"
    return 0
  fi
  for candidate in python3.12 python3.11 python3; do
    if command -v "$candidate" >/dev/null 2>&1 && "$candidate" -c "$check" >/dev/null 2>&1; then
      echo "$candidate"
      return 0
    fi
  done
  echo "no Python 3.11 or newer with venv was found; install one, or name it with PYTHON=/path/to/python3.12" >&2
  return 2
}

# environment_stamp PYTHON REQUIREMENT REPOSITORY: prints what an environment is made from.
environment_stamp() {
  printf '%s %s %s %s\n' "$("$1" -c 'import sys; print(sys.version, sys.base_prefix)')" "$3" "$2" "$(cksum <"$3/setup.py")"
}

# make_environment DIR REQUIREMENT REPOSITORY: makes the virtual environment DIR with REQUIREMENT (., .[prepare] or .[dev]) of REPOSITORY.
# A stamp inside DIR holds what it was made from: it is written last, so a half-made or outdated environment is made anew. One made with an
# extra serves where none is asked for.
make_environment() {
  local directory=$1 requirement=$2 repository=$3 python stamp made
  python=$(pick_python) || return 2
  stamp=$(environment_stamp "$python" "$requirement" "$repository")
  made=$(cat "$directory/.stamp" 2>/dev/null || true)
  if [ -x "$directory/bin/python" ] && [ -x "$directory/bin/videodit" ]; then
    case $made in
      "$stamp") return 0 ;;
      "$(environment_stamp "$python" "${requirement}[prepare]" "$repository")") return 0 ;;
    esac
  fi
  echo "installing into $directory with $("$python" --version)" >&2
  rm -rf "$directory"
  "$python" -m venv "$directory" || return 1
  (cd "$repository" && "$directory/bin/python" -m pip install --quiet --quiet --disable-pip-version-check --editable "$requirement") >&2 \
    || return 1
  printf '%s\n' "$stamp" >"$directory/.stamp"
}
