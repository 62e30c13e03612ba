# Everything that is run often. `make` lists the targets.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
# One stamp per set of extras: the environment is made again when the requirements change, not each time.
INSTALLED := $(VENV)/installed.stamp
INSTALLED_EXTRAS := $(VENV)/installed_extras.stamp
BUNDLES := $(patsubst %/configs/metadata.json,%,$(wildcard bundles/*/configs/metadata.json))
GPUS ?= 1
# Processes that `make test` runs the tests in, one thread each.
WORKERS ?= 2
# Threads that wait for one another do not spin: on a busy machine spinning costs more than it saves.
export OMP_WAIT_POLICY ?= PASSIVE

# $(call quote,TEXT): one word of the shell, whatever TEXT holds; $(call option,NAME,VALUE): nothing if no VALUE
quote = '$(subst ','\'',$(1))'
option = $(if $(2),--$(1) $(call quote,$(2)))
need = @test -n $(call quote,$($(1))) || { echo "$(1) is not set: $(2)" >&2; exit 2; }

# The command of one workflow: $(call bundle,LAUNCHER,CONFIG FILES,NAME OF THE SPLIT OPTION). Make prints it.
configs = bundles/$(BUNDLE)/configs
bundle = $(RUN) -m $(1) run --config_file $(2) $(addprefix --meta_file ,$(wildcard $(configs)/metadata.json)) \
    --logging_file $(configs)/logging.conf --bundle_root bundles/$(BUNDLE) \
    $(call option,dataset_dir,$(DATASET_DIR)) $(call option,$(3),$(SPLIT)) \
    $(call option,output_dir,$(OUTPUT_DIR)) $(ARGS)
evaluate_configs = '$(configs)/common.yaml','$(configs)/inference.yaml','$(configs)/evaluate.yaml'$(overlay)
multi_gpu_evaluate_configs = $(evaluate_configs),'$(configs)/multi_gpu_evaluate.yaml'
overlay = $(subst $(space),,$(foreach name,$(OVERLAY),$(comma)'$(configs)/$(name).yaml'))
comma := ,
space := $() $()
# A bundle in the making has sources, and no flattened configs yet.
inference_configs = $(or $(patsubst %,'%',$(wildcard $(configs)/inference.json)),'$(configs)/common.yaml'$(comma)'$(configs)/inference.yaml')$(overlay)
need_train = @test -f $(configs)/train.json || { echo "bundle $(BUNDLE) has no training yet: its card says what it does" >&2; exit 2; }
train_configs = '$(configs)/train.json'$(overlay)
multi_gpu_train_configs = $(train_configs),'$(configs)/multi_gpu_train.yaml'
torchrun = torch.distributed.run --standalone --nproc_per_node=$(GPUS) -m monai.bundle

.DEFAULT_GOAL := help
.PHONY: help demo test test-long test-consumers soak inference evaluate train multi_gpu_train multi_gpu_evaluate gpu-check \
    flatten catalogue release new-bundle format clean need-bundle

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-zA-Z_-]+:.*## / { printf "  %-20s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo '  BUNDLE=<name>  DATASET_DIR=<folder>  SPLIT=<name>  OUTPUT_DIR=<folder>  ARGS="--<key> <value> ..."'
	@echo '  go to inference, evaluate, train and their multi_gpu_* forms (GPUS=<n>). OVERLAY=<name>, or'
	@echo '  OVERLAY="<name> <name>", lays further configs of the bundle on top.'
	@echo '  Bundles: $(or $(strip $(notdir $(BUNDLES))),none)'

$(INSTALLED): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is not installed: install Python 3.11 or newer, or name it by PYTHON=<command>" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed, $(PYTHON) is $$($(PYTHON) --version 2>&1): name another by PYTHON=<command>" >&2; exit 2; }
	@$(PYTHON) -m venv $(VENV) || { echo "the virtual environment could not be made: install Python's venv (Debian, Ubuntu: apt install python3-venv)" >&2; exit 2; }
	@echo 'installing into $(VENV), which takes some minutes the first time'
	$(RUN) -m pip install -qq --constraint constraints.txt --editable ".[demo,dev,dicom,tensorboard]"
	@touch $@

$(INSTALLED_EXTRAS): $(INSTALLED)
	$(RUN) -m pip install -qq --constraint constraints.txt --editable ".[demo,dev,dicom,tensorboard,export,greedy,cohort,multicoil,noncartesian,natural]"
	@touch $@

demo: $(INSTALLED)  ## install, run every bundle on embedded inputs, write demo_output/index.html
	$(RUN) -m mdl_monai.demo --output_dir demo_output

test: $(INSTALLED_EXTRAS)  ## ruff, mypy, release checks of every bundle, fast tests
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	$(if $(BUNDLES),$(RUN) -m mdl_monai.release.check $(BUNDLES))
	$(RUN) -m pytest -m "not slow" --numprocesses $(WORKERS) --dist worksteal

test-long: $(INSTALLED_EXTRAS)  ## the slow tests and the benchmarks
	$(RUN) -m pytest -m slow
	set -e; for file in benchmarks/*.py; do test ! -e "$$file" || $(RUN) "$$file"; done

soak: $(INSTALLED_EXTRAS)  ## thousands of damaged files: a right result or one clear error each
	MDL_SOAK=1 $(RUN) -m pytest tests/soak

# Each consumer has an environment of its own: its requirements and the tested torch, without our other pins.
CONSUMERS := $(notdir $(patsubst %/requirements.txt,%,$(wildcard consumers/*/requirements.txt)))
test-consumers: $(addprefix consumer-,$(CONSUMERS))  ## other tools run the bundles, each in its own environment in .consumers/

consumer-%: $(INSTALLED)
	test -d .consumers/$* || $(PYTHON) -m venv .consumers/$*
	.consumers/$*/bin/python -m pip install -qq --editable . --requirement consumers/$*/requirements.txt
	cd consumers/$* && ../../.consumers/$*/bin/python -m pytest --rootdir . -c /dev/null -rs -q

need-bundle:
	$(call need,BUNDLE,name one of: $(notdir $(BUNDLES)))
	@test -d $(call quote,$(configs)) || { echo "bundle "$(call quote,$(BUNDLE))" does not exist: name one of: $(notdir $(BUNDLES))" >&2; exit 2; }
	$(call need,DATASET_DIR,name the folder that holds dataset.json or the images)

inference: need-bundle $(INSTALLED)  ## predictions of BUNDLE for the images in DATASET_DIR
	$(call bundle,monai.bundle,"[$(inference_configs)]",split)

evaluate: need-bundle $(INSTALLED)  ## predictions and metrics of BUNDLE; ARGS="--baselines true" adds the baselines
	$(call bundle,monai.bundle,"[$(evaluate_configs)]",split)

train: need-bundle $(INSTALLED)  ## train BUNDLE; SPLIT is its training split
	$(need_train)
	$(call bundle,monai.bundle,"[$(train_configs)]",train_split)

multi_gpu_train: need-bundle $(INSTALLED)  ## train on GPUS=<n> GPUs of this machine
	$(need_train)
	$(call bundle,$(torchrun),"[$(multi_gpu_train_configs)]",train_split)

multi_gpu_evaluate: need-bundle $(INSTALLED)  ## evaluate on GPUS=<n> GPUs of this machine
	$(call bundle,$(torchrun),"[$(multi_gpu_evaluate_configs)]",split)

gpu-check: $(INSTALLED)  ## 20 training steps of every bundle on CUDA and on the CPU: losses, speed, memory
	$(RUN) -m mdl_monai.release.gpu_check $(BUNDLES)
	$(RUN) -m mdl_monai.release.model_card $(BUNDLES)

flatten: $(INSTALLED)  ## renew the generated configs and the tables in the model cards
	$(if $(BUNDLES),$(RUN) -m mdl_monai.release.flatten $(BUNDLES))
	$(if $(BUNDLES),$(RUN) -m mdl_monai.release.model_card $(BUNDLES))

release: $(INSTALLED_EXTRAS)  ## zips, exports, index and package of all bundles into dist; ARGS="--to github:OWNER/REPO@TAG --dry_run"
	$(RUN) -m mdl_monai.release.publish $(BUNDLES) $(ARGS)

catalogue: $(INSTALLED)  ## renew bundles/README.md and the page catalogue/index.html
	$(RUN) -m mdl_monai.release.catalogue bundles --page catalogue/index.html

new-bundle: $(INSTALLED)  ## the skeleton of a new bundle, NAME=<name> TASK="<one sentence>"
	$(call need,NAME,the new bundle's name in lower case with _)
	$(call need,TASK,one sentence that says what the bundle does)
	$(RUN) -m mdl_monai.release.new_bundle $(call quote,$(NAME)) --task $(call quote,$(TASK))

format: $(INSTALLED)  ## let ruff order imports and format the code
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

clean:  ## remove what builds, tests and the demo wrote; the environment stays
	rm -rf build dist demo_output .mypy_cache .ruff_cache .pytest_cache *.egg-info catalogue
	find mdl_monai tests benchmarks data_scripts -name __pycache__ -type d -prune -exec rm -rf {} +
