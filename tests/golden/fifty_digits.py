"""v̇ = (μ − v) exp(v²/2) solved with 50 digits, as a reference for the closed forms in tests and benchmarks.

It shares no code and no step with the package but the substitution u = ln[(μ − v₀)/(μ − v)]; its quadrature has 40
nodes on pieces of its own, and its Newton iteration ends when 30 digits stand.
"""

from functools import cache

import mpmath as mp
import numpy as np

NUM_NODES = 40
mp.mp.dps = 50


@cache
def rule():
    """Return nodes and weights of Gauss–Legendre quadrature on [0, 1]."""
    pairs = []
    for guess in np.polynomial.legendre.leggauss(NUM_NODES)[0]:
        x = mp.mpf(float(guess))
        for _ in range(4):
            value, slope = legendre(x)
            x -= value / slope
        slope = legendre(x)[1]
        pairs.append(((x + 1) / 2, 1 / ((1 - x * x) * slope * slope)))
    return pairs


def legendre(x):
    """Return the Legendre polynomial of degree NUM_NODES at x, and its derivative."""
    before, value = mp.mpf(1), x
    for n in range(2, NUM_NODES + 1):
        before, value = value, ((2 * n - 1) * x * value - (n - 1) * before) / n
    return value, NUM_NODES * (x * value - before) / (x * x - 1)


def integral(function, low, high):
    return (high - low) * mp.fsum(weight * function(low + (high - low) * node) for node, weight in rule())


class Path:
    """The path of a component from v0 to mu, at gain ½."""

    def __init__(self, mu, v0):
        self.mu, self.distance = mp.mpf(mu), mp.mpf(mu) - mp.mpf(v0)
        self.cuts = [mp.mpf(0)]
        x, side = abs(self.distance), mp.sign(self.distance)
        while x > mp.mpf("0.1"):  # pieces at most 1 wide and at most half of what is left
            x -= min(mp.mpf(1), x / 2)
            self.cuts.append(mp.log(abs(self.distance) / x))
        self.times = [mp.mpf(0)]
        for low, high in zip(self.cuts, self.cuts[1:], strict=False):
            self.times.append(self.times[-1] + self._between(low, high))
        self.side = side

    def _x(self, u):
        return self.distance * mp.e ** (-u)

    def _between(self, low, high):
        """∫ exp(−v²/2) ds over u in [low, high], in x = μ − v."""
        start, end = self._x(low), self._x(high)
        return integral(lambda x: -(mp.e ** (-((self.mu - x) ** 2) / 2)) / x, start, end)

    def _entire(self, x):
        return integral(lambda y: mp.expm1(self.mu * y - y * y / 2) / y if y else self.mu, mp.mpf(0), x)

    def time(self, u):
        """Return the time at which the component has converged by u."""
        place = max(i for i, cut in enumerate(self.cuts) if cut <= u)
        start = self.cuts[place]
        if place < len(self.cuts) - 1:
            return self.times[place] + self._between(start, u)
        rest = (u - start) + self._entire(self._x(start)) - self._entire(self._x(u))
        return self.times[place] + mp.e ** (-(self.mu**2) / 2) * rest

    def speed(self, u):
        """du/dt."""
        return mp.e ** ((self.mu - self._x(u)) ** 2 / 2)

    def log_convergence(self, t, guess):
        """Return u at time t, by Newton's method from a good initial guess."""
        if not self.distance:
            return mp.e ** (self.mu**2 / 2) * mp.mpf(t)
        u, t = mp.mpf(guess), mp.mpf(t)
        for _ in range(60):
            step = (t - self.time(u)) * self.speed(u)
            u = max(u + max(-1 - u / 1024, min(step, 1 + u)), u / 1024)
            if abs(step) < mp.mpf(10) ** -30 * (1 + abs(u)) * min(1, u):
                return u
        raise ArithmeticError(f"no 30 digits of u at mu = {self.mu}, t = {t}")

    def v(self, u):
        return self.mu - self._x(u)
