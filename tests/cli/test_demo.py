from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from small_study import make_cohort

from napari_prospector.core.head import load_head
from napari_prospector.tokens.pyramid import CohortProgress


def small_cohort(folder: Path, n_slides: int, seed: int) -> Iterator[CohortProgress]:
    """Stand in for the generator, whose slides take a while."""
    make_cohort(folder)
    yield CohortProgress(done=n_slides, total=n_slides, path=folder)


def test_the_demo_ends_with_the_paths_of_what_it_made(
    prospect: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_prospector.tokens.generate.generate_cohort", small_cohort)
    monkeypatch.chdir(tmp_path)
    code, out, err = prospect("demo", "--generated", "-o", "out é")
    assert code == 0
    assert err.startswith("Nothing is downloaded, and torch is not loaded.")
    assert "The mean colour of a slide tells the classes apart with AUROC" in err
    command = next(line for line in out.splitlines() if line.startswith("napari:")).partition("prospect ")[2]
    assert "'out é/drawn/36-slides-seed-0/slides/slide 6.tif'" in command
    best = load_head(tmp_path / "out é" / "tumour.prospector").best_map_
    for name in ("tumour.prospector", f"maps/slide 6.{best}.png", "evaluation/report.html", "evaluation/pictures"):
        assert (tmp_path / "out é" / name).exists()
    assert str(tmp_path) not in (tmp_path / "out é" / "evaluation" / "report.html").read_text(encoding="utf-8")


def test_a_folder_without_histology_that_is_named_is_refused(
    prospect: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROSPECTOR_SHARED", str(tmp_path))
    code, _, err = prospect("demo", "-o", tmp_path / "d")
    assert code == 1
    assert "PROSPECTOR_SHARED must name a folder" in err
    assert not (tmp_path / "d").exists()


@pytest.mark.slow
def test_the_demo_runs_on_slides_that_it_draws(prospect_json: Any, tmp_path: Path) -> None:
    code, found = prospect_json("demo", "--generated", "--n-slides", "12", "-o", tmp_path)
    assert code == 0
    assert len(found["maps"]) == 4
    assert found["errors"] == {}
