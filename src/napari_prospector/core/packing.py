"""A fitted head as tensors and a JSON card, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_prospector.core.autofit import Selection, Tried
from napari_prospector.core.calibration import PlattScale
from napari_prospector.core.classkernels import ClassKernels
from napari_prospector.core.concept_edits import ConceptEdits
from napari_prospector.core.concepts import ConceptQuantizer
from napari_prospector.core.refine import Refiner

if TYPE_CHECKING:
    from napari_prospector.core.head import ProspectorHead

__all__ = ["pack_head", "unpack_head"]

QUANTIZER_TENSORS = ("centers", "mean", "projection", "bias")
KERNEL_TENSORS = ("evidence", "decision", "intercept")
REFINER_TENSORS = ("weights", "offset")


def pack_head(head: ProspectorHead) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Split a fitted head into tensors and a JSON card."""
    quantizer, kernels = head.quantizer_, head.kernels_
    tensors = {f"quantizer.{name}": getattr(quantizer, f"{name}_") for name in QUANTIZER_TENSORS}
    tensors |= {f"kernel.{name}": getattr(kernels, name) for name in KERNEL_TENSORS}
    tensors["out_of_fold_scores"] = head.out_of_fold_scores_
    if head.concept_shares_ is not None:
        tensors["concept_shares"] = head.concept_shares_
    tensors |= {f"attached.{name}": tensor for name, tensor in head.attached_.items()}
    if head.refiner_ is not None:
        tensors |= {f"refiner.{name}": getattr(head.refiner_, name) for name in REFINER_TENSORS}
    card = {
        "chosen": _jsonable({"radius": head.radius_, "kernel": head.kernel_, "map": head.best_map_}),
        "refiner": None
        if head.refiner_ is None
        else {"amount": head.refiner_.amount, "n_categories": head.refiner_.n_categories},
        "selection": _selection_card(head.selection_),
        "parameters": _jsonable(head.get_params()),
        "classes": _jsonable(head.classes_.tolist()),
        "target": _jsonable(head.target_),
        "n_data": head.n_data_,
        "concept_names": list(head.concept_edits_.names),
        "concept_edits": head.concept_edits_.to_card(),
        "color_limits": head.color_limits_,
        "platt": [[scale.slope, scale.offset] for scale in head.platt_],
        "brier": head.brier_,
        "is_calibrated": head.is_calibrated_,
        "notes": list(head.notes_),
        "card": head.card_,
    }
    return tensors, card


def unpack_head(head: ProspectorHead, tensors: Mapping[str, NDArray[Any]], card: Mapping[str, Any]) -> None:
    """Fill a head, made with the parameters of the card, with what it had learned."""
    head.classes_ = np.asarray(card["classes"])
    head.target_ = card["target"]
    head.n_data_ = card["n_data"]
    head.concept_edits_ = ConceptEdits.of_card(card["concept_names"], card.get("concept_edits"))
    head.concept_shares_ = tensors.get("concept_shares")
    head.color_limits_ = card["color_limits"]
    head.platt_ = [PlattScale(slope, offset) for slope, offset in card["platt"]]
    head.brier_ = card["brier"]
    head.is_calibrated_ = card["is_calibrated"]
    head.notes_ = tuple(card["notes"])
    head.card_ = card["card"]
    attached = (name for name in tensors if name.startswith("attached."))
    head.attached_ = {name.removeprefix("attached."): tensors[name] for name in attached}
    head.out_of_fold_scores_ = tensors["out_of_fold_scores"]
    chosen = card.get("chosen")
    if chosen is None:  # of version 1
        head.refine = False
        chosen = {"radius": head.radius, "kernel": head.kernel, "map": "evidence"}
    head.radius_, head.kernel_, head.best_map_ = chosen["radius"], chosen["kernel"], chosen["map"]
    head.selection_ = _selection_of(card.get("selection"))
    about = card.get("refiner")
    head.refiner_ = None if not about else Refiner(tensors["refiner.weights"], tensors["refiner.offset"], **about)
    n_concepts = len(tensors["quantizer.bias"])
    head.quantizer_ = ConceptQuantizer(**head.fit_settings(n_concepts=n_concepts).quantizer)
    for name in QUANTIZER_TENSORS:
        setattr(head.quantizer_, f"{name}_", tensors[f"quantizer.{name}"])
    head.quantizer_.n_concepts_ = len(head.quantizer_.bias_)
    head.kernels_ = ClassKernels(
        **{name: tensors[f"kernel.{name}"] for name in KERNEL_TENSORS}, n_concepts=head.quantizer_.n_concepts_
    )


def _selection_card(selection: Selection) -> dict[str, Any]:
    """Return a selection in types of JSON, which has no NaN."""
    rows = {"kernels": selection.kernels, "maps": selection.maps}
    listed = {
        name: [
            [None if isinstance(value, float) and np.isnan(value) else value for value in astuple(row)] for row in tried
        ]
        for name, tried in rows.items()
    }
    about = {"criterion": selection.criterion, "n_data": selection.n_data, "n_groups": selection.n_groups}
    return {**_jsonable(listed), **about}


def _selection_of(card: Mapping[str, Any] | None) -> Selection:
    """Return the selection of a card; of a head of version 1, which chose nothing, an empty one."""
    if card is None:
        return Selection((), (), "given", 0, 0)
    kernels, maps = (
        tuple(Tried(*row[:4], *(np.nan if value is None else value for value in row[4:])) for row in card[name])
        for name in ("kernels", "maps")
    )
    return Selection(kernels, maps, card["criterion"], card["n_data"], card["n_groups"])


def _jsonable(value: Any) -> Any:
    """Turn numpy scalars inside parameters into the plain types of JSON."""
    if isinstance(value, dict):
        return {key: _jsonable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_jsonable(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value
