"""The methods that a prospector is compared with, behind one interface.

A method learns from labels of data and scores tokens. To add one, write a class with the members of `Method` and name
it in `registry.py`.
"""

from napari_prospector.study.baselines.meanpooled import MeanPooledLogistic, neighbour_average
from napari_prospector.study.baselines.method import Method
from napari_prospector.study.baselines.oneclass import OneClassNovelty
from napari_prospector.study.baselines.registry import BASELINES, FAST, Baseline, fit_baselines
from napari_prospector.study.baselines.uninformed import ConstantMap, RandomMap

__all__ = [
    "BASELINES",
    "FAST",
    "Baseline",
    "ConstantMap",
    "MeanPooledLogistic",
    "Method",
    "OneClassNovelty",
    "RandomMap",
    "fit_baselines",
    "neighbour_average",
]
