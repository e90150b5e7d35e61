"""A stand-in for NVIDIA's driver library: built by `build`, told what to say by `scenario`."""
