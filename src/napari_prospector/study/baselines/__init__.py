"""The methods that a prospector is compared with, behind one interface.

A method learns from labels of data and scores tokens. To add one, write a class with the members of `Method` and name
it in `registry.py`.
"""

from napari_prospector.study.baselines.abmil import XMIL, AttentionMIL, GradCAM
from napari_prospector.study.baselines.explainers import IntegratedGradients, Lime, ShapleySampling
from napari_prospector.study.baselines.meanpooled import MeanPooledLogistic, neighbour_average
from napari_prospector.study.baselines.method import Method
from napari_prospector.study.baselines.milmodel import MILModel
from napari_prospector.study.baselines.oneclass import OneClassNovelty
from napari_prospector.study.baselines.probe import TokenProbe
from napari_prospector.study.baselines.registry import BASELINES, FAST, Baseline, fit_baselines
from napari_prospector.study.baselines.uninformed import ConstantMap, RandomMap

__all__ = [
    "BASELINES",
    "FAST",
    "XMIL",
    "AttentionMIL",
    "Baseline",
    "ConstantMap",
    "GradCAM",
    "IntegratedGradients",
    "Lime",
    "MILModel",
    "MeanPooledLogistic",
    "Method",
    "OneClassNovelty",
    "RandomMap",
    "ShapleySampling",
    "TokenProbe",
    "fit_baselines",
    "neighbour_average",
]
