"""The past stands in the window, clean; classifier-free guidance makes the network listen to it more."""

import math

import torch


def history_cfg(denoiser, past, weight=1.0):
    """Condition a window on the frames already made, and guide towards them.

        x0_hat = u + w (c - u)                                           (Ho and Salimans 2022, Eq. 6, on x0_hat)
        c: past frames in the window at t = 0;  u: past frames at t = num_timesteps, pure noise

    past: (b, c, k, h, w) in [-1, 1], the first k frames of the window;  weight: w, 1 is the conditional model (one
    branch), 0 the unconditional one, more listens harder. Both branches run in one batched pass.
    Returns denoiser(xt, t) -> x0_hat whose first k frames are `past` exactly. Raises ValueError for a weight that is
    not finite, and when the window has no new frame.
    """
    if not math.isfinite(weight):
        raise ValueError(f"weight={weight} must be finite; 1 is the conditional model, 1.5 a usual guidance weight")
    k = past.shape[2]

    def guided(xt, t, **features):
        f = xt.shape[2]
        if k >= f:
            raise ValueError(f"past has {k} frames and leaves no new frames in a window of {f}; give at most {f - 1}")
        new_frames = torch.arange(f, device=xt.device) >= k
        levels = t[:, None] if t.ndim == 1 else t
        known = past.to(xt)
        c_xt, c_t = torch.cat([known, xt[:, :, k:]], dim=2), torch.where(new_frames, levels, 0)
        if weight == 1:
            x0_hat = denoiser(c_xt, c_t, **features)
        else:
            # The sampler's noise at the past frames, without the past: what pure noise would have been there.
            noise = denoiser.schedule.eps_from_x0(xt[:, :, :k], levels[:, :k], known)
            u_xt, u_t = torch.cat([noise, xt[:, :, k:]], dim=2), torch.where(new_frames, levels, denoiser.schedule.num_timesteps)
            c, u = denoiser(torch.cat([c_xt, u_xt]), torch.cat([c_t, u_t]), **features).chunk(2)
            x0_hat = u + weight * (c - u)
        return torch.cat([known, x0_hat[:, :, k:]], dim=2)

    return guided
