"""Analyses: pure functions from frames to frames, one file each."""
