"""From data and labels to everything that a head learns: the order of the work."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from napari_prospector.core.autofit import (
    DEFAULTS,
    OPTIONS,
    OnTried,
    Selection,
    Tried,
    affordable_concepts,
    choose_kernel,
    choose_map,
    is_informative,
    make_juries,
)
from napari_prospector.core.bootstrap import group_codes
from napari_prospector.core.criterion import Jury
from napari_prospector.core.crossfit import (
    FitSettings,
    FittedPart,
    Report,
    TrainingSet,
    cross_fit,
    make_folds,
    sample_tokens,
)
from napari_prospector.core.graph import TokenGraph
from napari_prospector.core.labels import ClassLabels
from napari_prospector.core.readout import ReadoutTrainer, TokenSpace
from napari_prospector.core.refine import Refinement, out_of_fold_readout, refine
from napari_prospector.core.tokenscores import color_limit, token_scores
from napari_prospector.errors import InvalidInputError

if TYPE_CHECKING:
    from napari_prospector.core.head import ProspectorHead

__all__ = ["Learned", "learn"]


@dataclass(frozen=True)
class Learned:
    """What was learned from data and their labels.

    Attributes
    ----------
    training
        Data, folds and sample.
    settings
        As given or chosen.
    parts
        Fitted on all data, then without each fold.
    refinement
        None where none was asked for.
    selection
        What was tried.
    limits
        Symmetric colour limit of each map.
    """

    training: TrainingSet
    settings: FitSettings
    parts: list[FittedPart]
    refinement: Refinement | None
    selection: Selection
    limits: dict[str, float]

    @property
    def judged(self) -> list[FittedPart]:
        """The parts that speak for data that they have not seen; where there are none, the one fitted on all."""
        # where no folds can be made the head can only be judged on what it has seen, and its notes say so
        return self.parts[1:] or self.parts

    @property
    def best_map(self) -> str:
        """The map that came out best."""
        return self.selection.maps[0].map if self.selection.maps else "evidence"


def learn(
    head: ProspectorHead,
    graphs: Sequence[TokenGraph],
    labels: ClassLabels,
    groups: Sequence[Hashable] | None,
    report: Report | None,
    on_tried: OnTried | None = None,
) -> Learned:
    """Fit concepts, kernels and read-outs with the parameters of a head, choosing those that are ``"auto"``."""
    options = _options(head)
    is_refined = head.refine and not head.reference
    is_chosen = any(len(values) > 1 for values in options.values())
    n_categories = options["n_concepts"][0] if head.quantize == "identity" else None
    folds = make_folds(labels.numbers, groups, head.n_folds, head.random_state)
    draw = partial(sample_tokens, with_rows=is_refined or is_chosen, n_categories=n_categories)
    sample = draw(graphs, head.max_sample, head.random_state, report)
    training = TrainingSet(graphs, labels.numbers, labels.targets, folds, groups, sample, report)
    options["n_concepts"] = affordable_concepts(training, options["n_concepts"], head.max_sample)
    trainers = _trainers(training) if sample.rows else []
    juries = _juries(training, trainers) if sample.rows and training.n_folds else []
    criterion = _criterion(training, juries)
    settings = head.fit_settings(**_first_choice(options))
    tried: tuple[Tried, ...] = ()
    if criterion == "excess" and is_chosen:
        settings, tried = choose_kernel(training, settings, options, juries, on_tried)
    parts = cross_fit(training, settings)
    teachers = token_scores(training, parts, settings.radius, of_sample=is_refined)
    limits = dict(teachers.limits)
    refinement = None
    maps: tuple[Tried, ...] = ()
    if is_refined:
        refinement = refine(training, teachers, trainers, juries, n_categories)
        limits["refined"] = color_limit(refinement.scores.ravel())
        maps = choose_map(refinement.maps(), settings, juries, criterion) if juries else ()
        if on_tried is not None:
            on_tried((*tried, *maps))
    n_groups = len(set(group_codes(groups, len(folds)).tolist()))
    selection = Selection(tried, maps, criterion, len(folds), n_groups)
    return Learned(training, settings, parts, refinement, selection, limits)


def _criterion(training: TrainingSet, juries: Sequence[Jury]) -> str:
    """Say by what candidates are judged (`Selection.criterion`)."""
    if training.sample.rows is None:
        return "given"
    if not juries:
        return "none"
    return "excess" if is_informative(juries) else "separation"


def _options(head: ProspectorHead) -> dict[str, tuple[Any, ...]]:
    """Return the values to try of each parameter: one where it is given."""
    if head.quantize == "identity" and head.n_concepts == "auto":
        raise InvalidInputError(
            "n_concepts must be given with quantize='identity': it is the number of categories; got 'auto'."
        )
    # the reference searches nothing: its parameters are what its user says
    choices = {name: (value,) for name, value in DEFAULTS.items()} if head.reference else OPTIONS
    given = {name: getattr(head, name) for name in choices}
    if head.kernel == "auto" and (head.alpha is not None or head.tau > 0):
        given["kernel"] = "fold-change"  # the only one that has these thresholds
    return {name: choices[name] if value == "auto" else (value,) for name, value in given.items()}


def _first_choice(options: dict[str, tuple[Any, ...]]) -> dict[str, Any]:
    """Return what is taken where nothing can be judged: what was given, else the default, else the nearest to it."""
    return {name: DEFAULTS[name] if DEFAULTS[name] in values else values[-1] for name, values in options.items()}


def _trainers(training: TrainingSet) -> list[list[ReadoutTrainer]]:
    """Make a trainer for each target and each part."""
    rows = training.sample.rows
    assert rows is not None
    spaces, kept = [], training.kept
    for number, keep in enumerate(kept):
        spaces.append(TokenSpace(rows, keep[rows.owner]))
        training.tell("read tokens", number + 1, len(kept))
    of_class = [training.labels == target for target in training.targets]
    return [[ReadoutTrainer(space, is_target[space.owner]) for space in spaces] for is_target in of_class]


def _juries(training: TrainingSet, trainers: Sequence[Sequence[ReadoutTrainer]]) -> list[Jury]:
    """Let the read-outs that labels teach judge the data that they have not seen."""
    readouts = [[trainer.label_readout() for trainer in own] for own in trainers]
    return make_juries(training, list(out_of_fold_readout(training, readouts)[0]))
