rule diagnose:
    """Measure a model on held-out cells: bits, rates, bypass of z, sharpness, nuisance."""
    input:
        tables=expand(f"{RESULTS}/tiles/{{plate}}.parquet", plate=PLATES),
        stores=expand(f"{RESULTS}/tiles/{{plate}}.zarr", plate=PLATES),
        weights=f"{RESULTS}/models/{{model}}/model.safetensors",
        card=f"{RESULTS}/models/{{model}}/model.json",
    output:
        table=report(
            f"{RESULTS}/diagnostics/{{model}}/diagnostics.csv",
            caption="../report/diagnostics.rst",
            category="Tables",
            labels={"model": "{model}", "table": "diagnostics"},
        ),
        rings=f"{RESULTS}/diagnostics/{{model}}/rings.csv",
    log:
        f"{RESULTS}/logs/diagnose/{{model}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/diagnose/{{model}}.tsv"
    conda:
        "../../environment.yml"
    threads: 2
    resources:
        mem_mb=4000,
        runtime=60,
        gpu=1,
    params:
        version=algorithms.DIAGNOSTICS,
        plates=SETTINGS.plates,
        settings=room("diagnostics"),
        seed=SETTINGS.seed,
        results=results_folder,
        device=device_for,
    shell:
        "vae-sci diagnose --plates {params.plates:q} --model {wildcards.model} "
        "--results {params.results:q} --settings {params.settings:q} --seed {params.seed} "
        "--device {params.device} > {log:q} 2>&1"


rule compare:
    """Put the models of the run side by side, on the same held-out cells."""
    input:
        diagnostics=expand(
            f"{RESULTS}/diagnostics/{{model}}/{{table}}.csv",
            model=MODELS,
            table=("diagnostics", "rings"),
        ),
        models=expand(
            f"{RESULTS}/models/{{model}}/{{name}}",
            model=MODELS,
            name=("model.json", "model.safetensors"),
        ),
        treatments=expand(
            f"{RESULTS}/phenotypes/{{model}}/treatments.csv", model=MODELS
        ),
        generated=expand(
            f"{RESULTS}/generated/{{model}}/{{name}}.ome.tif",
            model=MODELS,
            name=("originals", "reconstructions", "samples"),
        ),
    output:
        table=report(
            f"{RESULTS}/comparison/models.csv",
            caption="../report/comparison.rst",
            category="Tables",
            labels={"table": "comparison of models"},
        ),
        figure=report(
            f"{RESULTS}/figures/comparison.png",
            caption="../report/comparison.rst",
            category="Figures",
            labels={"model": "all", "figure": "comparison"},
        ),
        svg=f"{RESULTS}/figures/comparison.svg",
    log:
        f"{RESULTS}/logs/compare.log",
    benchmark:
        f"{RESULTS}/benchmarks/compare.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        version=(algorithms.DIAGNOSTICS, algorithms.FIGURES),
        models=MODELS,
        results=results_folder,
    shell:
        "vae-sci compare {params.models:q} --results {params.results:q} > {log:q} 2>&1"
