"""When waiting requests join a running batch: as soon as their waiting has cost what joining costs.

Joining has a fixed price, PRICE decode steps, that running rows wait for, however many join. Waiting has one too: while
w requests wait beside r running rows, each step pays its fixed part for r rows where it could for r + w, so that
w / (r + w) of a step is lost. Requests join when what was lost since the last time adds up to the price. For answers
of L tokens that end at random this is every √(2·PRICE·L) steps, where the sum of both is smallest: short answers
go on in waves (L = 5: every 4 steps or when the batch is empty), long ones are topped up (L = 50: every 14).
"""

PRICE = 2.0
"""Fixed cost of a prefill in fixed costs of a decode step. Measured on one core with batches of 1 to 96 rows and
prompts of 48 tokens: 0.8–1.0 ms to 0.48 ms (`tiny` preset), 2.5 to 1.7 ms (`small`)."""

PATIENCE = 32
"""Steps after which a request joins whatever it costs: with others' long answers running, one alone would wait for
PRICE · (r + 1) steps. At most PRICE / PATIENCE = 6 % are lost."""


class Admission:
    """Counts what waiting has cost. Depends on numbers of requests only, never on a clock: runs repeat."""

    def __init__(self, price: float = PRICE, patience: int = PATIENCE) -> None:
        self.price = price
        self.patience = patience
        self._lost = 0.0
        self._steps = 0

    def admits(self, waiting: int, running: int) -> bool:
        """Asked once before every step: whether those waiting, as many as there are places for, shall join now."""
        if not waiting:
            return False
        if running and self._lost < self.price and self._steps < self.patience:
            self._lost += waiting / (waiting + running)
            self._steps += 1
            return False
        self._lost, self._steps = 0.0, 0
        return True
