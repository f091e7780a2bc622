"""What some worker of a training wants all of them to do, so that all do it after the same step."""

import tensorflow as tf


class Ballot:
    """Wishes of this process, and, where a training has several workers, of all.

    A training step adds up the workers' wishes beside their losses (`sum_up`); what it found is the
    same for all of them. To be made outside of a strategy's scope, as each worker has its own.

    Args:
        workers: whether there are several.
    """

    def __init__(self, workers: bool = False) -> None:
        self._workers = workers
        self._own = [0.0, 0.0]
        if workers:
            self._sent = tf.Variable([0.0, 0.0], trainable=False, name="wishes")
            self._found = tf.Variable([0.0, 0.0], trainable=False, name="all_wishes")

    def ask_to_save(self) -> None:
        """Wishes that the training's state be saved."""
        self._ask(0)

    def ask_to_stop(self) -> None:
        """Wishes that it be saved and training ended."""
        self._ask(1)

    @property
    def asked_to_stop(self) -> bool:
        """Whether this process wishes so."""
        return bool(self._own[1])

    def _ask(self, what: int) -> None:
        self._own[what] = 1.0

    def wishes(self) -> tf.Tensor:
        """Those of this worker, for `sum_up` of all: float32 (2,); in a training step."""
        return self._sent.read_value() if self._workers else tf.zeros([2])

    def sum_up(self, wishes: tf.Tensor) -> None:
        """Takes the sum of all replicas' wishes; in a training step."""
        if self._workers:
            self._found.assign(wishes)

    def count(self) -> tuple[bool, bool]:
        """Whether anyone wished, by the step that has ended, that it be saved; that it be stopped.
        A wish to save is then done with."""
        if not self._workers:
            save, stop = self._own
            self._own[0] = 0.0
            return bool(save), bool(stop)
        save, stop = self._found.numpy()
        if save:
            self._own[0] = 0.0
        self._sent.assign(self._own)  # to be found after the next step
        return bool(save), bool(stop)
