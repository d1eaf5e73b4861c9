from pathlib import Path
from typing import Any

from small_study import Study


def test_a_sound_cohort_is_ready(study: Study, prospect: Any, tmp_path: Path) -> None:
    code, out, err = prospect("doctor", study.table, "-o", tmp_path / "t", "--tile-px", "64", "--tile-mpp", "1.0")
    assert (code, err) == (0, "")
    assert "ok    slide 0.tif: " in out
    assert out.endswith("Ready.\n")
    assert "\x1b" not in out
    assert list(tmp_path.iterdir()) == []


def test_what_is_missing_fails_with_its_remedy_below(study: Study, prospect: Any, tmp_path: Path) -> None:
    code, out, _ = prospect("doctor", tmp_path / "gone.svs", "--encoder", "uni2-h", "--offline")
    assert code == 1
    lines = out.splitlines()
    (place,) = (i for i, line in enumerate(lines) if line.startswith("FAIL  weights: "))
    assert "MahmoodLab/UNI2-h" in lines[place]
    assert "hf download MahmoodLab/UNI2-h" in lines[place + 1]
    assert any(line.startswith("FAIL  gone.svs: There is no slide") for line in lines)
    assert lines[-1] == "This cannot start yet."


def test_json_holds_every_check(prospect_json: Any) -> None:
    code, found = prospect_json("doctor", "--encoder", "uni3")
    assert (code, found["verdict"]) == (1, "red")
    assert found["checks"][-1]["remedy"].startswith("Close names: 'uni'")


def test_amber_starts_all_the_same(study: Study, prospect: Any, tmp_path: Path) -> None:
    words = ("--tile-px", "64", "--tile-mpp", "1.0", "--mpp", "0.7")
    code, out, _ = prospect("doctor", study.slide(0), *words)
    assert code == 0
    assert "look  slide 0.tif: " in out
    assert out.endswith("This can start; look at the notes.\n")
