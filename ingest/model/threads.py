"""How many threads PyTorch takes on a CPU."""

import os

import torch

from ingest.model.model import Model

_SMALL = 50_000_000  # parameters


def choose_threads(model: Model) -> None:
    """One thread for a small model on a CPU, unless OMP_NUM_THREADS says otherwise: threads that wait for each other on
    shared cores made small products ten times slower."""
    small = sum(parameter.numel() for parameter in model.hf.parameters()) < _SMALL
    if model.device.type == "cpu" and small and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)
