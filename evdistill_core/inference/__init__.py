"""Student files, runners (torch, ONNX Runtime) and what follows the logits."""
