"""python -m tfdps: the same command as tfdps and python -m tfdps.launch."""

from tfdps import launch

if __name__ == "__main__":
    launch.run()
