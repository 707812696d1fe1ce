rule train:
    """Fit the model to the training wells of all plates; resumes where a killed job stopped."""
    input:
        tables=expand(RESULTS + "/tiles/{plate}.parquet", plate=PLATES),
        stores=expand(RESULTS + "/tiles/{plate}.zarr", plate=PLATES),
    output:
        weights=RESULTS + "/models/{model}/model.safetensors",
        card=RESULTS + "/models/{model}/model.json",
        history=RESULTS + "/models/{model}/history.parquet",
    log:
        RESULTS + "/logs/train/{model}.log",
    benchmark:
        RESULTS + "/benchmarks/train/{model}.tsv"
    params:
        version=algorithms.TRAIN,
        plates=SETTINGS.plates,
        settings=room("model"),
        training=room("training"),
        seed=SETTINGS.seed,
        results=results_folder,
        device=device_for,
    threads: 8
    resources:
        mem_mb=8000,
        runtime=1440,
        gpu=1,
    conda:
        "../../environment.yml"
    shell:
        "vae-sci train --plates {params.plates} --results {params.results} "
        "--settings {params.settings:q} --training {params.training:q} --seed {params.seed} "
        "--device {params.device} --log {log}"
