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
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=30,
    params:
        version=algorithms.SIMULATE,
        out=lambda wildcards: f"{wildcards.screen}/{wildcards.plate}",
    shell:
        "vae-sci simulate --recipe {input.recipe:q} --plate {wildcards.plate} --out {params.out:q} "
        "> {log:q} 2>&1"


rule index:
    """List a plate's image files: well, site, channel, and quality figures."""
    input:
        inputs_of,
    output:
        fields=f"{RESULTS}/images/{{plate}}.parquet",
    log:
        f"{RESULTS}/logs/index/{{plate}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/index/{{plate}}.tsv"
    # Before any long work: what is wrong with a plate shows here.
    priority: 1
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=120,
    params:
        version=algorithms.INDEX,
        row=row_of,
        raw=raw_files,
        plates=SETTINGS.plates,
        settings=room("images"),
        results=results_folder,
    shell:
        "vae-sci index --plate {wildcards.plate} --plates {params.plates:q} "
        "--results {params.results:q} --settings {params.settings:q} > {log:q} 2>&1"
