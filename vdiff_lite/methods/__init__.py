"""Extension methods: past + denoiser -> denoiser. One file each, one silhouette."""

from .history_cfg import history_cfg
from .independent import independent

__all__ = ["history_cfg", "independent"]
