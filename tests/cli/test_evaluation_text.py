from __future__ import annotations

import numpy as np
import pytest

from napari_prospector.cli.evaluation_text import show_evaluation
from napari_prospector.core.graph import chain_graph
from napari_prospector.study.baselines import BASELINES, Method, RandomMap
from napari_prospector.study.evaluate import evaluate

N_TOKENS, N_DATA = 29, 34


def test_strata_of_methods_with_long_names_fit_a_hundred_columns(capsys: pytest.CaptureFixture[str]) -> None:
    generator = np.random.default_rng(0)
    graphs = [chain_graph(generator.normal(size=(N_TOKENS, 3))) for _ in range(N_DATA)]
    truths = [np.arange(N_TOKENS) < 1 + i // 2 for i in range(N_DATA)]
    names = [name for name in BASELINES if name not in ("constant", "random")]
    methods: dict[str, Method] = {name: RandomMap(seed) for seed, name in enumerate(names)}
    found = evaluate(methods, graphs, ["normal", "tumour"] * 17, truths, target="tumour", n_boot=11)
    show_evaluation(found, [], as_json=False)
    out = capsys.readouterr().out
    tables = out.partition("Means over")[0]
    assert max(map(len, tables.splitlines())) <= 100
    assert "…" not in tables
    for words in (
        "AP by prevalence of the region",
        "AP by dispersion",
        "low",
        "middle",
        "high",
        "3.4 to 21 %",
        "n = 5",
    ):
        assert words in tables, words
    lowest = found.strata[0].ap[names[0]]
    assert f"{lowest.value:.3f} [{lowest.low:.3f}, {lowest.high:.3f}]" in tables
