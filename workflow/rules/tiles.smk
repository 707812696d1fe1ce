rule tiles:
    """Cut a plate's cells into tiles of raw counts; table, ledger and split by well."""
    input:
        inputs_of,
        fields=RESULTS + "/images/{plate}.parquet",
    output:
        table=RESULTS + "/tiles/{plate}.parquet",
        store=directory(RESULTS + "/tiles/{plate}.zarr"),
        ledger=RESULTS + "/ledger/{plate}.json",
    log:
        RESULTS + "/logs/tiles/{plate}.log",
    benchmark:
        RESULTS + "/benchmarks/tiles/{plate}.tsv"
    params:
        version=algorithms.TILES,
        row=row_of,
        plates=SETTINGS.plates,
        settings=room("tiles"),
        images=room("images"),
        seed=SETTINGS.seed,
        results=results_folder,
    threads: 1
    resources:
        mem_mb=3000,
        runtime=240,
    conda:
        "../../environment.yml"
    shell:
        "vae-sci tiles --plate {wildcards.plate} --plates {params.plates} "
        "--results {params.results} --settings {params.settings:q} --images {params.images:q} "
        "--seed {params.seed} > {log} 2>&1"
