"""Which steps of a run may be taken: those that the chief's ledger has, on every worker."""

import time

import keras

_LEDGER_SECONDS = 2.0  # about how much work a block of the ledger covers, and a crash can waste


class LedgerWriter(keras.callbacks.Callback):
    """Writes the steps into the ledger, then authorises them: always before they are taken.

    Guarantee: `model.authorized_steps` never exceeds what `ledger.append` has put on disk, nor
    `plan.steps`; a step that would is refused by the step itself. What is on disk are the plan's
    own charges, in its order: step k of the ledger has the noise multiplier of step k of the plan.
    With several workers the chief writes, and then tells the others how far they may go: until it
    has, they wait, and if it cannot write, they stop.

    Once any worker is asked to stop, all are interrupted (KeyboardInterrupt) when the steps that the
    ledger has are taken, so that none of them is lost.

    Args:
      ledger: the open Ledger; None on workers that are not the chief, and in a run without one.
      plan: the PrivacyPlan.
      steps_per_execution: how many steps fit takes between two callbacks.
      on: the Replicas of the run.
      stop: the StopRequest.
    """

    def __init__(self, ledger, plan, steps_per_execution, *, on, stop):
        super().__init__()
        self._ledger, self._plan, self._stride = ledger, plan, steps_per_execution
        self._replicas, self._stop = on, stop
        self._block, self._block_start = steps_per_execution, None

    def on_train_begin(self, logs=None):
        if self._plan.private:
            # Steps that a crash may have taken after the last checkpoint are in the ledger: they count.
            covered = self._replicas.broadcast_number(
                self._ledger.total_steps if self._ledger else 0
            )
            self.model.noisy_steps.assign(covered)
            self.model.authorize(covered)
        self._agreed = int(self.model.noisy_steps.numpy())

    def on_train_batch_begin(self, batch, logs=None):
        taken = int(self.model.noisy_steps.numpy())
        needed = min(taken + self._stride, self._plan.steps)
        if needed <= self._agreed:
            return
        if self._replicas.any(self._stop.requested):
            self._stop.heed()
            raise KeyboardInterrupt
        self._adapt_block()
        block = min(max(self._block, self._stride), self._plan.steps - self._agreed)
        self._agreed = self._cover(block)
        if self._plan.private:
            self.model.authorize(self._agreed)

    def _cover(self, block):
        """Has the chief write `block` more steps, of its clock; returns how far all may go."""

        def write():
            for charge in self._plan.charges(self._agreed, block):  # one a noise multiplier
                self._ledger.append(charge)

        if self._plan.private:
            self._replicas.on_chief(write)
        return self._replicas.broadcast_number(self._agreed + block)

    def _adapt_block(self):
        """Doubles or halves the block towards `_LEDGER_SECONDS` of work.

        Not with shares: each step is a good part of the budget, and a crash would waste the rest of
        the block.
        """
        if self._plan.shares is not None:
            return
        now = time.monotonic()
        if self._block_start is not None:
            seconds = now - self._block_start
            block = self._block * 2 if seconds < _LEDGER_SECONDS else self._block // 2
            self._block = max(block, self._stride)
        self._block_start = now
