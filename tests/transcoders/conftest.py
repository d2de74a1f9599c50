"""No network, and one thread: more threads on shared cores wait for each other."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # read by huggingface_hub when it is imported, so before anything else

import torch

torch.set_num_threads(1)
