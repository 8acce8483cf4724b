"""Bottleneck adapters on a frozen checkpoint: torch and transformers, nothing else."""
