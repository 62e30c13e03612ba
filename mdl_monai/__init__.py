"""Model-driven deep learning for medical imaging: what the bundles need and MONAI lacks."""

from mdl_monai.errors import InputError, install_excepthook

__version__ = "0.1.0"

install_excepthook()

__all__ = ["InputError", "__version__"]
