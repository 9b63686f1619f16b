"""Packed files (``.sct``): write, read, inspect. The format is described in ``docs/format.md``.

Nothing is imported here: ``packing``, ``unpacking`` and ``csr`` join packed files to torch; everything else, ``arrays``
at the front, needs numpy alone and is used where there is no torch.
"""
