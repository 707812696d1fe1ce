rule tiles:
    """Cut a plate's cells into tiles of raw counts; table, ledger and split by well."""
    input:
        inputs_of,
        fields=f"{RESULTS}/images/{{plate}}.parquet",
    output:
        table=f"{RESULTS}/tiles/{{plate}}.parquet",
        store=directory(f"{RESULTS}/tiles/{{plate}}.zarr"),
        ledger=f"{RESULTS}/ledger/{{plate}}.json",
    log:
        f"{RESULTS}/logs/tiles/{{plate}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/tiles/{{plate}}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=3000,
        runtime=240,
    params:
        version=algorithms.TILES,
        row=row_of,
        raw=raw_files,
        plates=SETTINGS.plates,
        settings=room("tiles"),
        images=room("images"),
        seed=SETTINGS.seed,
        results=results_folder,
    shell:
        "vae-sci tiles --plate {wildcards.plate} --plates {params.plates:q} "
        "--results {params.results:q} --settings {params.settings:q} --images {params.images:q} "
        "--seed {params.seed} > {log:q} 2>&1"
