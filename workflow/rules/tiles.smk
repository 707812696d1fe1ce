rule tiles:
    """Cut a plate's cells into tiles of raw counts; split by well; measure their quality."""
    input:
        inputs_of,
        flat_field_of,
        fields=f"{RESULTS}/images/{{plate}}.parquet",
    output:
        store=directory(f"{RESULTS}/tiles/{{plate}}.zarr"),
        fields=f"{RESULTS}/measured/fields/{{plate}}.parquet",
        cells=f"{RESULTS}/measured/cells/{{plate}}.parquet",
        ledger=f"{RESULTS}/measured/ledger/{{plate}}.json",
    log:
        f"{RESULTS}/logs/tiles/{{plate}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/tiles/{{plate}}.tsv"
    conda:
        "../../environment.yml"
    threads: 8
    resources:
        mem_mb=lambda wildcards, threads: 2000 + 1000 * threads,
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
        "--seed {params.seed} --threads {threads} > {log:q} 2>&1"


rule select:
    """Keep or drop fields and cells by the limits of `quality`; tiles are not made anew."""
    input:
        fields=f"{RESULTS}/measured/fields/{{plate}}.parquet",
        cells=f"{RESULTS}/measured/cells/{{plate}}.parquet",
        ledger=f"{RESULTS}/measured/ledger/{{plate}}.json",
    output:
        table=f"{RESULTS}/tiles/{{plate}}.parquet",
        dropped=f"{RESULTS}/dropped/{{plate}}.csv",
        ledger=f"{RESULTS}/ledger/{{plate}}.json",
    log:
        f"{RESULTS}/logs/select/{{plate}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/select/{{plate}}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        version=algorithms.SELECT,
        settings=room("quality"),
        results=results_folder,
    shell:
        "vae-sci select --plate {wildcards.plate} --results {params.results:q} "
        "--settings {params.settings:q} > {log:q} 2>&1"


rule overlay:
    """Draw outlines of nuclei and cells on a few fields of a plate."""
    input:
        fields=f"{RESULTS}/images/{{plate}}.parquet",
    output:
        report(
            f"{RESULTS}/ledger/{{plate}}_segmentation.png",
            caption="../report/segmentation.rst",
            category="Quality",
            labels={"plate": "{plate}", "figure": "segmentation"},
        ),
        f"{RESULTS}/ledger/{{plate}}_segmentation.svg",
    log:
        f"{RESULTS}/logs/overlay/{{plate}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/overlay/{{plate}}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=3000,
        runtime=30,
    params:
        version=(algorithms.TILES, algorithms.FIGURES),
        row=row_of,
        raw=raw_files,
        plates=SETTINGS.plates,
        settings=room("tiles"),
        images=room("images"),
        results=results_folder,
    shell:
        "vae-sci overlay --plate {wildcards.plate} --plates {params.plates:q} "
        "--results {params.results:q} --settings {params.settings:q} --images {params.images:q} "
        "> {log:q} 2>&1"
