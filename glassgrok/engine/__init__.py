"""Walkers, devices, checkpoints, run folders."""
