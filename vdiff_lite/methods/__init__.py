"""Extension methods: past + denoiser -> denoiser. One file each, one silhouette."""

from .anchored_history import anchored_history
from .copy_last import copy_last
from .history_cfg import fractional_history, history_cfg, temporal_history
from .history_encoder import HistoryEncoder, history_encoder, load_history, save_history, train_history
from .independent import independent
from .injection import SITES, SourceFeatures, injection
from .reconstruction import NORMS, GuidanceError, noised_start, reconstruction
from .replacement import replacement

METHODS = {"independent": independent, "copy_last": copy_last, "history_cfg": history_cfg, "fractional_history": fractional_history,
           "temporal_history": temporal_history, "anchored_history": anchored_history, "history_encoder": history_encoder,
           "replacement": replacement, "reconstruction": reconstruction, "injection": injection}

__all__ = [*METHODS, "METHODS", "NORMS", "SITES", "GuidanceError", "HistoryEncoder", "SourceFeatures", "load_history",
           "noised_start", "save_history", "train_history"]
