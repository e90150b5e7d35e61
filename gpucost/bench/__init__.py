"""What a device can really do: a torch microbenchmark whose profiles say the honest ceilings of one GPU, with their uncertainty.

    supervisor (a worker process a GPU) --> measurements --> gates --> profile --> user's data folder
    telemetry  (the NVML collector)     --^

Only the worker processes (`gpucost.bench.worker` and `gpucost.bench.kernels`) import torch. `docs/bench.md` has the protocol, the gates, the format of
a profile and what a profile may be used for.
"""
