"""Two protos of TensorFlow Serving that PyPI's `tensorflow-serving-api` does not have.

    parameters = text_format.Parse("max_batch_size { value: 32 }", BatchingParameters())

Names, numbers and types are those of `session_bundle_config.proto` and `monitoring_config.proto`,
so that a file written for the stock server parses here, and one that parses here is one for it.
They live in a descriptor pool of their own, since a later `tensorflow-serving-api` may bring them.
"""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, wrappers_pb2

_FIELD = descriptor_pb2.FieldDescriptorProto
_INT64 = ".google.protobuf.Int64Value"
_STRING = ".google.protobuf.StringValue"
_PACKAGE = "tensorflow.serving"

# Field number, name, and type: a message's full name, or a scalar type, repeated where it says so.
_MESSAGES: dict[str, list[tuple[int, str, Any, bool]]] = {
    "BatchingParameters": [
        (1, "max_batch_size", _INT64, False),
        (2, "batch_timeout_micros", _INT64, False),
        (3, "max_enqueued_batches", _INT64, False),
        (4, "num_batch_threads", _INT64, False),
        (5, "thread_pool_name", _STRING, False),
        (6, "allowed_batch_sizes", _FIELD.TYPE_INT64, True),
        (7, "pad_variable_length_inputs", _FIELD.TYPE_BOOL, False),
        (8, "enable_large_batch_splitting", ".google.protobuf.BoolValue", False),
        (9, "max_execution_batch_size", _INT64, False),
    ],
    "PrometheusConfig": [
        (1, "enable", _FIELD.TYPE_BOOL, False),
        (2, "path", _FIELD.TYPE_STRING, False),
    ],
    "MonitoringConfig": [(1, "prometheus_config", f".{_PACKAGE}.PrometheusConfig", False)],
}


def _message_classes() -> dict[str, Any]:
    pool = descriptor_pool.DescriptorPool()
    wrappers = descriptor_pb2.FileDescriptorProto()
    wrappers_pb2.DESCRIPTOR.CopyToProto(wrappers)
    pool.Add(wrappers)
    file = descriptor_pb2.FileDescriptorProto(
        name="tasks/serving/configs.proto",
        package=_PACKAGE,
        syntax="proto3",
        dependency=[wrappers.name],
    )
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, field, kind, repeated in fields:
            added = message.field.add(name=field, number=number)
            added.label = _FIELD.LABEL_REPEATED if repeated else _FIELD.LABEL_OPTIONAL
            if isinstance(kind, str):
                added.type, added.type_name = _FIELD.TYPE_MESSAGE, kind
            else:
                added.type = kind
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
        for name in _MESSAGES
    }


_classes = _message_classes()
BatchingParameters = _classes["BatchingParameters"]
MonitoringConfig = _classes["MonitoringConfig"]
