"""The recorder: starts a command, stays out of its way, samples beside it, and keeps what it sampled safe."""
