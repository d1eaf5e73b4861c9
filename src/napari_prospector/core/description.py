"""The model card of a head, as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_prospector.core.headfile import kind_of_tokens
from napari_prospector.core.kernels import feature_names

if TYPE_CHECKING:
    from napari_prospector.core.head import ProspectorHead

__all__ = ["describe_head"]

_NOT_LISTED = {"encoder", "slides", "out_of_fold", "cohort_fingerprint"}  # said elsewhere, or for programs

N_STRONGEST = 5


def describe_head(head: ProspectorHead) -> str:
    """Say what a fitted head is, what it rests on and what it must not be trusted with."""
    target = head.target_ if head.target_ is not None else "each class against the rest"
    encoder = head.card_.get("encoder") or {}
    p = head.kernels_.evidence.shape[1]
    lines = [
        "# Prospector head",
        "",
        f"- looks for: **{target}**; classes: "
        + ", ".join(f"{name} ({head.n_data_[str(name)]} data)" for name in head.classes_.tolist()),
        f"- encoder: {encoder.get('name', 'not stated')} ({len(head.quantizer_.mean_)} dims"
        + (f", {encoder['tile_px']} px tiles at {encoder['mpp']} µm/px" if encoder.get("mpp") else "")
        + (f", {kind_of_tokens(encoder)}" if encoder.get("tokens") or encoder.get("projection") else "")
        + (f", stain normalized: {encoder['stain_normalize']}" if encoder.get("stain_normalize") else "")
        + ")",
        f"- concepts: {head.quantizer_.n_concepts_} by {head.quantize}; radius: {head.radius_} hops; "
        f"{p} parameters per class; kernel of the evidence map: {head.kernel_}"
        + (" (reference mode)" if head.reference else ""),
        *_chosen(head),
        "- colour limits (99th percentile of |score|, out of fold): "
        + ", ".join(f"{name} ±{limit:.3g}" for name, limit in head.color_limits_.items()),
        f"- probabilities: {'calibrated' if head.is_calibrated_ else 'NOT calibrated'}; Brier score out of fold: "
        + ("none" if head.brier_ is None else f"{head.brier_:.3f}"),
    ]
    lines += _edited(head)
    lines += [f"- note: {note}" for note in (*head.notes_, *head.concept_edits_.notes())]
    lines += [f"- {key}: {value}" for key, value in sorted(head.card_.items()) if key not in _NOT_LISTED]
    targets = [head.target_] if head.target_ is not None else head.classes_.tolist()
    for label, kernel in zip(targets, head.kernels_.evidence, strict=True):
        lines += ["", f"Strongest evidence for {label} (weight):", *_strongest(head, kernel)]
    lines += ["", "For research use only; not for diagnosis."]
    return "\n".join(lines) + "\n"


def _chosen(head: ProspectorHead) -> list[str]:
    """Say which map the head shows, what the refined one is, and what the choice rests on."""
    lines = [f"- shows the **{head.best_map_}** map unless told otherwise; maps: {', '.join(head.maps_)}"]
    if head.refiner_ is not None:
        n_features = head.refiner_.weights.shape[1]
        lines.append(f"- refined map: a read-out of {n_features} features, neighbours' share {head.refiner_.amount:g}")
    if head.selection_.criterion != "given":
        lines.append(f"- how it was chosen: {head.selection_.sentence()}")
    return lines


def _edited(head: ProspectorHead) -> list[str]:
    """Say which concepts are one to people."""
    edits = head.concept_edits_
    groups = [edits.members(concept) for concept in edits.representatives]
    merged = [f"{edits.name(group[0])} ({', '.join(map(str, group))})" for group in groups if len(group) > 1]
    return [f"- merged concepts (weights as learned, one name): {'; '.join(merged)}"] if merged else []


def _strongest(head: ProspectorHead, kernel: NDArray[np.float64]) -> list[str]:
    """List the features of a kernel (p,) that weigh most; where merged concepts make several one, with all weights."""
    kept = head.concept_edits_.kept_weights(kernel)
    names = feature_names(head.concept_edits_.names, head.radius_, head.concept_edits_.groups)
    weights: dict[str, list[str]] = {}
    for feature in np.argsort(-np.abs(kept), kind="stable"):
        if kept[feature] != 0 and (names[feature] in weights or len(weights) < N_STRONGEST):
            weights.setdefault(names[feature], []).append(f"{kept[feature]:+.3g}")
    return [f"- {name}: {', '.join(values)}" for name, values in weights.items()]
