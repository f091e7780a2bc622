"""The batches of a training: as many as are said, of tokens where they can be."""

import numpy as np
import pytest

from data.errors import DataError
from data.records import Records, StreamedRecords
from data.text.sequences import TokenPreprocessor
from tasks.engine.options import Train
from tasks.engine.training.fit import training_batches


def records(count: int) -> Records:
    texts = [" ".join(["a"] * (1 + index % 9)) for index in range(count)]
    return Records({"text": np.array(texts, object), "label": np.array(["x"] * count, object)})


def batches(given, **options):
    preprocessor = TokenPreprocessor(["[PAD]", "[UNK]", "a"], ["x"])
    return training_batches(given, preprocessor, Train(**options))


@pytest.mark.parametrize("options", [{"batch_size": 8}, {"batch_tokens": 40}])
def test_an_epoch_has_the_steps_that_are_said_and_every_record(options):
    made = batches(records(60), **options)
    epoch = [len(targets) for _, targets in made.start(3).take(made.steps)]
    assert sum(epoch) == 60
    assert made.steps == 8 or "batch_tokens" in options


def test_streamed_data_has_no_batches_of_tokens():
    whole = records(20)
    streamed = StreamedRecords(whole.chunks, {}, np.ones(20, bool))
    assert batches(streamed, batch_size=8).steps == 3
    with pytest.raises(DataError, match=r"--train.batch_tokens 40: not for streamed data"):
        batches(streamed, batch_tokens=40)
