rule train:
    """Fit the model to the training wells of all plates; resumes where a killed job stopped."""
    input:
        tables=expand(f"{RESULTS}/tiles/{{plate}}.parquet", plate=PLATES),
        stores=expand(f"{RESULTS}/tiles/{{plate}}.zarr", plate=PLATES),
        calibration=calibration_of,
    output:
        weights=f"{RESULTS}/models/{{model}}/model.safetensors",
        card=f"{RESULTS}/models/{{model}}/model.json",
        history=f"{RESULTS}/models/{{model}}/history.parquet",
    log:
        f"{RESULTS}/logs/train/{{model}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/train/{{model}}.tsv"
    conda:
        "../../environment.yml"
    threads: 8
    resources:
        mem_mb=8000,
        runtime=1440,
        gpu=1,
    params:
        version=algorithms.TRAIN,
        plates=SETTINGS.plates,
        settings=model_of,
        training=training_of,
        seed=SETTINGS.seed,
        results=results_folder,
        device=device_for,
        devices=devices_for,
    shell:
        "vae-sci train --plates {params.plates:q} --results {params.results:q} "
        "--settings {params.settings:q} --training {params.training:q} --seed {params.seed} "
        "--device {params.device} --devices {params.devices} --log {log:q}"
