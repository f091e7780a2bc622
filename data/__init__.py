"""Raw files to tf.data: sources, preprocessors, batches. Knows neither models nor tasks."""
