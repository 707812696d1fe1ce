rule embed:
    """Encode a plate's tiles: posterior mean and sd, rate, distortion, novelty of every cell."""
    input:
        table=RESULTS + "/tiles/{plate}.parquet",
        store=RESULTS + "/tiles/{plate}.zarr",
        weights=RESULTS + "/models/{model}/model.safetensors",
        card=RESULTS + "/models/{model}/model.json",
    output:
        table=RESULTS + "/embeddings/{model}/{plate}.parquet",
    log:
        RESULTS + "/logs/embed/{model}/{plate}.log",
    benchmark:
        RESULTS + "/benchmarks/embed/{model}/{plate}.tsv"
    params:
        version=algorithms.EMBED,
        settings=room("embedding"),
        results=results_folder,
        device=device_for,
    threads: 2
    resources:
        mem_mb=4000,
        runtime=240,
        gpu=1,
    conda:
        "../../environment.yml"
    shell:
        "vae-sci embed --plate {wildcards.plate} --model {wildcards.model} "
        "--results {params.results} --settings {params.settings:q} --device {params.device} "
        "> {log} 2>&1"


rule generate:
    """Reconstruct held-out cells and draw new ones from the prior."""
    input:
        tables=expand(RESULTS + "/tiles/{plate}.parquet", plate=PLATES),
        stores=expand(RESULTS + "/tiles/{plate}.zarr", plate=PLATES),
        weights=RESULTS + "/models/{model}/model.safetensors",
        card=RESULTS + "/models/{model}/model.json",
    output:
        originals=RESULTS + "/generated/{model}/originals.ome.tif",
        reconstructions=RESULTS + "/generated/{model}/reconstructions.ome.tif",
        samples=RESULTS + "/generated/{model}/samples.ome.tif",
        cells=RESULTS + "/generated/{model}/cells.csv",
    log:
        RESULTS + "/logs/generate/{model}.log",
    benchmark:
        RESULTS + "/benchmarks/generate/{model}.tsv"
    params:
        version=algorithms.GENERATE,
        plates=SETTINGS.plates,
        seed=SETTINGS.seed,
        results=results_folder,
        device=device_for,
    threads: 2
    resources:
        mem_mb=4000,
        runtime=60,
        gpu=1,
    conda:
        "../../environment.yml"
    shell:
        "vae-sci generate --plates {params.plates} --model {wildcards.model} "
        "--results {params.results} --seed {params.seed} --device {params.device} > {log} 2>&1"
