"""Anybody's picture to the data set's form: 28 × 28, grey, the garment bright on black, as large as it fits.

After what the authors of the data set did with product photographs (Xiao et al., 2017): trim, longest edge to 28,
extend to a square with the garment in the middle, negate, grey. Two things are added, as not every picture is a product
on white: the background may have any one colour, and where it is dark nothing is negated.

>>> images = prepare(open_picture("shirt.jpg"))[None]  # (1, 28, 28, 1), ready for a network  # doctest: +SKIP
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from scipy import ndimage

from fashion_mnist import formats

SIDE = 28
LARGEST_FILE = 10_000_000  # bytes
LARGEST_PICTURE = 50_000_000  # pixels, once unpacked
FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "GIF", "BMP")  # what browsers show; no others are opened

# Longest edge of what is looked at: a garment that fills a thirtieth of the picture still has all its 28 pixels.
_WORKING = 896
_NEAR = 0.05 * 255  # how far from the background's colour still is background; the authors' five per cent
_BRIGHT = 100  # grey level above which a background is paper or wall, and is negated
_SPECK = 0.01  # share of the largest thing in the picture below which something is dust


class PhotoError(ValueError):
    """A picture that is refused; the message is one sentence for whoever gave it."""


def open_picture(source: str | Path | bytes) -> Image.Image:
    """Open a picture, refusing what is no picture or what would unpack to something enormous.

    Parameters
    ----------
    source : path or bytes
        A file, or its content: one of `FORMATS`, up to `LARGEST_FILE` bytes and `LARGEST_PICTURE` pixels. The size is
        read from the header; nothing is unpacked before it has been checked.

    Returns
    -------
    PIL.Image.Image
        Decoded, at most 896 pixels wide and high, turned as its EXIF says.

    Raises
    ------
    PhotoError
        If it is not an image, damaged, too large, empty or animated.
    OSError
        If there is no such file, or it cannot be read.
    """
    with io.BytesIO(source) if isinstance(source, bytes) else Path(source).open("rb") as file:
        content = file.read(LARGEST_FILE + 1)
    if len(content) > LARGEST_FILE:
        raise PhotoError(f"The file has more than {LARGEST_FILE // 10**6} MB; give a smaller picture.")
    try:
        Image.init()  # an older Pillow does not know all of them
        with warnings.catch_warnings():  # ours is the lower limit, and a sentence
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(content), formats=[form for form in FORMATS if form in Image.OPEN])
        width, height = image.size
        if width * height > LARGEST_PICTURE:
            raise Image.DecompressionBombError
        # A photo from a phone may hold a second picture; that is no animation.
        if getattr(image, "is_animated", False) and image.format != "MPO":
            raise PhotoError("The picture is animated; give a single picture.")
        if image.mode in ("P", "1"):  # a palette's numbers cannot be averaged
            image = image.convert("RGBA")
        elif image.mode.startswith("I"):  # 16 bits a pixel
            about, image = image.info, Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            image.info = about  # with its EXIF
        image.thumbnail((_WORKING, _WORKING), Image.Resampling.BOX)
        return ImageOps.exif_transpose(image)
    except PhotoError:
        raise
    except Image.DecompressionBombError:
        most = f"{LARGEST_PICTURE // 10**6} million pixels"
        raise PhotoError(f"The picture would unpack to more than {most}; give a smaller one.") from None
    except Image.UnidentifiedImageError:
        kinds = ", ".join(FORMATS)
        raise PhotoError(f"This is not a picture that can be read; give one of {kinds}.") from None
    except Exception as error:  # what damaged files raise differs from format to format
        raise PhotoError(f"The picture is damaged and cannot be read ({formats.reason(error)}).") from error


def prepare(picture: Image.Image) -> np.ndarray:
    """Bring a picture to the data set's form.

    Parameters
    ----------
    picture : PIL.Image.Image
        Any mode; what is transparent counts as white. One of 28 × 28 pixels keeps its pixels where they are.

    Returns
    -------
    ndarray, shape (28, 28, 1), dtype uint8
        The garment bright on black, its longest edge 28 pixels, in the middle. Where the border of the picture has no
        one colour nothing is trimmed.

    Raises
    ------
    PhotoError
        If there is nothing in the picture but one colour.
    """
    picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture.convert("RGBA"))
    colours = np.asarray(picture.convert("RGB"), np.float64)
    ground, is_ground = _background(colours)
    if is_ground.all():
        raise PhotoError("There is nothing in the picture but one colour; give one with a garment in it.")
    grey = colours @ (0.299, 0.587, 0.114)
    bright = ground @ (0.299, 0.587, 0.114) > _BRIGHT
    grey = np.where(is_ground, 0, 255 - grey if bright else grey)
    if grey.shape != (SIDE, SIDE):
        grey = _fitted(grey[_extent(~is_ground)])
    return grey.round().clip(0, 255).astype(np.uint8)[..., None]


def _background(colours: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The colour around the garment, and a mask of what of the picture has it, as far as that reaches the border."""
    rim = np.concatenate([colours[0], colours[-1], colours[:, 0], colours[:, -1]])
    ground = np.median(rim, axis=0)
    near = (np.abs(colours - ground) <= _NEAR).all(axis=-1)
    if (np.abs(rim - ground) <= _NEAR).all(axis=-1).mean() < 0.5:  # a room, a street: no background to take away
        return ground, np.zeros_like(near)
    return ground, ~ndimage.binary_fill_holes(~near)


def _extent(garment: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns of what is not background, without dust."""
    regions, count = ndimage.label(garment, np.ones((3, 3)))
    sizes = ndimage.sum_labels(garment, regions, np.arange(count + 1))
    return ndimage.find_objects((sizes >= _SPECK * sizes.max())[regions].astype(int))[0]


def _fitted(grey: np.ndarray) -> np.ndarray:
    """Longest edge to 28, in the middle of a black square."""
    height, width = grey.shape
    scale = SIDE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = np.asarray(Image.fromarray(grey.astype(np.float32)).resize(size, Image.Resampling.LANCZOS))
    square = np.zeros((SIDE, SIDE))
    top, left = (SIDE - small.shape[0] + 1) // 2, (SIDE - small.shape[1] + 1) // 2
    square[top : top + small.shape[0], left : left + small.shape[1]] = small
    return square
