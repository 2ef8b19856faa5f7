#!/usr/bin/env bash
# The stages of the mini models, for the scripts that read this file with `source`. They set WORK, SEED,
# DEVICE, NPROC and PYTHON.

# stage NAME STAGE flags...: runs one stage of llava.train; checkpoints and logs are in $WORK/runs/NAME.
stage() {
    local name=$1 module=llava.train.$2
    shift 2
    echo "== $name" >&2
    local launch=("$PYTHON" -m)
    if [ "$NPROC" -gt 1 ]; then
        # Matrices of this size are too small for two threads; two processes share the samples.
        launch=(env OMP_NUM_THREADS=1 "$PYTHON" -m torch.distributed.run
            --standalone --nproc_per_node "$NPROC" -m)
    fi
    "${launch[@]}" "$module" --output-dir "$WORK/runs/$name" --seed "$SEED" --device "$DEVICE" "$@"
}
