"""The sparse engine: a model is lowered to a plan of operators, and native kernels run it without torch."""
