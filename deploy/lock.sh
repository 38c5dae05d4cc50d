#!/bin/sh
# Write deploy/requirements/IMAGE.lock: every package of an image with the hashes of its files, which the builds hold pip to.
#
#     deploy/lock.sh coordinator      or: site, dashboard
#
# Run it once where you trust the network, look at what changed, and keep the file; it belongs to one Python version and one
# platform. With wheels of torch from another index: TORCH_INDEX=URL deploy/lock.sh …
set -eu
cd "$(dirname "$0")/.."
case "${1:-}" in
    coordinator) extras="dashboard,postgres" ;;
    site) extras="serve" ;;
    dashboard) extras="" ;;
    *) echo "usage: deploy/lock.sh coordinator|site|dashboard" >&2; exit 2 ;;
esac
sources=pyproject.toml
if test "$1" = dashboard; then
    sources=$(mktemp)
    trap 'rm -f "$sources"' EXIT
    sed -n '/pip install --constraint constraints.txt/{n;p;}' deploy/dashboard/Dockerfile | tr -d '"' | tr -s ' ' '\n' | grep . > "$sources"
fi
set -- "$sources" --constraint constraints.txt --generate-hashes --no-emit-index-url --no-header \
    --python-version "${PYTHON_VERSION:-3.12}" --quiet --output-file "deploy/requirements/$1.lock"
for extra in $(echo "$extras" | tr , ' '); do set -- "$@" --extra "$extra"; done
if test -n "${TORCH_INDEX:-}"; then set -- "$@" --extra-index-url "$TORCH_INDEX"; fi
uv pip compile "$@"
