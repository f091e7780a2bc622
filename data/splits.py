"""Training, validation and test data, and holding records out, with the classes keeping their
shares."""

from dataclasses import dataclass

import numpy as np

from data.errors import DataError
from data.records import DataSet, Records, StreamedRecords

Some = Records | StreamedRecords


@dataclass(frozen=True)
class Splits:
    """The data of a run."""

    train: DataSet
    validation: DataSet | None = None
    test: DataSet | None = None


def hold_out(
    records: Some, fraction: float, seed: int, stratify: str | None = None
) -> tuple[Some, Some]:
    """Splits records into those that stay and those held out, both in their first order.

    Args:
        records: what to split.
        fraction: the share to hold out, above 0 and at most 0.5.
        seed: the same seed splits the same records the same way, in memory or streamed.
        stratify: the record key whose labels keep their shares, or None.

    Raises:
        DataError: there are too few records of a label, or too few to hold any out.
    """
    # A second's import, needed only in training.
    from sklearn.model_selection import train_test_split

    count = round(len(records) * fraction)
    if count == 0:
        raise DataError(
            f"{records.source}: {len(records)} records are too few to hold {fraction:g} of them "
            "out; name validation data with --data.validation."
        )
    codes = _splittable(records, fraction, count, stratify) if stratify else None
    stay, held = train_test_split(
        np.arange(len(records)), test_size=count, random_state=seed, stratify=codes
    )
    held_out = records.take(np.sort(held))
    # What was left out is counted once, with the records that stay.
    return records.take(np.sort(stay)), held_out.counting_no_skipped()


def _splittable(records: Some, fraction: float, count: int, key: str) -> np.ndarray:
    """The records' label numbers, if each label can have records on both sides."""
    codes, names = records.labels(key)
    counts = np.bincount(codes)
    rare = int(np.argmin(counts))
    if counts[rare] < 2:
        raise DataError(
            f"{records.source}: label '{names[rare]}' has a single record, so it can't be both "
            "trained on and held out; add records of it, leave it out, or name validation data "
            "with --data.validation."
        )
    if count < len(names):
        raise DataError(
            f"{records.source}: {fraction:g} of {len(records)} records is {count}, too few to hold "
            f"out for {len(names)} labels; raise --data.validation_fraction or name validation "
            "data with --data.validation."
        )
    return codes
