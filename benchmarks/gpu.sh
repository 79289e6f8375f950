#!/usr/bin/env bash
# The whole measurement on an NVIDIA GPU, in parts of at most 10 minutes each, to be run in this order:
#
#   benchmarks/gpu.sh doctor        what the machine can run
#   benchmarks/gpu.sh export        SD 1.5's architecture with random weights, in half precision
#   benchmarks/gpu.sh onnxruntime-cuda
#                                   the networks as ONNX Runtime runs them faster; in a second bundle with fused norms
#   benchmarks/gpu.sh tensorrt      plans for this GPU
#   benchmarks/gpu.sh tensorrt-rtx  plans for this GPU, from the other library
#   benchmarks/gpu.sh compare BATCH STEPS
#                                   ours beside diffusers, eager and compiled: batch 1, 4 and 8, 20 and 50 steps
#   benchmarks/gpu.sh latency       ours alone, over batches and steps, on each backend
#   benchmarks/gpu.sh coldstart     from the start of a process to its first image
#
# CHECKPOINT (a diffusers folder; default: the synthetic one) says what is measured, WORK where exports and plans are
# kept, RESULTS where the JSON files go. With NORMS=fused the measurements run the second bundle, and their files are
# named after it; latency measures both. The environment needs the extras cuda, tensorrt, tensorrt-rtx, export and
# bench, with a PyTorch that has CUDA. A part that takes longer than 10 minutes is ended; what it has measured until
# then is in its file, marked as incomplete.
set -euo pipefail

checkpoint=${CHECKPOINT:-synthetic:sd15-inpaint}
work=${WORK:-$HOME/.cache/inpaintrt/benchmark-gpu}
results=${RESULTS:-benchmarks/results}
bundle=$work/bundle
fused=$work/bundle-fused-norms
limit=590

part() {
  timeout --signal=INT --kill-after=10 "$limit" "$@"
}

measure() {
  local name=$1
  shift
  local measured=$bundle
  if [[ ${NORMS:-} == fused ]]; then
    measured=$fused
    name+=-fused-norms
  fi
  local options=(--device cuda --size 512x512 --bundle "$measured" --checkpoint "$checkpoint" --work "$work")
  part inpaintrt bench "$@" "${options[@]}" --output "$results/gpu-$name.json"
}

measure_latency() {
  local backend=$1
  measure "latency-$backend" latency --backend "$backend" --batch 1 --batch 4 --steps 20 --steps 50 \
    --rounds 20 --warm-up 3 || echo "$backend: no result" >&2
}

mkdir -p "$work" "$results"
case ${1:-} in
  doctor)
    inpaintrt doctor
    ;;
  export)
    part inpaintrt export "$checkpoint" --output "$bundle" --precision fp16
    ;;
  onnxruntime-cuda)
    limit=290
    # A bundle has one variant for a backend, so the other is built in a copy.
    rm -rf "$fused"
    cp -a "$bundle" "$fused"
    part inpaintrt build "$bundle" --backend onnxruntime-cuda --precision fp16
    part inpaintrt build "$fused" --backend onnxruntime-cuda --precision fp16 --fused-norms
    ;;
  tensorrt | tensorrt-rtx)
    part inpaintrt build "$bundle" --backend "$1" --resolution 512x512 --max-batch 8
    ;;
  compare)
    batch=${2:?batch is missing}
    steps=${3:?steps are missing}
    rounds=20
    # 20 rounds of the longest runs do not fit into a part.
    if ((batch * steps > 200)); then rounds=8; fi
    measure "compare-batch$batch-steps$steps" compare --batch "$batch" --steps "$steps" --rounds "$rounds" \
      --warm-up 3 --runner diffusers --runner diffusers-max-autotune --runner inpaintrt-onnxruntime-cuda \
      --runner inpaintrt-tensorrt --runner inpaintrt-tensorrt-rtx
    ;;
  latency)
    limit=145
    NORMS=fused measure_latency onnxruntime-cuda
    for backend in onnxruntime-cuda tensorrt tensorrt-rtx; do
      NORMS='' measure_latency "$backend"
    done
    ;;
  coldstart)
    measure coldstart coldstart --steps 20 --rounds 5 --runner diffusers --runner inpaintrt-onnxruntime-cuda \
      --runner inpaintrt-tensorrt --runner inpaintrt-tensorrt-rtx
    ;;
  *)
    sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0"
    exit 2
    ;;
esac
