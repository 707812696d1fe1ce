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
    """Reconstruct held-out cells and draw new ones from the prior."""
    input:
        tables=expand(f"{RESULTS}/tiles/{{plate}}.parquet", plate=PLATES),
        stores=expand(f"{RESULTS}/tiles/{{plate}}.zarr", plate=PLATES),
        weights=f"{RESULTS}/models/{{model}}/model.safetensors",
        card=f"{RESULTS}/models/{{model}}/model.json",
    output:
        originals=f"{RESULTS}/generated/{{model}}/originals.ome.tif",
        reconstructions=f"{RESULTS}/generated/{{model}}/reconstructions.ome.tif",
        samples=f"{RESULTS}/generated/{{model}}/samples.ome.tif",
        cells=f"{RESULTS}/generated/{{model}}/cells.csv",
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
