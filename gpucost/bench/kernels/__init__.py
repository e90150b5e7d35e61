"""What runs inside a worker process, and nowhere else: the only modules of gpucost that import torch."""
