"""One page of a TIFF: how its pixels are stored, how its colours are meant, what its tags say of its resolution."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_prospector.errors import FileFormatError, UnreadFormatError
from napari_prospector.tokens.segments import Colours, Rows, Segments
from napari_prospector.tokens.slides import PixelSize, stated_pixel_size

__all__ = ["page_resolution", "page_shape", "page_source"]

_MOST_SEGMENT_BYTES = 512 * 2**20

# Values of TIFF tags.
_UNCOMPRESSED, _JPEG, _APERIO_YCBCR_J2K, _APERIO_RGB_J2K = 1, 7, 33003, 33005
_DECODED_AS_JPEG = (6, 7, 33007, 34892)
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _YCBCR = 0, 1, 2, 6
_ALPHAS = {1: "premultiplied", 2: "straight"}
_SEPARATE_PLANES = 2
_RESOLUTION_UNITS_UM = {2: 25400.0, 3: 10000.0}  # inch, centimetre
_END_OF_JPEG = b"\xff\xd9"
_BLOCK_ROWS, _MOST_STACKED = 8, 8
_FRAME, _RESTART_INTERVAL = 0xFFC0, 0xFFDD
_RESTARTS = tuple(bytes((0xFF, marker)) for marker in range(0xD0, 0xD8))

Decode = Callable[[bytes, int], NDArray[Any]]


def page_shape(page: Any) -> tuple[int, int]:
    """Return the (rows, cols) that the tags of a page name; tifffile corrects some makers' sizes in its own."""
    key = page.keyframe
    return int(key.tags.valueof(257, key.imagelength)), int(key.tags.valueof(256, key.imagewidth))


def page_source(page: Any, name: str, shape: tuple[int, int] | None = None) -> Segments | Rows:
    """Take from a page what reading its pixels needs, so that tifffile's file can be closed.

    Parameters
    ----------
    page
        A page, or a frame, of tifffile.
    name
        The file's, for errors.
    shape
        What the level shows of the page, (rows, cols), where the maker has padded it.

    Raises
    ------
    FileFormatError
        The page holds no pixels.
    UnreadFormatError
        Its colours, its compression or the size of its tiles are not read.
    """
    key = page.keyframe
    stored = page_shape(page)
    shape = stored if shape is None else shape
    if min(*stored, *shape) < 1:
        raise FileFormatError(f"{name} must hold pixels; a level has the shape {shape}. Copy it again.")
    colours = _colours(key, name)
    is_tiled = key.is_tiled and (key.jpegheader is None or _restarts_in_rows(key.jpegheader, stored[1]))
    # tifffile takes Hamamatsu's restarts for tiles; where they are none, the tags have the one strip
    places = [page.dataoffsets, page.databytecounts]
    if is_tiled != key.is_tiled:
        places = [key.tags.valueof(273), key.tags.valueof(279)]
    offsets, sizes = (np.atleast_1d(np.array(each, np.int64)) for each in places)
    is_separate = key.planarconfig == _SEPARATE_PLANES and key.samplesperpixel > 1
    is_plain = key.compression == _UNCOMPRESSED and key.predictor == 1 and key.fillorder == 1
    if is_plain and not is_tiled and not is_separate and shape == stored:
        dtype = np.dtype(key.dtype).newbyteorder(key.parent.byteorder)
        return Rows(shape, min(int(key.rowsperstrip), shape[0]), key.samplesperpixel, dtype, offsets, colours)
    chunk = (key.tilelength, key.tilewidth) if is_tiled else (min(key.rowsperstrip, stored[0]), stored[1])
    _check_size(chunk, key, name)
    is_jpeg = key.compression == _JPEG and key.bitspersample == 8
    has_restarts = is_jpeg and is_tiled and key.jpegheader is not None
    # blocks of 8 rows share no chroma with those below, so many of them are one JPEG
    n_stacked = _MOST_STACKED if has_restarts and chunk[0] == _BLOCK_ROWS else 1
    chunk = int(chunk[0]) * n_stacked, int(chunk[1])
    return Segments(
        shape=shape,
        stored=stored,
        chunk=chunk,
        n_planes=key.samplesperpixel if is_separate else 1,
        offsets=offsets,
        sizes=sizes,
        decode=_jpeg_decoder(page, stored, chunk, is_tiled) if is_jpeg else _decoder(page, name),
        endings=_endings(key, has_restarts),
        colours=colours,
        is_quick=is_jpeg,
        n_stacked=n_stacked,
        join=_restart_joiner(key.jpegheader, chunk[0] // n_stacked) if has_restarts else None,
    )


def _check_size(chunk: tuple[int, int], key: Any, name: str) -> None:
    """Raise `UnreadFormatError` for tiles and strips that would not fit in memory."""
    n_bytes = chunk[0] * chunk[1] * key.samplesperpixel * np.dtype(key.dtype).itemsize
    if not 0 < n_bytes <= _MOST_SEGMENT_BYTES:
        raise UnreadFormatError(
            f"{name} must be stored in pieces of at most {_MOST_SEGMENT_BYTES >> 20} MB; one of its tiles or strips"
            f" has {chunk[0]} x {chunk[1]} px. Convert it to a tiled, pyramidal TIFF."
        )


def page_resolution(page: Any, unit_um: float | None = None) -> PixelSize:
    """Return the pixel size by TIFF's tags of resolution; `unit_um` stands in for the tag of the unit."""
    if unit_um is None:
        unit_um = _RESOLUTION_UNITS_UM.get(int(page.tags.valueof(296, 1)))
    if unit_um is None:
        return stated_pixel_size(None, None)
    widths: list[float | None] = []
    for tag in (283, 282):
        dots, per = page.tags.valueof(tag, (0, 1))
        widths.append(unit_um * per / dots if dots > 0 and per > 0 else None)
    return stated_pixel_size(widths[0], widths[1])


def _markers(header: bytes) -> Iterator[tuple[int, int]]:
    """Yield the markers of a JPEG's header, and where what they hold begins."""
    place = 2
    while place + 4 <= len(header):
        marker, length = struct.unpack(">HH", header[place : place + 4])
        yield marker, place + 4
        place += 2 + length


def _restarts_in_rows(header: bytes, cols: int) -> bool:
    """Whether the pieces of a JPEG between restarts are tiles: a whole number of them, block by block, fills a row."""
    width, interval = 8, 1
    for marker, place in _markers(header):
        if marker == _FRAME:
            # of each component: its name, how finely it is sampled along columns and rows (4 bits each), its table
            width = 8 * max(header[place + 7 + 3 * i] >> 4 for i in range(header[place + 5]))
        if marker == _RESTART_INTERVAL:
            (interval,) = struct.unpack(">H", header[place : place + 2])
    return -(-cols // width) % max(1, interval) == 0


def _restart_joiner(header: bytes, piece_rows: int) -> Callable[[list[bytes]], bytes]:
    """Return what makes a JPEG of pieces that lie one below the other; `header` is that of one of them."""
    height_at = next(place + 1 for marker, place in _markers(header) if marker == _FRAME)
    before, behind = header[:height_at], header[height_at + 2 :]

    def joined(pieces: list[bytes]) -> bytes:
        parts = [before, struct.pack(">H", piece_rows * len(pieces)), behind]
        for number, piece in enumerate(pieces):
            # restarts are counted from 0 to 7 and over again
            parts += [piece[:-2], _RESTARTS[number % 8]]
        parts[-1] = _END_OF_JPEG
        return b"".join(parts)

    return joined


def _endings(key: Any, has_restarts: bool) -> tuple[bytes, ...]:
    """Return what the bytes of a whole segment end with."""
    if key.compression != _JPEG:
        return (b"",)
    # Hamamatsu's pieces of one large JPEG end where the next restarts
    return (_END_OF_JPEG, *_RESTARTS) if has_restarts else (_END_OF_JPEG,)


def _decoder(page: Any, name: str) -> Decode:
    """Return tifffile's decoder of a page."""
    key = page.keyframe
    try:
        key.decode(None, 0)
    except (ValueError, NotImplementedError) as error:
        raise UnreadFormatError(
            f"{name} is stored in a way that is not read: {error}. Convert it to JPEG tiles."
        ) from error
    # both move the position of tifffile's file when first touched, so before it is closed
    is_jpeg = key.compression in _DECODED_AS_JPEG
    tables = {"jpegtables": page.jpegtables, "jpegheader": key.jpegheader} if is_jpeg else {}
    decode = key.decode

    def decoded(encoded: bytes, place: int) -> NDArray[Any]:
        return np.asarray(decode(encoded, place, **tables)[0][0])

    return decoded


def _jpeg_decoder(page: Any, stored: tuple[int, int], chunk: tuple[int, int], is_tiled: bool) -> Decode:
    """Return a decoder of JPEGs of 8 bits: libjpeg's, straight to RGB, with nothing in between."""
    import imagecodecs

    key = page.keyframe
    tables = page.jpegtables
    spaces = _jpeg_spaces(key)
    n_samples = 1 if key.planarconfig == _SEPARATE_PLANES else int(key.samplesperpixel)
    height, width = chunk
    n_across, n_down = -(-stored[1] // width), -(-stored[0] // height)

    def decoded(encoded: bytes, place: int) -> NDArray[Any]:
        pixels = imagecodecs.jpeg8_decode(encoded, tables=tables, colorspace=spaces[0], outcolorspace=spaces[1])
        if pixels.ndim == 2:
            pixels = pixels[..., None]
        if pixels.shape == (height, width, n_samples):
            return pixels
        row, col = divmod(place % (n_across * n_down), n_across)
        least = min(height, stored[0] - row * height), min(width, stored[1] - col * width)
        is_whole = pixels.shape[0] >= least[0] and pixels.shape[1] >= least[1]
        is_over = is_tiled and (pixels.shape[0] > height or pixels.shape[1] > width)
        if pixels.shape[2] != n_samples or (not is_loose and (is_over or not is_whole)):
            raise ValueError(f"it holds {pixels.shape} instead of {(*least, n_samples)}")
        return pixels[:height, :width]

    # some levels of NDPI are a pixel or two off what their tags say
    is_loose = bool(key.is_ndpi)
    return decoded


def _jpeg_spaces(key: Any) -> tuple[int | None, int | None]:
    """Return the colours of a JPEG, None where it tells them itself, and those to decode it to."""
    out = _RGB if not key.extrasamples and key.photometric in (_RGB, _YCBCR) else None
    # Aperio stores RGB without marking it, and libjpeg would take it for luma and chroma
    inner = _RGB if out is not None and key.photometric == _RGB and not key.is_jfif else None
    return inner, _BLACK_IS_ZERO if key.planarconfig == _SEPARATE_PLANES else out


def _colours(key: Any, name: str) -> Colours:
    """Read how a page stores its colours, or refuse."""
    photometric, n_extra = int(key.photometric), len(key.extrasamples)
    n_colours = {_WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _RGB: 3, _YCBCR: 3}.get(photometric)
    is_wide = key.bitspersample == 16 and photometric == _RGB
    is_read = n_colours is not None and key.samplesperpixel - n_extra == n_colours and n_extra <= 1
    if not is_read or np.dtype(key.dtype).kind != "u" or not (key.bitspersample == 8 or is_wide):
        raise UnreadFormatError(
            f"{name} must hold 8-bit grey or RGB pixels, or 16-bit RGB; got {key.samplesperpixel} samples of"
            f" {key.bitspersample} bits ({np.dtype(key.dtype)}), {key.photometric!r}. Export it as 8-bit RGB."
        )
    # the decoder turns the luma and chroma of a JPEG into RGB, but not those of Aperio's JPEG 2000
    is_jpeg = key.compression in _DECODED_AS_JPEG
    is_ycbcr = photometric == _YCBCR and not is_jpeg and key.compression != _APERIO_RGB_J2K
    return Colours(
        n_colours=n_colours or 3,
        is_inverted=photometric == _WHITE_IS_ZERO,
        is_ycbcr=is_ycbcr or key.compression == _APERIO_YCBCR_J2K,
        alpha=_ALPHAS.get(int(key.extrasamples[0]), "") if n_extra else "",
    )
