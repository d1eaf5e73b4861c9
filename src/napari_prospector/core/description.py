"""The model card of a head, as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_prospector.core.headfile import kind_of_tokens
from napari_prospector.core.kernels import feature_names

if TYPE_CHECKING:
    from napari_prospector.core.head import ProspectorHead

__all__ = ["describe_head"]

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
    lines += [f"- note: {note}" for note in head.notes_]
    lines += [f"- {key}: {value}" for key, value in sorted(head.card_.items()) if key not in ("encoder", "slides")]
    names = feature_names(head.concept_names_, head.radius_)
    targets = [head.target_] if head.target_ is not None else head.classes_.tolist()
    for label, kernel in zip(targets, head.kernels_.evidence, strict=True):
        strongest = np.argsort(-np.abs(kernel), kind="stable")[:N_STRONGEST]
        lines += ["", f"Strongest evidence for {label} (weight):"]
        lines += [f"- {names[feature]}: {kernel[feature]:+.3g}" for feature in strongest if kernel[feature] != 0]
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
