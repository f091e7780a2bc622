"""REST bodies to tensors and back, as TensorFlow Serving's `json_tensor.cc` has it.

    body = parse_predict(b'{"instances": [[1.0, 2.0]]}', inputs_of)
    answer = predictions_json({"scores": run(body.inputs)}, body.row_format)

Every failure is a `ServingError` with the stock server's code and message.
"""

from tasks.serving.json_answers import (
    classifications_json,
    error_json,
    predictions_json,
    regressions_json,
)
from tasks.serving.json_requests import (
    ExamplesBody,
    PredictBody,
    parse_examples,
    parse_predict,
)

__all__ = [
    "ExamplesBody",
    "PredictBody",
    "classifications_json",
    "error_json",
    "parse_examples",
    "parse_predict",
    "predictions_json",
    "regressions_json",
]
