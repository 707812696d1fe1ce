# The front door: `make demo` and `make test` set up what they need in .venv.
PYTHON ?= python3
BIN := .venv/bin
SNAKEMAKE := $(BIN)/snakemake

.PHONY: help demo test lint example-bbbc021 example-bbbc021-fields example-nf1-fields

help:
	@echo "make demo                        the whole pipeline on a simulated screen, in minutes"
	@echo "make test                        all tests that this machine can run"
	@echo "make lint                        ruff, snakefmt, snakemake --lint, mypy"
	@echo "make example-bbbc021 DATA=folder real drug-treated cells (config/examples/bbbc021)"
	@echo "make example-bbbc021-fields DATA=folder, make example-nf1-fields DATA=folder"
	@echo "                                 real camera images, as far as tiles (config/examples)"

# Constraints pin what was tested; pyproject.toml says what is allowed.
.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else \
	"required: Python 3.11 to 3.13\n   found: %d.%d\n   to do: make PYTHON=python3.12 ..." % v)'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

demo: .venv/ready
	$(SNAKEMAKE) --cores all --configfile config/examples/demo/config.yaml
	@echo
	@echo "Done. Look at:"
	@echo "  results/explorer/vae/index.html          every cell with its tile, to look around in"
	@echo "  results/figures/vae/umap_treatment.png   every cell, placed by its latent phenotype"
	@echo "  results/figures/vae/gallery.png          the cells of each cluster"
	@echo "  results/figures/vae/reconstructions.png  what the model keeps of a cell, and invents"
	@echo "  results/phenotypes/vae/treatments.csv    which treatments differ from controls"
	@echo "  results/README.md                        what every file and column means"
	@echo "Ask:"
	@echo '  $(BIN)/vae-sci query "SELECT treatment, cluster, count(*) AS n FROM cells GROUP BY ALL ORDER BY n DESC"'

# A file's tests stay together: they share what they made.
test: .venv/ready
	$(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder --durations 20

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/snakefmt --check workflow
	$(SNAKEMAKE) --lint

example-bbbc021: .venv/ready
	$(BIN)/python config/examples/bbbc021/plates.py $(if $(DATA),"$(DATA)",)
	$(SNAKEMAKE) --cores all --configfile config/examples/bbbc021/config.yaml
	@echo "Look at results/bbbc021/figures/vae/umap_moa.png and results/bbbc021/phenotypes/vae/treatments.csv"


# Raw camera images as far as tiles: five fields are too few to train on.
example-bbbc021-fields example-nf1-fields: example-%-fields: .venv/ready
	$(if $(DATA),ln -sfn "$$(realpath "$(DATA)")" config/examples/$*_fields/data,)
	$(SNAKEMAKE) --cores all --configfile config/examples/$*_fields/config.yaml --until overlay draw_quality
	@echo "Look at results/$*_fields/ledger/: outlines of all cells, and what was dropped and why"
