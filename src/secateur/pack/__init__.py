"""Packed files (``.sct``): write, read, inspect. The format is described in ``docs/format.md``.

Nothing is imported here: the readers (``records``, ``streams``, ``positions``, ``values``, ``container``, ``reading``)
need numpy alone and are used where there is no torch; ``packing``, ``unpacking`` and ``csr`` join them to torch.
"""
