"""Denoiser: the one interface. (xt, t) -> x0_hat, whatever the network predicts."""


class Denoiser:
    """A network that predicts v, as a function from a noisy clip to a clean one.

        x0_hat = sqrt(alpha_bar_t) x_t - sqrt(1 - alpha_bar_t) v_hat(x_t, t)       (Salimans and Ho 2022)

    denoiser(xt, t) -> x0_hat: clips (b, c, f, h, w); t (b,) or (b, f) long. Samplers see nothing else, and an
    extension method is a function that takes a denoiser and returns one. Keywords (`tap`, `positions`) go to the network.
    """

    def __init__(self, net, schedule):
        self.net, self.schedule = net, schedule

    def __call__(self, xt, t, **features):
        return self.schedule.x0_from_v(xt, t, self.net(xt, t, **features))

    @property
    def device(self):
        return next(self.net.parameters()).device
