"""When each phase of a fit has to end, so that no phase takes the time of a later one."""

from __future__ import annotations

from streamclust.core.clock import Clock

COMPARISON, COUNTING, TRAINING, CALIBRATION = 0.30, 0.45, 0.85, 1.0
"""Shares of the time budget at which the phases end: views and methods compared, clusters counted, the model
trained, memberships and novelty calibrated. What a phase leaves, the later ones have."""
LEAST_FOR_COMPARISON_S = 20.0
"""With a smaller budget views and methods are not compared: networks would hardly be trained in their share."""


class Budget:
    """The time budget of one fit, which begins now.

    Parameters
    ----------
    seconds
        None is no limit.
    """

    def __init__(self, seconds: float | None, clock: Clock) -> None:
        self.seconds = seconds
        self._clock, self._begun = clock, clock.monotonic()

    @property
    def compares(self) -> bool:
        """Whether there is time to compare views and methods."""
        return self.seconds is None or self.seconds >= LEAST_FOR_COMPARISON_S

    def left(self, until: float, fits: int = 1) -> float | None:
        """Seconds, >= 0, that the next of `fits` fits has until a share of the budget is over; None for no limit."""
        if self.seconds is None:
            return None
        return max(0.0, until * self.seconds - (self._clock.monotonic() - self._begun)) / max(fits, 1)

    def over(self, until: float) -> bool:
        """Whether a share of the budget is over."""
        return self.left(until) == 0.0
