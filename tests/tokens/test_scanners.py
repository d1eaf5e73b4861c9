"""What files say about their scanner: maker and model, never who, when or where."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_prospector.tokens.scanners import aperio_scanner, ome_scanner, tiff_scanner
from napari_prospector.tokens.slides import open_slide

PRIVATE = (
    "|AppMag = 40|StripeWidth = 2040|ScanScope ID = SS1302|Filename = Smith, J. 6811|Title = St. Mary 07.15.09"
    "|Date = 12/29/09|Time = 09:59:15|User = b414003d|Parmset = USM Filter|MPP = 0.4990"
)
DEVICE = hashlib.sha256(b"SS1302").hexdigest()[:2]


@pytest.mark.parametrize(
    ("software", "scanner"),
    [
        ("Aperio Image Library v11.2.1 \r\n46000x32914 [0,100 46000x32814] (240x240) JPEG/RGB Q=70", "Aperio"),
        ("Aperio Image Library v12.4.7;Aperio Leica Biosystems GT450 v1.0.1", "Aperio Leica Biosystems GT450"),
        ("Aperio Leica Biosystems GT450 DX v1.2.0 \r\n100x200", "Aperio Leica Biosystems GT450 DX"),
        ("Aperio Image, Grundium Ocus II", "Grundium Ocus II"),
        ("something else", "Aperio"),
        ("", "Aperio"),
    ],
)
def test_an_svs_tells_maker_model_and_two_digits_that_stand_for_the_device(software: str, scanner: str) -> None:
    assert aperio_scanner(software + PRIVATE) == f"{scanner} (device {DEVICE})"
    assert aperio_scanner(software) == scanner


def test_an_empty_serial_number_is_none() -> None:
    assert aperio_scanner("Aperio Image Library v9|ScanScope ID = |Filename = a") == "Aperio"
    assert aperio_scanner("Aperio Image Library v9|Old ScanScope ID = SS1") == "Aperio"


OME = (
    '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Instrument ID="Instrument:0">{}</Instrument></OME>'
)


@pytest.mark.parametrize(
    ("xml", "scanner"),
    [
        (OME.format('<Microscope Manufacturer="3DHISTECH" Model="P1000" SerialNumber="77"/>'), "3DHISTECH P1000"),
        (OME.format('<Microscope Manufacturer="Zeiss"/>'), "Zeiss"),
        (OME.format('<Microscope Model="Axioscan 7"/><Microscope Model="other"/>'), "Axioscan 7"),
        (OME.format('<Microscope SerialNumber="77"/>'), None),
        (OME.format(""), None),
        ("<OME", None),
        ("", None),
    ],
)
def test_ome_tells_maker_and_model_of_its_microscope(xml: str, scanner: str | None) -> None:
    assert ome_scanner(xml) == scanner


@pytest.mark.parametrize(
    ("make", "model", "scanner"),
    [
        ("Hamamatsu", "C13210", "Hamamatsu C13210"),
        ("Hamamatsu", "Hamamatsu C13210", "Hamamatsu C13210"),
        (" Leica\x00\n Biosystems ", None, "Leica Biosystems"),
        (None, b"bytes", None),
        ("x" * 99, "y", "x" * 40 + " y"),
    ],
)
def test_tags_make_and_model_are_joined(make: object, model: object, scanner: str | None) -> None:
    assert tiff_scanner(make, model) == scanner


PICTURE = np.full((67, 71, 3), 200, np.uint8)


def test_a_slide_knows_its_scanner(tmp_path: Path) -> None:
    tags = [(271, "s", 0, "Hamamatsu", True), (272, "s", 0, "C9600-12", True), (305, "s", 0, "NDP.scan", True)]
    tifffile.imwrite(tmp_path / "tags.tif", PICTURE, photometric="rgb", metadata=None, extratags=tags)
    tifffile.imwrite(tmp_path / "plain.tif", PICTURE, photometric="rgb")
    description = "Aperio Image Library v11.2.1\n71x67 JPEG/RGB Q=70" + PRIVATE
    tifffile.imwrite(
        tmp_path / "scan.svs", PICTURE, photometric="rgb", tile=(32, 32), metadata=None, description=description
    )
    described = OME.format('<Microscope Manufacturer="3DHISTECH" Model="P1000"/>').replace(
        "</OME>",
        '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" SizeX="71" SizeY="67" SizeC="3"'
        ' SizeZ="1" SizeT="1"><Channel ID="Channel:0" SamplesPerPixel="3"/><TiffData/></Pixels></Image></OME>',
    )
    tifffile.imwrite(
        tmp_path / "one.ome.tif", PICTURE, photometric="rgb", metadata=None, description=described, ome=False
    )
    found = {}
    for path in sorted(tmp_path.iterdir()):
        with open_slide(path, mpp=0.5) as slide:
            found[path.name] = slide.scanner
    assert found == {
        "one.ome.tif": "3DHISTECH P1000",
        "plain.tif": None,
        "scan.svs": f"Aperio (device {DEVICE})",
        "tags.tif": "Hamamatsu C9600-12",
    }
