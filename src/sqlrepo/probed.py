"""The core's way to the test tools, until it uses `PROBES` itself."""

from sqlrepo.driver import PROBES, Driver, Source, Transaction


def ProbedDriver(driver: Driver, source: Source, transaction: Transaction) -> Driver:  # noqa: N802
    """Wrap a driver."""
    for probe in PROBES:
        driver = probe.wrap(driver, source, transaction)
    return driver
