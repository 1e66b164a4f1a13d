"""The refiner: a denoiser that makes a mixture's images look real."""
