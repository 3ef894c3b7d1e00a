"""Chapters 2 and 5: noise, the denoiser, the loss, samplers, guidance."""
