"""How an image that is not square becomes one: a public rule, the same for all images."""

from tfdps.config import data_settings

SQUASH, CROP, PAD = data_settings.FITS
DONE = {SQUASH: "squashed", CROP: "cropped", PAD: "padded"}


def resize(image, image_size, *, fit=SQUASH, background="white"):
    """Returns a Pillow image of image_size x image_size, antialiased.

    Pillow's bilinear filter is tf.image.resize's with antialias=True: a triangle as wide as the
    reduction.

    Args:
      image: a Pillow image in mode L or RGB.
      image_size: side in pixels, >= 1.
      fit: SQUASH: all of it, its sides resized each by its own factor. CROP: the square in its middle
        (of an odd rest the smaller half is cut at the left or the top). PAD: all of it, resized until
        its longer side fits, between two bars.
      background: the name of the colour of the bars.
    """
    from PIL import Image

    width, height = image.size
    if fit == CROP:
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        image = image.crop((left, top, left + side, top + side))
    elif fit == PAD and width != height:
        scale = image_size / max(width, height)
        inner = max(1, round(width * scale)), max(1, round(height * scale))
        squares = Image.new(image.mode, (image_size, image_size), background)
        corner = (image_size - inner[0]) // 2, (image_size - inner[1]) // 2
        squares.paste(_resized(image, inner), corner)
        return squares
    return _resized(image, (image_size, image_size))


def _resized(image, size):
    from PIL import Image

    return image if image.size == size else image.resize(size, Image.Resampling.BILINEAR)
