rule figures:
    """Draw training curves, reconstructions, UMAPs, gallery and heat map."""
    input:
        history=RESULTS + "/models/{model}/history.parquet",
        generated=RESULTS + "/generated/{model}/cells.csv",
        cells=RESULTS + "/phenotypes/{model}/cells.parquet",
        enrichment=RESULTS + "/phenotypes/{model}/enrichment.csv",
        tables=expand(RESULTS + "/tiles/{plate}.parquet", plate=PLATES),
    output:
        [
            report(
                RESULTS + f"/figures/{{model}}/{figure}.png",
                caption=f"../report/{caption}.rst",
                category="Figures",
                labels={"model": "{model}", "figure": figure},
            )
            for figure, caption in FIGURES.items()
        ],
        expand(RESULTS + "/figures/{{model}}/{figure}.svg", figure=FIGURES),
    log:
        RESULTS + "/logs/figures/{model}.log",
    benchmark:
        RESULTS + "/benchmarks/figures/{model}.tsv"
    params:
        version=algorithms.FIGURES,
        settings=room("report"),
        seed=SETTINGS.seed,
        results=results_folder,
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    conda:
        "../../environment.yml"
    shell:
        "vae-sci figures --model {wildcards.model} --results {params.results} "
        "--settings {params.settings:q} --seed {params.seed} > {log} 2>&1"
