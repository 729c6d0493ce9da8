#!/usr/bin/env bash
# Checks a GPU against the CPU, runs a small job on it, and measures it, beside PyTorch doing the same.
#
#   benches/gpu.sh HARDY LIBTORCH [PYTHON]
#
# HARDY     the release binary; hardy-compute, which it starts, must lie beside it
# LIBTORCH  a folder of libtorch 2.11.0 with CUDA (it has lib/libtorch_cuda.so): torch/ of the CUDA wheel will do
# PYTHON    an interpreter with torch 2.11.0, timm and CUDA; without it PyTorch's columns are left out
#
# Environment: PHOTOS, a folder of class folders for the job (default: the built-in synthetic flowers);
# HARDY_WEIGHTS_DIR, the folder of the ImageNet weights (default: .deps/site); SIDE, pixels (128);
# BATCHES (64,128,256,512,1024).
set -euo pipefail

usage() {
    sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"
    exit 2
}

[[ $# -ge 2 && $# -le 3 ]] || usage
hardy=$(realpath "$1")
libtorch=$(realpath "$2")
python=${3:-}
side=${SIDE:-128}
batches=${BATCHES:-64,128,256,512,1024}
[[ -x $hardy ]] || { echo "gpu.sh: $1 is not a program" >&2; exit 2; }
[[ -x ${hardy%/*}/hardy-compute ]] || { echo "gpu.sh: there is no hardy-compute beside $1" >&2; exit 2; }
[[ -e $libtorch/lib/libtorch_cuda.so ]] || { echo "gpu.sh: $2 has no lib/libtorch_cuda.so" >&2; exit 2; }
here=$(dirname "$(realpath "$0")")
export HARDY_WEIGHTS_DIR=${HARDY_WEIGHTS_DIR:-$here/../.deps/site}

# CUDA's own libraries lie beside the wheel's torch/ folder.
libraries=$libtorch/lib
for folder in "$libtorch"/../nvidia/*/lib; do
    [[ -d $folder ]] && libraries+=:$folder
done
export LD_LIBRARY_PATH=$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

echo "== device"
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader || true

echo "== CPU against GPU, exact f32 (TF32 off), then as it is used"
NVIDIA_TF32_OVERRIDE=0 "$hardy" bench-gpu --check --side "$side" | tee "$scratch/check.json"
"$hardy" bench-gpu --check --side "$side"
# 1e-3 of logits around 10 is what summing in another order costs; signs flip only where a gradient is all but 0.
awk -F'[:,}]' '{ for (i = 1; i < NF; i++) { if ($i ~ /difference/) d = $(i + 1); if ($i ~ /alike/) s = $(i + 1) } }
    END { if (d > 1e-3 || s < 0.99) { print "gpu.sh: the GPU disagrees with the CPU"; exit 1 } }' "$scratch/check.json"

echo "== a small job on the GPU, end to end"
photos=${PHOTOS:-$scratch/photos}
[[ -n ${PHOTOS:-} ]] || "$hardy" dataset synth --out "$photos" --per-class 60
for bf16 in false true; do
    echo "bf16 = $bf16"
    time "$hardy" run --config "$here/../configs/demo.toml" --data "$photos" --out "$scratch/job-$bf16" --workers 1 \
        --set model.device=cuda --set "model.bf16=$bf16"
done

echo "== images/s at $side px"
"$hardy" bench-gpu --side "$side" --batches "$batches" | tee "$scratch/hardy.jsonl"
if [[ -n $python ]]; then
    # Python finds its own CUDA libraries.
    env -u LD_LIBRARY_PATH "$python" "$here/gpu_reference.py" "$side" "$batches" | tee "$scratch/pytorch.jsonl"
else
    : >"$scratch/pytorch.jsonl"
fi

echo
echo "| precision | batch | FGSM | PyTorch | N-FGSM training | PyTorch |"
echo "|---|---|---|---|---|---|"
awk '
    function field(name,   at, rest) {
        at = index($0, "\"" name "\":")
        if (!at) return "-"
        rest = substr($0, at + length(name) + 3)
        gsub(/^[ "]+/, "", rest)
        sub(/[",}].*/, "", rest)
        return rest
    }
    { key = field("precision") " | " field("batch") }
    FILENAME ~ /hardy\.jsonl$/ { keys[++count] = key; fgsm[key] = field("fgsm"); train[key] = field("n_fgsm_training"); next }
    { their_fgsm[key] = field("fgsm"); their_train[key] = field("n_fgsm_training") }
    function shown(value) { return value == "" || value == "-" ? "-" : sprintf("%.0f", value) }
    END {
        for (i = 1; i <= count; i++) {
            key = keys[i]
            printf "| %s | %s | %s | %s | %s |\n", key, shown(fgsm[key]), shown(their_fgsm[key]), shown(train[key]), shown(their_train[key])
        }
    }' "$scratch/hardy.jsonl" "$scratch/pytorch.jsonl"
