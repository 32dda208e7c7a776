#!/bin/sh
# What the image runs: a command of lit_mtrl, or one of the other programs named below.
set -eu
case "${1:-}" in
tests) # the suite, or the tests named after it
    shift
    cd "$(dirname "$0")/.."
    exec python -m pytest -p no:cacheprovider "$@"
    ;;
mlflow | python | bash | sh)
    exec "$@"
    ;;
*)
    exec python -m lit_mtrl "$@"
    ;;
esac
