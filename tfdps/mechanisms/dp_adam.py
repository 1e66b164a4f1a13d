"""The optimizer of clipped and noised gradients: `gaussian_adam` and `clip_and_noise`.

They are tensorflow-privacy's where it is installed, up to Python 3.11, and from 3.12 on our own, which
give the same numbers.
"""

import sys

if sys.version_info < (3, 12):
    from tfdps.mechanisms.tf_privacy import clip_and_noise, gaussian_adam
else:
    from tfdps.mechanisms.keras_privacy import clip_and_noise, gaussian_adam

__all__ = ["clip_and_noise", "gaussian_adam"]
