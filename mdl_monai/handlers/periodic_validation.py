"""Validate at intervals, and at the end whatever the interval."""

from __future__ import annotations

from ignite.engine import Engine, Events
from monai.handlers import ValidationHandler


class PeriodicValidation(ValidationHandler):
    """MONAI's `ValidationHandler` by epochs, which also validates after the last one.

    Weights are the best after the last epoch of a schedule that ends low; an interval that does not divide the
    number of epochs would never see them.
    """

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""

        def due(engine: Engine, epoch: int) -> bool:
            return epoch % self.interval == 0 or epoch == engine.state.max_epochs

        engine.add_event_handler(Events.EPOCH_COMPLETED(event_filter=due), self)
