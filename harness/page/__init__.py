"""The page of a report: one HTML file of a check or of a run, for a browser."""

from harness.page.writing import PAGE_NAME, write_check_page, write_run_page

__all__ = ["PAGE_NAME", "write_check_page", "write_run_page"]
