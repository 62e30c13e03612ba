from __future__ import annotations

import pytest
from ignite.engine import Engine

from mdl_monai.handlers.periodic_validation import PeriodicValidation


@pytest.mark.parametrize(("epochs", "interval", "expected"), [(7, 3, [3, 6, 7]), (6, 3, [3, 6]), (2, 5, [2])])
def test_validation_is_at_intervals_and_at_the_end(epochs: int, interval: int, expected: list[int]) -> None:
    class Validator:
        ran: list[int] = []  # noqa: RUF012

        def run(self, epoch: int) -> None:
            self.ran.append(epoch)

    validator = Validator()
    validator.ran = []
    engine = Engine(lambda engine, batch: None)
    handler = PeriodicValidation(interval=interval)
    handler.validator = validator  # type: ignore[assignment]
    handler.attach(engine)
    engine.run([0, 1], max_epochs=epochs)
    assert validator.ran == expected
