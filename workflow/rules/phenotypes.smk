rule phenotypes:
    """Normalise against controls, cluster, draw the UMAP, test treatments; write the tables."""
    input:
        platemaps=platemaps,
        tables=expand(
            f"{RESULTS}/tiles/{{plate}}.parquet", plate=PLATES, allow_missing=True
        ),
        embeddings=expand(
            f"{RESULTS}/embeddings/{{model}}/{{plate}}.parquet",
            plate=PLATES,
            allow_missing=True,
        ),
    output:
        cells=f"{RESULTS}/phenotypes/{{model}}/cells.parquet",
        anndata=f"{RESULTS}/phenotypes/{{model}}/cells.h5ad",
        clusters=report(
            f"{RESULTS}/phenotypes/{{model}}/clusters.csv",
            caption="../report/clusters.rst",
            category="Tables",
            labels={"table": "clusters"},
        ),
        resolutions=report(
            f"{RESULTS}/phenotypes/{{model}}/resolutions.csv",
            caption="../report/resolutions.rst",
            category="Tables",
            labels={"table": "resolutions"},
        ),
        treatments=report(
            f"{RESULTS}/phenotypes/{{model}}/treatments.csv",
            caption="../report/treatments.rst",
            category="Tables",
            labels={"table": "treatments"},
        ),
        enrichment=report(
            f"{RESULTS}/phenotypes/{{model}}/enrichment.csv",
            caption="../report/enriched.rst",
            category="Tables",
            labels={"table": "enrichment"},
        ),
        doses=report(
            f"{RESULTS}/phenotypes/{{model}}/doses.csv",
            caption="../report/doses.rst",
            category="Tables",
            labels={"table": "doses"},
        ),
        similarity=report(
            f"{RESULTS}/phenotypes/{{model}}/similarity.csv",
            caption="../report/similarity.rst",
            category="Tables",
            labels={"table": "similarity"},
        ),
        normalization=report(
            f"{RESULTS}/phenotypes/{{model}}/normalization.csv",
            caption="../report/normalization.rst",
            category="Tables",
            labels={"table": "normalization"},
        ),
        wells=f"{RESULTS}/phenotypes/{{model}}/wells.csv",
        profiles=f"{RESULTS}/phenotypes/{{model}}/profiles.parquet",
        pycytominer=expand(
            f"{RESULTS}/phenotypes/{{model}}/pycytominer/{{table}}.parquet",
            table=("wells", "treatments"),
            allow_missing=True,
        ),
        scores=f"{RESULTS}/phenotypes/{{model}}/scores.json",
    log:
        f"{RESULTS}/logs/phenotypes/{{model}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/phenotypes/{{model}}.tsv"
    conda:
        "../../environment.yml"
    threads: 4
    resources:
        mem_mb=8000,
        runtime=240,
    params:
        version=algorithms.PHENOTYPES,
        rows=[row.model_dump_json() for row in ROWS.values()],
        plates=SETTINGS.plates,
        settings=room("phenotypes", without=["labels"]),
        seed=SETTINGS.seed,
        results=results_folder,
    shell:
        "vae-sci phenotypes --plates {params.plates:q} --model {wildcards.model} "
        "--results {params.results:q} --settings {params.settings:q} --seed {params.seed} "
        "> {log:q} 2>&1"


rule score:
    """Score z beside baselines of the same tiles: replicates, and labels if any are named."""
    input:
        cells=f"{RESULTS}/phenotypes/{{model}}/cells.parquet",
        anndata=f"{RESULTS}/phenotypes/{{model}}/cells.h5ad",
        tables=expand(f"{RESULTS}/tiles/{{plate}}.parquet", plate=PLATES),
        stores=expand(f"{RESULTS}/tiles/{{plate}}.zarr", plate=PLATES),
    output:
        scores=report(
            f"{RESULTS}/phenotypes/{{model}}/scores.csv",
            caption="../report/scores.rst",
            category="Tables",
            labels={"table": "scores"},
        ),
        replicates=report(
            f"{RESULTS}/phenotypes/{{model}}/replicates.csv",
            caption="../report/replicates.rst",
            category="Tables",
            labels={"table": "replicates"},
        ),
    log:
        f"{RESULTS}/logs/score/{{model}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/score/{{model}}.tsv"
    conda:
        "../../environment.yml"
    threads: 2
    resources:
        mem_mb=8000,
        runtime=120,
    params:
        version=algorithms.SCORES,
        settings=room("phenotypes"),
        seed=SETTINGS.seed,
        results=results_folder,
    shell:
        "vae-sci score --model {wildcards.model} --results {params.results:q} "
        "--settings {params.settings:q} --seed {params.seed} > {log:q} 2>&1"
