"""Export: base and adapter become one GGUF, tensor by tensor, and the result is proven against the original."""
