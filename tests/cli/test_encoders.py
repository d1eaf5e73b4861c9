"""`prospect encoders`: the table, one card whole, and what stands where nothing was verified."""

from __future__ import annotations

import re
from typing import Any


def test_the_table_of_encoders_says_size_licence_access_and_what_is_not_verified(prospect: Any) -> None:
    rows = {line.split()[0]: line for line in prospect("encoders")[1].splitlines() if line.strip()}
    assert re.search(r"2560 +224 px at 0\.5 µm +14 px +cc-by-nc-nd-4\.0 +on request +paige-ai", rows["virchow2"])
    assert re.search(r"1536 .* not verified +on request +bioptimus", rows["h-optimus-1"])
    assert "needs none" in rows["stain-texture"]


def test_one_encoder_is_shown_whole_with_how_to_come_by_its_weights(prospect: Any, prospect_json: Any) -> None:
    _, text, _ = prospect("encoders", "virchow2")
    for part in ("reg_tokens=4", "class token, then the mean", "arXiv 2408.00738", "cc-by-nc-nd-4.0"):
        assert part in text
    assert "accept the terms on https://huggingface.co/paige-ai/Virchow2, then log in with `hf auth login`" in text
    assert prospect_json("encoders", "virchow2")[1]["encoder"]["n_dims"] == 2560
    _, text, _ = prospect("encoders", "lunit-resnet50-bt")
    assert re.search(r"^mean +not verified$", text, re.MULTILINE)
    assert "log in" not in text


def test_an_encoder_that_is_not_there_is_answered_with_close_names(prospect: Any) -> None:
    code, _, error = prospect("encoders", "uni3")
    assert code != 0
    assert "Close names: 'uni', 'uni2-h'" in error
