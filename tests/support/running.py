"""Networks run in a way of the test's own."""

from ctma import Predictor, Running


def run_as(network, engine="auto", precision="auto", **options):
    """A predictor of a network in memory."""
    return Predictor(network, Running(engine=engine, precision=precision, **options))
