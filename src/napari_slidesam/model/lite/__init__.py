"""The embedded network: small enough to ship in the wheel and to run on a laptop's CPU."""
