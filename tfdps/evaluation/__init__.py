"""How good the samples are: downstream accuracy and distances between distributions."""
