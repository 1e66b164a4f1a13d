"""What may leave a private batch, and nothing else."""
