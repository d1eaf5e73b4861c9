"""Every command that writes, on a disk that is full: a file system of one megabyte, where that may be mounted."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from small_study import Study, make_cohort

from napari_prospector.tokens.store import TokenGrid


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with 20 kB left."""
    place = tmp_path / "disk"
    place.mkdir()
    if not sys.platform.startswith("linux") or os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root on Linux may mount a small file system")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], check=False, capture_output=True, text=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"a small file system may not be mounted here: {mounted.stderr.strip()}")
    try:
        (place / "ballast").write_bytes(b"x" * (2**20 - 20_480))
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def leftovers(place: Path) -> list[str]:
    return sorted(path.name for path in place.rglob("*") if ".partial" in path.name)


def test_embed_says_so_and_goes_on_when_there_is_space(study: Study, prospect: Any, full_disk: Path) -> None:
    words = ("embed", study.slide(0), "-o", full_disk / "t", "--tissue", "all")
    code, out, err = prospect(*words)
    assert (code, out) == (1, "")
    assert "No space left" in err
    assert leftovers(full_disk) == []
    (full_disk / "ballast").unlink()
    assert prospect(*words)[0] == 0
    assert TokenGrid.open(full_disk / "t" / "slide 0.tif.tokens.zarr").is_complete


def test_fit_writes_no_half_head(study: Study, prospect: Any, full_disk: Path) -> None:
    (full_disk / "more").write_bytes(b"x" * 16_384)  # a head is small
    code, out, err = prospect(
        "fit", study.table, "-o", full_disk / "h.prospector", "--n-concepts", "9", "--grids", study.tokens
    )
    assert (code, out) == (1, "")
    assert "No space left" in err
    assert sorted(path.name for path in full_disk.iterdir()) == ["ballast", "more"]


def test_map_writes_no_half_file(study: Study, prospect_json: Any, full_disk: Path) -> None:
    code, found = prospect_json("map", study.head, study.slide(8), "-o", full_disk / "m", "--grids", study.tokens)
    assert code == 1
    assert found["maps"] == []
    assert "No space left" in found["errors"]["slide 8.tif"]
    assert leftovers(full_disk) == []


def test_evaluate_writes_no_half_file(study: Study, prospect: Any, full_disk: Path) -> None:
    code, _, err = prospect("evaluate", study.head, study.table, "-o", full_disk / "e", "--no-baselines")
    assert code == 1
    assert "No space left" in err
    assert leftovers(full_disk) == []


def test_demo_stops_at_its_first_slide(prospect: Any, full_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_prospector.tokens.generate.generate_cohort", _small)
    code, out, err = prospect("demo", "--generated", "-o", full_disk / "d")
    assert (code, out) == (1, "")
    assert "No space left" in err
    assert leftovers(full_disk) == []


def _small(folder: Path, *_: Any) -> Iterator[Any]:
    make_cohort(folder)
    yield from ()


def test_map_writes_no_half_ome_zarr(study: Study, prospect: Any, full_disk: Path) -> None:
    words = ("map", study.head, study.grid(8), "-o", full_disk / "m", "--map", "evidence", "--ome-zarr")
    code, _, err = prospect(*words)
    assert code == 1
    assert "slide 8.evidence.prospect.ome.zarr must be writable; the system says: No space left" in err
    written = sorted(path.name for path in (full_disk / "m").iterdir())
    assert written == ["slide 8.concepts.ome.tif", "slide 8.evidence.ome.tif"]
    (full_disk / "ballast").unlink()
    assert prospect(*words)[0] == 0
    assert (full_disk / "m" / "slide 8.evidence.prospect.ome.zarr" / "labels" / "concepts" / "0").is_dir()
