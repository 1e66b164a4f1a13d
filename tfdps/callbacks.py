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

from tfdps import checks, files, grids

_PROGRESS_SECONDS = 0.5
_PROGRESS_SECONDS_IN_A_LOG = 30.0
_EPSILON_SECONDS = {"rdp": 0.0, "pld": 30.0}  # PLD takes a good part of a second
_SCALAR_SECONDS = 10.0
_GRID_COLUMNS = 10
_RETRY_SECONDS = 2.0


class Progress(keras.callbacks.Callback):
    """A progress bar: step, steps a second, time left, epsilon so far.

    Args:
      plan: the PrivacyPlan.
      file: where to write; default stderr. Away from a terminal it writes a line now and then.
    """

    def __init__(self, plan, file=None):
        super().__init__()
        self._plan, self._file = plan, file or sys.stderr
        self._terminal = self._file.isatty()

    def on_train_begin(self, logs=None):
        seconds = _PROGRESS_SECONDS if self._terminal else _PROGRESS_SECONDS_IN_A_LOG
        self._bar = tqdm.tqdm(
            total=self._plan.steps,
            initial=int(self.model.noisy_steps.numpy()),
            unit="step",
            file=self._file,
            mininterval=seconds,
            maxinterval=seconds,
            dynamic_ncols=self._terminal,
            ncols=None if self._terminal else 100,
        )
        self._every, self._last, self._epsilon_at = seconds, 0.0, -math.inf

    def on_train_batch_end(self, batch, logs=None):
        now = time.monotonic()
        if now - self._last >= self._every:
            self._show()
            self._last = now

    def on_train_end(self, logs=None):
        self._epsilon_at = -math.inf
        self._show()
        self._bar.close()

    def _show(self):
        taken = int(self.model.noisy_steps.numpy())
        self._bar.set_postfix_str(self._privacy(taken), refresh=False)
        self._bar.update(taken - self._bar.n)
        if not self._terminal:
            self._file.write("\n")

    def _privacy(self, taken):
        if not self._plan.private:
            return "NOT PRIVATE"
        now = time.monotonic()
        if now - self._epsilon_at >= _EPSILON_SECONDS[self._plan.accountant]:
            self._epsilon, self._epsilon_at = self._plan.epsilon(taken), now
        return f"epsilon {self._epsilon:.3f}"


class Scalars(keras.callbacks.Callback):
    """TensorBoard scalars: epsilon by RDP; tagged nonprivate/: steps a second, and the loss of a run
    without a mechanism.

    Args:
      plan: the PrivacyPlan.
      log_dir: folder of the TensorBoard log.
    """

    def __init__(self, plan, log_dir):
        super().__init__()
        self._plan, self._writer = plan, tf.summary.create_file_writer(str(log_dir))

    def on_train_begin(self, logs=None):
        self._last, self._last_step = time.monotonic(), int(self.model.noisy_steps.numpy())

    def on_train_batch_end(self, batch, logs=None):
        if time.monotonic() - self._last >= _SCALAR_SECONDS:
            _without_failing(lambda: self._write(logs))

    def on_train_end(self, logs=None):
        _without_failing(lambda: self._write(logs))
        _without_failing(self._writer.close)

    def _write(self, logs):
        now, step = time.monotonic(), int(self.model.noisy_steps.numpy())
        with self._writer.as_default(step):
            if self._plan.private:
                tf.summary.scalar("privacy/epsilon_rdp", self._plan.epsilon(step, "rdp"))
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
        images = grids.to_uint8(self.model([self._z, self._labels]).numpy())
        grids.save_png(self._folder / f"step_{step:06d}.png", images, columns=_GRID_COLUMNS)
        with self._writer.as_default(step):
            tf.summary.image("samples", grids.class_grid(images, columns=_GRID_COLUMNS)[None])
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
                "checkpoint is kept; lower learning_rate in a new run. The steps taken are spent."
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


def _without_failing(write):
    """Calls a function that writes what a run can do without; says so where it cannot."""
    try:
        write()
    except (OSError, tf.errors.OpError) as error:
        why = files.reason(error)
        tqdm.tqdm.write(f"tfdps: cannot write a picture or a log: {why}.", file=sys.stderr)
