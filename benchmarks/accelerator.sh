#!/usr/bin/env bash
# What a GPU is used for first. Every task leaves its results as it goes.
#
#   accelerator.sh pack DATA FOLDER [WHEEL_NAMES…]  here: data and packages, in parts of 55 MB
#   accelerator.sh receive FOLDER/part-NN           there, for each part, in order
#   accelerator.sh measure OUT                      engines, precisions, a training step, memory
#   accelerator.sh lite OUT CHECKPOINT              the third part of ctma-lite, on from the second, by three seeds
#   accelerator.sh finish OUT                       its fourth part, on from the third
#   accelerator.sh halves OUT CHECKPOINT            its sixth part, on from the fifth, both halves by three seeds
#   accelerator.sh any OUT                          ctma-any, on from the third part, mild and strong, two seeds
#   accelerator.sh benchmark OUT DATA JOBS [RECIPE] every network on svcd or levir_cd_05m, three seeds; by
#                                                   a budget, or by `released` recipes
#   accelerator.sh full OUT SEED                    the first part of ctma, narrow, with the encoder of ctma-lite
#   accelerator.sh middle OUT SEED                  its second part, once `full` has ended
#   accelerator.sh refine OUT SEED                  its third part, grown to the paper's widths, once `middle` has ended
#   accelerator.sh scenes OUT [ACROSS]              whole maps from start to end, engine by engine
#   accelerator.sh home OUT RUN                     the weights of a run, halved, in pieces
#
# A machine with torch, timm, lightning, torchmetrics, rich, typer, scipy, filelock and matplotlib
# lacks pydantic and pydantic-core (of versions that fit), annotated-types, typing-inspection,
# imagehash, pywavelets, segmentation-models-pytorch and platformdirs. For `scenes` rasterio, affine,
# attrs, cligj, click-plugins, pyparsing, pyproj, pyogrio and shapely come on top.
#
# DATA holds levir_cd_05m, levir_cd_1m, svcd and buildings. PLACE (/tmp/ctma) is where things lie on
# the machine with the GPU; the first `receive` puts a copy of this code there, at PLACE/code, for
# tasks that outlast a call (to be removed for newer code). LIMIT (540) is the seconds of a task; a
# training that it cuts off has kept the best weights so far, and goes on in a next call; `measure` and
# `scenes` have no limit. DEVICE (cuda) is where scenes are mapped. WORKERS (4) load for each training,
# SETTINGS are further settings of the trainings, BENCHMARK and MEASURE further options. Paths are from
# the root of the repository, or absolute. A tiny budget, without a GPU:
#   MEASURE="--device cpu --networks ctma-lite --size 128 --batch 1 --learned 1 --matrix 512"
#   SETTINGS='trainer.epochs=1 data.draws=32'
#   BENCHMARK="--models fc-ef,ctma-lite --budget 2x2x64"
set -euo pipefail
cd "$(dirname "$0")/.."
place=${PLACE:-/tmp/ctma}
limit=${LIMIT:-540}
workers=${WORKERS:-4}
# Bytes of a file that comes home; what is larger comes in pieces.
largest=$((15 * 1024 * 1024))
export PYTHONPATH="$PWD/src:$place/packages${PYTHONPATH:+:$PYTHONPATH}"
# Many processes share the cores; each of them computes on the GPU.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
python=${PYTHON:-python3}

pack() { # DATA FOLDER WHEEL_NAMES…
    mkdir -p "$2/wheels"
    if [ $# -gt 2 ]; then
        "$python" -m pip download --quiet --no-deps --only-binary=:all: --python-version 3.12 \
            --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 \
            --platform manylinux2014_x86_64 --dest "$2/wheels" "${@:3}"
    fi
    # What is trained on first comes first.
    tar --create --file - --directory "$2" wheels --directory "$(realpath "$1")" \
        levir_cd_05m/{train,val} levir_cd_1m/train buildings \
        svcd/Real/subset/{train,val,test} levir_cd_05m/test |
        split --bytes 55M --numeric-suffixes - "$2/part-"
    rm -r "$2/wheels"
    ls -l "$2"
}

receive() { # PART
    # Tasks that go on from a former call run this code.
    if [ ! -d "$place/code" ]; then
        mkdir -p "$place/code"
        cp -r src benchmarks "$place/code"
    fi
    cat "$1" >> "$place/all.tar"
    # Until the last part has come, the archive ends too early.
    if tar --extract --file "$place/all.tar" --directory "$place" 2> /dev/null; then
        echo "complete: $(ls "$place")"
    fi
    shopt -s nullglob
    wheels=("$place"/wheels/*.whl)
    # Data come after the wheels, so these are whole.
    if [ ${#wheels[@]} -gt 0 ] && [ -d "$place/levir_cd_05m" ] && [ ! -d "$place/packages" ]; then
        "$python" -m pip install --quiet --no-index --no-deps --target "$place/packages" "${wheels[@]}"
    fi
}

train() { # NAME RECIPE CHECKPOINT SETTINGS…
    local arguments=(--init "$3")
    for setting in "${@:4}" ${SETTINGS:-}; do arguments+=(--set "$setting"); done
    timeout --signal INT "$limit" "$python" -m ctma train "$2" --data "$place" --resume \
        --precision auto -o "$place/runs/$1" "${arguments[@]}" > "$out/$1.log" 2>&1 || true
    tail -n 1 "$out/$1.log"
    cp "$place/runs/$1/logs/metrics.csv" "$out/$1.csv"
    local best="$place/runs/$1/best.safetensors"
    # What is larger comes by `home`.
    if [ "$(stat --format %s "$best")" -le "$largest" ]; then cp "$best" "$out/$1.safetensors"; fi
}

lite() { # CHECKPOINT
    for seed in 0 1 2; do
        train "lite-$seed" shipped/ctma-lite-start "$1" "seed=$seed" "data.workers=$workers" \
            data.batch_size=32 data.crop_size=256 trainer.epochs=16 &
    done
    wait
}

finish() {
    for seed in 0 1 2; do
        train "finish-$seed" shipped/ctma-lite "$place/runs/lite-$seed" "seed=$seed" \
            "data.workers=$workers" data.batch_size=32 data.repeats=3 trainer.epochs=9 &
    done
    wait
}

halves() { # CHECKPOINT
    "$python" benchmarks/unchanged.py "$place"
    for seed in 0 1 2; do
        for half in wide still; do
            train "$half-$seed" "shipped/ctma-lite-$half" "$1" "seed=$seed" "data.workers=$workers" &
        done
    done
    wait
    # What ships is a mean with the weights after the last epoch.
    for run in "$place"/runs/{wide,still}-[0-9]; do
        cp "$run/latest.safetensors" "$out/$(basename "$run")-latest.safetensors"
    done
}

any() { # Mild as the recipe says, and strong augmentation, two seeds of each.
    for seed in 0 1; do
        for augmentation in mild strong; do
            train "any-$augmentation-$seed" shipped/ctma-any "$place/runs/lite-$seed" "seed=$seed" \
                "data.workers=$workers" "data.augmentation=$augmentation" &
        done
    done
    wait
}

full() { # SEED
    "$python" benchmarks/start_ctma.py ctma-s ctma-lite -o "$place/ctma-began.safetensors"
    train "full-start-$1" shipped/ctma-start "$place/ctma-began.safetensors" "seed=$1" \
        "data.workers=$workers" data.crop_size=256
}

middle() { # SEED
    train "full-middle-$1" shipped/ctma-middle "$place/runs/full-start-$1/best.safetensors" \
        "seed=$1" "data.workers=$workers" data.batch_size=16 data.draws=4800
}

refine() { # SEED
    train "full-$1" shipped/ctma "$place/runs/full-middle-$1/best.safetensors" "seed=$1" \
        "data.workers=$workers" data.batch_size=16 data.draws=4800 trainer.epochs=8
}

home() { # RUN
    "$python" -m ctma convert "$place/runs/$1/best.safetensors" "$place/$1.safetensors" \
        --half --overwrite
    split --bytes "$largest" --numeric-suffixes "$place/$1.safetensors" "$out/$1.safetensors."
}

benchmark() { # DATA JOBS [RECIPE]
    local folder="$place/$1" name="benchmark-$1${3:+-$3}" way=(--budget 600x16x128)
    if [ $# -gt 2 ]; then way=(--recipe "$3"); fi
    if [ "$1" = levir_cd_05m ]; then
        # Its views without strong colour jitter.
        folder="$place/levir_cd_plain"
        if [ ! -d "$folder" ]; then
            cp --recursive --link "$place/$1" "$folder"
            rm -f "$folder"/train/*/j_*
        fi
    fi
    timeout --signal INT "$limit" "$python" -m ctma benchmark --data "$folder" --from-scratch \
        --models fc-ef,fc-siam-conc,fc-siam-diff,cdnet,stanet,bit,lunet,dsifn,snunet,dsamnet,p2v,ctma,ctma-s,ctma-lite,unet \
        "${way[@]}" --seeds 3 --precision auto --jobs "$2" --resume \
        -o "$place/$name" ${BENCHMARK:-} > "$out/$name.log" 2>&1 || true
    tar --create --gzip --file "$out/$name.tar.gz" --directory "$place/$name" --exclude runs .
    tail -n 1 "$out/$name.log"
}

measure() {
    OMP_NUM_THREADS=$(nproc) "$python" benchmarks/accelerator.py ${MEASURE:-} \
        -o "$out/measured.json" | tee "$out/measured.txt"
}

scenes() { # ACROSS
    for engine in exact compile; do
        OMP_NUM_THREADS=$(nproc) "$python" benchmarks/turns.py --data "$place/levir_cd_05m" \
            --across "${1:-10}" --turns 1 --device "${DEVICE:-cuda}" --engine "$engine" \
            --precision bf16 2>&1 |
            tee "$out/scenes-$engine.txt" || true
    done
}

tasks="pack, receive, measure, scenes, lite, finish, halves, any, benchmark, full, middle, refine, home"
command=${1:?one of $tasks}
shift
case $command in
pack | receive) "$command" "$@" ;;
measure | scenes | lite | finish | halves | any | benchmark | full | middle | refine | home)
    out=$(realpath "${1:?a folder for results}")
    shift
    mkdir -p "$out"
    "$command" "$@"
    ;;
*)
    echo "accelerator.sh: $command is none of $tasks" >&2
    exit 2
    ;;
esac
