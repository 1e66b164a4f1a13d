"""The packages; all the rest is in setup.cfg."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["tfdps", "tfdps.*"]), "tfdps.flagfiles"],
    package_dir={"tfdps.flagfiles": "launch"},
)
