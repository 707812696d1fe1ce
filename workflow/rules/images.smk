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


rule flat_field:
    """Tell from a plate's images how much of the light reaches each pixel, and draw it."""
    input:
        fields=f"{RESULTS}/images/{{plate}}.parquet",
    output:
        flat=f"{RESULTS}/flat_field/{{plate}}.npz",
        figure=report(
            f"{RESULTS}/flat_field/{{plate}}.png",
            caption="../report/flat_field.rst",
            category="Figures",
            labels={"model": "all", "figure": "flat field {plate}"},
        ),
        svg=f"{RESULTS}/flat_field/{{plate}}.svg",
    log:
        f"{RESULTS}/logs/flat_field/{{plate}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/flat_field/{{plate}}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        version=algorithms.FLAT_FIELD,
        raw=raw_files,
        settings=room("images"),
        results=results_folder,
    shell:
        "vae-sci flat-field --plate {wildcards.plate} --results {params.results:q} "
        "--settings {params.settings:q} > {log:q} 2>&1"
