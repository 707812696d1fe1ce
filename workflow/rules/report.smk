rule figures:
    """Draw training curves, generated images, UMAPs, gallery and heat map."""
    input:
        history=f"{RESULTS}/models/{{model}}/history.parquet",
        card=f"{RESULTS}/models/{{model}}/model.json",
        generated=expand(
            f"{RESULTS}/generated/{{model}}/{{name}}",
            name=GENERATED + MORPHS,
            allow_missing=True,
        ),
        cells=f"{RESULTS}/phenotypes/{{model}}/cells.parquet",
        phenotypes=expand(
            f"{RESULTS}/phenotypes/{{model}}/{{table}}",
            table=DRAWN,
            allow_missing=True,
        ),
        tables=expand(f"{RESULTS}/tiles/{{plate}}.parquet", plate=PLATES),
        stores=expand(f"{RESULTS}/tiles/{{plate}}.zarr", plate=PLATES),
    output:
        [
            report(
                f"{RESULTS}/figures/{{model}}/{figure}.png",
                caption=f"../report/{caption}.rst",
                category="Figures",
                labels={"model": "{model}", "figure": figure},
            )
            for figure, caption in FIGURES.items()
        ],
        expand(
            f"{RESULTS}/figures/{{model}}/{{figure}}.svg",
            figure=FIGURES,
            allow_missing=True,
        ),
        expand(
            f"{RESULTS}/figures/{{model}}/{{figure}}.csv",
            figure=[figure for figure in FIGURES if figure not in IMAGES],
            allow_missing=True,
        ),
        report(
            f"{RESULTS}/figures/{{model}}/morph_animation.png",
            caption="../report/morph.rst",
            category="Figures",
            labels={"model": "{model}", "figure": "morph_animation"},
        ),
    log:
        f"{RESULTS}/logs/figures/{{model}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/figures/{{model}}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        version=algorithms.FIGURES,
        settings=room("report", without=["explorer_cells"]),
        seed=SETTINGS.seed,
        results=results_folder,
    shell:
        "vae-sci figures --model {wildcards.model} --results {params.results:q} "
        "--settings {params.settings:q} --seed {params.seed} > {log:q} 2>&1"


rule explorer:
    """Write the page that shows the map of cells with their tiles."""
    input:
        cells=f"{RESULTS}/phenotypes/{{model}}/cells.parquet",
        tables=expand(f"{RESULTS}/tiles/{{plate}}.parquet", plate=PLATES),
        stores=expand(f"{RESULTS}/tiles/{{plate}}.zarr", plate=PLATES),
    output:
        # Published with the folder that it stands in.
        f"{RESULTS}/explorer/{{model}}/index.html",
    log:
        f"{RESULTS}/logs/explorer/{{model}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/explorer/{{model}}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=6000,
        runtime=120,
    params:
        version=algorithms.EXPLORER,
        settings=room("report", without=["gallery_cells", "treatments", "colour_by"]),
        seed=SETTINGS.seed,
        results=results_folder,
    shell:
        "vae-sci explorer --model {wildcards.model} --results {params.results:q} "
        "--settings {params.settings:q} --seed {params.seed} > {log:q} 2>&1"


rule draw_quality:
    """Draw a plate's quality over its wells, and examples of what was dropped."""
    input:
        fields=f"{RESULTS}/measured/fields/{{plate}}.parquet",
        cells=f"{RESULTS}/measured/cells/{{plate}}.parquet",
        dropped=f"{RESULTS}/dropped/{{plate}}.csv",
        store=f"{RESULTS}/tiles/{{plate}}.zarr",
    output:
        [
            report(
                f"{RESULTS}/figures/{figure}/{{plate}}.png",
                caption="../report/quality.rst",
                category="Quality",
                labels={"plate": "{plate}", "figure": figure},
            )
            for figure in ("quality", "dropped")
        ],
        expand(
            f"{RESULTS}/figures/{{figure}}/{{plate}}.svg",
            figure=("quality", "dropped"),
            allow_missing=True,
        ),
    log:
        f"{RESULTS}/logs/draw_quality/{{plate}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/draw_quality/{{plate}}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        version=algorithms.FIGURES,
        results=results_folder,
    shell:
        "vae-sci draw-quality --plate {wildcards.plate} --results {params.results:q} "
        "> {log:q} 2>&1"
