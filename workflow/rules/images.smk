rule simulate:
    """Image a plate of virtual cells, for rows of the table of plates that name a recipe."""
    input:
        recipe=lambda wildcards: ROWS[wildcards.plate].recipe,
    output:
        platemap="{screen}/{plate}/platemap.csv",
    log:
        "{screen}/logs/simulate/{plate}.log",
    benchmark:
        "{screen}/benchmarks/simulate/{plate}.tsv"
    wildcard_constraints:
        plate="|".join(SIMULATED) or "none",
    params:
        version=algorithms.SIMULATE,
        out=lambda wildcards: f"{wildcards.screen}/{wildcards.plate}",
    threads: 1
    resources:
        mem_mb=1000,
        runtime=30,
    conda:
        "../../environment.yml"
    shell:
        "vae-sci simulate --recipe {input.recipe} --plate {wildcards.plate} --out {params.out} "
        "> {log} 2>&1"


rule index:
    """List a plate's image files: well, site, channel, and quality figures."""
    input:
        inputs_of,
    output:
        fields=RESULTS + "/images/{plate}.parquet",
    log:
        RESULTS + "/logs/index/{plate}.log",
    benchmark:
        RESULTS + "/benchmarks/index/{plate}.tsv"
    params:
        version=algorithms.INDEX,
        row=row_of,
        plates=SETTINGS.plates,
        settings=room("images"),
        results=results_folder,
    threads: 1
    resources:
        mem_mb=2000,
        runtime=120,
    conda:
        "../../environment.yml"
    shell:
        "vae-sci index --plate {wildcards.plate} --plates {params.plates} "
        "--results {params.results} --settings {params.settings:q} > {log} 2>&1"
