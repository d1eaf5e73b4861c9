"""What a slide was scanned with, as its file states it: maker and model, and nothing that leads to people.

A serial number names a hospital. Of it, two digits of a hash are kept: enough to tell two devices of one cohort
apart, too little to find the device, for one in 256 of all devices has the same two.
"""

from __future__ import annotations

import hashlib
import re
from xml.etree import ElementTree

__all__ = ["aperio_scanner", "device_scanner", "leica_scanner", "ome_scanner", "tiff_scanner"]

_MOST_LETTERS = 40


def aperio_scanner(description: str) -> str:
    """Read the description of an Aperio SVS.

    Parameters
    ----------
    description
        TIFF's ImageDescription of the finest level: a line of the software, then fields ``NAME = VALUE`` between
        bars. Of these only ScanScope ID is looked at; others name files, dates and users.

    Returns
    -------
    str
        Maker, model where it is stated, and device.

    Examples
    --------
    >>> aperio_scanner("Aperio Leica Biosystems GT450 v1.0.1 |ScanScope ID = SS1|Filename = Smith, J.|User = x")
    'Aperio Leica Biosystems GT450 (device fa)'
    """
    software, _, rest = description.partition("|")
    # the software is "MAKER MODEL vVERSION", or a library that tells the maker alone
    lines = [_cleaned(re.sub(r"\bv\d.*", "", line)) for line in re.split(r"[;\r\n]", software)]
    named = [line.removeprefix("Aperio Image, ") for line in lines if line.startswith("Aperio")]
    models = [line for line in named if line not in ("Aperio Image", "Aperio Image Library")]
    scanner = models[-1] if models else "Aperio"
    serial = re.search(r"(?:^|\|)\s*ScanScope ID\s*=\s*([^|\s][^|]*)", rest)
    return scanner if serial is None else f"{scanner} {_device(serial[1])}"


def device_scanner(make: object, model: object, serial: object) -> str | None:
    """Join maker, model and the mark of a device, as Hamamatsu, Philips and Ventana state them.

    Examples
    --------
    >>> device_scanner("Hamamatsu", "C13210", "880001")
    'Hamamatsu C13210 (device 68)'
    """
    scanner = tiff_scanner(make, model)
    is_told = isinstance(serial, (str, int)) and str(serial).strip("\0 ")
    return f"{scanner} {_device(str(serial))}" if scanner and is_told else scanner


def leica_scanner(model: str) -> str:
    """Return maker and model of a Leica SCN, which repeats itself.

    Examples
    --------
    >>> leica_scanner("Leica SCN400F;Leica SCN")
    'Leica SCN400F'
    """
    name = _cleaned(model.partition(";")[0])
    return name if name.startswith("Leica") else f"Leica {name}".strip()


def ome_scanner(xml: str) -> str | None:
    """Return maker and model of the first microscope of OME-XML; None where it names none or is damaged."""
    try:
        nodes = ElementTree.fromstring(xml).iter() if xml else iter(())
        microscope = next((node for node in nodes if node.tag.endswith("}Microscope")), None)
    except ElementTree.ParseError:
        return None
    if microscope is None:
        return None
    return tiff_scanner(microscope.get("Manufacturer"), microscope.get("Model"))


def tiff_scanner(make: object, model: object) -> str | None:
    """Join what TIFF's tags Make and Model hold; None where both are empty.

    Examples
    --------
    >>> tiff_scanner("Hamamatsu", "Hamamatsu C13210")
    'Hamamatsu C13210'
    """
    maker, name = (_cleaned(text) if isinstance(text, str) else "" for text in (make, model))
    return (name if name.lower().startswith(maker.lower()) else f"{maker} {name}").strip() or None


def _device(serial: str) -> str:
    """Return what stands for a serial number."""
    return f"(device {hashlib.sha256(serial.strip().encode()).hexdigest()[:2]})"


def _cleaned(text: str) -> str:
    """Return words of printable letters with single spaces, at most 40 letters."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())[:_MOST_LETTERS].strip()
