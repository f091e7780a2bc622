"""What people look at: report, TensorBoard, figures."""
