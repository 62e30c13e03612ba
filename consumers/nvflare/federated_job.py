"""FedAvg of a bundle with NVFlare: the server starts from the bundle's weights, each site trains on its own folder.

    python federated_job.py BUNDLE --site site-1=DATA --site site-2=DATA --rounds 10 --workspace FOLDER

It runs in NVFlare's simulator; with `--export FOLDER` it writes the job instead, to be submitted to a federation.
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
from nvflare.app_common.aggregators.intime_accumulate_model_aggregator import (
    InTimeAccumulateWeightedAggregator,
)
from nvflare.app_common.shareablegenerators.full_model_shareable_generator import FullModelShareableGenerator
from nvflare.app_common.workflows.scatter_and_gather import ScatterAndGather
from nvflare.app_opt.pt.job_config.base_fed_job import BaseFedJob


def federated_job(
    bundle: Path, sites: dict[str, str], options: dict[str, Any], rounds: int, epochs: int
) -> BaseFedJob:
    """The job.

    Args:
        bundle: its folder, which goes to the server and the sites with the job.
        sites: data folders by name.
        options: those of the bundle's training, the same everywhere.
        rounds: how often the weights are averaged.
        epochs: on each site in a round.
    """
    shipped = f"config/{bundle.name}"
    job = BaseFedJob(name=bundle.name, min_clients=len(sites), key_metric="val_dice")
    job.set_app_packages(["monai", "monai_nvflare", "mdl_monai"])  # each site has them installed
    job.add_file_to_server(str(bundle), dest_dir=bundle.name, app_folder_type="config")
    persistor = MonaiBundlePersistor(bundle_root=shipped, source_ckpt_filename="models/model.pt")
    job.to_server(persistor, id="persistor")
    # The mean is weighted by the steps that a site made. NVFlare's newer FedAvg does not take what
    # ClientAlgoExecutor sends, a metric that is no dict: it would leave all weights out.
    job.to_server(InTimeAccumulateWeightedAggregator(expected_data_kind="WEIGHT_DIFF"), id="aggregator")
    job.to_server(FullModelShareableGenerator(), id="shareable_generator")
    job.to_server(
        ScatterAndGather(
            min_clients=len(sites),
            num_rounds=rounds,
            aggregator_id="aggregator",
            persistor_id="persistor",
            shareable_generator_id="shareable_generator",
        ),
        id="fedavg",
    )
    for site, folder in sites.items():
        # The learning rate's cycle spans all rounds; where to go on from, the server says.
        training = {
            **options,
            "dataset_dir": folder,
            "max_epochs": rounds * epochs,
            "resume": False,
            "progress": False,
        }
        algo = MonaiAlgo(
            bundle_root=shipped,
            local_epochs=epochs,
            config_evaluate_filename="configs/train.json",
            train_kwargs={**training, "output_dir": "training"},
            # a folder of its own: both write the weights that they found best
            eval_kwargs={**training, "output_dir": "evaluation"},
        )
        job.add_file_to(str(bundle), site, dest_dir=bundle.name, app_folder_type="config")
        job.to(ClientAlgoExecutor(client_algo_id="client_algo", key_metric="val_dice"), site)
        job.to(algo, site, id="client_algo")
    return job


def main() -> None:
    """Run the simulation or write the job."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--site", action="append", required=True, metavar="NAME=FOLDER")
    parser.add_argument("--options", type=json.loads, default={}, help="of the bundle's training, as JSON")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=1, help="on each site in a round")
    parser.add_argument("--workspace", type=Path, default=Path("federation"), help="of the simulation, new")
    parser.add_argument("--export", type=Path, help="write the job there, and simulate nothing")
    given = parser.parse_args()
    sites = dict(pair.split("=", 1) for pair in given.site)
    job = federated_job(given.bundle.resolve(), sites, given.options, given.rounds, given.epochs)
    if given.export:
        job.export_job(str(given.export))
        return
    if given.workspace.exists():
        parser.error(f"{given.workspace} exists: name a new folder with --workspace")
    job.simulator_run(str(given.workspace.resolve()), threads=len(sites))
    log = given.workspace / "server" / "log.txt"  # the simulator's exit code does not tell
    if not log.is_file() or f"Round {given.rounds - 1} finished." not in log.read_text(encoding="utf-8"):
        sys.exit(
            f"the federation did not reach its end: see the errors above and the logs in {given.workspace}"
        )


if __name__ == "__main__":
    main()
