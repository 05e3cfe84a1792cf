#!/usr/bin/env bash
# What a GPU is used for first, in calls of at most nine minutes that leave their results as they go.
#
#   accelerator.sh pack DATA FOLDER [WHEEL_NAMES…]  here: data and packages, in parts of 40 MB
#   accelerator.sh receive FOLDER/part-NN           there, for each part, in order
#   accelerator.sh lite OUT                         the first part of ctma-lite, three seeds at once
#   accelerator.sh finish OUT                       its second part, on from these
#   accelerator.sh any OUT                          ctma-any, on from these, three seeds at once
#   accelerator.sh full OUT SEED                    the full CTMA by the published recipe
#   accelerator.sh measure OUT                      CPU and GPU agree; bf16; seconds a step and a scene
#
# DATA holds levir_cd_05m, levir_cd_1m, svcd and buildings. PLACE (/tmp/ctma) is where things lie on the
# machine with the GPU, LIMIT (540) the seconds of a call; a training that it cuts off has kept the
# best weights so far, and goes on in a next call. SETTINGS are further settings of the trainings, MEASURE
# options of accelerator.py. A tiny budget, to try this without a GPU:
#   MEASURE="--device cpu --batch 2 --size 64"
#   SETTINGS='trainer.epochs=1 data.repeats=1 data.sources=[{"folder":"levir_cd_05m"}]'
set -euo pipefail
cd "$(dirname "$0")/.."
place=${PLACE:-/tmp/ctma}
limit=${LIMIT:-540}
export PYTHONPATH="$PWD/src:$place/packages${PYTHONPATH:+:$PYTHONPATH}"
python=${PYTHON:-python3}

pack() { # DATA FOLDER WHEEL_NAMES…
    mkdir -p "$2/wheels"
    if [ $# -gt 2 ]; then
        "$python" -m pip download --quiet --no-deps --only-binary=:all: --python-version 3.12 \
            --platform manylinux_2_28_x86_64 --platform manylinux2014_x86_64 --dest "$2/wheels" "${@:3}"
    fi
    tar --create --file - --directory "$2" wheels --directory "$(realpath "$1")" \
        levir_cd_05m/{train,val} levir_cd_1m/{train,val} svcd/Real/subset/{train,val} buildings |
        split --bytes 40M --numeric-suffixes - "$2/part-"
    rm -r "$2/wheels"
    ls -l "$2"
}

receive() { # PART
    mkdir -p "$place"
    cat "$1" >> "$place/all.tar"
    # Until the last part has come, the archive ends too early.
    if tar --extract --file "$place/all.tar" --directory "$place" 2> /dev/null; then
        shopt -s nullglob
        wheels=("$place"/wheels/*.whl)
        if [ ${#wheels[@]} -gt 0 ]; then
            "$python" -m pip install --quiet --no-index --no-deps --target "$place/packages" "${wheels[@]}"
        fi
        echo "complete: $(ls "$place")"
    fi
}

train() { # NAME RECIPE INIT SETTINGS…
    local arguments=()
    if [ -n "$3" ]; then arguments+=(--init "$place/runs/$3/best.safetensors"); fi
    for setting in "${@:4}" ${SETTINGS:-}; do arguments+=(--set "$setting"); done
    timeout --signal INT "$limit" "$python" -m ctma train "$2" --data "$data" --resume \
        --precision auto -o "$place/runs/$1" "${arguments[@]}" > "$out/$1.log" 2>&1 || true
    cp "$place/runs/$1/logs/metrics.csv" "$out/$1.csv"
    cp "$place/runs/$1/best.safetensors" "$out/$1.safetensors"
    tail -n 1 "$out/$1.log"
}

seeds() { # NAME RECIPE INIT SETTINGS…
    data=$place
    for seed in 0 1 2; do
        train "$1-$seed" "$2" "${3:+$3-$seed}" "seed=$seed" data.workers=5 "${@:4}" &
    done
    wait
}

lite() { seeds lite shipped/ctma-lite-start "" data.batch_size=16 data.crop_size=256 trainer.epochs=40; }
finish() { seeds finish shipped/ctma-lite lite data.batch_size=16 trainer.epochs=40; }
any() { seeds any shipped/ctma-any-start finish data.batch_size=16 trainer.epochs=40; }

full() { # SEED
    data=$place/levir_cd_05m
    train "full-$1" levir-cd/ctma "" "seed=$1" model.pretrained=false data.workers=14 data.repeats=8 \
        trainer.epochs=10 optimizer.name=adamw optimizer.lr=1e-3 schedule.name=one-cycle
    # The weights come home in half precision and in pieces.
    "$python" -m ctma convert "$out/full-$1.safetensors" "$place/half.safetensors" --half --overwrite
    split --bytes 15M --numeric-suffixes "$place/half.safetensors" "$out/full-$1.safetensors."
    rm "$out/full-$1.safetensors"
}

measure() {
    "$python" benchmarks/accelerator.py ${MEASURE:-} | tee "$out/measured.txt"
}

command=${1:?pack, receive, lite, finish, any, full or measure}
shift
case $command in
pack | receive) "$command" "$@" ;;
lite | finish | any | full | measure)
    out=$(realpath "${1:?a folder for results}")
    shift
    mkdir -p "$out"
    "$command" "$@"
    ;;
*)
    echo "accelerator.sh: $command is none of pack, receive, lite, finish, any, full, measure" >&2
    exit 2
    ;;
esac
