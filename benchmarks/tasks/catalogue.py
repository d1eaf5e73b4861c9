"""Every task by the name that a command line knows it by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from benchmarks.tasks import cells, histology, sections, zinc
from benchmarks.tasks.task import Task
from napari_prospector.tokens.mosaics import TASKS as MOSAICS

__all__ = ["CATALOGUE", "Load"]

Load = Callable[..., Task]
"""Takes the shared folder, a seed and the folder of cached embeddings; further arguments of the task by name."""


def _histology(task: str, encoder: str, scattered: bool) -> Load:
    """Return the loader of one histology task."""
    load = partial(histology.load, task=task, encoder=encoder, scattered=scattered)
    return lambda shared, seed, cache_folder, **more: load(shared, seed, cache_folder=cache_folder, **more)


def _section(section: str) -> Load:
    """Return the loader of one text task."""
    return lambda shared, seed, cache_folder, **more: sections.load(shared, seed, section, **more)


CATALOGUE: Mapping[str, Load] = {
    f"{task}-{'scattered' if scattered else 'patches'}-{encoder}": _histology(task, encoder, scattered)
    for encoder in histology.ENCODERS
    for scattered in (False, True)
    for task in MOSAICS
} | {
    "zinc": lambda shared, seed, cache_folder: zinc.load(shared, seed),
    **{f"section-{section.replace(' ', '-')}": _section(section) for section in sections.SECTIONS},
    "cells": lambda shared, seed, cache_folder: cells.load(shared, seed),
}
