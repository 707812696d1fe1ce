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
        similar=report(
            f"{RESULTS}/phenotypes/{{model}}/similar.csv",
            caption="../report/similar.rst",
            category="Tables",
            labels={"table": "similar"},
        ),
        normalization=report(
            f"{RESULTS}/phenotypes/{{model}}/normalization.csv",
            caption="../report/normalization.rst",
            category="Tables",
            labels={"table": "normalization"},
        ),
        wells=f"{RESULTS}/phenotypes/{{model}}/wells.csv",
        profiles=f"{RESULTS}/phenotypes/{{model}}/profiles.parquet",
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
        settings=room("phenotypes"),
        seed=SETTINGS.seed,
        results=results_folder,
    shell:
        "vae-sci phenotypes --plates {params.plates:q} --model {wildcards.model} "
        "--results {params.results:q} --settings {params.settings:q} --seed {params.seed} "
        "> {log:q} 2>&1"
