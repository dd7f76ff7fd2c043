"""From a model of PyTorch to one file for ONNX Runtime, OpenVINO or TensorRT."""
