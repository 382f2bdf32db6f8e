"""Why a fit chose what it chose: a sentence for people, and the evidence as JSON values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from streamclust.train.calibrate import Calibration
from streamclust.train.choose import Evidence
from streamclust.train.views import MIXTURE_MARGIN, POOLED_MARGIN, Choice


class Why(NamedTuple):
    """The choices that were made, and what spoke for them."""

    choice: Choice
    clusters: int
    counted: Evidence | None
    """None when their number was given."""
    calibration: Calibration | None

    def text(self, asked: str) -> str:
        """Say why, in a sentence or two; `asked` is the method that was asked for, or ``auto``."""
        choice = self.choice
        parts = [f"{self.clusters} clusters: {self.counted.reason if self.counted else 'as asked'}"]
        if choice.stability:
            scores = ", ".join(f"{name} {score:.2f}" for name, score in choice.stability.items())
            parts.append(
                f"{choice.view} view, {choice.method}: fits to random halves agree by {scores} (adjusted Rand; "
                f"another method must agree by {MIXTURE_MARGIN:g} more than the first, another view by up to "
                f"{POOLED_MARGIN:g})"
            )
        elif choice.why:
            parts.append(f"{choice.view} view, {choice.method}: {choice.why}")
        elif asked == "auto":
            parts.append(f"method {choice.method}: there is nothing to compare on so few windows, or without torch")
        return "; ".join(parts)

    def evidence(self) -> Mapping[str, Any]:
        """Curves, tables and calibration as JSON values."""
        found: dict[str, Any] = {
            "view": self.choice.view,
            "methods": [{"method": m, "stability": s} for m, s in self.choice.stability.items()],
        }
        if self.counted:
            counted = self.counted.as_dict()
            names = ("bic", "silhouette", "gap", "stability", "inertia")
            found["curves"] = {name: [counted["ks"], counted[name]] for name in names}
            found["clusters"] = {name: counted[name] for name in ("chosen", "picks", "merges", "reason")}
        if self.calibration:
            found["calibration"] = self.calibration.as_dict()
        return found
