"""What the numbers of a map mean, for the captions of its colour bar: pure text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_prospector.core.head import ProspectorHead

__all__ = ["MapUnit", "map_unit"]


@dataclass(frozen=True)
class MapUnit:
    """The unit of a map.

    Attributes
    ----------
    name
        As it stands under the colour bar.
    meaning
        Sentences for the tooltip.
    """

    name: str
    meaning: str


def map_unit(head: ProspectorHead, map: str, target: str) -> MapUnit:
    """Return what the scores of a map are counted in.

    Parameters
    ----------
    head
        That drew it.
    map
        ``"evidence"``, ``"decision"`` or ``"refined"``.
    target
        The class that it looks for.
    """
    reach = f"its pairs with all tokens up to {head.radius_} tokens away" if head.radius_ else "no neighbours"
    if map == "decision":
        return MapUnit(
            "log-odds of the slide",
            f"Decision: what each token adds to the log-odds of {target} for the whole slide. The scores of all "
            "tokens, and a constant, add up to it; so they are small where a slide has many tokens.",
        )
    if map == "refined":
        return MapUnit(
            "spreads above the rest",
            f"Refined: how far the token's embedding, shared with its neighbours, lies towards {target}. 0 is the mean "
            f"of tokens in slides without {target}; 1 is about the standard deviation of those tokens.",
        )
    if head.kernel_ == "linear":
        return MapUnit(
            "weights of a logistic regression",
            f"Evidence: the sum of the weights of the token's concept and of {reach}, in a logistic regression of "
            f"{target} on shares that are each counted in their standard deviation.",
        )
    return MapUnit(
        "log2 fold change, summed",
        f"Evidence: the log2 fold change of the token's concept and of {reach}, summed. +1 for a concept: its share of "
        f"the tokens is twice as large in {target} as in the rest, less what may be chance.",
    )
