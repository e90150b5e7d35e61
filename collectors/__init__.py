"""Sources of samples: one file each, behind one protocol (`gpucost.collectors.base`)."""
