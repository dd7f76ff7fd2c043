"""What a model may be exported for; read by the command line, which must be quick."""

TARGETS = ('onnx', 'openvino', 'tensorrt')
PRECISIONS = ('fp32', 'fp16', 'int8')
