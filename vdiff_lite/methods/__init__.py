"""Chapters 7 to 9: methods that continue a clip. (denoiser, past) -> denoiser."""

from vdiff_lite.methods.anchor import anchored_history
from vdiff_lite.methods.baselines import copy_last, independent
from vdiff_lite.methods.history_encoder import history_encoder, load_history, save_history
from vdiff_lite.methods.history_guidance import (
    fractional_history_guidance,
    history_guidance,
    temporal_history_guidance,
)
from vdiff_lite.methods.injection import SITES, FeatureCache, injection
from vdiff_lite.methods.reconstruction import NORMS, GuidanceError, reconstruction
from vdiff_lite.methods.replacement import replacement

METHODS = {method.__name__: method for method in (
    independent, copy_last, history_guidance, fractional_history_guidance, temporal_history_guidance,
    anchored_history, history_encoder, replacement, reconstruction, injection)}

__all__ = [*METHODS, "METHODS", "NORMS", "SITES", "FeatureCache", "GuidanceError", "load_history",
           "save_history"]
