# make quickstart · make test · make test-long · make test-cluster · make test-ascend · make test-all · make test-docs · make lint · make bench
PYTHON ?= python3.11
VENV := .venv
RUN := $(VENV)/bin
OUT := output/quickstart
TOKENIZER := --vocab_file $(OUT)/tokenizer/vocab.json --merge_file $(OUT)/tokenizer/merges.txt
CONFIG := configs/wizardcoder/tiny_finetune.yaml
# Two processes: most tests wait for one core (compilation, imports). A file's tests stay together, with their fixtures.
PYTEST := $(RUN)/python -m pytest -q
PARALLEL := -n 2 --dist loadfile --no-loadscope-reorder
PIP := $(RUN)/pip install --quiet --disable-pip-version-check

.PHONY: quickstart test test-long test-cluster ascend test-ascend test-all test-docs lint bench clean

$(VENV)/runtime: setup.py $(wildcard mindcoder/native/*.cpp mindcoder/native/*.h mindcoder/native/*.def)
	@test -x $(RUN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (about 3.5 GB, a few minutes)"
	@$(PIP) -e . 
	@touch $@

$(VENV)/testing: $(VENV)/runtime
	@$(PIP) -e '.[test]'
	@touch $@

$(VENV)/linting: $(VENV)/runtime
	@$(PIP) -e '.[lint]'
	@touch $@

quickstart: $(VENV)/runtime
	@$(RUN)/mindcoder train-tokenizer --input_glob datasets/samples.json --vocab_size 1024 --output_dir $(OUT)/tokenizer
	@$(RUN)/mindcoder preprocess --input_glob datasets/samples.json $(TOKENIZER) --seq_length 384 --packing \
		--output_file $(OUT)/samples.mindrecord --overwrite
	@$(RUN)/mindcoder finetune --config $(CONFIG) --train_data $(OUT)/samples.mindrecord $(TOKENIZER) \
		--output_dir $(OUT) --overwrite
	@echo "使用python编写快速排序代码"
	@$(RUN)/mindcoder predict --config $(CONFIG) --load_checkpoint $(OUT) $(TOKENIZER) --output_dir $(OUT) \
		--predict_data 使用python编写快速排序代码

test: $(VENV)/testing
	$(PYTEST) $(PARALLEL) --durations=40

# What CI runs beside `make test`: the emulated Ascend, layouts of several processes, all records of a dataset.
test-long: $(VENV)/testing ascend
	$(PYTEST) $(PARALLEL) -m "long and not cluster and not docs and not slow" --durations=40

test-cluster: $(VENV)/testing
	$(PYTEST) tests/launch tests/parallel tests/planning tests/generate/test_replicas.py \
		tests/ascend/test_ascend_layouts.py tests/ascend/test_ranks_answer.py -m "not docs"

# An Ascend in software, for tests only: softcann/README.md.
ascend: $(VENV)/runtime
	$(RUN)/python -m softcann.build

test-ascend: $(VENV)/testing ascend
	$(PYTEST) $(PARALLEL) -m "not cluster and not docs and not slow" tests/ascend

# Everything but the commands of the documentation; hours.
test-all: $(VENV)/testing ascend
	$(PYTEST) -m "not docs"

test-docs: $(VENV)/testing
	$(PYTEST) -rA -m docs

lint: $(VENV)/linting
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/mypy mindcoder

bench: $(VENV)/testing
	$(RUN)/python -m benchmarks.train
	$(RUN)/python -m benchmarks.train --sizes starcoder2,llama --name train_families
	$(RUN)/python -m benchmarks.breakdown large
	$(RUN)/python -m benchmarks.preprocess
	$(RUN)/python -m benchmarks.convert
	$(RUN)/python -m benchmarks.generate
	$(RUN)/python -m benchmarks.scaling

clean:
	rm -rf output build *.egg-info
