PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RUNS ?= runs

.PHONY: demo test quick long lint docs qgis-plugin lite weights data-named install

demo: install
	$(BIN)/ctma demo

# Two processes side by side, each with one thread; new ones for the tests of the whole package.
TESTS = $(BIN)/python -m pytest -n 2 --dist worksteal
test: install
	$(TESTS) --ignore-glob='tests/test_*.py'
	$(TESTS) tests/test_*.py

quick: install
	$(TESTS) -m "not slow"

# The tests that take a quarter of a minute or more each, and those of the built package.
long: install
	$(TESTS) -m long --ignore=tests/test_packaging.py
	$(BIN)/python -m pytest -m long tests/test_packaging.py

# The site, in build/site, with the commands and the public names as pages.
docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# A zip for QGIS: Plugins, Manage and Install Plugins, Install from ZIP.
qgis-plugin:
	mkdir -p build && rm -rf qgis/ctma_change/__pycache__
	cd qgis && $(PYTHON) -m zipfile -c ../build/ctma_change.zip ctma_change

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The shipped weights: ctma-lite from ImageNet's, in six parts, the third and the fourth by three seeds
# (on a GPU: benchmarks/accelerator.sh), the fifth, with SVCD's pairs, by two; the sixth begins twice from
# the mean of these two and of the fourth's mean, and what ships is a mean of all three. This adds the
# folder `unchanged` to DATA. ctma-any on from the third, with a share of the fourth; ctma-s from random
# ones; ctma from both ctma-s and ctma-lite. DATA holds levir_cd_05m, levir_cd_1m, svcd and buildings.
# After an interruption the same command goes on.
# bf16, on processors that multiply it, makes a step shorter (benchmarks/training.py).
# `make lite DATA=DIR` makes what two cores come to in less than three hours: the first two parts.
TRAIN = $(BIN)/ctma train --data "$(DATA)" --resume --precision auto
CALIBRATE = $(BIN)/ctma calibrate --overwrite --data "$(DATA)/levir_cd_05m"
# What the training images look like, for predict --doubt; j_* are views with added colour.
SEEN = $(BIN)/ctma calibrate --overwrite --seen --names '^(?!j_)' --data "$(DATA)/levir_cd_05m" --data "$(DATA)/svcd"
# By the ctma-lite of this run, in place of the shipped ctma-lite.
TAUGHT = --set "teacher.checkpoints={$(RUNS)/ctma-lite.safetensors: 1}"
lite: data-named install
	$(TRAIN) shipped/ctma-lite-start -o $(RUNS)/ctma-lite-start
	$(TRAIN) shipped/ctma-lite -o $(RUNS)/ctma-lite-second --init $(RUNS)/ctma-lite-start/best.safetensors
	$(CALIBRATE) $(RUNS)/ctma-lite-second/best.safetensors -o $(RUNS)/ctma-lite-second.safetensors

weights: lite
	for seed in 0 1 2; do \
		$(TRAIN) shipped/ctma-lite-start -o $(RUNS)/ctma-lite-third-$$seed \
			--init $(RUNS)/ctma-lite-second/best.safetensors --set seed=$$seed \
			--set data.batch_size=32 --set data.crop_size=256 --set trainer.epochs=16 && \
		$(TRAIN) shipped/ctma-lite -o $(RUNS)/ctma-lite-$$seed \
			--init $(RUNS)/ctma-lite-third-$$seed/best.safetensors --set seed=$$seed \
			--set data.batch_size=32 --set data.repeats=3 --set trainer.epochs=9 || exit 1; \
	done
	$(BIN)/python benchmarks/average.py $(RUNS)/ctma-lite-0 $(RUNS)/ctma-lite-1 $(RUNS)/ctma-lite-2 --data "$(DATA)/levir_cd_05m" -o $(RUNS)/ctma-lite-mean.safetensors
	for seed in 0 1; do \
		$(TRAIN) shipped/ctma-lite-svcd -o $(RUNS)/ctma-lite-svcd-$$seed \
			--init $(RUNS)/ctma-lite-mean.safetensors --set seed=$$seed || exit 1; \
	done
	$(BIN)/python benchmarks/average.py $(RUNS)/ctma-lite-svcd-1 $(RUNS)/ctma-lite-svcd-0 $(RUNS)/ctma-lite-mean.safetensors --data "$(DATA)/levir_cd_05m" -o $(RUNS)/ctma-lite-both.safetensors
	$(CALIBRATE) $(RUNS)/ctma-lite-both.safetensors -o $(RUNS)/ctma-lite-fifth-float32.safetensors
	$(BIN)/ctma convert $(RUNS)/ctma-lite-fifth-float32.safetensors $(RUNS)/ctma-lite-fifth.safetensors --half --overwrite
	$(BIN)/python benchmarks/unchanged.py "$(DATA)"
	for half in wide still; do \
		$(TRAIN) shipped/ctma-lite-$$half -o $(RUNS)/ctma-lite-$$half \
			--init $(RUNS)/ctma-lite-fifth.safetensors || exit 1; \
		cp $(RUNS)/ctma-lite-$$half/latest.safetensors $(RUNS)/ctma-lite-$$half.safetensors || exit 1; \
	done
	$(BIN)/python benchmarks/average.py $(RUNS)/ctma-lite-fifth.safetensors $(RUNS)/ctma-lite-wide.safetensors $(RUNS)/ctma-lite-still.safetensors --shares 2 1 1 --data "$(DATA)/levir_cd_05m" -o $(RUNS)/ctma-lite-sixth.safetensors
	$(CALIBRATE) $(RUNS)/ctma-lite-sixth.safetensors -o $(RUNS)/ctma-lite-float32.safetensors
	$(SEEN) $(RUNS)/ctma-lite-float32.safetensors -o $(RUNS)/ctma-lite-seen.safetensors
	$(BIN)/ctma convert $(RUNS)/ctma-lite-seen.safetensors $(RUNS)/ctma-lite.safetensors --half --overwrite
	$(TRAIN) shipped/ctma-any -o $(RUNS)/ctma-any --init $(RUNS)/ctma-lite-third-1/best.safetensors --set seed=1
	$(BIN)/python benchmarks/average.py $(RUNS)/ctma-any $(RUNS)/ctma-lite-mean.safetensors --shares 9 1 --data "$(DATA)/svcd" -o $(RUNS)/ctma-any-mean.safetensors
	$(BIN)/ctma calibrate --overwrite --data "$(DATA)/svcd" $(RUNS)/ctma-any-mean.safetensors -o $(RUNS)/ctma-any-float32.safetensors
	$(SEEN) $(RUNS)/ctma-any-float32.safetensors -o $(RUNS)/ctma-any-seen.safetensors
	$(BIN)/ctma convert $(RUNS)/ctma-any-seen.safetensors $(RUNS)/ctma-any.safetensors --half --overwrite
	$(TRAIN) shipped/ctma-s-start -o $(RUNS)/start
	$(TRAIN) shipped/ctma-s-middle -o $(RUNS)/middle --init $(RUNS)/start/best.safetensors
	$(TRAIN) shipped/ctma-s -o $(RUNS)/third --init $(RUNS)/middle/best.safetensors
	$(TRAIN) shipped/ctma-s -o $(RUNS)/fourth --init $(RUNS)/third/best.safetensors \
		--set trainer.epochs=8 --set seed=1
	$(TRAIN) shipped/ctma-s -o $(RUNS)/ctma-s --init $(RUNS)/fourth/best.safetensors \
		--set trainer.epochs=11 --set seed=2
	$(CALIBRATE) $(RUNS)/ctma-s/best.safetensors -o $(RUNS)/ctma-s.safetensors
	$(BIN)/python benchmarks/start_ctma.py $(RUNS)/ctma-s.safetensors $(RUNS)/ctma-lite.safetensors -o $(RUNS)/ctma-began.safetensors
	$(TRAIN) shipped/ctma-start -o $(RUNS)/ctma-start --init $(RUNS)/ctma-began.safetensors
	$(TRAIN) shipped/ctma-middle -o $(RUNS)/ctma-middle --init $(RUNS)/ctma-start/best.safetensors $(TAUGHT)
	$(TRAIN) shipped/ctma -o $(RUNS)/ctma --init $(RUNS)/ctma-middle/best.safetensors $(TAUGHT)
	$(TRAIN) shipped/ctma-resnet34 -o $(RUNS)/ctma-resnet34 --init $(RUNS)/ctma-s/best.safetensors
	for name in ctma ctma-resnet34; do \
		$(CALIBRATE) $(RUNS)/$$name/best.safetensors -o $(RUNS)/$$name-float32.safetensors && \
		$(BIN)/ctma convert $(RUNS)/$$name-float32.safetensors $(RUNS)/$$name.safetensors --half --overwrite || exit 1; \
	done

data-named:
	$(if $(DATA),,$(error name the data: make weights DATA=DIR))

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@
