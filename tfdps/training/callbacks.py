"""What happens around the steps of a run: progress, TensorBoard, sample grids, checkpoints.

The step counter, epsilon and generated images are all public. Only how long steps take is not: a
solve's length follows its points. Speed goes to the screen, and to TensorBoard as `nonprivate/`.
"""

import math
import pathlib
import shutil
import sys
import time

import keras
import numpy as np
import tensorflow as tf
import tqdm

from tfdps import checks, console, files
from tfdps.accounting import accountants, shown
from tfdps.generators import pixels

_SCALAR_SECONDS = 10.0
_LARGEST_SHARE = 0.05  # of the time may go into accounting for the scalars
_GRID_COLUMNS = 10
_RETRY_SECONDS = 2.0


class Progress(keras.callbacks.Callback):
    """A progress bar: step, steps a second, time left, and the epsilon that the ledger has.

    Guarantee: that is of all steps that the ledger covers, taken, lost or about to be taken, so never
    below what is spent, nor above the plan's.

    Args:
      plan: the PrivacyPlan.
      ledger: the run's open Ledger, or None without a mechanism.
      file: where to write; default stderr. Away from a terminal it writes a line now and then.
    """

    def __init__(self, plan, ledger, file=None):
        super().__init__()
        self._plan, self._ledger, self._file = plan, ledger, file

    def on_train_begin(self, logs=None):
        plan = self._plan
        taken = int(self.model.noisy_steps.numpy())
        self._bar = console.Bar(total=plan.steps, initial=taken, unit="step", file=self._file)
        self._last = 0.0
        # PLD of subsampled steps takes a good part of a second: while training, a bound on it.
        sampled = any(stage.sampling_probability < 1 for stage in plan.stages)
        self._slow = plan.accountant == "pld" and sampled
        self._most = plan.epsilon(plan.steps) if self._slow else math.inf

    def on_train_batch_end(self, batch, logs=None):
        now = time.monotonic()
        if now - self._last >= self._bar.seconds:
            self._show()
            self._last = now

    def on_train_end(self, logs=None):
        self._slow = False
        self._show()
        self._bar.close()

    def _show(self):
        taken = int(self.model.noisy_steps.numpy())
        self._bar.set_postfix_str(self._privacy(), refresh=False)
        self._bar.update(taken - self._bar.n)

    def _privacy(self):
        if not self._plan.private:
            return "NOT PRIVATE"
        if self._slow:
            bound = min(self._most, _spent(self._plan, self._ledger, "rdp"))
            return f"epsilon <= {shown.up(bound, decimals=3)}"
        spent = _spent(self._plan, self._ledger, self._plan.accountant)
        return f"epsilon {shown.up(spent, decimals=3)}"


class Scalars(keras.callbacks.Callback):
    """TensorBoard scalars: privacy/epsilon_rdp or _pld, that of the steps that the ledger covers by
    the accountant that decides; tagged nonprivate/: steps a second, and the loss of a run without a
    mechanism.

    Every ten seconds, or as much more seldom as PLD of subsampled steps is slow.

    Args:
      plan: the PrivacyPlan.
      ledger: the run's open Ledger, or None without a mechanism.
      log_dir: folder of the TensorBoard log.
    """

    def __init__(self, plan, ledger, log_dir):
        super().__init__()
        self._plan, self._ledger = plan, ledger
        self._writer = tf.summary.create_file_writer(str(log_dir))

    def on_train_begin(self, logs=None):
        self._last, self._last_step = time.monotonic(), int(self.model.noisy_steps.numpy())
        self._wait = _SCALAR_SECONDS

    def on_train_batch_end(self, batch, logs=None):
        start = time.monotonic()
        if start - self._last >= self._wait:
            _without_failing(lambda: self._write(logs))
            self._wait = max(_SCALAR_SECONDS, (time.monotonic() - start) / _LARGEST_SHARE)

    def on_train_end(self, logs=None):
        _without_failing(lambda: self._write(logs))
        _without_failing(self._writer.close)

    def _write(self, logs):
        now, step = time.monotonic(), int(self.model.noisy_steps.numpy())
        with self._writer.as_default(step):
            if self._plan.private:
                decides = self._plan.accountant
                spent = _float32_up(_spent(self._plan, self._ledger, decides))
                tf.summary.scalar(f"privacy/epsilon_{decides}", spent)
            elif logs and "loss" in logs:
                tf.summary.scalar("nonprivate/loss", logs["loss"])
            rate = (step - self._last_step) / max(now - self._last, 1e-9)
            tf.summary.scalar("nonprivate/steps_per_second", rate)
        self._last, self._last_step = now, step


class SampleGrids(keras.callbacks.Callback):
    """Writes samples/step_NNNNNN.png (and to TensorBoard) every so often and at the end.

    Args:
      folder: pathlib.Path of the pictures.
      log_dir: folder of the TensorBoard log.
      seconds: time between grids.
      num_classes: L; the grid has a row a class (the first 10).
    """

    def __init__(self, folder, log_dir, seconds, num_classes):
        super().__init__()
        self._folder, self._seconds = folder, seconds
        self._writer = tf.summary.create_file_writer(str(log_dir))
        self._labels = np.repeat(np.arange(min(num_classes, 10), dtype=np.int32), _GRID_COLUMNS)
        self._written = -1

    def on_train_begin(self, logs=None):
        # The same latents all the way, so that the pictures show the training and nothing else.
        latent_dim = self.model.generator.inputs[0].shape[-1]
        z = tf.random.stateless_uniform([len(self._labels), latent_dim], (0, 0))
        self._z, self._last = z, time.monotonic()

    def on_train_batch_end(self, batch, logs=None):
        if time.monotonic() - self._last >= self._seconds:
            _without_failing(self._write)
            self._last = time.monotonic()

    def on_train_end(self, logs=None):
        _without_failing(self._write)
        _without_failing(self._writer.close)

    def _write(self):
        step = int(self.model.noisy_steps.numpy())
        if step == self._written:
            return
        count, shape = len(self._labels), self.model.averaged_generator.output_shape[1:]
        images = np.concatenate(
            [
                pixels.to_uint8(self.model([self._z[part], self._labels[part]]).numpy())
                for part in pixels.parts(count, shape, most=count)
            ]
        )
        pixels.save_png(self._folder / f"step_{step:06d}.png", images, columns=_GRID_COLUMNS)
        with self._writer.as_default(step):
            tf.summary.image("samples", pixels.class_grid(images, columns=_GRID_COLUMNS)[None])
        self._written = step


class Checkpoints(keras.callbacks.Callback):
    """Saves the run's state every so often and at the end, an interrupted one included.

    Where it cannot be written training waits for up to ten minutes, since the steps that only memory
    has are spent: a user who frees the disk in that time loses nothing.

    Args:
      manager: the tf.train.CheckpointManager.
      seconds: time between checkpoints.
      patience: seconds to wait for a full disk.
    """

    def __init__(self, manager, seconds, patience=600.0):
        super().__init__()
        self._manager, self._seconds, self._patience = manager, seconds, patience

    def on_train_begin(self, logs=None):
        self._last = time.monotonic()

    def on_train_batch_end(self, batch, logs=None):
        if time.monotonic() - self._last >= self._seconds:
            self.save()
            self._last = time.monotonic()

    def on_train_end(self, logs=None):
        self.save()

    def save(self):
        """Saves now; raises UsageError, and keeps the last checkpoint, when training diverged.

        Or when the checkpoint could not be written in all that time.
        """
        if not all(np.isfinite(w).all() for w in self.model.generator.get_weights()):
            raise checks.UsageError(
                "the generator's weights are not finite any more: training diverged. Its last good "
                "checkpoint is kept; lower learning_rate, or of private steps of the refiner "
                "refiner_learning_rate, in a new run. The steps taken are spent."
            )
        give_up, told = time.monotonic() + self._patience, False
        while (why := self._try_to_save()) is not None:
            problem = f"cannot write a checkpoint to {self._manager.directory}: {why}"
            if time.monotonic() >= give_up:
                raise checks.UsageError(
                    f"{problem}. The last one that could be written is kept; the steps since then are "
                    "spent. Free some space and start again to resume."
                )
            if not told:
                minutes = f"{self._patience / 60:.3g}"
                tqdm.tqdm.write(
                    f"tfdps: {problem}. Training waits for up to {minutes} minutes: free some space. "
                    "Ctrl-C gives up the steps since the last checkpoint.",
                    file=sys.stderr,
                )
                told = True
            time.sleep(min(_RETRY_SECONDS, self._patience))

    def _try_to_save(self):
        """None, or why the checkpoint could not be written."""
        try:
            self._manager.save(checkpoint_number=int(self.model.noisy_steps.numpy()))
        except (OSError, tf.errors.OpError) as error:
            for left in pathlib.Path(self._manager.directory).glob("*_temp*"):
                shutil.rmtree(left, ignore_errors=True)
            return files.reason(error)
        return None


def _spent(plan, ledger, accountant):
    """The epsilon of all steps that the ledger covers."""
    return accountants.epsilon_of(ledger.charges, delta=plan.delta, accountant=accountant)


def _float32_up(value):
    """The smallest float32, which is what TensorBoard keeps, that is not below a number."""
    nearest = np.float32(value)
    # NumPy 2 would compare them as float32.
    return nearest if float(nearest) >= value else np.nextafter(nearest, np.float32(np.inf))


def _without_failing(write):
    """Calls a function that writes what a run can do without; says so where it cannot."""
    try:
        write()
    except (OSError, tf.errors.OpError) as error:
        why = files.reason(error)
        tqdm.tqdm.write(f"tfdps: cannot write a picture or a log: {why}.", file=sys.stderr)
