rule embed:
    """Encode a plate's tiles: posterior mean and sd, rate, distortion, novelty of every cell."""
    input:
        table=f"{RESULTS}/tiles/{{plate}}.parquet",
        store=f"{RESULTS}/tiles/{{plate}}.zarr",
        weights=f"{RESULTS}/models/{{model}}/model.safetensors",
        card=f"{RESULTS}/models/{{model}}/model.json",
    output:
        table=f"{RESULTS}/embeddings/{{model}}/{{plate}}.parquet",
    log:
        f"{RESULTS}/logs/embed/{{model}}/{{plate}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/embed/{{model}}/{{plate}}.tsv"
    conda:
        "../../environment.yml"
    threads: 2
    resources:
        mem_mb=4000,
        runtime=240,
        gpu=1,
    params:
        version=algorithms.EMBED,
        settings=room("embedding"),
        results=results_folder,
        device=device_for,
    shell:
        "vae-sci embed --plate {wildcards.plate} --model {wildcards.model} "
        "--results {params.results:q} --settings {params.settings:q} --device {params.device} "
        "> {log:q} 2>&1"


rule generate:
    """Reconstruct held-out cells, resample what z leaves open, draw cells from the prior."""
    input:
        tables=expand(f"{RESULTS}/tiles/{{plate}}.parquet", plate=PLATES),
        stores=expand(f"{RESULTS}/tiles/{{plate}}.zarr", plate=PLATES),
        weights=f"{RESULTS}/models/{{model}}/model.safetensors",
        card=f"{RESULTS}/models/{{model}}/model.json",
    output:
        expand(
            f"{RESULTS}/generated/{{model}}/{{name}}",
            name=GENERATED,
            allow_missing=True,
        ),
    log:
        f"{RESULTS}/logs/generate/{{model}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/generate/{{model}}.tsv"
    conda:
        "../../environment.yml"
    threads: 2
    resources:
        mem_mb=4000,
        runtime=60,
        gpu=1,
    params:
        version=algorithms.GENERATE,
        plates=SETTINGS.plates,
        seed=SETTINGS.seed,
        results=results_folder,
        device=device_for,
    shell:
        "vae-sci generate --plates {params.plates:q} --model {wildcards.model} "
        "--results {params.results:q} --seed {params.seed} --device {params.device} > {log:q} 2>&1"


rule morph:
    """Images along straight lines in z, between treatments and between cells."""
    input:
        cells=f"{RESULTS}/phenotypes/{{model}}/cells.parquet",
        clusters=f"{RESULTS}/phenotypes/{{model}}/clusters.csv",
        treatments=f"{RESULTS}/phenotypes/{{model}}/treatments.csv",
        embeddings=expand(
            f"{RESULTS}/embeddings/{{model}}/{{plate}}.parquet",
            plate=PLATES,
            allow_missing=True,
        ),
        weights=f"{RESULTS}/models/{{model}}/model.safetensors",
        card=f"{RESULTS}/models/{{model}}/model.json",
    output:
        expand(
            f"{RESULTS}/generated/{{model}}/{{name}}", name=MORPHS, allow_missing=True
        ),
    log:
        f"{RESULTS}/logs/morph/{{model}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/morph/{{model}}.tsv"
    conda:
        "../../environment.yml"
    threads: 2
    resources:
        mem_mb=4000,
        runtime=60,
        gpu=1,
    params:
        version=algorithms.MORPH,
        results=results_folder,
        device=device_for,
    shell:
        "vae-sci morph --model {wildcards.model} --results {params.results:q} "
        "--device {params.device} > {log:q} 2>&1"
