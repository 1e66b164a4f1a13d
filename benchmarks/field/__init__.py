"""The contenders of `benchmarks/field.py` and their judge: one idea a module.

  contenders     the table of methods; each gets a Race and returns a Finish
  race           what a method is given, and what it hands back
  product        this project, with its refiner and without
  class_means    noisy means and variances of each class
  dp_merf        random features of the records, released once (Harder et al. 2021)
  dp_diffusion   a denoiser by DP-SGD with noise multiplicity (Dockhorn et al. 2022)
  dp_classifier  a classifier by DP-SGD (Abadi et al. 2016): no images
  dp_sgd         what the last two share: draws, clip, noise, the plan
  networks       layers, Adam and averaged weights in plain JAX
  generator      the image generator of dp_merf
  judge          classifiers, the ruler and a picture of the images

The baselines are written from the papers, for two CPU cores. Their noise and draws are NumPy's and
JAX's pseudo-random numbers in floating point: good enough to compare, not to release private records.
"""
