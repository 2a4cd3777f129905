"""Shared by all tests: what an optional package that is missing leaves untested is said aloud."""

from __future__ import annotations

import importlib.util

import pytest

TORCH = "needs PyTorch: pip install torch==2.13.0"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", f"requires_torch: {TORCH}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if importlib.util.find_spec("torch") is not None:
        return
    for item in items:
        if item.get_closest_marker("requires_torch"):
            item.add_marker(pytest.mark.skip(reason=TORCH))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = terminalreporter.stats.get("skipped", [])
    count = sum(TORCH in str(report.longrepr) for report in skipped)
    if count:
        terminalreporter.section("NOT COMPARED WITH PYTORCH", red=True, bold=True)
        terminalreporter.line(f"{count} tests were skipped: {TORCH}")
