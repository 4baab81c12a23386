"""1-bit danger signals: oracles, noise, an environment wrapper, and specifications learned from them."""
