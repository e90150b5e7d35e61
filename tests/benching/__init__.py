"""Helpers of the benchmark's tests: made-up profiles, a stand-in for CUDA, small plans."""
