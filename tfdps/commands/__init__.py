"""Commands on artefacts. They need no TensorFlow."""
