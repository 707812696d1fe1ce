rule phenotypes:
    """Normalise against controls, cluster, draw the UMAP, test treatments; write the tables."""
    input:
        platemaps=platemaps,
        tables=expand(RESULTS + "/tiles/{plate}.parquet", plate=PLATES),
        embeddings=expand(RESULTS + "/embeddings/{{model}}/{plate}.parquet", plate=PLATES),
    output:
        cells=RESULTS + "/phenotypes/{model}/cells.parquet",
        anndata=RESULTS + "/phenotypes/{model}/cells.h5ad",
        clusters=report(
            RESULTS + "/phenotypes/{model}/clusters.csv",
            category="Tables",
            labels={"table": "clusters"},
        ),
        treatments=report(
            RESULTS + "/phenotypes/{model}/treatments.csv",
            category="Tables",
            labels={"table": "treatments"},
        ),
        enrichment=report(
            RESULTS + "/phenotypes/{model}/enrichment.csv",
            category="Tables",
            labels={"table": "enrichment"},
        ),
        profiles=RESULTS + "/phenotypes/{model}/profiles.parquet",
        scores=RESULTS + "/phenotypes/{model}/scores.json",
    log:
        RESULTS + "/logs/phenotypes/{model}.log",
    benchmark:
        RESULTS + "/benchmarks/phenotypes/{model}.tsv"
    params:
        version=algorithms.PHENOTYPES,
        rows=[row.model_dump_json() for row in ROWS.values()],
        plates=SETTINGS.plates,
        settings=room("phenotypes"),
        seed=SETTINGS.seed,
        results=results_folder,
    threads: 4
    resources:
        mem_mb=8000,
        runtime=240,
    conda:
        "../../environment.yml"
    shell:
        "vae-sci phenotypes --plates {params.plates} --model {wildcards.model} "
        "--results {params.results} --settings {params.settings:q} --seed {params.seed} "
        "> {log} 2>&1"
