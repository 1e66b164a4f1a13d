"""Per-record learning: rounds of noisy moments become a mixture of images."""
