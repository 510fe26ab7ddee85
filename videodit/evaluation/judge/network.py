"""A perceptron with one hidden layer: small enough to keep beside the code and to fit in a minute with numpy alone."""

import numpy as np


def standardise(features: np.ndarray, weights: dict) -> np.ndarray:
    """Features [n, d] with mean 0 and spread 1 as they were in the fit; outliers are held at 5 spreads."""
    return np.clip((features - weights["mean"]) / weights["spread"], -5, 5)


def log_odds(features: np.ndarray, weights: dict) -> np.ndarray:
    """Log probabilities [n, classes] of features [n, d]."""
    hidden = np.tanh(standardise(features, weights) @ weights["w1"] + weights["b1"])
    scores = hidden @ weights["w2"] + weights["b2"]
    return scores - np.log(np.exp(scores - scores.max(1, keepdims=True)).sum(1, keepdims=True)) - scores.max(1, keepdims=True)


def fit(features: np.ndarray, labels: np.ndarray, classes: int, *, hidden: int, seed: int = 0, epochs: int = 40,
        decay: float = 1e-4, jitter: float = 0.0) -> dict:
    """Fits the weights to features [n, d] and labels [n] by Adam on the cross entropy; `jitter` is noise on the inputs."""
    rng = np.random.default_rng(seed)
    spread = features.std(0)
    weights = {"mean": features.mean(0), "spread": np.where(spread > 1e-6, spread, 1.0)}
    inputs = standardise(features, weights).astype(np.float32)
    size = inputs.shape[1]
    layers = {"w1": rng.normal(0, size**-0.5, (size, hidden)), "b1": np.zeros(hidden)}
    layers |= {"w2": rng.normal(0, hidden**-0.5, (hidden, classes)), "b2": np.zeros(classes)}
    layers = {key: value.astype(np.float32) for key, value in layers.items()}
    first = {key: np.zeros_like(value) for key, value in layers.items()}
    second = {key: np.zeros_like(value) for key, value in layers.items()}
    batch, step = 128, 0
    total = epochs * (len(inputs) // batch)
    for _ in range(epochs):
        order = rng.permutation(len(inputs))
        for start in range(0, len(order) - batch + 1, batch):
            take = order[start:start + batch]
            x, y = inputs[take], labels[take]
            if jitter:
                x = x + rng.normal(0, jitter, x.shape).astype(np.float32)
            inner = np.tanh(x @ layers["w1"] + layers["b1"])
            scores = inner @ layers["w2"] + layers["b2"]
            error = np.exp(scores - scores.max(1, keepdims=True))
            error /= error.sum(1, keepdims=True)
            error[np.arange(batch), y] -= 1
            error /= batch
            back = (error @ layers["w2"].T) * (1 - inner * inner)
            slopes = {"w1": x.T @ back, "b1": back.sum(0), "w2": inner.T @ error, "b2": error.sum(0)}
            step += 1
            rate = 3e-3 * 0.5 * (1 + np.cos(np.pi * step / total))
            for key in layers:
                first[key] += 0.1 * (slopes[key] - first[key])
                second[key] += 0.001 * (slopes[key] ** 2 - second[key])
                move = first[key] / (1 - 0.9**step) / (np.sqrt(second[key] / (1 - 0.999**step)) + 1e-8)
                layers[key] -= rate * (move + (decay / 3e-3 * layers[key] if key[0] == "w" else 0))
    return {**weights, **layers}
