"""Small files in the layouts of the makers of scanners, with their tags, and pictures that must never be read.

Each function writes a file, with the label and the macro picture in `LABEL` and `MACRO` grey, and returns what a
reader must find: the pixels of each level, decoded by tifffile or by numpy alone, white where nothing was scanned.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile

LABEL, MACRO = 7, 9
MPP = 0.25
TIFF_TYPES = {"ascii": 2, "short": 3, "long": 4, "rational": 5, "slong": 9, "float": 11}


@dataclass(frozen=True)
class Written:
    """A file and what a reader must find in it."""

    path: Path
    levels: tuple[np.ndarray, ...]
    scales: tuple[float, ...]
    mpp: float
    format: str
    scanner: str


def smooth(rows: int, cols: int, seed: int = 0) -> np.ndarray:
    """Colours without hard edges, and some noise, so that no two places are alike."""
    row, col = np.mgrid[:rows, :cols]
    waves = [128 + 90 * np.sin(row / (7 + 3 * i) + col / (11 + 2 * i) + i + seed) for i in range(3)]
    noise = np.random.default_rng(seed).integers(-9, 10, (rows, cols, 3))
    return np.clip(np.stack(waves, -1) + noise, 20, 250).astype(np.uint8)


def _per_cm(mpp: float) -> dict[str, Any]:
    return {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": "CENTIMETER"}


def _private(writer: tifffile.TiffWriter, grey: int, description: str, **options: Any) -> None:
    options = {"photometric": "rgb", "rowsperstrip": 16, "compression": "lzw", "metadata": None, **options}
    writer.write(np.full((53, 97, 3), grey, np.uint8), description=description, **options)


def _pages(path: Path, indices: list[int]) -> tuple[np.ndarray, ...]:
    with tifffile.TiffFile(path) as tiff:
        return tuple(tiff.pages[index].asarray() for index in indices)


# Hamamatsu ------------------------------------------------------------------------------------------------------------


def _mcu_starts(jpeg: bytes) -> list[int]:
    """Return where each restart of a JPEG begins, in bytes from its own begin."""
    scan = jpeg.index(b"\xff\xda")
    first = scan + 2 + struct.unpack(">H", jpeg[scan + 2 : scan + 4])[0]
    restarts = [i + 2 for i in range(first, len(jpeg) - 1) if jpeg[i] == 0xFF and 0xD0 <= jpeg[i + 1] <= 0xD7]
    return [first, *restarts]


def restarting_jpeg(image: np.ndarray, interval: int, subsampling: str = "4:2:2") -> bytes:
    """Encode a JPEG that restarts every `interval` blocks, as Hamamatsu's do."""
    import io

    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=85, subsampling=subsampling, restart_marker_blocks=interval)
    return stream.getvalue()


def decoded_by_restarts(jpeg: bytes, shape: tuple[int, int], interval: int, mcu: tuple[int, int]) -> np.ndarray:
    """Decode each piece of a JPEG between restarts by itself: chroma is not smoothed across them."""
    starts = [*_mcu_starts(jpeg), len(jpeg)]
    frame = jpeg.index(b"\xff\xc0") + 5
    height, width = mcu[0], mcu[1] * interval
    header = jpeg[:frame] + struct.pack(">HH", height, width) + jpeg[frame + 4 : starts[0]]
    across = -(-shape[1] // width)
    whole = np.empty((-(-shape[0] // height) * height, across * width, 3), np.uint8)
    for index in range(len(starts) - 1):
        row, col = divmod(index, across)
        piece = imagecodecs.jpeg8_decode(header + jpeg[starts[index] : starts[index + 1]] + b"\xff\xd9")
        whole[row * height : (row + 1) * height, col * width : (col + 1) * width] = piece
    return whole[: shape[0], : shape[1]]


def _ndpi_ifd(place: int, entries: list[tuple[int, str, Any]], last: bool, base: int) -> bytes:
    """Lay out one directory at `place`: entries, the long offset of the next, the high words, then the values."""
    n = len(entries)
    values_at = place + 2 + 12 * n + 8 + 4 * n
    lows, highs, values = b"", b"", b""
    for tag, kind, value in entries:
        if kind == "ascii":
            packed, count = value.encode() + b"\0", len(value) + 1
        elif kind == "rational":
            packed, count = struct.pack("<II", *value), 1
        elif isinstance(value, (list, np.ndarray)):
            packed, count = np.asarray(value, "<u4").tobytes(), len(value)
        else:
            letter = {"short": "<HH", "long": "<II", "slong": "<II", "float": "<f"}[kind]
            inline = struct.pack(letter, value & 0xFFFFFFFF, 0)[:4] if kind != "float" else struct.pack("<f", value)
            high = value >> 32 if kind == "long" else 0
            lows += struct.pack("<HHI", tag, TIFF_TYPES[kind], 1) + inline
            highs += struct.pack("<I", high)
            continue
        at = base + values_at + len(values)
        lows += struct.pack("<HHII", tag, TIFF_TYPES[kind], count, at & 0xFFFFFFFF)
        highs += struct.pack("<I", at >> 32)
        values += packed + b"\0" * (len(packed) % 2)
    end = base + values_at + len(values)
    return struct.pack("<H", n) + lows + struct.pack("<Q", 0 if last else end) + highs + values


def write_ndpi(path: Path, hole: int = 0, size: tuple[int, int] = (208, 512), subsampling: str = "4:2:2") -> Written:
    """Write an NDPI: two levels whose JPEGs restart, one that does not, another focal plane, macro picture and map.

    `hole` bytes of nothing lie before all but the file's head, so that a hole of 4 GB needs long offsets.
    """
    rows, cols = size
    image = smooth(rows, cols)
    intervals = {"4:2:2": (16, (8, 16)), "4:4:4": (32, (8, 8)), "4:2:0": (16, (16, 16))}
    interval, mcu = intervals[subsampling]
    pictures = [
        (image, 20.0, 0, True),
        (smooth(rows, cols, 3), 20.0, 600, True),  # another focal plane
        (image[::2, ::2], 10.0, 0, True),
        (image[::4, ::4], 5.0, 0, False),
        (np.full((53, 97, 3), MACRO, np.uint8), -1.0, 0, False),
        (np.full((31, 41, 3), LABEL, np.uint8), -2.0, 0, False),
    ]
    levels: list[np.ndarray] = []
    directories: list[list[tuple[int, str, Any]]] = []
    body, base = b"", 16 + hole
    for pixels, lens, plane, restarts in pictures:
        picture = np.ascontiguousarray(pixels)
        jpeg = restarting_jpeg(picture, interval if restarts else 0, subsampling)
        at, body = base + len(body), body + jpeg + b"\0" * (len(jpeg) % 2)
        per_cm = (round(1e4 / MPP * 1000 * lens / 20) if lens > 0 else 1, 1000)
        entries: list[tuple[int, str, Any]] = [
            (256, "long", picture.shape[1]),
            (257, "long", picture.shape[0]),
            (258, "short", 8),
            (259, "short", 7),
            (262, "short", 6),
            (271, "ascii", "Hamamatsu"),
            (272, "ascii", "C13210"),
            (273, "long", at),
            (277, "short", 3),
            (278, "long", picture.shape[0]),
            (279, "long", len(jpeg)),
            (282, "rational", per_cm),
            (283, "rational", per_cm),
            (296, "short", 3),
            (305, "ascii", "NDP.scan 3.2.4"),
            (65420, "long", 1),
            (65421, "float", lens),
            (65424, "slong", plane),
            (65442, "ascii", "000198"),
        ]
        if restarts:
            entries.append((65426, "long", _mcu_starts(jpeg)))
        if lens > 0 and plane == 0:
            whole = imagecodecs.jpeg8_decode(jpeg)
            # where restarts do not line up with the rows, nothing can be decoded by itself
            in_rows = restarts and -(-picture.shape[1] // mcu[1]) % interval == 0
            levels.append(decoded_by_restarts(jpeg, picture.shape[:2], interval, mcu) if in_rows else whole)
        directories.append(entries)
    head = struct.pack("<2sHQ", b"II", 42, base + len(body)) + b"\0" * 4
    for entries in directories:
        body += _ndpi_ifd(len(body), entries, entries is directories[-1], base)
    with path.open("wb") as file:
        file.write(head)
        file.seek(base)
        file.write(body)
    scanner = "Hamamatsu C13210 (device d1)"
    return Written(path, tuple(levels), (1.0, 2.0, 4.0), MPP, "Hamamatsu NDPI", scanner)


# Leica ----------------------------------------------------------------------------------------------------------------

_SCN_IMAGE = """<image name="{name}"><creationDate>2020-01-01</creationDate>
<device model="Leica SCN400F;Leica SCN" version="1.4"/>
<pixels sizeX="{cols}" sizeY="{rows}">{dimensions}</pixels>
<view sizeX="{width_nm}" sizeY="{height_nm}" offsetX="{col_nm}" offsetY="{row_nm}" spacingZ="0"/>
<scanSettings><objectiveSettings><objective>{objective}</objective></objectiveSettings><illuminationSettings>
<numericalAperture>0.4</numericalAperture><illuminationSource>{light}</illuminationSource></illuminationSettings>
</scanSettings></image>"""
SCN_PLACES = ((64, 96), (800, 1536))


def write_scn(
    path: Path,
    light: str = "brightfield",
    objectives: tuple[int, int] = (20, 20),
    glass: tuple[int, int] = (1600, 2560),
) -> Written:
    """Write an SCN: a macro picture first, then two areas of three levels, each level a quarter as wide."""
    areas = [smooth(512, 768, 1), smooth(256, 512, 2)]
    nm_per_px = round(MPP * 1000)
    pages: list[np.ndarray] = [np.full((80, 128, 3), MACRO, np.uint8)]
    images = []

    def image(
        name: str, rows: int, cols: int, place: tuple[int, int], px_nm: int, first: int, light: str, x: int
    ) -> str:
        sizes = [(rows >> (2 * r), cols >> (2 * r)) for r in range(1 if name == "macro" else 3)]
        dimensions = "".join(
            f'<dimension sizeX="{w}" sizeY="{h}" r="{r}" ifd="{first + r}"/>' for r, (h, w) in enumerate(sizes)
        )
        return _SCN_IMAGE.format(
            name=name, rows=rows, cols=cols, dimensions=dimensions, light=light, objective=x,
            width_nm=cols * px_nm, height_nm=rows * px_nm, row_nm=place[0] * nm_per_px, col_nm=place[1] * nm_per_px,
        )  # fmt: skip

    images.append(image("macro", 80, 128, (0, 0), glass[0] * nm_per_px // 80, 0, "brightfield", 1))
    for number, (area, place) in enumerate(zip(areas, SCN_PLACES, strict=True)):
        px_nm = nm_per_px * 20 // objectives[number]
        images.append(image(f"area {number}", *area.shape[:2], place, px_nm, len(pages), light, objectives[number]))
        pages += [np.ascontiguousarray(area[::step, ::step]) for step in (1, 4, 16)]
    xml = (
        '<?xml version="1.0"?><scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01"><collection name="c"'
        f' sizeX="{glass[1] * nm_per_px}" sizeY="{glass[0] * nm_per_px}"><barcode>U21pdGg=</barcode>'
        f"{''.join(images)}</collection></scn>"
    )
    steps = [1, 1, 4, 16, 1, 4, 16]
    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        for index, page in enumerate(pages):
            writer.write(
                page, photometric="rgb", tile=(64, 64), compression="jpeg", metadata=None, subfiletype=0,
                description=xml if index == 0 else None, **_per_cm(MPP * steps[index]),
            )  # fmt: skip
    stored = _pages(path, list(range(7)))
    levels = []
    for level, step in enumerate((1, 4, 16)):
        canvas = np.full((glass[0] // step, glass[1] // step, 3), 255, np.uint8)
        for number, (row, col) in enumerate(SCN_PLACES):
            part = stored[1 + 3 * number + level]
            canvas[row // step :, col // step :][: part.shape[0], : part.shape[1]] = part
        levels.append(canvas)
    return Written(path, tuple(levels), (1.0, 4.0, 16.0), MPP, "Leica SCN", "Leica SCN400F")


# Philips --------------------------------------------------------------------------------------------------------------

_PHILIPS_LEVEL = """<DataObject ObjectType="PixelDataRepresentation">
<Attribute Name="DICOM_PIXEL_SPACING" Group="0x0028" Element="0x0030" PMSVR="IDoubleArray">&quot;{mm}&quot;
 &quot;{mm}&quot;</Attribute><Attribute Name="PIIM_PIXEL_DATA_REPRESENTATION_NUMBER" Group="0x301D" Element="0x1002"
 PMSVR="IUInt16">{level}</Attribute></DataObject>"""


def _philips_xml(n_levels: int, mpp: float) -> str:
    levels = "".join(_PHILIPS_LEVEL.format(mm=f"{mpp / 1000 * 2**i:.9f}", level=i) for i in range(n_levels))
    return (
        '<?xml version="1.0" encoding="UTF-8" ?><DataObject ObjectType="DPUfsImport">'
        '<Attribute Name="DICOM_MANUFACTURER" PMSVR="IString">PHILIPS</Attribute>'
        '<Attribute Name="DICOM_MANUFACTURERS_MODEL_NAME" PMSVR="IString">UFS Scanner</Attribute>'
        '<Attribute Name="DICOM_DEVICE_SERIAL_NUMBER" PMSVR="IString">FMT0047</Attribute>'
        '<Attribute Name="PIM_DP_SCANNED_IMAGES" PMSVR="IDataObjectArray"><Array>'
        '<DataObject ObjectType="DPScannedImage"><Attribute Name="PIM_DP_IMAGE_TYPE">MACROIMAGE</Attribute>'
        "</DataObject>"
        '<DataObject ObjectType="DPScannedImage"><Attribute Name="PIM_DP_IMAGE_TYPE">WSI</Attribute>'
        f'<Attribute Name="DICOM_PIXEL_SPACING">"{mpp / 1000:.9f}" "{mpp / 1000:.9f}"</Attribute>'
        '<Attribute Name="PIIM_PIXEL_DATA_REPRESENTATION_SEQUENCE" PMSVR="IDataObjectArray"><Array>'
        f"{levels}</Array></Attribute></DataObject></Array></Attribute></DataObject>"
    )


def write_philips(path: Path, missing: int = 1, spacings: int = 4, mpp: float = MPP) -> Written:
    """Write a Philips TIFF: four levels padded to whole tiles of 64 px, one tile left out, label and macro picture."""
    side, grids = 64, [(11, 13), (6, 7), (3, 4), (2, 2)]
    full = smooth(11 * side, 13 * side)
    with tifffile.TiffWriter(path) as writer:
        for level, (down, across) in enumerate(grids):
            picture = np.full((down * side, across * side, 3), 245, np.uint8)
            part = full[:: 2**level, :: 2**level]
            picture[: part.shape[0], : part.shape[1]] = part

            def tiles(picture: np.ndarray = picture, level: int = level) -> Iterator[np.ndarray | None]:
                for index in range(picture.shape[0] // side * (picture.shape[1] // side)):
                    row, col = divmod(index, picture.shape[1] // side)
                    tile = picture[row * side : (row + 1) * side, col * side : (col + 1) * side]
                    is_left_out = level == 0 and 5 <= index < 5 + missing
                    yield None if is_left_out else np.ascontiguousarray(tile)

            writer.write(
                tiles(), shape=picture.shape, dtype=np.uint8, photometric="rgb", tile=(side, side), compression="jpeg",
                metadata=None, software="Philips DP v1.0", subfiletype=1 if level else 0,
                description=_philips_xml(spacings, mpp) if level == 0 else f"level={level} mag={20 >> level}",
            )  # fmt: skip
        _private(writer, MACRO, "Macro -offset=(0,0)-pixelsize=(0.0315,0.0315)")
        _private(writer, LABEL, "Label")
    rows, cols = full.shape[:2]
    with tifffile.TiffFile(path) as tiff:
        pages = [page.asarray() for page in tiff.pages][:4]
    levels = [page[: rows >> i, : cols >> i].copy() for i, page in enumerate(pages)]
    for index in range(missing):
        row, col = divmod(5 + index, grids[0][1])
        levels[0][row * side : (row + 1) * side, col * side : (col + 1) * side] = 255
    scanner = "PHILIPS UFS Scanner (device 22)"
    return Written(path, tuple(levels), (1.0, 2.0, 4.0, 8.0), mpp, "Philips TIFF", scanner)


# Ventana --------------------------------------------------------------------------------------------------------------


def write_bif(
    path: Path,
    overlap: tuple[int, int] = (0, 0),
    says: bool = True,
    z_layers: int = 1,
    place: tuple[int, int] = (0, 0),
    scanned: int = 1,
) -> Written:
    """Write a BIF: label picture, thumbnail, then levels of 2 x 3 tiles of 64 px and less, which overlap or not."""
    side, down, across = 64, 6, 8
    full = smooth(down * side, across * side)
    scan = (
        f'<iScan Z-layers="{z_layers}" Magnification="40" ScanRes="{MPP}" UnitNumber="2000515"'
        ' ScannerModel="VENTANA DP 200" Barcode1D="Smith"></iScan>'
    )
    joints = ""
    for number in range(1, down * across + 1):
        row, step = divmod(number - 1, across)
        if step < across - 1:
            one, two = (number, number + 1) if row % 2 == 0 else (number + 1, number)
            joints += (
                f'<TileJointInfo FlagJoined="1" Confidence="99" Direction="RIGHT" Tile1="{one}" Tile2="{two}"'
                f' OverlapX="{overlap[1]}" OverlapY="0"/>'
            )
        if row < down - 1:
            above = (row + 2) * across - step
            joints += (
                f'<TileJointInfo FlagJoined="1" Confidence="99" Direction="UP" Tile1="{number}" Tile2="{above}"'
                f' OverlapX="0" OverlapY="{overlap[0]}"/>'
            )
    encode = (
        f'<EncodeInfo Ver="2"><SlideStitchInfo><ImageInfo AOIScanned="{scanned}" AOIIndex="0" '
        f'Width="{side}" Height="{side}" NumRows="{down}" NumCols="{across}" Pos-X="{place[1]}.0"'
        f' Pos-Y="{place[0]}">{joints}</ImageInfo></SlideStitchInfo>'
        '<AoiOrigin><AOI0 OriginX="0" OriginY="0"/></AoiOrigin></EncodeInfo>'
    )
    software = {"software": "Ventana iScan 3.3"}

    def xmp(text: str) -> list[tuple[Any, ...]]:
        return [(700, "B", len(text), text.encode(), True)]

    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        _private(writer, LABEL, "Label Image", extratags=xmp(scan), **software)
        _private(writer, MACRO, "Thumbnail", **software)
        for level in range(3):
            writer.write(
                np.ascontiguousarray(full[:: 2**level, :: 2**level]), photometric="rgb", tile=(side, side),
                compression="jpeg", metadata=None, description=f"level={level} mag={40 >> level} quality=90",
                extratags=xmp(encode) if level == 0 and says else [], **software,
            )  # fmt: skip
    levels = _pages(path, [2, 3, 4])
    scanner = "VENTANA DP 200 (device 1f)"
    return Written(path, levels, (1.0, 2.0, 4.0), MPP, "Ventana BIF", scanner)


# PerkinElmer ----------------------------------------------------------------------------------------------------------


def write_qptiff(path: Path, channels: int = 0) -> Written:
    """Write a QPTIFF: baseline, thumbnail, two smaller levels, macro and label; brightfield where `channels` is 0."""

    def described(kind: str) -> dict[str, Any]:
        xml = (
            '<?xml version="1.0" encoding="utf-8"?><PerkinElmer-QPI-ImageDescription><DescriptionVersion>2'
            f"</DescriptionVersion><SlideID>Smith</SlideID><ImageType>{kind}</ImageType>"
            "</PerkinElmer-QPI-ImageDescription>"
        )
        return {"description": xml, "software": "PerkinElmer-QPI", "metadata": None}

    image = smooth(413, 607)
    options: dict[str, Any] = {"tile": (128, 128), "compression": "lzw"}
    with tifffile.TiffWriter(path) as writer:
        for step, kind in ((1, "FullResolution"), (9, "Thumbnail"), (2, "ReducedResolution"), (4, "ReducedResolution")):
            part = np.ascontiguousarray(image[: 413 // step * step : step, : 607 // step * step : step])
            settings = {**_per_cm(MPP * step), **described(kind), "subfiletype": int(kind == "ReducedResolution")}
            if kind == "Thumbnail":
                writer.write(
                    np.full_like(part, MACRO), photometric="rgb", rowsperstrip=9, compression="lzw", **settings
                )
                continue
            planes = [part[..., c % 3] for c in range(channels)] or [part]
            for plane in planes:
                photometric = "minisblack" if channels else "rgb"
                writer.write(np.ascontiguousarray(plane), photometric=photometric, **options, **settings)
        for kind, grey in (("Overview", MACRO), ("Label", LABEL)):
            writer.write(
                np.full((53, 97, 3), grey, np.uint8), photometric="rgb", rowsperstrip=16, compression="lzw",
                **described(kind),
            )  # fmt: skip
    levels = (image, image[:412:2, :606:2], image[:412:4, :604:4])
    return Written(path, levels, (1.0, 2.0, 4.0), MPP, "PerkinElmer QPTIFF", "PerkinElmer")
