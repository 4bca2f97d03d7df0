"""A complete, reproducible study of Fashion-MNIST: explore, compare, tune, train, explain, evaluate.

The submodules are imported by name (``from fashion_mnist import data, study``); importing the package itself loads
nothing heavy, so that the command line answers at once.
"""

__version__ = "0.1.0"
