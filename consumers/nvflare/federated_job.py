"""FedAvg of a bundle with NVFlare: the server starts from the bundle's weights, each site trains on its own folder.

    python federated_job.py <bundle> --site site-1=<data> --site site-2=<data> --rounds 10 --workspace <folder>

It runs NVFlare's simulator; with --export <folder> it writes the job for a real federation instead.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from monai.fl.client import MonaiAlgo
from monai_nvflare.client_algo_executor import ClientAlgoExecutor
from monai_nvflare.monai_bundle_persistor import MonaiBundlePersistor
from nvflare.app_common.workflows.fedavg import FedAvg
from nvflare.app_opt.pt.job_config.base_fed_job import BaseFedJob


def federated_job(
    bundle: Path, sites: dict[str, str], options: dict[str, Any], rounds: int, epochs: int
) -> BaseFedJob:
    """The job: `sites` are data folders by name, `options` those of the bundle's training, the same everywhere."""
    shipped = f"config/{bundle.name}"
    job = BaseFedJob(name=bundle.name, min_clients=len(sites), key_metric="val_dice")
    job.set_app_packages(["monai", "monai_nvflare", "mdl_monai"])  # they are installed at each site
    job.add_file_to_server(str(bundle), dest_dir=bundle.name, app_folder_type="config")
    persistor = MonaiBundlePersistor(bundle_root=shipped, source_ckpt_filename="models/model.pt")
    job.to_server(persistor, id="persistor")
    job.to_server(FedAvg(num_clients=len(sites), num_rounds=rounds, persistor_id="persistor"))
    for site, folder in sites.items():
        # The schedule of the learning rate spans all rounds; labels, spacing and the like are not each site's own.
        training = {**options, "dataset_dir": folder, "max_epochs": rounds * epochs, "progress": False}
        algo = MonaiAlgo(
            bundle_root=shipped,
            local_epochs=epochs,
            config_evaluate_filename="configs/train.json",
            train_kwargs={**training, "output_dir": f"{site}/training"},
            # another folder: each writes the weights that it found the best
            eval_kwargs={**training, "output_dir": f"{site}/evaluation"},
        )
        job.add_file_to(str(bundle), site, dest_dir=bundle.name, app_folder_type="config")
        job.to(ClientAlgoExecutor(client_algo_id="client_algo", key_metric="val_dice"), site)
        job.to(algo, site, id="client_algo")
    return job


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--site", action="append", required=True, metavar="NAME=FOLDER")
    parser.add_argument("--options", type=json.loads, default={}, help="options of the bundle's training, JSON")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=1, help="epochs in a round")
    parser.add_argument("--workspace", type=Path, default=Path("federation"))
    parser.add_argument("--export", type=Path, help="write the job there, to be submitted")
    given = parser.parse_args()
    sites = dict(pair.split("=", 1) for pair in given.site)
    job = federated_job(given.bundle.resolve(), sites, given.options, given.rounds, given.epochs)
    if given.export:
        job.export_job(str(given.export))
        return
    job.simulator_run(str(given.workspace.resolve()), threads=len(sites))
    if not list(given.workspace.rglob("FL_global_model.pt")):
        sys.exit("the simulation ended without a global model: its messages say why")


if __name__ == "__main__":
    main()
